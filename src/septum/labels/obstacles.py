"""Categories of others on the host: container engines, libvirt, static labels, as one realm's allotment meets them."""

from __future__ import annotations

from itertools import combinations

from septum.errors import Exhausted
from septum.labels.categories import CategorySet
from septum.labels.scheme import RealmScheme
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Obstacles"]


class Obstacles:
    """Foreign sets as one realm meets them: which guest codes they rule out.

    A guest's set must be incomparable with every foreign set whose type could meet it; which those are, the caller
    knows (not: platform processes, a range up to ``c0.c1023``, the realm's own orchestrator).

    Args:
        scheme: of the ledger.
        realm: code of the realm.
        foreign: other engines' sets (the high level's), static labels; duplicates do no harm.

    Raises:
        Exhausted: one of them is comparable with every guest's set of this realm.
    """

    __slots__ = ("_inside", "_parts", "_scheme", "_single", "_whole")

    def __init__(self, scheme: RealmScheme, realm: CategorySet, foreign: Iterable[CategorySet] = ()) -> None:
        self._scheme = scheme
        self._single = 0  # categories that no guest code may have
        self._whole: set[int] = set()  # guest codes that are ruled out
        self._parts: set[int] = set()  # sets that no guest code may contain
        self._inside: set[int] = set()  # sets that no guest code may be contained in
        block = scheme.guest_block.mask
        for mask in {other.mask for other in foreign}:
            beyond_realm = mask & ~realm.mask
            if not beyond_realm & ~block:
                self._forbid_containing(beyond_realm)
            if not realm.mask & ~mask:
                self._forbid_inside(mask & block)
            usable = (block & ~self._single).bit_count()
            if usable < scheme.size or 0 in self._parts or block in self._inside:
                raise Exhausted(
                    f"no guest code of realm {realm} is incomparable with the labels of other engines, up to "
                    f"{CategorySet.from_mask(mask) or 'the empty set'}: 0 of {scheme.capacity.guests} left",
                    target=str(realm),
                    rule="a guest's categories must be incomparable with those of every other owner",
                    remedy="stop what carries that label, or give it categories that leave room",
                )

    def _forbid_containing(self, part: int) -> None:
        count = part.bit_count()
        if count == 1 < self._scheme.size:
            self._single |= part
        elif count == self._scheme.size:
            self._whole.add(part)
        elif count < self._scheme.size:
            self._parts.add(part)

    def _forbid_inside(self, outer: int) -> None:
        if outer.bit_count() == self._scheme.size:
            self._whole.add(outer)
        elif outer.bit_count() > self._scheme.size:
            self._inside.add(outer)

    def rule_out(self, categories: CategorySet) -> bool:
        """Whether this guest's set, or guest code alone, is comparable with a foreign set."""
        mask = categories.mask & self._scheme.guest_block.mask
        return (
            bool(mask & self._single)
            or mask in self._whole
            or any(not part & ~mask for part in self._parts)
            or any(not mask & ~outer for outer in self._inside)
        )

    def codes(self) -> Iterator[CategorySet]:
        """All guest codes that are ruled out; some more than once."""
        block, size = self._scheme.guest_block, self._scheme.size
        required = [*self._parts, *(1 << number for number in CategorySet.from_mask(self._single))]
        for part in required:
            others = block - CategorySet.from_mask(part)
            for rest in combinations(others, size - part.bit_count()):
                yield CategorySet.from_mask(part) | CategorySet(rest)
        for whole in self._whole:
            yield CategorySet.from_mask(whole)
        for outer in self._inside:
            for inner in combinations(CategorySet.from_mask(outer), size):
                yield CategorySet(inner)
