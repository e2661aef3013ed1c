"""Decisions remembered by what they can depend on, so that a few hundred answer for millions.

**Why it is exact.** A decision is computed from two contexts and a class (`context_struct_compute_av` in
libsepol/src/services.c and the kernel's security/selinux/ss/services.c):

1. Type enforcement looks at the two types and the class.
2. Constraints look at users, roles and types, and at levels through six pairs only: low and high of one with low and
   high of the other, and low with high of each; each pair is compared by eq, dom, domby or incomp
   (`constraint_expr_eval`, CEXPR_L1L2 … CEXPR_L2H2). `labels.relation_key` is all of that as one number.
3. Roles: for class process, whether the first role may become the second.
4. Bounds: the same again with the types' bounding types, and the same levels.

Nothing else about the categories enters. So two questions with equal (user, role, type)², class and relation key get
equal answers, whatever the categories are.

**What that needs**, and is checked: the levels' names stand for themselves (`Rules.canonical_levels`), else an alias or
another order would make relations between names differ from those between categories; then only the very same question
is remembered. And each context is valid in the policy (`Policy.valid`, asked once for each): an invalid one has no
answer, whatever its relations.

**Where it would not be exact**, and is not used: which context a new object gets (transitions, default ranges), and
whether a relabelling is valid (`validatetrans`, with three contexts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from septum.errors import LabelError
from septum.labels import Range, relation_key
from septum.sepol.policy import Explanation, Policy
from septum.sepol.rules import BOUNDS

__all__ = ["Memo"]

_SEEN_MAX: Final = 1 << 17
_EXPLAINED_MAX: Final = 1 << 14
_CONTEXTS_MAX: Final = 1 << 15
_LONG: Final = 512
"""Characters of contexts in what is remembered by their text. Longer ones, of hundreds of categories that are listed
one by one, are looked at each time: else they would fill the memory that the tables' lengths seem to bound."""
_K = TypeVar("_K")
_V = TypeVar("_V")


class _Parsed(NamedTuple):
    names: tuple[str, str, str]
    range: Range | None


class Memo:
    """Remembers a policy's decisions. Not bound to time: a policy that was opened does not change.

    What it holds is bounded; when a table is full, it begins anew.

    Args:
        policy: an open one.

    Attributes:
        policy: the same.
        computed: how many decisions libsepol has taken for it.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._by_relation = policy.mls and policy.rules.canonical_levels
        self._seen: dict[tuple[str, str, str], int] = {}
        self._known: dict[tuple[object, ...], int] = {}
        self._explained: dict[tuple[object, ...], Explanation] = {}
        self._contexts: dict[str, _Parsed] = {}
        self._ranges: dict[str, Range] = {}
        self.computed = 0

    def allowed(self, source: str, target: str, tclass: str) -> int:
        """The bits of all permissions that `source` has to `target`.

        Raises:
            LabelError: a context that is not valid in the policy.
            UnknownName: the policy has no such class.
        """
        try:
            return self._seen[source, target, tclass]
        except KeyError:
            return self._first(source, target, tclass)

    def explain(self, source: str, target: str, tclass: str, permissions: Sequence[str]) -> Explanation:
        """A decision with its reason, which takes libsepol a hundred times as long, and depends on no more: the text of
        a constraint names no level.

        Raises:
            LabelError, UnknownName: as `Policy.explain`.
        """
        wanted = tuple(dict.fromkeys(permissions))
        key = (*self._key(source, target, tclass), *wanted)
        known = self._explained.get(key)
        if known is None:
            known = self.policy.explain(source, target, tclass, wanted)
            _keep(self._explained, _EXPLAINED_MAX, key, known, self._characters(source, target))
        return known

    def _first(self, source: str, target: str, tclass: str) -> int:
        key = self._key(source, target, tclass)
        mask = self._known.get(key)
        if mask is None:
            mask = self._compute(source, target, tclass)
            _keep(self._known, _SEEN_MAX, key, mask, self._characters(source, target))
        _keep(self._seen, _SEEN_MAX, (source, target, tclass), mask, len(source) + len(target))
        return mask

    def _key(self, source: str, target: str, tclass: str) -> tuple[object, ...]:
        """What the decision depends on."""
        one = self._contexts.get(source) or self._parse(source)
        other = self._contexts.get(target) or self._parse(target)
        if one.range is None or other.range is None:
            return source, target, tclass
        return one.names, other.names, tclass, relation_key(one.range, other.range)

    def _characters(self, source: str, target: str) -> int:
        """Of contexts in a `_key`."""
        return 0 if self._by_relation else len(source) + len(target)

    def _compute(self, source: str, target: str, tclass: str) -> int:
        self.computed += 1
        return self.policy.compute(source, target, tclass).allowed

    def _parse(self, context: str) -> _Parsed:
        if not self.policy.valid(context):
            raise LabelError(
                f"{context[:200]!r} is no valid context in {self.policy.name}",
                target=context[:200],
                rule="user, role, type and levels must be defined, and the user allowed the role and the range",
            )
        if self._by_relation:
            user, role, kind, level = context.split(":", 3)
            found = _Parsed((user, role, kind), self._ranges.get(level) or self._range(level))
        else:
            found = _Parsed((context, "", ""), None)
        _keep(self._contexts, _CONTEXTS_MAX, context, found, len(context))
        return found

    def _range(self, level: str) -> Range:
        """Kept by itself: a guest, its images, sockets and memory share one."""
        found = Range.parse(level, BOUNDS)
        _keep(self._ranges, _CONTEXTS_MAX, level, found, len(level))
        return found


def _keep(table: dict[_K, _V], most: int, key: _K, value: _V, characters: int) -> None:
    """Remembers, unless the key holds too much text.

    Args:
        table: which has `most` entries at most; a full one begins anew.
        key, value: of an entry.
        characters: of contexts in the key.
    """
    if characters <= _LONG:
        if len(table) >= most:
            table.clear()
        table[key] = value
