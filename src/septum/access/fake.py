"""An engine that decides by a Python function: for tests of whatever asks septum for decisions."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from septum.access.classes import CLASSES
from septum.access.engine import Access, Triple, Why
from septum.access.question import Question
from septum.errors import EngineGone

__all__ = ["FakeEngine"]

_CLASSES: Final = {name: frozenset(permissions) for name, permissions in CLASSES.items()}


class FakeEngine:
    """Implements `septum.access.engine.Engine` and enforces nothing of its own.

    Args:
        allowed: what it allows, for source context, target context and class.
        classes: that its policy knows; by default all of septum's.
        fingerprint: of the policy that it pretends to have.

    Attributes:
        asked: every triple that was computed, in order.
    """

    name = "fake"

    def __init__(
        self,
        allowed: Callable[[str, str, str], Set[str]],
        *,
        classes: Mapping[str, Set[str]] = _CLASSES,
        fingerprint: str = "fake",
    ) -> None:
        self.asked: list[Triple] = []
        self.fingerprint = fingerprint
        self._allowed = allowed
        self._classes = classes
        self._generation = 0
        self._gone = ""

    def classes(self) -> Mapping[str, Set[str]]:
        self._check()
        return self._classes

    def generation(self) -> int:
        self._check()
        return self._generation

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        self._check()
        self.asked += triples
        return [self._access(triple) for triple in triples]

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        self._check()
        return [Why("type enforcement", f"no rule for {question.tclass}") for question in questions]

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.go("it was closed")

    def change(self, allowed: Callable[[str, str, str], Set[str]]) -> None:
        """Another policy, as when the kernel's is loaded anew by somebody else."""
        self._allowed = allowed
        self._generation += 1

    def go(self, why: str = "it was told to go") -> None:
        """From now on it is gone."""
        self._gone = why

    def _access(self, triple: Triple) -> Access:
        known = self._classes.get(triple.tclass)
        if known is None:
            return Access(frozenset(), f"the policy has no class {triple.tclass}")
        for context in triple[:2]:
            if context.count(":") < 2:
                return Access(frozenset(), f"{context} is no context of the policy")
        return Access(frozenset(self._allowed(*triple)) & known)

    def _check(self) -> None:
        if self._gone:
            raise EngineGone(f"the fake engine is gone: {self._gone}")
