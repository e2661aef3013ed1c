"""What stands in for `typing` and `json` on the way of a launch behaves as they do."""

from __future__ import annotations

import copy
import json
import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum import jsontext, lean


class Mine(lean.NamedTuple):
    first: int
    second: str = "two"
    third: tuple[int, ...] = ()

    def both(self) -> str:
        return f"{self.first} {self.second}"


class Theirs(typing.NamedTuple):
    first: int
    second: str = "two"
    third: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("values", "named"),
    [((1,), {}), ((1, "b"), {}), ((1, "b", (3,)), {}), ((), {"first": 1}), ((1,), {"third": (4,)})],
)
def test_a_named_tuple_is_one(values: tuple[typing.Any, ...], named: dict[str, typing.Any]) -> None:
    mine, theirs = Mine(*values, **named), Theirs(*values, **named)
    assert mine == theirs
    assert mine._asdict() == theirs._asdict()
    assert repr(mine) == repr(theirs).replace("Theirs", "Mine")
    assert mine._replace(second="x") == theirs._replace(second="x")
    assert (mine.first, mine.second, mine.third) == tuple(theirs)
    assert type(mine._replace(second="x")) is type(copy.copy(mine)) is type(pickle.loads(pickle.dumps(mine))) is Mine
    assert not hasattr(mine, "__dict__")
    assert Mine._fields == Theirs._fields
    assert Mine._field_defaults == Theirs._field_defaults
    assert Mine._make([1, "b", ()]) == Theirs._make([1, "b", ()])
    assert mine.both() == f"{theirs.first} {theirs.second}"
    match mine:
        case Mine(first, second):
            assert (first, second) == theirs[:2]


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, "b", (), 4), {}), ((1,), {"first": 1}), ((1,), {"fourth": 1})]
)
def test_wrong_arguments_are_refused(values: tuple[typing.Any, ...], named: dict[str, typing.Any]) -> None:
    for kind in (Mine, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)
    with pytest.raises(ValueError, match="fourth"):
        Mine(1)._replace(fourth=4)
    with pytest.raises(AttributeError):
        Mine(1).first = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Mine._make([1])


def test_a_wrong_class_is_refused() -> None:
    with pytest.raises(TypeError, match="default"):

        class _Backwards(lean.NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc]

    with pytest.raises(TypeError, match="fields"):

        class _Empty(lean.NamedTuple):
            pass


def test_suppress_lets_only_its_own_pass() -> None:
    with lean.suppress(OSError, KeyError):
        raise FileNotFoundError
    with pytest.raises(ValueError, match="not this"), lean.suppress(OSError):
        raise ValueError("not this")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_is_what_json_writes_and_reads(value: typing.Any) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert jsontext.canonical(value) == text
    assert jsontext.Decoder()(f" \n{json.dumps(value, indent=1)}\t") == json.loads(text)


@given(st.text(alphabet='[]{}:,"\\u0 \t\v\x001e.-truefalsnNaI', max_size=30))
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 (any of its words will do)
            jsontext.Decoder()(text)
    else:
        assert repr(jsontext.Decoder()(text)) == repr(value)


def test_what_json_can_not_write_is_refused() -> None:
    ring: list[typing.Any] = []
    ring.append(ring)
    for value, kind in ((object(), TypeError), (float("nan"), ValueError), (ring, ValueError)):
        with pytest.raises(kind):
            jsontext.canonical(value)
