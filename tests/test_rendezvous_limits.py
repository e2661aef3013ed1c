"""What one client can do to the broker and to others by asking for much, or by sending what is no packet."""

import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.rendezvous import Rendezvous
from tests.rendezvouskit import BLUE, PLATFORM, Actor, Platform, platform, until

pytestmark = pytest.mark.root

RAW = """
import array, socket
raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
raw.connect(PATH)
raw.settimeout(20)
def ask(*fields):
    wire.send(raw, wire.text(*fields), flags=0)
    return wire.receive(raw)
def gone():
    try:
        while wire.receive(raw).verb:
            pass
        return True
    except ConnectionResetError:
        return True
ask('hello', 1).verb
"""


@pytest.fixture
def site() -> Iterator[Platform]:
    with platform() as made:
        made.start_septumd()
        yield made


def pair(site: Platform) -> tuple[Actor, Actor]:
    """A user, and a server that accepts all that comes until 0.5 s pass without one."""
    web, db = site.guest("web"), site.guest("db")
    web.do("broker = Rendezvous(PATH)")
    db.do("broker = Rendezvous(PATH); broker.offer('sql', size=4096, backlog=64)")
    return web, db


def test_a_realms_quota_counts_what_others_open_to_it(site: Platform) -> None:
    site.start_broker("--declaration", quota(site, "blue", 6))
    web, db = pair(site)
    db.tell("kept = list(broker.serve(0.5))")
    many = "got = []\nwhile len(got) < 9:\n    got.append(broker.connect('blue/sql'))"
    # How much the other realm may have is not for this one to know.
    assert web.do(many) == "Denied: the service does not take more at the moment"
    assert web.do("len(got)") == 3  # of two channels each
    assert web.do("got.pop().close()") is None
    db.answer()
    db.do("kept.pop().close()")
    until(lambda: len(site.rows()) == 4)
    db.tell("broker.accept(20.0).name")
    assert web.do("broker.connect('blue/sql').service") == "blue/sql"
    db.answer()
    close(web, db)


def test_a_realm_is_told_of_its_own_quota(site: Platform) -> None:
    site.start_broker("--declaration", quota(site, "blue", 3))
    spy, db = site.guest("spy"), site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('chat')")
    db.tell("kept = list(broker.serve(0.5))")
    many = "got = []\nwhile len(got) < 9:\n    got.append(broker.connect('chat'))"
    assert spy.do(f"broker = Rendezvous(PATH)\n{many}") == "Denied: realm blue has no more channels left"
    assert spy.do("len(got)") == 1
    close(spy, db)


def quota(site: Platform, realm: str, channels: int) -> str:
    path = site.folder.parent / "small.toml"
    before, after = PLATFORM.split(f"[realm.{realm}]")
    path.write_text(f"{before}[realm.{realm}]{after.replace('channels = 400', f'channels = {channels}', 1)}")
    return str(path)


def test_a_doors_own_bound() -> None:
    with platform(blue=BLUE.replace("channels = 300", "channels = 2")) as other:
        other.start_septumd()
        other.start_broker()
        web, db = pair(other)
        db.tell("kept = list(broker.serve(0.5))")
        assert web.do("got = [broker.connect('blue/sql') for _ in range(2)]; len(got)") == 2
        assert web.do("broker.connect('blue/sql')") == "Denied: the door has as many channels as it may"
        close(web, db)


def test_a_server_that_does_not_join_holds_up_its_backlog_only(site: Platform) -> None:
    site.start_broker()
    db = site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql', backlog=2)")
    users = [site.guest("web") for _ in range(3)]
    for user in users:
        user.do("broker = Rendezvous(PATH)")
    for user in users[:2]:
        user.tell("broker.connect('blue/sql', 1.0)")
    until(lambda: len(site.rows()) == 4)
    assert users[2].do("broker.connect('blue/sql')") == "Denied: the service does not take more at the moment"
    assert [user.answer() for user in users[:2]] == ["ChannelTimeout: the broker had nothing to say in time"] * 2
    until(lambda: site.rows() == [])  # nobody joined in time
    close(*users, db)


def test_a_client_that_never_reads_is_dropped(site: Platform) -> None:
    broker = site.start_broker()
    web = site.guest("web")
    web.do(RAW)
    before = memory(broker.process.pid)
    sent = web.do(
        "count = 0\ntry:\n    while count < 100_000:\n        wire.send(raw, wire.text('list', 'x' * 3000), flags=0)\n"
        "        count += 1\nexcept OSError:\n    pass\ncount"
    )
    assert sent < 100_000
    assert web.do("gone()") is True
    assert memory(broker.process.pid) - before < 16 << 20
    with Rendezvous(str(site.socket)) as root:  # it still serves
        assert root.channels() == []
    web.close()


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_flood_of_requests_waits_and_others_do_not(site: Platform) -> None:
    site.start_broker("--rate", "100")
    web, db = pair(site)
    spy = site.guest("spy")
    spy.do(RAW)
    spy.tell(
        "begun = time.monotonic()\nfor _ in range(400):\n    ask('connect', '1', 'blue/sql')\ntime.monotonic() - begun"
    )
    begun = time.monotonic()
    db.tell("[broker.accept(20.0).name for _ in range(20)] and 1")
    assert web.do("[broker.connect('blue/sql').close() for _ in range(20)] and 1") == 1
    assert time.monotonic() - begun < 1.5
    db.answer()
    assert spy.answer() > 1.5  # 200 at once, 200 at 100 a second
    close(web, db, spy)


