"""Sets of categories: the algebra, and reading and printing them as the kernel does."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import Denied, LabelError
from septum.labels import Bounds, CategorySet

numbers = st.integers(0, 1023)
plain_sets = st.one_of(st.sets(numbers, max_size=12), st.sets(st.integers(0, 15)))
sets = plain_sets.map(CategorySet)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, set[int]]:
    """Any text that the kernel accepts, with what it means: ranges, duplicates and overlaps in any order."""
    items, meant = [], set()
    for _ in range(draw(st.integers(1, 6))):
        first = draw(numbers)
        last = draw(st.integers(first, min(1023, first + 20)))
        items.append(f"c{first}" if first == last else f"c{first}.c{last}")
        meant |= set(range(first, last + 1))
    return ",".join(items), meant


@given(spellings())
def test_any_accepted_spelling_is_read(case: tuple[str, set[int]]) -> None:
    text, meant = case
    assert set(CategorySet.parse(text)) == meant


@given(sets.filter(bool))
def test_what_is_printed_reads_back(categories: CategorySet) -> None:
    assert CategorySet.parse(str(categories)) == categories


@pytest.mark.parametrize(
    ("members", "printed"),
    [
        ([], ""),
        ([4], "c4"),
        ([4, 5], "c4,c5"),
        ([4, 5, 6], "c4.c6"),
        ([1, 4, 5, 7, 8, 9, 1023], "c1,c4,c5,c7.c9,c1023"),
        ([0, 1], "c0,c1"),
        (range(1024), "c0.c1023"),
        ([1022, 1023], "c1022,c1023"),
    ],
)
def test_prints_as_the_kernel_does(members: list[int], printed: str) -> None:
    assert str(CategorySet(members)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c1,",
        ",c1",
        "c1,,c2",
        "c5.c4",
        "c4.c4",
        "c1.c3.c5",
        "c1.",
        ".c1",
        "c1024",
        "c01",
        "C1",
        "c",
        "1",
        "c-1",
        "c1 ",
        " c1",
        "c١",
        "c1²",
        "c1-c2",
        "c" + "9" * 9000,
    ],
)
def test_refuses_what_the_kernel_refuses(text: str) -> None:
    with pytest.raises(LabelError, match="expected"):
        CategorySet.parse(text)


def test_an_error_names_the_object_and_what_was_expected() -> None:
    with pytest.raises(LabelError) as caught:
        CategorySet.parse("c1,c12x")
    assert "'c12x'" in str(caught.value)
    assert "c0 to c1023" in str(caught.value)
    assert caught.value.target == "c1,c12x"
    assert isinstance(caught.value, Denied)


def test_bounds_are_the_policys() -> None:
    small = Bounds(categories=8)
    assert set(CategorySet.parse("c0.c7", small)) == set(range(8))
    with pytest.raises(LabelError):
        CategorySet.parse("c8", small)
    with pytest.raises(LabelError):
        CategorySet([8], small)
    with pytest.raises(LabelError):
        CategorySet([-1])
    with pytest.raises(LabelError):
        CategorySet.from_mask(-1)


@given(plain_sets, plain_sets)
def test_operations_are_those_of_sets(first: set[int], second: set[int]) -> None:
    left, right = CategorySet(first), CategorySet(second)
    assert set(left | right) == first | second
    assert set(left & right) == first & second
    assert set(left - right) == first - second
    assert set(left ^ right) == first ^ second
    assert left.dominates(right) == (first >= second)
    assert len(left) == len(first)
    assert list(left) == sorted(first)
    assert all((number in left) == (number in first) for number in (*first, *second, -1, 5000))


@given(plain_sets, plain_sets)
def test_exactly_one_relation_holds(first: set[int], second: set[int]) -> None:
    left, right = CategorySet(first), CategorySet(second)
    expected = (
        "equal"
        if first == second
        else "dominates"
        if first > second
        else "dominated"
        if first < second
        else "incomparable"
    )
    assert left.relation(right) == expected
    assert left.comparable(right) == (expected != "incomparable")
    mirrored = {"dominates": "dominated", "dominated": "dominates"}
    assert right.relation(left) == mirrored.get(expected, expected)


@given(sets, sets, sets)
def test_dominance_is_transitive(first: CategorySet, second: CategorySet, third: CategorySet) -> None:
    assert (first | second | third).dominates(first | second)
    assert (first | second).dominates(first)
    assert not (first.dominates(second) and second.dominates(third)) or first.dominates(third)


@given(sets)
def test_is_a_value(categories: CategorySet) -> None:
    again = CategorySet(list(categories))
    assert again == categories
    assert hash(again) == hash(categories)
    assert pickle.loads(pickle.dumps(categories)) == categories
    with pytest.raises(AttributeError):
        categories.mask = 0
    with pytest.raises(AttributeError):
        del categories.mask
    assert categories != categories.mask
