"""Whom a guest can reach, and how: predicted by libsepol from the policy file, tried from inside the guests on the real
hypervisor, and compared, refusals with the records that FLASK made of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.machine import Avc
from lab.xen import Guest, Kind, Machine
from septum.policy import Source, XenDoor, build, xen_role_cil
from septum.sepol import Policy
from septum.xen import Permission, may

pytestmark = pytest.mark.lab

SOURCES = Path(__file__).parent.parent / "src"
PROBE = Path(__file__).parent / "xen_probe.py"
MODULES = ("septum/xen/grants.py", "septum/xen/events.py")
DOM0 = "system_u:system_r:dom0_t:s0-s0:c0.c1023"
DOORS = (
    XenDoor("web_to_db", "acme_web", "blue_db", "to-service"),
    XenDoor("web_and_cache", "acme_web", "acme_cache", "both"),
)
ROLES = ("acme_web", "acme_cache", "blue_db", "grey_web")
# Every peer of the guest `web`, of realm acme (c1).
LEVELS = {
    "web": ("acme_web", "s0:c1,c300,c301"),
    "twin": ("acme_web", "s0:c1,c302,c303"),  # the same realm, the same role
    "cache": ("acme_cache", "s0:c1,c304,c305"),  # the same realm, with a door both ways
    "db": ("blue_db", "s0:c2,c300,c301"),  # another realm, with a door to it
    "grey": ("grey_web", "s0:c3,c300,c301"),  # another realm, without
}
# Argo wants the frames of a ring, which a PV guest's kernel numbers otherwise: so PVH where a ring may be allowed.
KINDS: dict[str, Kind] = {"web": "pvh", "twin": "pv", "cache": "pvh", "db": "pvh", "grey": "pv"}
PEERS = ("twin", "cache", "db", "grey", "Domain-0")


class Question(NamedTuple):
    """One check of FLASK's."""

    source: str
    target: str
    cls: str
    permissions: tuple[str, ...]


class World(NamedTuple):
    """The machine with all guests running."""

    machine: Machine
    guests: dict[str, Guest]
    policy: bytes

    def domid(self, name: str) -> int:
        return self.guests[name].domid if name in self.guests else 0

    def do(self, name: str, call: str, *words: object) -> str:
        """An attempt from inside a guest; "" if it worked."""
        done: str = self.guests[name].python(f"import xen_probe; result = xen_probe.{call}(*words)", words=words)
        return done


def domain(name: str) -> str:
    return DOM0 if name == "Domain-0" else f"system_u:system_r:{LEVELS[name][0]}.domain:{LEVELS[name][1]}"


# The type of an event channel by the roles of who makes it and of who is at its other end.
ENDS = {
    ("acme_web", "blue_db"): "web_to_db_ends.one_end",
    ("blue_db", "acme_web"): "web_to_db_ends.other_end",
    ("acme_web", "acme_cache"): "web_and_cache_ends.one_end",
    ("acme_cache", "acme_web"): "web_and_cache_ends.other_end",
}


def channel(maker: str, other: str) -> str:
    """The label of an event channel."""
    if maker == "Domain-0":
        return "system_u:object_r:dom0_channel_t:s0"
    role, level = LEVELS[maker]
    kind = ENDS.get((role, LEVELS[other][0] if other in LEVELS else ""), f"{role}.channel")
    return f"system_u:object_r:{kind}:{level}"


def questions(me: str, peer: str, what: str) -> list[Question]:
    """What FLASK is asked when `me` tries `what` on `peer` (xen/xsm/flask/hooks.c)."""
    one = {
        "grant read": ("grant", ("map_read",)),
        "grant write": ("grant", ("map_read", "map_write")),
        "argo register": ("argo", ("register_single_source",)),
        "argo send": ("argo", ("send",)),
        "pause": ("domain", ("pause",)),
    }
    if what in one:
        return [Question(domain(me), domain(peer), *one[what])]
    return [
        Question(domain(peer), channel(peer, me), "event", ("create",)),
        Question(channel(peer, me), domain(me), "event", ("bind",)),
        Question(domain(me), channel(me, peer), "event", ("create",)),
        Question(channel(me, peer), domain(peer), "event", ("bind",)),
    ]


ATTEMPTS = ("grant read", "grant write", "event bind", "argo register", "argo send", "pause")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    image = build("xen", extra=[Source("declared.cil", xen_role_cil(ROLES, DOORS))]).image
    files = {name: (SOURCES / name).read_text() for name in MODULES} | {"xen_probe.py": PROBE.read_text()}
    with Machine.restored() as machine:
        machine.load_flask(image)
        guests = {name: machine.create(name, domain(name), kind) for name, kind in KINDS.items()}
        for guest in guests.values():
            guest.python("", files=files)
        machine.push(SOURCES, "/opt/septum")
        yield World(machine, guests, image)


@pytest.fixture
def dom0_port(world: World) -> int:
    """An event channel of dom0's that waits for `web`; it can be bound once."""
    code = (
        "import sys, time; from septum.xen import EventChannel; channel = EventChannel.offer(int(sys.argv[1]));"
        "open('/run/port', 'w').write(str(channel.port)); time.sleep(600)"
    )
    words = ["python3", "-c", code, str(world.domid("web"))]
    world.machine.run(["rm", "-f", "/run/port"])
    world.machine.spawn(words, environment={"PYTHONPATH": "/opt/septum"})
    world.machine.run("until [ -s /run/port ]; do sleep 0.1; done", check=True)
    return int(world.machine.read("/run/port"))


