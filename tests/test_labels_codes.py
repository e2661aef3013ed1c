"""Numbered subsets, the keyed permutation, and cover-free codes."""

from itertools import combinations, pairwise
from math import comb

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from septum.labels import CoverFreeCode, KeyedPermutation, rank, unrank

keys = st.binary(min_size=1, max_size=64)


@pytest.mark.parametrize(("among", "size"), [(9, 1), (12, 2), (9, 3), (8, 4), (7, 7), (5, 0)])
def test_ranks_number_all_subsets_in_a_row(among: int, size: int) -> None:
    subsets = [unrank(number, size) for number in range(comb(among, size))]
    assert set(subsets) == set(combinations(range(among), size))
    assert [rank(subset) for subset in subsets] == list(range(len(subsets)))


@given(st.integers(0, 10**40), st.integers(1, 6))
@example(comb(10**20, 2) - 1, 2)
@example(comb(10**20, 2), 2)
def test_rank_undoes_unrank_at_any_size(number: int, size: int) -> None:
    elements = unrank(number, size)
    assert rank(elements) == number
    assert list(elements) == sorted(set(elements))
    assert len(elements) == size


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=6))
def test_unrank_undoes_rank(elements: set[int]) -> None:
    assert set(unrank(rank(sorted(elements)), len(elements))) == elements


@given(st.integers(1, 400), keys)
def test_the_permutation_is_one(size: int, key: bytes) -> None:
    permutation = KeyedPermutation(size, key)
    images = [permutation.forward(number) for number in range(size)]
    assert sorted(images) == list(range(size))
    assert [permutation.backward(image) for image in images] == list(range(size))


@given(st.integers(1, 1 << 64), keys, st.data())
def test_the_permutation_goes_back_at_any_size(size: int, key: bytes, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    permutation = KeyedPermutation(size, key)
    image = permutation.forward(number)
    assert 0 <= image < size
    assert KeyedPermutation(size, key).backward(image) == number


def test_keys_give_different_orders() -> None:
    size = 292_995
    orders = {tuple(KeyedPermutation(size, bytes([key])).forward(number) for number in range(4)) for key in range(200)}
    assert len(orders) == 200


def test_the_order_tells_nothing_obvious() -> None:
    """Positions of neighbours, and neighbours of positions, spread evenly over the range."""
    size, bins = 292_995, 16
    permutation = KeyedPermutation(size, b"key")
    images = [permutation.forward(number) for number in range(4096)]
    steps = [(after - before) % size for before, after in pairwise(images)]
    for values in (images, steps):
        counts = [0] * bins
        for value in values:
            counts[value * bins // size] += 1
        expected = len(values) / bins
        # 15 degrees of freedom: above 50 has a chance of about 1 in 80,000, and the key is fixed.
        assert sum((count - expected) ** 2 / expected for count in counts) < 50


def test_permutations_check_their_limits() -> None:
    permutation = KeyedPermutation(10, b"key")
    for outside in (-1, 10):
        with pytest.raises(IndexError):
            permutation.forward(outside)
        with pytest.raises(IndexError):
            permutation.backward(outside)
    for size, key in ((0, b"key"), ((1 << 64) + 1, b"key"), (10, b""), (10, bytes(65))):
        with pytest.raises(ValueError, match="expected"):
            KeyedPermutation(size, key)


@pytest.mark.parametrize(
    ("q", "k", "r"), [(3, 2, 2), (4, 2, 3), (5, 2, 4), (5, 3, 2), (4, 3, 1), (4, 4, 1), (2, 2, 1), (7, 2, 6), (7, 3, 3)]
)
def test_no_union_of_r_words_contains_another(q: int, k: int, r: int) -> None:
    """Exhaustive over all unions of r words."""
    code = CoverFreeCode(q, k)
    assert code.r == r
    assert code.size == q**k
    words = [sum(1 << element for element in code.encode(number)) for number in range(code.size)]
    assert len(set(words)) == code.size
    assert all(word.bit_count() == q and word < 1 << code.elements for word in words)
    # Adding a word to all others maps the code to itself and keeps inclusions, as the code is linear. So every word
    # stands to the others as word 0 does, and at the larger sizes word 0 is enough.
    targets = words if comb(code.size, r) * code.size < 300_000 else words[:1]
    for target in targets:
        parts = {word & target for word in words if word != target}
        maximal = [part for part in parts if not any(part != other and part & other == part for other in parts)]
        assert not any(_union(chosen) == target for chosen in combinations(maximal, min(r, len(maximal))))


def test_one_realm_more_than_r_can_cover() -> None:
    """The stated r is the code's own, not a guess on the safe side: r+1 words do cover another in this one."""
    code = CoverFreeCode(3, 2)
    words = [sum(1 << element for element in code.encode(number)) for number in range(code.size)]
    covered = [
        target
        for target in words
        for chosen in combinations([word for word in words if word != target], code.r + 1)
        if target & _union(chosen) == target
    ]
    assert covered


@pytest.mark.parametrize(("q", "k"), [(16, 3), (32, 2), (13, 2), (8, 3), (2, 2)])
def test_two_words_share_fewer_than_k_elements(q: int, k: int) -> None:
    code = CoverFreeCode(q, k)
    step = max(1, code.size // 256)
    words = [sum(1 << element for element in code.encode(number)) for number in range(code.size)]
    for word in words[::step]:
        assert max((word & other).bit_count() for other in words if other != word) == k - 1


def test_the_code_of_the_design() -> None:
    code = CoverFreeCode(16, 3)
    assert (code.size, code.elements, code.r) == (4096, 256, 7)


@given(st.sampled_from([(3, 2), (5, 3), (16, 3), (11, 2)]), st.data())
def test_the_number_can_be_read_off_a_word(shape: tuple[int, int], data: st.DataObject) -> None:
    code = CoverFreeCode(*shape)
    number = data.draw(st.integers(0, code.size - 1))
    word = code.encode(number)
    assert code.decode(word) == number
    assert code.decode(word[:-1]) is None
    changed = [*word[:-1], word[-1] ^ 1]
    assert code.decode(changed) is None


def test_codes_check_their_limits() -> None:
    for q, k in ((6, 2), (9, 2), (5, 1), (5, 6), (1, 1), (0, 0)):
        with pytest.raises(ValueError, match="expected"):
            CoverFreeCode(q, k)
    with pytest.raises(IndexError):
        CoverFreeCode(3, 2).encode(9)


def _union(masks: tuple[int, ...]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
