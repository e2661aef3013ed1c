"""What a declaration becomes in a real policy: secilc compiles it, libsepol decides by it."""

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.declare import (
    Declaration,
    End,
    cil,
    consents,
    door_name,
    process_type,
    read,
    role_name,
    service_name,
    service_type,
)
from septum.declare.kinds import is_name
from septum.errors import PolicyError
from septum.policy import Source, build
from septum.sepol import Policy
from tests.declarekit import BLUE, EXAMPLE, OFFER, RED, USE, declare, two

WEB, MAIL, DB, SQL = End("red", "web"), End("red", "mail"), End("blue", "db"), End("blue", "sql")
RED_GUEST, BLUE_GUEST, BLUE_REALM = "s0:c0,c300,c301", "s0:c1,c300,c301", "s0:c1"
DOOR = door_name(WEB, SQL)
OPEN = f"{DOOR}.open"

Access = tuple[str, str, str, str]
"""Source, target, class and permission."""


@cache
def compiled(declaration_text: str) -> bytes:
    return build("standalone", extra=[Source("declared.cil", declaration_text)]).image


def image(declaration: Declaration) -> bytes:
    return compiled(cil(declaration))


def contexts(policy: Policy) -> Iterator[tuple[str, str]]:
    """Type and context of everything that a door between red and blue could concern, at the level it has."""
    for realm, level in (("red", RED_GUEST), ("blue", BLUE_GUEST)):
        for name in policy.types():
            if name.startswith(f"septum_realm-{realm}.") and name.endswith(".process"):
                yield name, f"system_u:system_r:{name}:{level}"
    for name in policy.types():
        if name.startswith("septum_realm-") and not name.endswith(".process"):
            level = BLUE_REALM if name.endswith(".object") else "s0" if ".service-" in name else BLUE_GUEST
            yield name, f"system_u:object_r:{name}:{level}"


def accesses(content: bytes, **booleans: bool) -> set[Access]:
    """All that any guest of red or blue may do, with types and with things of red and blue."""
    found = set()
    with Policy.open(content, booleans=booleans) as policy:
        every = dict(contexts(policy))
        for source, one in every.items():
            if not source.endswith(".process"):
                continue
            for target, other in every.items():
                for tclass in ("septum_service", "septum_channel", "septum_guest", "file", "process", "fd"):
                    allowed = policy.compute(one, other, tclass).allowed
                    found |= {(source, target, tclass, name) for name in policy.names(tclass, allowed)}
    return found


def door(direction: str) -> set[Access]:
    """What the door is to allow, written down anew."""
    user, server, service, channel = process_type(WEB), process_type(DB), service_type(SQL), f"{DOOR}.channel"
    rules = {(user, service, "septum_service", name) for name in ("connect", "list")}
    rules |= {(user, service, "septum_channel", "create")}
    rules |= {(one, channel, "septum_channel", name) for one in (user, server) for name in ("notify", "getattr")}
    rules |= {(server, channel, "septum_channel", "accept")}
    for way, writer, reader in (("to", user, server), ("from", server, user)):
        if direction in ("both", f"{way}-service"):
            segment = f"{DOOR}.{way}_service"
            rules |= {(writer, channel, "septum_channel", "send"), (reader, channel, "septum_channel", "recv")}
            rules |= {(writer, segment, "file", name) for name in ("getattr", "open", "read", "write", "map")}
            rules |= {(reader, segment, "file", name) for name in ("getattr", "open", "read", "map")}
            # How far the reader has read is the reader's to write.
            rules |= {(reader, f"{segment}_mark", "file", name) for name in ("getattr", "open", "read", "write", "map")}
            rules |= {(writer, f"{segment}_mark", "file", name) for name in ("getattr", "open", "read", "map")}
    return rules


@pytest.mark.parametrize("direction", ["to-service", "from-service", "both"])
def test_a_boolean_is_exactly_its_door(direction: str) -> None:
    other = '[[use]]\nrole = "mail"\nservice = "blue/sql"\n'
    declaration = two(f'{USE}direction = "{direction}"\n{other}', OFFER)
    content = image(declaration)
    closed, opened = accesses(content), accesses(content, **{OPEN: True})
    assert opened - closed == door(direction)
    assert closed <= opened
    # Beside the door nothing leads from one realm's types to the other's.
    assert {source for source, target, _, _ in closed if source.split(".")[0] != target.split(".")[0]} == set()


def test_what_was_just_loaded_has_all_doors_closed() -> None:
    with Policy.open(image(read(str(EXAMPLE)))) as policy:
        booleans = {name: value for name, value in policy.booleans().items() if "-" in name}
    assert booleans
    assert not any(booleans.values())
    assert booleans.keys() == consents(read(str(EXAMPLE))).keys()


