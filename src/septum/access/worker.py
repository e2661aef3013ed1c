"""libsepol's security server in a process of its own: what a policy does to libsepol, it does to that process only."""

from collections.abc import Mapping, Sequence, Set
from typing import Final

from septum.access.engine import Access, Triple, Why
from septum.access.question import Question
from septum.errors import Denied
from septum.sepol.worker import Worker

__all__ = ["WorkerEngine"]

_ANSWER: Final = 5.0  # seconds: the daemon stands still as long


class WorkerEngine:
    """Implements `septum.access.engine.Engine`.

    Args:
        image: a compiled policy.

    Attributes:
        image: the same, to open it again.

    Raises:
        PolicyError: libsepol does not take it, or broke on it.
        Unenforceable: there is no libsepol of version 3.4 or later.
        EngineGone: no process can be had.
    """

    name = "libsepol"

    def __init__(self, image: bytes) -> None:
        self.image = image
        self._worker = Worker(image, timeout=_ANSWER)
        self._order = self._worker.classes()
        self._classes = {name: frozenset(permissions) for name, permissions in self._order.items()}
        self._names: dict[tuple[str, int], frozenset[str]] = {}

    @property
    def fingerprint(self) -> str:
        return self._worker.fingerprint

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._worker.pid

    def classes(self) -> Mapping[str, Set[str]]:
        self.generation()
        return self._classes

    def generation(self) -> int:
        self._worker.compute_many(())
        return 0

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        answers = self._worker.compute_many(triples)
        return [self._access(triple.tclass, answer) for triple, answer in zip(triples, answers, strict=True)]

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        return [
            Why(answer.what, answer.rule)
            if isinstance(answer, Denied)
            else Why(", ".join(answer.reasons), answer.constraint or answer.rule)
            for answer in self._worker.explain_many(questions)
        ]

    def fileno(self) -> int:
        return self._worker.fileno()

    def close(self) -> None:
        self._worker.close()

    def _access(self, tclass: str, answer: int | Denied) -> Access:
        if isinstance(answer, Denied):
            return Access(frozenset(), answer.what)
        names = self._names.get((tclass, answer))
        if names is None:
            order = self._order[tclass]
            found = frozenset(name for place, name in enumerate(order) if answer >> place & 1)
            names = self._names[tclass, answer] = found
        return Access(names)