def test_a_uids_connections_are_bounded(site: Platform) -> None:
    site.start_broker()
    spy = site.guest("spy")
    assert spy.do("kept = []\nwhile True:\n    kept.append(Rendezvous(PATH))").startswith("Denied: uid ")
    assert spy.do("len(kept)") == 64
    web = site.guest("web")
    assert web.do("Rendezvous(PATH).party") == "red/web"
    close(spy, web)


def test_services_of_one_client_are_bounded(site: Platform) -> None:
    site.start_broker()
    spy = site.guest("spy")
    code = "broker = Rendezvous(PATH)\nfor number in range(99):\n    broker.offer(f's{number}')"
    assert spy.do(code) == "Denied: this client offers as many services as it may"
    assert spy.do("number") == 64
    close(spy)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xfe",
        b"x" * 5000,
        b"connect",
        b"connect\t1",
        b"connect\t1\ta\tb",
        b"offer\t1\ts\tmessages\t-1\t1",
        b"offer\t1\ts\tmessages\t4097\t1",
        b"offer\t1\ts\tmessages\t" + b"9" * 40 + b"\t1",
        b"offer\t1\ts\tsmoke\t4096\t1",
        b"hello\t1",
        b"nonsense\t1",
        "ready\t\u202e".encode() * 2 + b"\t",
    ],
)
def test_what_is_no_packet_ends_only_who_sent_it(site: Platform, packet: bytes) -> None:
    site.start_broker()
    web = site.guest("web")
    assert web.do(RAW) == "welcome"
    assert web.do(f"raw.send({packet!r}); gone()") is True
    with Rendezvous(str(site.socket)) as root:
        assert root.party == "platform"
    close(web)


def test_a_descriptor_that_is_sent_to_the_broker_is_closed(site: Platform) -> None:
    broker = site.start_broker()
    before = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    web = site.guest("web")
    for count in (1, 200):
        web.do(RAW)
        fds = f"[(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * {count}))]"
        assert web.do(f"raw.sendmsg([b'list\\t1'], {fds}); gone()") is True
    close(web)
    until(lambda: len(os.listdir(f"/proc/{broker.process.pid}/fd")) <= before)


@pytest.mark.parametrize("name", ["", "/", "a/b/c", "../x", "x" * 65, "blue/", "blue/a b", "blue/\x00", "blue/ß"])
def test_a_services_name_is_a_name(site: Platform, name: str) -> None:
    site.start_broker()
    web = site.guest("web")
    web.do("broker = Rendezvous(PATH)")
    assert "is no name of a service" in web.do(f"broker.connect({name!r})")
    close(web)


def test_names_of_others_links_are_no_help(site: Platform) -> None:
    site.start_broker()
    web, db = pair(site)
    db.tell("link = broker.accept(20.0)")
    web.do("link = broker.connect('blue/sql')")
    db.answer()
    name = site.rows()[0].link
    spy = site.guest("spy")
    spy.do(RAW)
    for verb in ("ready", "close"):
        assert json.loads(spy.do(f"ask({verb!r}, {name!r}).fields")[1])["what"] == "there is no such channel"
    assert web.do("link.sender.send(b'x')") is None
    assert db.do("link.receiver.recv(20.0).decode()") == "x"
    close(web, db, spy)


def test_a_socket_that_says_nothing_costs_one_connection(site: Platform) -> None:
    site.start_broker("--connections", "8")
    kept = []
    for _ in range(8):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.connect(str(site.socket))
        kept.append(one)
    web = site.guest("web")
    assert web.do("Rendezvous(PATH)") == "Denied: the broker has as many connections as it may"
    for one in kept:
        one.close()
    until(lambda: web.do("Rendezvous(PATH).party") == "red/web")
    close(web)


def close(*actors: Actor) -> None:
    for actor in actors:
        actor.close()


def test_out_of_descriptors_it_waits_and_goes_on(site: Platform) -> None:
    """Channels and connections beyond what the process may have open are refused or wait; then all is well again."""
    broker = site.start_broker()
    web, db = pair(site)
    db.tell("kept = list(broker.serve(1.0))")
    soft = len(os.listdir(f"/proc/{broker.process.pid}/fd")) + 12
    before = resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (soft, before[1]))
    refused = web.do("got = []\nwhile len(got) < 30:\n    got.append(broker.connect('blue/sql', 5.0))")
    assert "can't be made" in refused
    used = processor(broker.process.pid)
    kept = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(12)]
    for one in kept:
        one.connect(str(site.socket))
    time.sleep(1.0)
    assert broker.process.poll() is None, broker.said.read_text()
    assert processor(broker.process.pid) - used < 0.5
    for one in kept:
        one.close()
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, before)
    db.answer()
    db.tell("link = broker.accept(20.0)")
    assert web.do("link = broker.connect('blue/sql'); link.sender.send(b'x')") is None
    db.answer()
    assert db.do("link.receiver.recv(20.0).decode()") == "x"
    close(web, db)


def processor(pid: int) -> float:
    """Seconds that it has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
