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

from typing import Final, NamedTuple

from septum.errors import LabelError
from septum.labels import Context, Range, relation_key
from septum.sepol.policy import Policy
from septum.sepol.rules import BOUNDS

__all__ = ["Memo"]

_SEEN_MAX: Final = 1 << 17
_CONTEXTS_MAX: Final = 1 << 15


class _Parsed(NamedTuple):
    names: tuple[str, str, str]
    range: Range | None


class Memo:
    """Remembers a policy's decisions. Not bound to time: a policy that was opened does not change.

    What it holds is bounded; when a table is full, it begins anew.

    Args:
        policy: an open one.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._by_relation = policy.mls and policy.rules.canonical_levels
        self._seen: dict[tuple[str, str, str], int] = {}
        self._known: dict[tuple[object, ...], int] = {}
        self._contexts: dict[str, _Parsed] = {}
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

    def _first(self, source: str, target: str, tclass: str) -> int:
        one = self._contexts.get(source) or self._parse(source)
        other = self._contexts.get(target) or self._parse(target)
        if one.range is None or other.range is None:
            mask = self._compute(source, target, tclass)
        else:
            key = (one.names, other.names, tclass, relation_key(one.range, other.range))
            known = self._known.get(key)
            mask = self._compute(source, target, tclass) if known is None else known
            if known is None:
                if len(self._known) >= _SEEN_MAX:
                    self._known.clear()
                self._known[key] = mask
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()
        self._seen[source, target, tclass] = mask
        return mask

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
            parsed = Context.parse(context, BOUNDS)
            found = _Parsed((parsed.user, parsed.role, parsed.type), parsed.range)
        else:
            found = _Parsed((context, "", ""), None)
        if len(self._contexts) >= _CONTEXTS_MAX:
            self._contexts.clear()
        self._contexts[context] = found
        return found
