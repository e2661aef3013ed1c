"""libsepol's security server in this process, on a compiled policy."""

from collections.abc import Mapping, Sequence, Set
from typing import Final

from septum.access.engine import Access, Triple, Why
from septum.access.question import Question
from septum.errors import EngineGone, LabelError, PolicyError, UnknownName
from septum.labels import Bounds, Range, relation_key
from septum.sepol import Memo, Policy

__all__ = ["LibsepolEngine"]

_MOST_REASONS: Final = 1 << 14
_BOUNDS: Final = Bounds(1 << 16, 1 << 10)  # which names there are, the policy has said


class LibsepolEngine:
    """Implements `septum.access.engine.Engine`.

    A policy file that was made to break libsepol breaks this process with it: a daemon puts a worker in between
    (`septum.access.worker`).

    Args:
        source: path of a compiled policy, or the policy itself.

    Raises:
        PolicyError: it can't be read, or is no policy that libsepol takes.
        Unenforceable: there is no libsepol of version 3.4 or later.
    """

    name = "libsepol"

    def __init__(self, source: str | bytes) -> None:
        self._policy = Policy.open(source)
        self._memo = Memo(self._policy)
        self._classes = {name: frozenset(permissions) for name, permissions in self._policy.classes().items()}
        self._by_relation = self._policy.mls and self._policy.rules.canonical_levels
        self._reasons: dict[tuple[object, ...], Why] = {}
        self._names: dict[tuple[str, int], frozenset[str]] = {}

    @property
    def fingerprint(self) -> str:
        return self._policy.fingerprint

    def classes(self) -> Mapping[str, Set[str]]:
        return self._classes

    def generation(self) -> int:
        return 0

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        return [self._compute(triple) for triple in triples]

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        return [self._explain(question) for question in questions]

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._policy.close()

    def _compute(self, triple: Triple) -> Access:
        try:
            mask = self._memo.allowed(*triple)
        except (LabelError, UnknownName) as error:
            return Access(frozenset(), error.what)
        except PolicyError as error:
            raise EngineGone(f"libsepol gives no answer: {error.what}") from error
        key = triple.tclass, mask
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = frozenset(self._policy.names(*key))
        return Access(names)

    def _explain(self, question: Question) -> Why:
        """A reason takes libsepol a hundred times as long as a decision, and depends on no more than that does: see
        `septum.sepol.memo` for why the relation of the levels is all that matters of them."""
        key: tuple[object, ...] = question
        try:
            if self._by_relation:
                (*names, source), (*others, target) = question.subject.split(":", 3), question.target.split(":", 3)
                relation = relation_key(Range.parse(source, _BOUNDS), Range.parse(target, _BOUNDS))
                key = (*names, *others, relation, *question[2:])
            known = self._reasons.get(key)
            if known is None:
                if len(self._reasons) >= _MOST_REASONS:
                    self._reasons.clear()
                known = self._reasons[key] = self._find(question)
            return known
        except LabelError as error:
            return Why(error.what, error.rule)

    def _find(self, question: Question) -> Why:
        try:
            found = self._policy.explain(*question)
        except (LabelError, UnknownName) as error:
            return Why(error.what, error.rule)
        except PolicyError as error:
            raise EngineGone(f"libsepol gives no reason: {error.what}") from error
        return Why(", ".join(found.reasons), found.constraint or found.rule)
