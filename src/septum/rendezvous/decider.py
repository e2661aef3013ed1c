"""The broker's way to septumd: decisions over one connection, word of another policy over a second one."""

from collections.abc import Sequence
from typing import Protocol

from septum.access import Client, Decision, Question
from septum.errors import EngineGone, SeptumError

__all__ = ["Decider", "Septumd"]

_UNDECIDED = ("engine gone", "nothing can be decided", "decisions can't be recorded")


class Decider(Protocol):
    """Who decides."""

    def decide(self, questions: Sequence[Question]) -> tuple[int, list[Decision]]:
        """The number of the policy, and a decision for each question, all by that policy.

        Raises:
            EngineGone: nothing can be decided at the moment, which counts as no.
        """

    def fileno(self) -> int:
        """Polls readable when decisions may have changed: call `changed` then. -1: it never does by itself."""

    def changed(self) -> bool:
        """Takes the notice. True: live channels are to be decided anew."""

    def ready(self) -> None:
        """Sees to it that the next change is noticed; to be called again and again, a few times a second.

        Raises:
            EngineGone: nothing can be decided at the moment.
        """

    def close(self) -> None: ...


class Septumd:
    """Decisions by septumd.

    Args:
        path: of its socket.
        timeout: seconds that it may take for an answer.
    """

    def __init__(self, path: str, timeout: float = 2.0) -> None:
        self._path = path
        self._timeout = timeout
        self._asking: Client | None = None
        self._watching: Client | None = None
        self._seqno = 0

    def decide(self, questions: Sequence[Question]) -> tuple[int, list[Decision]]:
        """See `Decider.decide`."""
        again = self._asking is not None
        while True:
            try:
                if self._asking is None:
                    self._asking = Client(self._path, timeout=self._timeout)
                decisions = self._asking.decide_all(questions)
                break
            except SeptumError as error:
                self._drop_asking()
                if not again:
                    raise EngineGone(f"septumd gives no decision: {error.what}", target=self._path) from error
                again = False  # septumd may have been started anew since the last question
        for decision in decisions:
            if decision.reason in _UNDECIDED:
                raise EngineGone(f"nothing can be decided: {decision.reason}", rule=decision.rule)
        seqnos = {decision.seqno for decision in decisions}
        if len(seqnos) > 1:
            return self.decide(questions)  # another policy came between two messages
        self._seqno = max(seqnos, default=self._seqno)
        return self._seqno, decisions

    def fileno(self) -> int:
        """See `Decider.fileno`."""
        return self._watching.fileno() if self._watching is not None else -1

    def changed(self) -> bool:
        """See `Decider.changed`."""
        if self._watching is None:
            return True
        try:
            self._seqno = self._watching.watched()
            self._watching.watch(self._seqno)
        except SeptumError:
            self._watching.close()
            self._watching = None
        return True

    def ready(self) -> None:
        """See `Decider.ready`."""
        if self._watching is not None:
            return
        fresh = None
        try:
            fresh = Client(self._path, timeout=self._timeout)
            fresh.watch(self._seqno)
        except SeptumError as error:
            if fresh is not None:
                fresh.close()
            raise EngineGone(f"septumd can't be watched: {error.what}", target=self._path) from error
        self._watching = fresh

    def close(self) -> None:
        """Ends both connections."""
        self._drop_asking()
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _drop_asking(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None