@pytest.mark.parametrize("direction", ["to-service", "from-service", "both"])
def test_consent_changes_booleans_and_no_rule(direction: str) -> None:
    use = f'{USE}direction = "{direction}"\n'
    deny = '[[platform.deny]]\nrole = "*"\nservice = "*"\n'
    agreed, withdrawn, denied = two(use, OFFER), two(use, ""), two(use, OFFER, deny)
    assert cil(agreed) == cil(withdrawn) == cil(denied)
    assert [consents(one) for one in (agreed, withdrawn, denied)] == [{OPEN: True}, {OPEN: False}, {OPEN: False}]


def test_a_use_of_what_is_not_there_comes_to_nothing() -> None:
    declaration = two(USE.replace("sql", "nothing"), "")
    assert consents(declaration) == {}
    assert cil(declaration) == cil(two("", ""))


def test_an_orchestrator_is_one_in_the_policy() -> None:
    declaration = declare(red=RED + "orchestrator = true\n", blue=BLUE)
    web = f"system_u:system_r:{process_type(WEB)}:{RED_GUEST}"
    with Policy.open(image(declaration)) as policy:
        processes = [context for name, context in contexts(policy) if name.endswith(".process")]
        managing = [one.split(":")[2] for one in processes if policy.compute(one, web, "septum_guest").allowed]
    assert managing == [process_type(MAIL)]


STRANGER = process_type(MAIL)


@pytest.mark.parametrize(
    "rule",
    [
        f"(allow {STRANGER} {service_type(SQL)} (septum_service (connect)))",
        f"(allow {STRANGER} {service_type(SQL)} (septum_channel (create)))",
        f"(allow {STRANGER} {DOOR}.channel (septum_channel (recv)))",
        f"(allow {STRANGER} {DOOR}.to_service (file (read)))",
        f"(allow {STRANGER} {DOOR}.from_service (file (write)))",
        f"(allow septum_guest_process {DOOR}.to_service (file (getattr)))",
        f"(allow {process_type(WEB)} {DOOR}.channel (septum_channel (recv)))",
        f"(allow {process_type(WEB)} {DOOR}.channel (septum_channel (accept)))",
        f"(allow {process_type(WEB)} {DOOR}.from_service (file (read)))",
        f"(allow {process_type(DB)} {DOOR}.to_service (file (write)))",
        f"(allow {process_type(DB)} {DOOR}.channel (septum_channel (send)))",
    ],
)
def test_no_other_rule_can_open_what_the_door_keeps_shut(rule: str) -> None:
    text = cil(two(f'{USE}direction = "to-service"\n', OFFER))
    compiled(text)
    with pytest.raises(PolicyError, match="neverallow"):
        build("standalone", extra=[Source("declared.cil", text), Source("more.cil", rule)])


def test_peers_of_one_role_may_have_a_door_among_themselves() -> None:
    declaration = two("", '[[use]]\nrole = "db"\nservice = "sql"\n')
    boolean = f"{door_name(DB, SQL)}.open"
    assert consents(declaration) == {boolean: True}
    content = image(declaration)
    assert accesses(content, **{boolean: True}) > accesses(content)


names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True).filter(is_name)
ends = st.builds(End, names, names)
KEYWORDS = (
    "self all not and or true false type process image open user server t1 block any xor range object allow role s0 c0 "
    "in if channel users service to-service"
).split()


@given(st.lists(ends, min_size=4, max_size=4))
def test_different_things_have_different_names(four: list[End]) -> None:
    one, two_, three, other = four
    made = {("role", one): role_name(one), ("role", two_): role_name(two_)}
    made |= {("service", one): service_name(one), ("service", two_): service_name(two_)}
    made |= {
        (one, two_): door_name(one, two_),
        (three, other): door_name(three, other),
        (two_, one): door_name(two_, one),
    }
    assert len(set(made.values())) == len(made)
    assert all("-" in name.split(".")[0] for name in made.values())  # no hand-written name has a hyphen


def test_keywords_of_cil_are_names_as_any() -> None:
    text = "".join(
        f'[role.{word}]\nmemory = "1 KiB"\n[service.{word}]\nrole = "{word}"\nkind = "stream"\n' for word in KEYWORDS
    ) + "".join(f'[[use]]\nrole = "{word}"\nservice = "self/{word}"\n' for word in KEYWORDS)
    realm = (
        '[realm.{0}]\nfile = "{0}.toml"\nquota = {{ guests = 99, memory = "1 GiB", disk = "1 GiB", channels = 99 }}\n'
    )
    declaration = declare(realm.format("self") + realm.format("all"), self=text, all=text)
    assert len(consents(declaration)) == 2 * len(KEYWORDS)
    image(declaration)


def test_hand_written_names_have_no_hyphen() -> None:
    with Policy.open(build("standalone").image) as policy:
        assert not [name for name in policy.types() | policy.booleans().keys() if "-" in name]
