"""kill -9 of anybody, anywhere: no channel without a row, no row without a channel, nothing left open."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.errors import ChannelLost, SeptumError
from septum.rendezvous import Rendezvous, wire
from tests.rendezvouskit import WAIT, Platform, platform, until

pytestmark = pytest.mark.root

KILL = "import os\ndef die():\n    os.kill(os.getpid(), 9)\n"
AFTER = """
from septum.{module} import {name} as place
old = place.{what}
def patched(*args, **named):
    result = old(*args, **named)
    patched.count += 1
    if patched.count == {count}:
        die()
    return result
patched.count = 0
place.{what} = patched
"""


def after(module: str, name: str, what: str, count: int = 1) -> str:
    """A broker that is killed after its so-and-so-manieth call of this."""
    return KILL + AFTER.format(module=module, name=name, what=what, count=count)


# A link of two channels: two heads, and six descriptors for each end; before them welcome (2) and offered (1).
POINTS = {
    "entered": after("ledger.sqlite", "SqliteLedger", "open_channels"),
    "made": after("rendezvous", "broker", "make"),
    **{f"sent {count}": after("rendezvous", "wire", "send", 4 + count) for count in (1, 2, 4, 7, 8, 9, 11, 14)},
    "joined": after("ledger.sqlite", "SqliteLedger", "move_channels"),
    "told one": after("rendezvous", "wire", "send", 20),
    "closing": after("ledger.sqlite", "SqliteLedger", "move_channels", 2),
    "cut": after("rendezvous.links", "Link", "cut"),
    "let go": after("rendezvous.links", "Link", "let_go"),
    "out": after("ledger.sqlite", "SqliteLedger", "close_channels", 2),
}

CONNECT = """
try:
    link = broker.connect('blue/sql')
    link.sender.send(b'x')
    result = link.receiver.recv(20.0).decode()
    link.close()
    result += broker.accept(20.0).name
except (ChannelLost, ChannelClosed) as error:
    result = 'lost'
result
"""
WAIT_IN_IT = """
try:
    link = broker.connect('blue/sql')
    link.receiver.recv(20.0)
except ChannelLost:
    result = 'lost'
result
"""
SERVE = """
try:
    broker.offer('sql')
    link = broker.accept(20.0)
    link.sender.send(link.receiver.recv(20.0))
    try:
        link.receiver.recv(20.0)
    except ChannelClosed:
        pass
    link.close()
    broker.accept(20.0)
except ChannelLost:
    result = 'lost'
result
"""


@pytest.fixture
def site() -> Iterator[Platform]:
    with platform() as made:
        made.start_septumd()
        yield made


@pytest.mark.parametrize("point", POINTS)
def test_the_broker_is_killed(site: Platform, point: str) -> None:
    broker = site.start_broker(prepare=POINTS[point], wait=False)
    until(site.socket.exists)  # no connection to see whether it answers: its packets would be counted
    web, db = site.guest("web"), site.guest("db")
    assert db.do("broker = Rendezvous(PATH)") is None
    db.tell(SERVE)
    until(lambda: _sleeps(db.process.pid))  # in `accept`, or when the broker is gone
    assert web.do("broker = Rendezvous(PATH)") is None
    if point in ("cut", "out"):
        web.tell(WAIT_IN_IT)
        until(lambda: [row.state for row in site.rows()] == ["active"] * 2)
        db.kill()
    else:
        web.tell(CONNECT)
    assert broker.process.wait(WAIT) == -signal.SIGKILL
    # Both ends know, also the one that slept in a channel.
    assert web.answer() == "lost"
    if db.process.poll() is None:
        assert db.answer() == "lost"
    db.close()
    # The next broker begins with none, and a new channel has a number that no other one had.
    used = [row.id for row in site.rows()]
    site.start_broker()
    assert site.rows() == []
    server, user = site.guest("db"), site.guest("web")
    server.do("broker = Rendezvous(PATH); broker.offer('sql')")
    server.tell("link = broker.accept(20.0)")
    assert user.do("broker = Rendezvous(PATH); link = broker.connect('blue/sql')") is None
    server.answer()
    rows = site.rows()
    assert [row.state for row in rows] == ["active"] * 2
    assert rows[0].id > max(used, default=2)
    for actor in (web, server, user):
        actor.close()


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def mappings(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:septum:")


@pytest.mark.parametrize("part", range(0, 9, 2))
def test_a_guest_is_killed_while_it_joins(site: Platform, part: int) -> None:
    """It takes some of the packets, and dies."""
    broker = site.start_broker()
    db = site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql')")
    before = descriptors(broker.process.pid), mappings(broker.process.pid)
    for _ in range(3):
        db.tell("broker.accept(0.3)")
        web = site.guest("web")
        took = web.do(
            "import socket; raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); raw.connect(PATH)\n"
            "wire.send(raw, wire.text('hello', 1)); wire.receive(raw)\n"
            "wire.send(raw, wire.text('connect', '1', 'blue/sql'))\n"
            f"[wire.receive(raw).verb for _ in range({part})]"
        )
        assert took == ["link", *["own", "peer", "line"] * 2, "revoked"][:part] or part > 7
        web.kill()
        assert db.answer() == "ChannelTimeout: the broker had nothing to say in time"
    until(lambda: site.rows() == [])
    until(lambda: (descriptors(broker.process.pid), mappings(broker.process.pid)) == before)
    assert descriptors(db.process.pid) < 20
    db.close()


def test_the_listener_is_killed_while_others_connect(site: Platform) -> None:
    broker = site.start_broker()
    web = site.guest("web")
    web.do("broker = Rendezvous(PATH)")
    before = descriptors(broker.process.pid)
    for _ in range(5):
        db = site.guest("db")
        db.do("broker = Rendezvous(PATH); broker.offer('sql')")
        web.tell("broker.connect('blue/sql')")  # it does not accept, so nobody joins
        until(lambda: len(site.rows()) == 2)
        db.kill()
        assert web.answer() == "ChannelLost: the channel ended before it began"
    until(lambda: site.rows() == [])
    until(lambda: descriptors(broker.process.pid) == before)
    web.close()


NO_ROOM = """
from septum.errors import LedgerError
from septum.ledger.sqlite import SqliteLedger as place
old, count = place.{what}, [0]
def full(*args):
    count[0] += 1
    if {first} <= count[0] < {last}:
        raise LedgerError("there is no room for the ledger")
    return old(*args)
