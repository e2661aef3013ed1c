"""Sets of categories: what keeps guests of one type apart.

Parsing and printing follow the kernel, security/selinux/ss/mls.c. `mls_context_to_sid` looks every name up in the
policy's table, so ``c01``, ``C1`` and an empty name are unknown; ``c4.c6`` is a range whose end must lie above its
start; order, duplicates and overlaps are accepted. `mls_sid_to_context` prints two consecutive categories as
``c4,c5`` and three or more as ``c4.c6``.
"""

from __future__ import annotations

from septum.errors import LabelError
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal, NoReturn

__all__ = ["DEFAULT_BOUNDS", "Bounds", "CategorySet", "Relation"]

if TYPE_CHECKING:
    Relation = Literal[
        "equal",
        "dominates",  # the left one contains the right one and more
        "dominated",  # the other way round
        "incomparable",  # neither contains the other
    ]
else:
    Relation = str


class Bounds(NamedTuple):
    """How many names a policy defines, counted from ``c0`` and ``s0``.

    The defaults are those of the reference policy: 1,024 categories, and at most 16 sensitivities (an MCS build
    defines one).

    Attributes:
        categories: number of categories.
        sensitivities: number of sensitivities.
    """

    categories: int = 1024
    sensitivities: int = 16


DEFAULT_BOUNDS = Bounds()


def parse_number(name: str, prefix: str, count: int, whole: str) -> int:
    """The number in a name such as ``c12``.

    Args:
        name: the name.
        prefix: its letter.
        count: how many such names there are.
        whole: the text that the name stands in, for the message.

    Raises:
        LabelError: the policy has no such name.
    """
    digits = name[1:]
    known = name[:1] == prefix and digits.isascii() and digits.isdecimal() and len(digits) <= len(str(count))
    if not known or (digits[0] == "0" and len(digits) > 1) or int(digits) >= count:
        raise LabelError(
            f"{name!r} in {whole!r} is unknown: expected {prefix}0 to {prefix}{count - 1}",
            target=whole,
            rule="the kernel takes only names that the policy defines (mls_context_to_sid)",
        )
    return int(digits)


class CategorySet:
    """An immutable set of categories.

    Args:
        numbers: the categories' numbers, in any order.
        bounds: of the policy.

    Raises:
        LabelError: a number is outside the bounds.
    """

    __slots__ = ("mask",)

    mask: int
    """Bit n is set if category n is in the set."""

    def __init__(self, numbers: Iterable[int] = (), bounds: Bounds = DEFAULT_BOUNDS) -> None:
        mask = 0
        for number in numbers:
            if not 0 <= number < bounds.categories:
                raise LabelError(f"category {number} is outside the policy: expected 0 to {bounds.categories - 1}")
            mask |= 1 << number
        object.__setattr__(self, "mask", mask)

    @classmethod
    def from_mask(cls, mask: int) -> CategorySet:
        """The set whose bits are given.

        Raises:
            LabelError: the mask is negative, which would be an infinite set.
        """
        if mask < 0:
            raise LabelError(f"the category mask {mask} is negative: expected one bit for each category")
        made = cls.__new__(cls)
        object.__setattr__(made, "mask", mask)
        return made

    @classmethod
    def parse(cls, text: str, bounds: Bounds = DEFAULT_BOUNDS) -> CategorySet:
        """Reads what the kernel accepts behind the colon of a level: ``c4,c5``, ``c4.c6``, mixed, in any order.

        Raises:
            LabelError: an unknown category, an empty item, or a range that does not rise.
        """
        mask = 0
        for item in text.split(","):
            low, dot, high = item.partition(".")
            first = last = parse_number(low, "c", bounds.categories, text)
            if dot:
                last = parse_number(high, "c", bounds.categories, text)
                if last <= first:
                    raise LabelError(
                        f"the range {item!r} in {text!r} does not rise: expected its end above its start",
                        target=text,
                        rule="the kernel refuses such a range (mls_context_to_sid)",
                    )
            mask |= (2 << last) - (1 << first)
        return cls.from_mask(mask)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a CategorySet is immutable: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a CategorySet is immutable: {name}")

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return CategorySet.from_mask, (self.mask,)

    def __str__(self) -> str:
        """As the kernel prints it; "" if empty."""
        items = []
        rest, start = self.mask, 0
        while rest:
            gap = (rest & -rest).bit_length() - 1
            start += gap
            rest >>= gap
            run = (~rest & (rest + 1)).bit_length() - 1
            items.append(f"c{start}" if run == 1 else f"c{start}{'.' if run > 2 else ','}c{start + run - 1}")
            start += run
            rest >>= run
        return ",".join(items)

    def __repr__(self) -> str:
        return f"CategorySet({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.mask == other.mask if isinstance(other, CategorySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.mask)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __iter__(self) -> Iterator[int]:
        """The numbers, rising."""
        rest = self.mask
        while rest:
            lowest = rest & -rest
            yield lowest.bit_length() - 1
            rest ^= lowest

    def __contains__(self, number: int) -> bool:
        return number >= 0 and bool(self.mask >> number & 1)

    def __or__(self, other: CategorySet) -> CategorySet:
        return CategorySet.from_mask(self.mask | other.mask)

    def __and__(self, other: CategorySet) -> CategorySet:
        return CategorySet.from_mask(self.mask & other.mask)

    def __sub__(self, other: CategorySet) -> CategorySet:
        return CategorySet.from_mask(self.mask & ~other.mask)

    def __xor__(self, other: CategorySet) -> CategorySet:
        return CategorySet.from_mask(self.mask ^ other.mask)

    def dominates(self, other: CategorySet) -> bool:
        """Whether it contains all of `other`; a set dominates itself."""
        return not other.mask & ~self.mask

    def relation(self, other: CategorySet) -> Relation:
        """How it stands to `other`; exactly one of four."""
        if self.mask == other.mask:
            return "equal"
        if not other.mask & ~self.mask:
            return "dominates"
        return "incomparable" if self.mask & ~other.mask else "dominated"

    def comparable(self, other: CategorySet) -> bool:
        """Whether one of the two contains the other: then categories don't keep their owners apart."""
        common = self.mask & other.mask
        return common == self.mask or common == other.mask
