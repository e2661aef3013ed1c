"""libsepol's security server in this process, on a compiled policy."""

from collections.abc import Mapping, Sequence, Set

from septum.access.engine import Access, Triple, Why
from septum.access.question import Question
from septum.errors import EngineGone, LabelError, PolicyError, UnknownName
from septum.sepol import Memo, Policy

__all__ = ["LibsepolEngine"]


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
        try:
            found = self._memo.explain(*question)
        except (LabelError, UnknownName) as error:
            return Why(error.what, error.rule)
        except PolicyError as error:
            raise EngineGone(f"libsepol gives no reason: {error.what}") from error
        return Why(", ".join(found.reasons), found.constraint or found.rule)