place.{what} = full
"""


def test_a_ledger_that_can_not_be_written_for_a_while(site: Platform) -> None:
    """What ends, ends; the rows go as soon as they can. (The first call is the sweep's.)"""
    broker = site.start_broker(prepare=NO_ROOM.format(what="close_channels", first=2, last=6))
    web, db = site.guest("web"), site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql')")
    db.tell("link = broker.accept(20.0); link.receiver.recv(20.0)")
    assert web.do("broker = Rendezvous(PATH); link = broker.connect('blue/sql')") is None
    web.kill()
    assert db.answer().startswith("ChannelLost")
    until(lambda: site.rows() == [])
    assert "no room for the ledger" in broker.said.read_text()
    db.close()


@pytest.mark.parametrize("what", ["open_channels", "move_channels"])
def test_a_ledger_that_is_full_makes_a_refusal(site: Platform, what: str) -> None:
    site.start_broker(prepare=NO_ROOM.format(what=what, first=1, last=2))
    web, db = site.guest("web"), site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql')")
    db.tell("links = list(broker.serve(1.0))")
    refused = web.do("broker = Rendezvous(PATH); broker.connect('blue/sql', 0.3)")
    assert refused in (
        "Denied: there is no room for the ledger",
        "ChannelTimeout: the broker had nothing to say in time",
    )
    assert web.do("link = broker.connect('blue/sql'); link.sender.send(b'x')") is None
    db.answer()
    assert db.do("links[-1].receiver.recv(20.0).decode()") == "x"
    for actor in (web, db):
        actor.close()


def test_an_orderly_stop_ends_all(site: Platform) -> None:
    broker = site.start_broker()
    web, db = site.guest("web"), site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql')")
    db.tell("link = broker.accept(20.0); link.receiver.recv(20.0)")
    web.do("broker = Rendezvous(PATH); link = broker.connect('blue/sql')")
    assert broker.stop() == 0
    assert db.answer().startswith("ChannelLost")
    assert site.rows() == []
    assert not site.socket.exists()
    with pytest.raises(SeptumError):
        Rendezvous(str(site.socket))
    for actor in (web, db):
        actor.close()


def test_one_broker_for_a_folder(site: Platform) -> None:
    site.start_broker()
    first = site.broker
    second = site.start_broker(wait=False)
    assert second.process.wait(WAIT) == 125
    assert "another septum-broker serves this state folder" in second.said.read_text()
    site.broker = first


def test_packets_are_the_protocols() -> None:
    with pytest.raises(SeptumError):
        wire.text("a", "b\tc")
    assert isinstance(wire.refusal(wire.failure("x", ChannelLost("gone")).decode().split("\t")[1:]), SeptumError)
