"""Answers to whole messages: text in, text out, with the object manager behind.

The bytes of a question are the key under which its answer is remembered, for each context that asks: in a batch of
questions that were asked before, nothing is taken apart, and each costs one look into a dictionary.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from septum.access import Asker, Decision, ObjectManager, Question, Settled, wire
from septum.errors import Denied, MessageError, SeptumError

__all__ = ["Answer", "Desk"]

_MOST_BYTES: Final = 32 << 20  # of all remembered lines and answers
_MOST_LINE: Final = 1024  # bytes of a question that is remembered
_OVERHEAD: Final = 256  # bytes that a remembered answer takes beside its text: measured with tracemalloc


class Answer(NamedTuple):
    """An answer on its way: it may be sent once the log has it.

    Attributes:
        body: of the message.
        decisions: how many are in it as lines; 0 for an answer of another kind.
    """

    body: bytes
    decisions: int = 0


class Desk:
    """Answers for one object manager.

    Args:
        manager: decides.
    """

    def __init__(self, manager: ObjectManager) -> None:
        self._manager = manager
        self._token: object = None
        self._views: dict[str, dict[bytes, tuple[bytes, str]]] = {}
        self._size = 0

    def ask(self, asker: Asker, token: object, body: bytes) -> Answer:
        """Decides what a message asks, and notes it for the log.

        Args:
            asker: who sent it.
            token: the manager's, as it is now; None if there is none.
            body: ``ask`` and a question a line.

        Raises:
            MessageError: there are too many questions, or none.
        """
        lines = body.split(b"\n")
        del lines[0]
        if not 0 < len(lines) <= wire.MOST_QUESTIONS:
            raise MessageError(f"{len(lines)} questions in one message", rule=f"1 to {wire.MOST_QUESTIONS}")
        manager = self._manager
        view = self._view(token, asker.context)
        try:
            found = [view[line] for line in lines]
        except KeyError:
            found = self._fill(asker, view, lines)
        manager.note(asker, [number for _, number in found])
        return Answer(self._head() + b"\n".join([text for text, _ in found]), len(lines))

    def unrecorded(self, count: int, why: SeptumError) -> bytes:
        """The body that takes the place of an answer that could not be recorded."""
        manager = self._manager
        refusal = Decision(False, (), "decisions can't be recorded", why.what, manager.seqno, manager.engine.name)
        return self._head() + b"\n".join([wire.decision_line(refusal)] * count)

    def facts(self, facts: dict[str, Any]) -> Answer:
        """An answer in JSON."""
        return Answer(self._head() + json.dumps(facts).encode())

    def permit(self, asker: Asker, tclass: str, permission: str, target: str, doing: str) -> None:
        """Lets an asker do something to the daemon itself, if the policy does; recorded like any decision.

        Raises:
            Denied: it does not.
        """
        (settled,) = self._manager.settle(asker, [Question("", target, tclass, (permission,))])
        self._manager.note(asker, [settled.number])
        if not settled.decision.allowed:
            raise Denied(
                f"this process may not {doing}",
                rule=f"it needs {tclass} {{ {permission} }}",
                holder=settled.shown.reason,
                remedy="ask as whoever the policy gives it to",
            )

    def _head(self) -> bytes:
        return wire.head(self._manager.seqno, self._manager.engine.name)

    def _view(self, token: object, context: str) -> dict[bytes, tuple[bytes, str]]:
        if token is None or token is not self._token or self._size > _MOST_BYTES:
            self._token = token
            self._views.clear()
            self._size = 0
        return self._views.setdefault(context, {})

    def _fill(
        self, asker: Asker, view: dict[bytes, tuple[bytes, str]], lines: Sequence[bytes]
    ) -> list[tuple[bytes, str]]:
        """Answers lines some of which are not remembered, and remembers those that may be."""
        manager = self._manager
        answers: dict[bytes, tuple[bytes, str]] = {}
        questions = []
        for line in dict.fromkeys(lines):
            known = view.get(line)
            if known is not None:
                answers[line] = known
                continue
            try:
                questions.append((line, wire.question(line)))
            except MessageError as error:
                answers[line] = _packed(manager.malformed(asker, line.decode("ascii", "backslashreplace"), error))
        for (line, _), settled in zip(questions, manager.settle(asker, [one for _, one in questions]), strict=True):
            answers[line] = packed = _packed(settled)
            if settled.lasting and len(line) <= _MOST_LINE:
                view[line] = packed
                self._size += len(line) + len(packed[0]) + _OVERHEAD
        return [answers[line] for line in lines]


def _packed(settled: Settled) -> tuple[bytes, str]:
    return wire.decision_line(settled.shown), settled.number
