"""Conditions of a policy's rules: what they come to, and what is none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import PolicyError
from septum.sepol.conditions import conditionals, evaluate

VALUES = {"a": True, "b": False, "c_1": True}
_OPERATORS = {
    "and": lambda one, other: one and other,
    "or": lambda one, other: one or other,
    "xor": lambda one, other: one != other,
    "neq": lambda one, other: one != other,
    "eq": lambda one, other: one == other,
}


def _both(pair: tuple[str, tuple[str, bool], tuple[str, bool]]) -> tuple[str, bool]:
    operator, one, other = pair
    return f"({operator} {one[0]} {other[0]})", _OPERATORS[operator](one[1], other[1])


EXPRESSIONS = st.recursive(
    st.sampled_from(sorted(VALUES.items())),
    lambda inner: st.one_of(
        inner.map(lambda one: (f"(not {one[0]})", not one[1])),
        st.tuples(st.sampled_from(sorted(_OPERATORS)), inner, inner).map(_both),
    ),
)


@given(EXPRESSIONS)
def test_expressions(made: tuple[str, bool]) -> None:
    assert evaluate(made[0], VALUES) is made[1]


@pytest.mark.parametrize(
    "text", ["", "(", ")", "()", "d", "(a b c_1)", "(nand a b)", "(not)", "(eq a)", "(xor)", "(" * 5000, "(and a d)"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        evaluate(text, VALUES)


@given(st.text(alphabet="abc_1() notandxorq", max_size=40))
def test_anything_has_a_value_or_is_refused(text: str) -> None:
    with suppress(PolicyError):
        assert evaluate(text, VALUES) in (True, False)


def test_branches_have_places_conditions_and_values() -> None:
    branches = ["(x)", "(booleanif (not b)", "    (true", "        (one)", "    )"]
    branches += ["    (false", "        (two)", "        (three)", "    )", ")", ""]
    text = "\n".join(branches)
    found = [(text[one.start : one.end].split(), one.condition, one.active) for one in conditionals(text, VALUES)]
    assert found == [(["(one)"], "(not b)", True), (["(two)", "(three)"], "(not (not b))", False)]
