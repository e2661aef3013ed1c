"""How a policy's categories are split between realms and their guests.

Two blocks: R names realms, V names guests within one. A guest's set is its realm's code with a guest code. Guest codes
all have one size, so two guests of a realm are incomparable; realm codes are incomparable, so guests of different
realms are, whatever their guest codes, and each realm may use all of V.
"""

from __future__ import annotations

from math import comb

from septum.errors import Denied, Exhausted, LabelError
from septum.labels.categories import DEFAULT_BOUNDS, Bounds, CategorySet
from septum.labels.coverfree import CoverFreeCode
from septum.labels.level import Level, Range
from septum.labels.subsets import rank, unrank
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Capacity", "RealmScheme", "Split"]


class Capacity(NamedTuple):
    """What a scheme has room for.

    Attributes:
        realms: number of realm codes.
        guests: number of guest codes in each realm.
        total: guests in all realms together.
        cleared: the most realms one subject may be cleared for; None if any number.
    """

    realms: int
    guests: int
    total: int
    cleared: int | None


class Split(NamedTuple):
    """A guest's categories, taken apart.

    Attributes:
        realm: code of its realm.
        guest: code within the realm.
    """

    realm: CategorySet
    guest: CategorySet


class RealmScheme:
    """Two blocks of categories and the codes in them.

    Args:
        realms: block R.
        guests: block V. The default leaves c1022 and c1023 free, the pair that container engines reserve.
        size: categories in a guest code.
        code: how realms are named if not by one category each: a cover-free code whose elements fit in R.
        bounds: of the policy.

    Raises:
        LabelError: the blocks overlap, are too small, not plain runs of categories, or outside the policy.
    """

    __slots__ = ("_code", "_guest_count", "_guests", "_realms", "guest_block", "realm_block", "size")

    def __init__(
        self,
        realms: range = range(256),
        guests: range = range(256, 1022),
        size: int = 2,
        code: CoverFreeCode | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:
        self.realm_block = _block(realms)
        self.guest_block = _block(guests)
        self.size = size
        self._realms = realms
        self._guests = guests
        self._code = code
        self._guest_count = comb(len(guests), max(size, 0))
        if self.realm_block & self.guest_block:
            raise LabelError(f"the blocks {self.realm_block} and {self.guest_block} overlap: expected two apart")
        if max(realms.stop, guests.stop) > bounds.categories:
            raise LabelError(f"{self} is outside the policy: expected c0 to c{bounds.categories - 1} at most")
        if not 1 <= size <= len(guests):
            raise LabelError(
                f"guest codes of {size} categories: expected 1 to {len(guests)}, as {self.guest_block} has"
            )
        if code is not None and code.elements > len(realms):
            raise LabelError(f"the block {self.realm_block} is too small: this realm code takes {code.elements}")

    def __str__(self) -> str:
        """The scheme in one line; two schemes are the same if these are."""
        name = f"cover-free({self._code.q},{self._code.k})" if self._code else "single"
        return f"realms {self.realm_block} {name}, guests {self.guest_block} by {self.size}"

    @property
    def r(self) -> int | None:
        """The most realms one subject may be cleared for, or None if any number: single categories stay separate."""
        return self._code.r if self._code else None

    @property
    def capacity(self) -> Capacity:
        """How many realms and guests there is room for."""
        realms = self._code.size if self._code else len(self._realms)
        return Capacity(realms, self._guest_count, realms * self._guest_count, self.r)

    def realm_code(self, index: int) -> CategorySet:
        """The code of a realm.

        Args:
            index: from 0.

        Raises:
            Exhausted: there are fewer realm codes.
        """
        count = self.capacity.realms
        if not 0 <= index < count:
            raise Exhausted(
                f"there is no realm code number {index}: this scheme has {count}, all of them in {self.realm_block}",
                rule=str(self),
                remedy="remove a realm that is no longer needed, or choose a cover-free scheme before the first realm",
            )
        places = self._code.encode(index) if self._code else (index,)
        return CategorySet.from_mask(sum(1 << place for place in places) << self._realms.start)

    def realm_codes(self) -> Iterator[CategorySet]:
        """All realm codes, by index."""
        return (self.realm_code(index) for index in range(self.capacity.realms))

    def realm_index(self, realm: CategorySet) -> int:
        """Which realm code this is.

        Raises:
            LabelError: it is none.
        """
        places = self._unshift(realm, self._realms)
        index = self._code.decode(places) if self._code else places[0] if len(places) == 1 else None
        if index is None or realm - self.realm_block:
            raise LabelError(f"{realm or 'the empty set'} is no realm code: expected one of {self}", target=str(realm))
        return index

    def guest_categories(self, realm: CategorySet, guest_rank: int) -> CategorySet:
        """The set of a guest: its realm's code with the guest code of this rank.

        Raises:
            Exhausted: there are fewer guest codes.
        """
        if not 0 <= guest_rank < self._guest_count:
            raise Exhausted(
                f"there is no guest code number {guest_rank} in realm {realm}: each realm has {self._guest_count}",
                rule=str(self),
            )
        mask = 0
        for place in unrank(guest_rank, self.size):
            mask |= 1 << place
        return CategorySet.from_mask(realm.mask | mask << self._guests.start)

    def guest_rank(self, guest: CategorySet) -> int:
        """The rank of a guest code (`Split.guest`).

        Raises:
            LabelError: it is none.
        """
        if len(guest) != self.size or guest - self.guest_block:
            raise LabelError(
                f"{guest or 'the empty set'} is no guest code: expected {self.size} of {self.guest_block}",
                target=str(guest),
            )
        return rank(self._unshift(guest, self._guests))

    def split(self, categories: CategorySet) -> Split:
        """Takes a guest's set apart into realm code and guest code.

        Raises:
            LabelError: it isn't a guest's set under this scheme.
        """
        parts = Split(categories - self.guest_block, categories & self.guest_block)
        try:
            self.realm_index(parts.realm)
            self.guest_rank(parts.guest)
        except LabelError as error:
            raise LabelError(
                f"{categories or 'the empty set'} is not a guest's set: {error.what}", target=str(categories)
            ) from error
        return parts

    def orchestrator_range(self, realm: CategorySet) -> Range:
        """The range of a realm's orchestrator: it dominates each guest of its own realm and none of any other.

        Raises:
            LabelError: `realm` is no realm code.
        """
        self.realm_index(realm)
        return Range(Level(0, realm), Level(0, realm | self.guest_block))

    def clearance(self, realms: Iterable[CategorySet]) -> CategorySet:
        """The union of realm codes that a subject cleared for all of `realms` has.

        Raises:
            Denied: more realms than this scheme keeps apart from the others under a union.
            LabelError: one is no realm code.
        """
        chosen = set(realms)
        union = 0
        for realm in chosen:
            self.realm_index(realm)
            union |= realm.mask
        if self.r is not None and len(chosen) > self.r:
            raise Denied(
                f"a clearance for {len(chosen)} realms is refused: expected {self.r} at most",
                target=str(CategorySet.from_mask(union)),
                rule=f"{self} is {self.r}-cover-free: a larger union could contain the code of a realm left out",
                remedy=f"use several subjects, each cleared for {self.r} realms or fewer",
            )
        return CategorySet.from_mask(union)

    @staticmethod
    def _unshift(categories: CategorySet, block: range) -> tuple[int, ...]:
        return tuple(CategorySet.from_mask(categories.mask >> block.start))


def _block(block: range) -> CategorySet:
    if not block or block.step != 1 or block.start < 0:
        raise LabelError(f"{block} is no block of categories: expected a rising run of at least one")
    return CategorySet.from_mask((1 << block.stop) - (1 << block.start))
