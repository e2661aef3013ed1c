"""Who calls, and whether he may: one decision for each verb, by a security server, on what the ledger says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from septum.access.question import Decision, ObjectQuestion
from septum.errors import EngineGone, NotFound

__all__ = ["Caller", "Decider", "absent", "permit"]


class Caller(NamedTuple):
    """Who calls, as the socket and the kernel say; nothing of it comes from a request.

    Attributes:
        realm: that it acts for, "" for the platform.
        context: of the platform's administrator, or of the realm's orchestrator.
        peer: who it is, for the audit chain: ``uid 0``, ``guest red/boss``.
    """

    realm: str
    context: str
    peer: str


class Decider(Protocol):
    """Who decides: `septum.access.Client`, or anything that does the same."""

    def decide_all(self, questions: Sequence[ObjectQuestion]) -> list[Decision]:
        """One decision for each.

        Raises:
            SeptumError: nothing could be decided, which counts as no.
        """


def absent() -> NotFound:
    """The one answer for what is not there and for what is not the caller's."""
    return NotFound("there is no such object", rule="an object of another realm and one that is not there look alike")


def permit(decider: Decider, caller: Caller, *wanted: tuple[str, str]) -> None:
    """One decision about all of it.

    Args:
        decider: takes it.
        caller: who would do it.
        wanted: (object, permission) pairs, the object as `septum.access.objects` names it.

    Raises:
        NotFound: no, for whatever reason.
        EngineGone: nobody can decide at the moment.
    """
    questions = [ObjectQuestion(caller.context, name, (permission,)) for name, permission in wanted]
    decisions = decider.decide_all(questions)
    for decision in decisions:
        if decision.reason in ("engine gone", "nothing can be decided", "decisions can't be recorded"):
            raise EngineGone(f"nothing can be decided: {decision.reason}", rule=decision.rule)
    if not all(decision.allowed for decision in decisions):
        raise absent()
