"""Levels and ranges, and how two ranges stand to each other.

Rules of security/selinux/ss/mls_types.h and mls.c: a level dominates another if its sensitivity is not lower and its
categories contain the other's; in a range the high level must dominate the low one; equal levels are printed once.
"""

from __future__ import annotations

from septum.errors import LabelError
from septum.labels.categories import DEFAULT_BOUNDS, Bounds, CategorySet, Relation, parse_number
from septum.lean import NamedTuple

__all__ = ["PAIRS", "RELATIONS", "Level", "Range", "relation_key", "relations"]

RELATIONS: tuple[Relation, ...] = ("equal", "dominates", "dominated", "incomparable")
"""A relation's place here is its number in a `relation_key`."""

PAIRS = ("l1l2", "l1h2", "h1l2", "h1h2", "l1h1", "l2h2")
"""The pairs of levels that a constraint can compare, named as in the policy language."""


class Level(NamedTuple):
    """A sensitivity with a set of categories.

    Attributes:
        sensitivity: number of the sensitivity.
        categories: may be empty.
    """

    sensitivity: int
    categories: CategorySet

    @classmethod
    def parse(cls, text: str, bounds: Bounds = DEFAULT_BOUNDS) -> Level:
        """Reads ``s0`` or ``s0:c1,c2``.

        Raises:
            LabelError: as the kernel would refuse it.
        """
        name, colon, rest = text.partition(":")
        sensitivity = parse_number(name, "s", bounds.sensitivities, text)
        return cls(sensitivity, CategorySet.parse(rest, bounds) if colon else CategorySet())

    def __str__(self) -> str:
        return f"s{self.sensitivity}:{self.categories}" if self.categories else f"s{self.sensitivity}"

    def dominates(self, other: Level) -> bool:
        """The policy language's ``dom``: equal levels dominate each other."""
        return self.sensitivity >= other.sensitivity and self.categories.dominates(other.categories)

    def relation(self, other: Level) -> Relation:
        """How it stands to `other`; exactly one of four."""
        return RELATIONS[_relation_number(self, other)]


class _Ends(NamedTuple):
    low: Level
    high: Level


class Range(_Ends):
    """A low and a high level; the high one is the clearance.

    Args:
        low: the current level.
        high: dominates `low`; left out, the range is the single level `low`.

    Raises:
        LabelError: `high` does not dominate `low`.
    """

    __slots__ = ()

    def __new__(cls, low: Level, high: Level | None = None) -> Range:
        if high is not None and not high.dominates(low):
            raise LabelError(
                f"{low}-{high} is no range: expected a high level that dominates the low one",
                target=f"{low}-{high}",
                rule="the kernel refuses such a range (mls_range_isvalid)",
            )
        return super().__new__(cls, low, low if high is None else high)

    @classmethod
    def parse(cls, text: str, bounds: Bounds = DEFAULT_BOUNDS) -> Range:
        """Reads ``s0``, ``s0:c1,c2`` or ``s0-s0:c0.c1023``.

        Raises:
            LabelError: as the kernel would refuse it.
        """
        low, dash, high = text.partition("-")
        return cls(Level.parse(low, bounds), Level.parse(high, bounds) if dash else None)

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


def relation_key(first: Range, second: Range) -> int:
    """All that a constraint can see of two ranges, as one number below 4,096.

    Constraints compare levels only through the six pairs of `PAIRS` (constraint_expr in
    security/selinux/ss/constraint.h: CEXPR_L1L2 … CEXPR_L2H2), each with eq, dom, domby or incomp. So two pairs of
    ranges with equal keys get equal decisions, whatever their categories: caching by the key is exact. Two bits for
    each pair, the first pair lowest; each is an index into `RELATIONS`.
    """
    low1, high1 = first
    low2, high2 = second
    key = _relation_number(low1, low2)
    if low1 == high1 and low2 == high2:
        return key | key << 2 | key << 4 | key << 6
    return (
        key
        | _relation_number(low1, high2) << 2
        | _relation_number(high1, low2) << 4
        | _relation_number(high1, high2) << 6
        | _relation_number(low1, high1) << 8
        | _relation_number(low2, high2) << 10
    )


def relations(key: int) -> dict[str, Relation]:
    """A `relation_key` for people: each pair of `PAIRS` with its relation."""
    return {pair: RELATIONS[key >> 2 * place & 3] for place, pair in enumerate(PAIRS)}


def _relation_number(first: Level, second: Level) -> int:
    sensitivity1, categories1 = first
    sensitivity2, categories2 = second
    mask1, mask2 = categories1.mask, categories2.mask
    above = sensitivity1 >= sensitivity2 and not mask2 & ~mask1
    below = sensitivity2 >= sensitivity1 and not mask1 & ~mask2
    if above:
        return 0 if below else 1
    return 2 if below else 3
