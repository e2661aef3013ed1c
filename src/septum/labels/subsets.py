"""Subsets of one size, numbered: rank and unrank without a table.

The order is colexicographic, the combinatorial number system (D. E. Knuth, The Art of Computer Programming 4A,
7.2.1.3): the subset with elements e1 < e2 < … < ek has the rank C(e1, 1) + C(e2, 2) + … + C(ek, k). It does not
depend on how large the set is that the elements come from.
"""

from __future__ import annotations

from math import comb, isqrt

from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["rank", "unrank"]


def rank(elements: Sequence[int]) -> int:
    """The number of a subset.

    Args:
        elements: rising, from 0.
    """
    return sum(comb(element, place) for place, element in enumerate(elements, 1))


def unrank(number: int, size: int) -> tuple[int, ...]:
    """The subset of `size` elements that has this rank, rising."""
    if size == 2:
        # The larger element e is the greatest with e(e-1)/2 <= number; isqrt keeps it exact at any size.
        larger = (1 + isqrt(1 + 8 * number)) // 2
        return number - larger * (larger - 1) // 2, larger
    elements = []
    for place in range(size, 0, -1):
        element = _greatest(number, place)
        number -= comb(element, place)
        elements.append(element)
    return tuple(reversed(elements))


def _greatest(number: int, place: int) -> int:
    """The greatest e with C(e, place) <= number."""
    low, high = place - 1, place
    while comb(high, place) <= number:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if comb(middle, place) <= number:
            low = middle
        else:
            high = middle
    return low
