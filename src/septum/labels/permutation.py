"""A keyed pseudo-random permutation of the numbers below n, for any n, both ways, without a table of n entries.

A Feistel network over pairs of numbers below m, the smallest m with m² >= n, whose rounds add modulo m, with cycle
walking for the few pairs outside the range (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains",
CT-RSA 2002). As m² - n <= 2√n, a walk is rare and at most that long; over powers of two it would take up to four
rounds of the whole. Ten rounds, as FF1 of NIST SP 800-38G has for such small domains. The round function is BLAKE2b
keyed; one digest serves eight neighbouring inputs and is kept, so that many look-ups in one process cost about a
tuple access each, and a single one no more than ten digests.
"""

from __future__ import annotations

from _blake2 import blake2b
from math import isqrt
from struct import Struct

__all__ = ["KeyedPermutation"]

_ROUNDS = 10
_INPUT = Struct("<HQ")
_WORDS = Struct("<8Q")


class KeyedPermutation:
    """A permutation of range(size) that looks random to whoever lacks the key.

    Args:
        size: from 1 to 2^64; beyond, the 64-bit words of the round function would be uneven.
        key: 1 to 64 bytes.

    Raises:
        ValueError: either is outside its limits.
    """

    __slots__ = ("_blocks", "_key", "_modulus", "size")

    def __init__(self, size: int, key: bytes) -> None:
        if not 1 <= size <= 1 << 64:
            raise ValueError(f"a permutation of {size} numbers: expected 1 to 2^64")
        if not 1 <= len(key) <= 64:
            raise ValueError(f"a key of {len(key)} bytes: expected 1 to 64")
        self.size = size
        self._key = key
        self._modulus = isqrt(size - 1) + 1
        self._blocks: tuple[dict[int, tuple[int, ...]], ...] = tuple({} for _ in range(_ROUNDS))

    def forward(self, number: int) -> int:
        """Where `number` goes.

        Raises:
            IndexError: it is outside the range.
        """
        self._check(number)
        modulus = self._modulus
        while True:
            left, right = divmod(number, modulus)
            for place, blocks in enumerate(self._blocks):
                block = blocks.get(right >> 3) or self._fill(place, right >> 3)
                left, right = right, (left + block[right & 7]) % modulus
            number = left * modulus + right
            if number < self.size:
                return number

    def backward(self, number: int) -> int:
        """Where `number` comes from.

        Raises:
            IndexError: it is outside the range.
        """
        self._check(number)
        modulus = self._modulus
        while True:
            left, right = divmod(number, modulus)
            for place in range(_ROUNDS - 1, -1, -1):
                block = self._blocks[place].get(left >> 3) or self._fill(place, left >> 3)
                left, right = (right - block[left & 7]) % modulus, left
            number = left * modulus + right
            if number < self.size:
                return number

    def _fill(self, place: int, index: int) -> tuple[int, ...]:
        digest = blake2b(_INPUT.pack(place, index), key=self._key).digest()
        block = self._blocks[place][index] = tuple([word % self._modulus for word in _WORDS.unpack(digest)])
        return block

    def _check(self, number: int) -> None:
        if not 0 <= number < self.size:
            raise IndexError(f"{number} is outside a permutation of {self.size} numbers")
