"""Levels, ranges and contexts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import LabelError
from septum.labels import (
    PAIRS,
    RELATIONS,
    Bounds,
    CategorySet,
    Context,
    Level,
    Range,
    context_text,
    relation_key,
    relations,
)

levels = st.builds(Level, st.integers(0, 2), st.sets(st.integers(0, 4)).map(CategorySet))


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    low, more = draw(levels), draw(levels)
    high = Level(max(low.sensitivity, more.sensitivity), low.categories | more.categories)
    return Range(low, high) if draw(st.booleans()) else Range(low)


@given(ranges())
def test_what_is_printed_reads_back(found: Range) -> None:
    assert Range.parse(str(found)) == found
    assert Level.parse(str(found.low)) == found.low
    context = Context("system_u", "system_r", "svirt_t", found)
    assert Context.parse(str(context)) == context


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("s0", "s0"),
        ("s0-s0", "s0"),
        ("s0:c5,c4", "s0:c4,c5"),
        ("s0-s0:c0.c1023", "s0-s0:c0.c1023"),
        ("s0:c1,c2-s0:c2,c1", "s0:c1,c2"),
        ("s0:c1,c2,c3-s0:c1.c5", "s0:c1.c3-s0:c1.c5"),
        ("s0:c7-s15:c0.c10", "s0:c7-s15:c0.c10"),
    ],
)
def test_prints_ranges_as_the_kernel_does(text: str, printed: str) -> None:
    assert str(Range.parse(text)) == printed


@pytest.mark.parametrize(
    "text", ["", "-", "s0-", "-s0", "s0-s0-s0", "s0:", "s0::c1", "s0:c1-s0", "s1-s0", "s16", "s00", "S0", "s0:c1-c2"]
)
def test_refuses_malformed_ranges(text: str) -> None:
    with pytest.raises(LabelError, match="expected"):
        Range.parse(text)


def test_the_high_level_dominates_the_low_one() -> None:
    with pytest.raises(LabelError, match="dominates the low one"):
        Range(Level(0, CategorySet([1])), Level(0, CategorySet([2])))


def test_sensitivities_are_bounded_by_the_policy() -> None:
    assert Level.parse("s1", Bounds(sensitivities=2)).sensitivity == 1
    with pytest.raises(LabelError, match="s0 to s0"):
        Level.parse("s1", Bounds(sensitivities=1))


@given(levels, levels)
def test_one_relation_holds_between_levels(first: Level, second: Level) -> None:
    above, below = first.dominates(second), second.dominates(first)
    assert above == (first.sensitivity >= second.sensitivity and set(first.categories) >= set(second.categories))
    expected = {(True, True): "equal", (True, False): "dominates", (False, True): "dominated"}
    assert first.relation(second) == expected.get((above, below), "incomparable")


@given(ranges(), ranges())
def test_the_key_tells_all_six_relations(first: Range, second: Range) -> None:
    key = relation_key(first, second)
    assert 0 <= key < 4096
    assert relations(key) == {
        "l1l2": first.low.relation(second.low),
        "l1h2": first.low.relation(second.high),
        "h1l2": first.high.relation(second.low),
        "h1h2": first.high.relation(second.high),
        "l1h1": first.low.relation(first.high),
        "l2h2": second.low.relation(second.high),
    }


def test_keys_and_relations_are_one_to_one() -> None:
    seen = {tuple(relations(key).items()) for key in range(4096)}
    assert len(seen) == 4096
    assert set(RELATIONS) == {"equal", "dominates", "dominated", "incomparable"}
    assert list(relations(0)) == list(PAIRS)


def test_a_context_is_taken_apart() -> None:
    context = Context.parse("system_u:system_r:svirt_t:s0:c3,c300-s0:c3,c300,c700")
    assert context[:3] == ("system_u", "system_r", "svirt_t")
    assert context.range is not None
    assert str(context.range.high) == "s0:c3,c300,c700"


def test_a_policy_without_levels_has_contexts_without_a_range() -> None:
    context = Context.parse("system_u:system_r:dom0_t")
    assert context.range is None
    assert str(context) == "system_u:system_r:dom0_t"


@pytest.mark.parametrize(
    "text",
    ["", "u", "u:r", "u:r:", ":r:t:s0", "u::t:s0", "u:r:t:", "u:r:t:s0 ", "u:r:t:s0\n", "u:r:t\0:s0", "u r:r:t:s0"],
)
def test_refuses_malformed_contexts(text: str) -> None:
    with pytest.raises(LabelError, match="expected"):
        Context.parse(text)


def test_an_error_in_a_range_names_the_whole_context() -> None:
    with pytest.raises(LabelError) as caught:
        Context.parse("u:r:t:s0:c9999")
    assert caught.value.target == "u:r:t:s0:c9999"
    assert "'c9999'" in caught.value.what


@pytest.mark.parametrize("raw", [b"u:r:t:s0", b"u:r:t:s0\0", b"u:r:t:s0\n", b"u:r:t:s0\0\n"])
def test_a_terminator_from_the_kernel_is_dropped(raw: bytes) -> None:
    assert context_text(raw) == "u:r:t:s0"


@pytest.mark.parametrize("raw", [b"u:r:t:s0\0\0", b"u:r\0:t:s0", b"u:r:t:s0\n\n", b"u:r:t:\xffs0", b"u:r:\x1bt:s0"])
def test_anything_else_unprintable_is_refused(raw: bytes) -> None:
    with pytest.raises(LabelError, match="expected"):
        context_text(raw)
