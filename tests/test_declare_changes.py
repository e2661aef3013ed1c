"""What `difference` says, and which codes realms get: over every pair of declarations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.declare import Change, Declaration, assign, difference
from septum.errors import Denied, Exhausted, LabelError
from septum.labels import CategorySet, RealmScheme
from tests.declarekit import OFFER, USE, declare, two

DENY = '[[platform.deny]]\nrole = "*"\nservice = "blue"\n'
QUOTA = 'quota = { guests = 9, memory = "9 GiB", disk = "9 GiB" }\n'


def texts(old: Declaration, new: Declaration) -> list[str]:
    return [change.text for change in difference(old, new)]


def test_nothing_changes_by_comments_places_and_order() -> None:
    halves = USE + '[[use]]\nrole = "mail"\nservice = "blue/sql"\n'
    other = '[[use]]\nrole = "mail"\nservice = "blue/sql"\n# and the other\n' + USE
    assert texts(two(halves), two(other)) == []


def test_changes_are_told_in_words_and_in_the_order_to_do_them() -> None:
    old = two(USE + '[[use]]\nrole = "mail"\nservice = "blue/sql"\nrate = 7\n')
    red = '[role.new]\nmemory = "2 GiB"\n[[use]]\nrole = "mail"\nservice = "blue/sql"\nrate = 9\n' + USE.replace(
        "web", "new"
    )
    assert texts(old, two(red, platform="[realm.cyan]\n" + QUOTA)) == [
        "door red/web to blue/sql is removed",
        "realm cyan is added",
        "role red/new is added",
        "door red/mail to blue/sql changes: limits.rate from 7 to 9",
        "door red/new to blue/sql is added, open",
    ]


def test_a_door_that_closes_comes_before_all_else_and_one_that_opens_after() -> None:
    one, other = two(), two(platform=DENY + "[realm.cyan]\n" + QUOTA)
    assert texts(one, other) == [
        "door red/web to blue/sql changes: state from open to denied, reason from none to the platform denies it",
        "realm cyan is added",
        "denial * to blue is added",
    ]
    assert texts(other, one) == [
        "denial * to blue is removed",
        "realm cyan is removed",
        "door red/web to blue/sql changes: state from denied to open, reason from the platform denies it to none",
    ]


def test_a_change_has_what_was_and_what_will_be() -> None:
    (change,) = difference(two(), two(USE + "channels = 4\n", OFFER + "channels = 2\n"))
    assert (change.act, change.kind, change.name) == ("change", "door", "red/web to blue/sql")
    assert (change.before, change.after) == ({"limits.channels": 1}, {"limits.channels": 2})


variants = st.builds(
    two,
    st.lists(st.sampled_from([USE, USE.replace("web", "mail"), '[role.third]\nmemory = "1 GiB"\n']), unique=True).map(
        "".join
    ),
    st.sampled_from(["", OFFER, OFFER.replace('"red"', '"red/web"'), OFFER + "rate = 3\n"]),
    st.sampled_from(["", DENY, '[device.nic]\npci = "0000:03:00.0"\nowner = "red"\n', "[realm.cyan]\n" + QUOTA]),
)


@given(variants, variants)
def test_the_way_back_undoes_each_change(one: Declaration, other: Declaration) -> None:
    there, back = difference(one, other), difference(other, one)
    opposite = {"add": "remove", "remove": "add", "change": "change"}
    assert {(c.act, c.kind, c.name) for c in there} == {(opposite[c.act], c.kind, c.name) for c in back}
    before = {(c.kind, c.name): (c.before, c.after) for c in there}
    assert before == {(c.kind, c.name): (c.after, c.before) for c in back}
    assert difference(one, one) == ()


@given(variants, variants)
def test_what_opens_comes_last_and_what_closes_first(one: Declaration, other: Declaration) -> None:
    def rank(change: Change) -> int:
        if change.kind != "door":
            return 1
        closes = change.act == "change" and change.after.get("state", "open") != "open"
        return 0 if change.act == "remove" or closes else 2

    ranks = [rank(change) for change in difference(one, other)]
    assert ranks == sorted(ranks)


def realms(*names: str) -> Declaration:
    return declare("".join(f"[realm.{name}]\n{QUOTA}" for name in names))


names = st.lists(st.sampled_from("abcdefghij"), unique=True)


@given(st.lists(names, min_size=1, max_size=5))
def test_a_realm_keeps_its_code_and_no_code_is_given_twice(steps: list[list[str]]) -> None:
    scheme = RealmScheme()
    held: dict[str, CategorySet] = {}
    for step in steps:
        made = assign(held, realms(*step), scheme)
        everybody = {**made.realms, **made.retired}
        assert held.items() <= everybody.items()
        assert made.realms.keys() == set(step)
        assert len(set(map(str, everybody.values()))) == len(everybody)
        assert made == assign(held, realms(*reversed(step)), scheme)
        held = everybody


def test_a_code_that_others_on_the_host_could_meet_is_not_given() -> None:
    made = assign({}, realms("a", "b"), RealmScheme(), [CategorySet([0, 300]), CategorySet([2])])
    assert {name: str(code) for name, code in made.realms.items()} == {"a": "c1", "b": "c3"}


def test_codes_run_out_with_an_error() -> None:
    scheme = RealmScheme(realms=range(2))
    with pytest.raises(Exhausted):
        assign({"gone": CategorySet([0])}, realms("a", "b"), scheme)


def test_an_assignment_that_can_not_be_is_refused() -> None:
    with pytest.raises(Denied, match="realms a and b have the same code"):
        assign({"a": CategorySet([0]), "b": CategorySet([0])}, realms("a"), RealmScheme())
    with pytest.raises(LabelError):
        assign({"a": CategorySet([999])}, realms("a"), RealmScheme())
