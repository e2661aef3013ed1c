"""Both halves, or no door; and neither side can make the other's part wrong."""

import itertools

import pytest

from septum.declare import DIRECTIONS, Door, End
from tests.declarekit import BLUE, OFFER, PLATFORM, RED, USE, faults, two

LIMITED_USE = USE + 'message = "8 KiB"\nrate = 5\nchannels = 3\n'
LIMITED_OFFER = OFFER + 'message = "4 KiB"\nrate = 50\nbandwidth = "1 MiB"\nchannels = 7\n'


def only(doors: tuple[Door, ...]) -> Door:
    (door,) = doors
    return door


def test_two_halves_are_an_open_door_with_the_lesser_limits() -> None:
    door = only(two(LIMITED_USE, LIMITED_OFFER).doors)
    assert (door.role, door.service, door.state, door.reason) == (End("red", "web"), End("blue", "sql"), "open", "")
    assert door.limits == (4096, 5, 1 << 20, 3)
    assert door.across


@pytest.mark.parametrize(
    ("red", "blue", "reason"),
    [
        (USE, "", "red uses it, blue does not offer it"),
        ("", OFFER, "blue offers it, red does not use it"),
        (USE, OFFER.replace('"red"', '"red/mail"'), "red uses it, blue does not offer it"),
        (USE.replace("sql", "nothing"), OFFER, "red uses it, blue does not offer it"),
        (USE, OFFER.replace('"red"', '"nobody"'), "red uses it, blue does not offer it"),
        (USE.replace("blue", "nobody"), "", "red uses it, nobody does not offer it"),
        (USE, OFFER.replace('"red"', '"red/absent"'), "red uses it, blue does not offer it"),
    ],
)
def test_one_half_is_pending_and_no_fault(red: str, blue: str, reason: str) -> None:
    doors = two(red, blue).doors
    assert reason in [door.reason for door in doors]
    assert {door.state for door in doors} == {"pending"}


def test_what_another_realm_lacks_and_what_it_does_not_offer_answer_alike() -> None:
    absent, closed = only(two(USE.replace("sql", "nothing"), "").doors), only(two(USE, "").doors)
    assert (absent.state, absent.reason, absent.limits) == (closed.state, closed.reason, closed.limits)


@pytest.mark.parametrize(("used", "offered"), list(itertools.product(DIRECTIONS, repeat=2)))
def test_data_goes_only_where_both_halves_let_it(used: str, offered: str) -> None:
    door = only(two(f'{USE}direction = "{used}"\n', f'{OFFER}direction = "{offered}"\n').doors)
    ways = {"to-service": {"to"}, "from-service": {"from"}, "both": {"to", "from"}}
    common = ways[used] & ways[offered]
    assert (door.state == "open") == bool(common)
    if common:
        assert ways[door.direction] == common
    else:
        assert door.reason == f"the halves don't meet: {used} is used, {offered} offered"


@pytest.mark.parametrize("role", ["*", "red", "red/web"])
@pytest.mark.parametrize("service", ["*", "blue", "blue/sql"])
def test_the_platform_closes_what_both_halves_opened(role: str, service: str) -> None:
    denied = two(platform=f'[[platform.deny]]\nrole = "{role}"\nservice = "{service}"\n')
    assert [(door.state, door.reason) for door in denied.doors] == [("denied", "the platform denies it")]


@pytest.mark.parametrize("role", ["blue", "red/mail", "platform"])
def test_a_denial_of_others_closes_nothing(role: str) -> None:
    assert only(two(platform=f'[[platform.deny]]\nrole = "{role}"\nservice = "*"\n').doors).state == "open"


def test_a_denial_of_a_realm_that_is_not_there_is_a_fault() -> None:
    platform = PLATFORM + '[[platform.deny]]\nrole = "rde"\nservice = "*"\n'
    assert faults(platform, red=RED + USE, blue=BLUE + OFFER) == [
        "platform.toml:9:8: role: there is no realm rde; did you mean red?"
    ]


def test_the_platforms_file_has_no_way_to_open_a_door_for_a_realm_with_a_file() -> None:
    platform = PLATFORM + '[[realm.blue.offer]]\nservice = "sql"\nto = "red"\n'
    assert faults(platform, red=RED + USE, blue=BLUE) == [
        "platform.toml:8:14: realm blue speaks for itself in blue.toml: offer may not stand here too"
    ]


def test_a_realms_file_can_speak_for_no_other() -> None:
    found = faults(
        PLATFORM, red=RED + USE + '[realm.blue]\n[[realm.blue.offer]]\nservice = "sql"\nto = "red"\n', blue=BLUE
    )
    assert found[0].startswith('red.toml:9:2: a realm\'s file has no "realm"')


def test_of_two_offers_the_one_to_the_role_counts() -> None:
    wide, narrow = OFFER + "rate = 900\n", OFFER.replace('"red"', '"red/web"') + "rate = 2\n"
    for offers in (wide + narrow, narrow + wide):
        doors = two(USE, offers).doors
        assert [(str(door.role), door.state, door.limits.rate) for door in doors] == [
            ("red", "pending", 900),
            ("red/web", "open", 2),
        ]


def test_within_a_realm_a_use_is_the_whole_door() -> None:
    for service in ("sql", "blue/sql"):
        door = only(two("", f'[[use]]\nrole = "other"\nservice = "{service}"\n').doors)
        assert (door.state, door.across, door.service) == ("open", False, End("blue", "sql"))
