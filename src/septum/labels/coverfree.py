"""Cover-free codes: many realms out of few categories, such that being cleared for some never implies another.

A family of sets is r-cover-free if no union of r of them contains another one. W. H. Kautz and R. C. Singleton
("Nonrandom binary superimposed codes", IEEE Transactions on Information Theory 10(4), 1964) get one from a
Reed–Solomon code: a word of q symbols over a field of q elements becomes a set with one element for each
(position, symbol). Two words of a code with k information symbols agree in at most k-1 positions, so r of them cover
at most r(k-1) of another one's q elements: r = ⌊(q-1)/(k-1)⌋.
"""

from __future__ import annotations

from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CoverFreeCode"]


class CoverFreeCode:
    """The Kautz–Singleton code over the field of q elements with k information symbols.

    The word of a number is the polynomial of degree below k that takes the number's k digits to base q at the first k
    points; so the number can be read off the word.

    Args:
        q: a prime or a power of two. The sets have q of q² elements.
        k: 2 to q. There are q^k sets.

    Raises:
        ValueError: q is neither, or k is out of range.
    """

    __slots__ = ("_basis", "_field", "k", "q", "r")

    def __init__(self, q: int, k: int) -> None:
        if not 2 <= k <= q:
            raise ValueError(f"{k} information symbols: expected 2 to {q}")
        self.q = q
        self.k = k
        self.r = (q - 1) // (k - 1)
        self._field = _Field(q)
        self._basis = [[self._lagrange(point, node) for node in range(k)] for point in range(q)]

    @property
    def elements(self) -> int:
        """How many elements the sets are taken from."""
        return self.q * self.q

    @property
    def size(self) -> int:
        """How many sets there are."""
        return int(self.q**self.k)

    def encode(self, number: int) -> tuple[int, ...]:
        """The set of this number, its elements rising.

        Raises:
            IndexError: there are fewer sets.
        """
        if not 0 <= number < self.size:
            raise IndexError(f"set {number} of {self.size}")
        digits = [number // self.q**place % self.q for place in range(self.k)]
        return tuple(point * self.q + self._value(digits, weights) for point, weights in enumerate(self._basis))

    def decode(self, elements: Sequence[int]) -> int | None:
        """The number of a set, or None if it isn't one of this code.

        Args:
            elements: rising.
        """
        number = sum(element % self.q * self.q**place for place, element in enumerate(elements[: self.k]))
        return number if len(elements) == self.q and self.encode(number) == tuple(elements) else None

    def _value(self, digits: Sequence[int], weights: Sequence[int]) -> int:
        total = 0
        for digit, weight in zip(digits, weights, strict=True):
            total = self._field.add(total, self._field.multiply(digit, weight))
        return total

    def _lagrange(self, point: int, node: int) -> int:
        """The value at `point` of the polynomial that is 1 at `node` and 0 at the other information points."""
        field = self._field
        value = 1
        for other in range(self.k):
            if other != node:
                ratio = field.multiply(field.subtract(point, other), field.inverse(field.subtract(node, other)))
                value = field.multiply(value, ratio)
        return value


class _Field:
    """Arithmetic with q elements, numbered from 0: modulo a prime, or polynomials over GF(2) as bit strings."""

    __slots__ = ("_modulus", "_q")

    def __init__(self, q: int) -> None:
        self._q = q
        self._modulus = 0
        if q > 2 and q & (q - 1) == 0:
            self._modulus = next(poly for poly in range(q + 1, 2 * q, 2) if _irreducible(poly))
        elif q < 2 or any(q % divisor == 0 for divisor in range(2, q)):
            raise ValueError(f"no field of {q} elements here: expected a prime or a power of two")

    def add(self, first: int, second: int) -> int:
        return first ^ second if self._modulus else (first + second) % self._q

    def subtract(self, first: int, second: int) -> int:
        return first ^ second if self._modulus else (first - second) % self._q

    def multiply(self, first: int, second: int) -> int:
        if not self._modulus:
            return first * second % self._q
        product = 0
        while second:
            if second & 1:
                product ^= first
            first <<= 1
            if first & self._q:
                first ^= self._modulus
            second >>= 1
        return product

    def inverse(self, element: int) -> int:
        """Of an element other than 0: its power q-2, as the group of the others has q-1 elements."""
        power = 1
        for _ in range(self._q - 2):
            power = self.multiply(power, element)
        return power


def _irreducible(poly: int) -> bool:
    """Whether a polynomial over GF(2) has no divisor of at most half its degree."""
    for divisor in range(2, 1 << (poly.bit_length() + 1) // 2):
        rest = poly
        while rest.bit_length() >= divisor.bit_length():
            rest ^= divisor << rest.bit_length() - divisor.bit_length()
        if not rest:
            return False
    return True