def tried(world: World, me: str, peer: str, dom0_port: int) -> dict[str, str]:
    """What came of each attempt: "" if the hypervisor let it through."""
    to, back = world.domid(peer), world.domid(me)
    # FLASK is asked before Xen looks whether there is such a grant, so that dom0 need not make one.
    offered = (8, "", dom0_port)
    if to:
        offered = world.guests[peer].python("import xen_probe; result = xen_probe.offer(me)", me=back)
    reference, refused, port = offered
    outcomes: dict[str, str] = world.guests[me].python(
        "import xen_probe; result = xen_probe.attempts(to, reference, port)", to=to, reference=reference, port=port
    )
    return outcomes | ({"event bind": refused} if refused else {})


def answers(policy: Policy, asked: list[Question]) -> Question | None:
    """The first question that the policy denies, narrowed to what it denies; None if it allows all."""
    for question in asked:
        told = policy.explain(question.source, question.target, question.cls, list(question.permissions))
        if not told.allowed:
            return question._replace(permissions=tuple(told.refused))
    return None


def matches(avc: Avc, question: Question) -> bool:
    return (avc.source, avc.target, avc.cls) == question[:3] and avc.permissions == set(question.permissions)


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open"])
def test_the_hypervisor_does_what_the_policy_says(world: World, dom0_port: int, opened: bool) -> None:
    for door in DOORS:
        world.machine.set_flask_boolean(f"{door.name}.open", opened)
    different: list[object] = []
    allowed: set[tuple[str, str, str]] = set()
    with Policy.open(world.policy, booleans={f"{door.name}.open": opened for door in DOORS}) as policy:
        for me, peer in [("web", peer) for peer in PEERS] + [("db", "web"), ("cache", "web")]:
            world.machine.xen_log()
            outcomes = tried(world, me, peer, dom0_port)
            recorded = [avc for avc in world.machine.hypervisor_avcs() if avc.denied]
            refusals = {what: answers(policy, questions(me, peer, what)) for what in ATTEMPTS}
            for what, refusal in refusals.items():
                outcome = outcomes[what]
                if refusal is None:
                    allowed.add((me, peer, what))
                # A message that is allowed is refused all the same while the peer has no ring for it.
                if (refusal is None) != (outcome == "" or (what, outcome) == ("argo send", "ECONNREFUSED")):
                    different.append((me, peer, what, refusal, outcome))
                elif refusal and not any(matches(avc, refusal) for avc in recorded):
                    different.append((me, peer, what, refusal, "nothing was recorded of it"))
            # Xen lets only the hardware domain map foreign frames, before it asks FLASK (p2m_add_foreign).
            if outcomes["map foreign"] != "EPERM":
                different.append((me, peer, "map foreign", outcomes["map foreign"]))
            expected = [refusal for refusal in refusals.values() if refusal]
            different += [(me, peer, avc) for avc in recorded if not any(matches(avc, one) for one in expected)]
    assert different == []
    doors = {
        *[("web", "cache", what) for what in ("grant read", "event bind", "argo register", "argo send")],
        *[("cache", "web", what) for what in ("grant read", "event bind", "argo register", "argo send")],
        *[("web", "db", what) for what in ("event bind", "argo send")],
        *[("db", "web", what) for what in ("grant read", "event bind", "argo register")],
    }
    assert allowed == (doors if opened else set()) | {("web", "Domain-0", "event bind")}


def test_closing_a_door_refuses_what_is_new_and_takes_no_memory_back(world: World) -> None:
    web, db = world.guests["web"], world.guests["db"]
    machine, door = world.machine, "web_to_db.open"
    machine.set_flask_boolean(door, True)
    reference, refused, port = web.python(
        "import xen_probe; result = xen_probe.offer(peer); page, channel = xen_probe.last_offer()", peer=db.domid
    )
    assert refused == ""
    db.python(
        "from septum.xen.grants import Mapping; from septum.xen.events import EventChannel\n"
        "mapping = Mapping.of(peer, [reference]); channel = EventChannel.bind(peer, port)",
        peer=web.domid, reference=reference, port=port,
    )  # fmt: skip
    web.python("page[:5] = b'first'; channel.notify()")
    assert db.python("result = [channel.wait(5), mapping.memory[:5].decode()]") == [True, "first"]

    machine.set_flask_boolean(door, False)
    machine.xen_log()
    web.python("page[:5] = b'after'")
    assert db.python("import xen_probe; result = xen_probe.map_page(peer, reference, False)") == "EINVAL"
    denied = {(avc.source, avc.target, avc.cls, *avc.permissions) for avc in machine.hypervisor_avcs()}
    assert (domain("db"), domain("web"), "grant", "map_read") in denied
    # Xen has no way to take a mapping back: docs/xen.md says what follows from that.
    assert db.python("result = mapping.memory[:5].decode()") == "after"


def test_xenstore_is_closed_between_guests(world: World) -> None:
    """Not FLASK's: xenstored goes by domid. What is predicted comes from the nodes' own permissions."""
    code = (
        "import json, sys; from septum.xen import Store; store = Store.open();"
        "store.write('/local/domain/0/data/for-web', 'x');"
        "print(json.dumps([store.permissions(path) for path in sys.argv[1:]]))"
    )
    me = world.domid("web")
    paths = [f"/local/domain/{world.domid(peer)}/data" for peer in PEERS[:-1]]
    paths += ["/local/domain/0/data/for-web", f"/local/domain/{me}/data"]
    done = world.machine.run(["python3", "-c", code, *paths], environment={"PYTHONPATH": "/opt/septum"}, check=True)
    for path, shown in zip(paths, json.loads(done.output), strict=True):
        permissions = [Permission(*one) for one in shown]
        for access, call in (("r", "store_read"), ("w", "store_write")):
            outcome = world.do("web", call, path)
            assert (outcome == "") == may(permissions, me, access) == (f"/{me}/" in path), (path, access, outcome)
            assert outcome in ("", "EACCES")
