"""The rendezvous between processes of guests, under a real policy that septumd decides by."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from septum.ledger.sqlite import SqliteLedger
from septum.rendezvous import Rendezvous
from tests.rendezvouskit import Actor, Platform, admit, platform, until

pytestmark = pytest.mark.root


@pytest.fixture
def site() -> Iterator[Platform]:
    with platform() as made:
        made.start_septumd()
        made.start_broker()
        yield made


@pytest.fixture
def actors(site: Platform) -> Iterator[dict[str, Actor]]:
    """A process for each guest, connected to the broker."""
    found = {name: site.guest(name) for name in ("web", "mail", "other", "db", "spy")}
    for actor in found.values():
        actor.do("broker = Rendezvous(PATH)")
    yield found
    for actor in found.values():
        actor.close()


def join(user: Actor, server: Actor, service: str) -> None:
    """Both have a `link` afterwards; the service is offered already."""
    server.tell("link = broker.accept(20.0)")
    assert user.do(f"link = broker.connect({service!r})") is None
    assert server.answer() is None


def test_a_declared_door_carries_messages_both_ways(site: Platform, actors: dict[str, Actor]) -> None:
    web, db = actors["web"], actors["db"]
    assert db.do("broker.party") == "blue/db"
    assert db.do("broker.offer('sql')") is None
    join(web, db, "blue/sql")
    assert web.do("link.sender.send(b'select 1'); link.peer") == "blue"
    assert db.do("link.receiver.recv(20.0).decode()") == "select 1"
    assert db.do("link.sender.send(b'1'); link.peer") == "red/web"
    assert web.do("link.receiver.recv(20.0).decode()") == "1"
    rows = site.rows()
    assert [(row.way, row.state, row.source_realm, row.target_realm) for row in rows] == [
        ("to-service", "active", "red", "blue"),
        ("from-service", "active", "red", "blue"),
    ]
    assert all(row.label.endswith(("to_service:s0", "from_service:s0")) for row in rows)


def test_a_one_way_door_gives_one_end_to_each(site: Platform, actors: dict[str, Actor]) -> None:
    mail, db = actors["mail"], actors["db"]
    assert db.do("broker.offer('log', Kind.BYTES)") is None
    join(mail, db, "blue/log")
    assert mail.do("link.sender.write(b'line'); link.receiver is None") is True
    assert db.do("link.sender is None, link.receiver.read(9, 20.0).decode()") == [True, "line"]
    assert [row.way for row in site.rows()] == ["to-service"]


def test_within_a_realm_no_declaration_is_needed(actors: dict[str, Actor]) -> None:
    web, other = actors["web"], actors["other"]
    assert other.do("broker.offer('chat')") is None
    join(web, other, "chat")
    assert web.do("link.sender.send(b'x'); link.peer") == "red"
    assert other.do("link.receiver.recv(20.0).decode(), link.peer") == ["x", "red/web"]


HIDDEN = "Denied: nobody offers this service, or it is not for this guest"


@pytest.mark.parametrize(
    ("who", "service"),
    [
        ("other", "blue/sql"),  # a role without a door
        ("mail", "blue/sql"),  # a door to another service
        ("web", "blue/log"),
        ("spy", "blue/sql"),  # the own realm, and no door
        ("web", "blue/private"),  # the other realm's, not declared
        ("web", "blue/nothing"),  # nobody offers it
        ("web", "green/sql"),  # no such realm
        ("web", "platform/sql"),
    ],
)
def test_every_refusal_to_connect_sounds_alike(actors: dict[str, Actor], who: str, service: str) -> None:
    assert actors["db"].do("broker.offer('sql'); broker.offer('log', Kind.BYTES)") is None
    assert actors["spy"].do("broker.offer('private')") is None
    assert actors[who].do(f"broker.connect({service!r})") == HIDDEN


def test_only_the_declared_role_offers_a_declared_service(actors: dict[str, Actor]) -> None:
    assert actors["spy"].do("broker.offer('sql')") == "Denied: the policy does not allow this"
    assert actors["web"].do("broker.offer('blue/sql')") == "Denied: a service is offered in the own realm only"
    assert actors["db"].do("broker.offer('sql', Kind.BYTES)") == "Denied: the service is declared to carry messages"
    assert actors["db"].do("broker.offer('sql')") is None
    assert actors["db"].do("broker.offer('sql')").endswith("somebody offers this service already")
    assert actors["db"].do("broker.withdraw('sql')") is None
    assert actors["db"].do("broker.offer('sql')") is None


def test_a_process_that_is_nobodys_is_turned_away(site: Platform) -> None:
    stranger = Actor(0x7000_0999, str(site.socket))
    assert stranger.do("Rendezvous(PATH)") == "Denied: this process is no guest's and not the platform's"
    stranger.close()


def test_who_sees_which_channels(site: Platform, actors: dict[str, Actor]) -> None:
    actors["db"].do("broker.offer('sql')")
    join(actors["web"], actors["db"], "blue/sql")
    shown = [["blue/sql", "red/web", "blue/db"]] * 2
    code = "[[one.service, one.source, one.target] for one in broker.channels()]"
    assert actors["web"].do(code) == shown
    assert actors["db"].do(code) == shown
    assert actors["mail"].do(code) == []
    assert actors["spy"].do(code) == []
    with Rendezvous(str(site.socket)) as root:
        assert [one.state for one in root.channels()] == ["active"] * 2


def test_closing_drains_and_leaves_nothing(site: Platform, actors: dict[str, Actor]) -> None:
    web, db = actors["web"], actors["db"]
    db.do("broker.offer('sql')")
    join(web, db, "blue/sql")
    assert web.do("link.sender.send(b'last'); link.close()") is None
    until(lambda: [row.state for row in site.rows()] == ["draining"] * 2)
    assert db.do("link.receiver.recv(20.0).decode()") == "last"
    assert db.do("link.receiver.recv(20.0)") == "ChannelClosed: the channel was closed"
    assert db.do("link.close()") is None
    until(lambda: site.rows() == [])
    join(web, db, "blue/sql")  # and the next one is another
    assert [row.id for row in site.rows()] == [3, 4]


# What ends channels


def ended(actor: Actor) -> float:
    """How many seconds ago an end that sleeps was woken, by its own clock; it was told to `wait`."""
    answer = actor.answer()
    assert answer[0] == "lost", answer
    return float(answer[1])


WAITS = """
try:
    link.receiver.recv(20.0)
    result = "message", 0
except ChannelLost:
    result = "lost", time.monotonic()
result
"""
SPINS = """
try:
    while True:
        {call}
except ChannelLost:
    result = "lost", time.monotonic()
result
"""
SOON = 0.1 * 20  # the promise is 0.1 s, on a machine that does nothing else: bench/rendezvous.py


def both_lose(site: Platform, actors: dict[str, Actor], end: Callable[[], object], survivors: str = "web db") -> None:
    """A link that is alive; then `end`, and both ends that live find out, and nothing is left."""
    web, db = actors["web"], actors["db"]
    assert web.do("link.sender.send(b'x')") is None
    assert db.do("link.receiver.recv(20.0).decode()") == "x"
    waiting = [actors[name] for name in survivors.split()]
    for actor in waiting:
        actor.tell(WAITS)
    begun = time.monotonic()
    end()
    for actor in waiting:
        assert ended(actor) - begun < SOON
    until(lambda: site.rows() == [])


@pytest.fixture
def linked(site: Platform, actors: dict[str, Actor]) -> None:
    actors["db"].do("broker.offer('sql')")
    join(actors["web"], actors["db"], "blue/sql")


@pytest.mark.usefixtures("linked")
def test_closing_the_door_cuts_what_goes_through_it(site: Platform, actors: dict[str, Actor]) -> None:
    both_lose(site, actors, lambda: site.reload(web_sql=False))
    assert actors["web"].do("broker.connect('blue/sql')") == HIDDEN
    site.reload()
    join(actors["web"], actors["db"], "blue/sql")


@pytest.mark.usefixtures("linked")
def test_another_policy_that_allows_the_same_cuts_nothing(site: Platform, actors: dict[str, Actor]) -> None:
    site.reload(mail_log=False)
    time.sleep(0.2)
    assert actors["web"].do("link.sender.send(b'still')") is None
    assert actors["db"].do("link.receiver.recv(20.0).decode()") == "still"


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize("dies", ["web", "db"])
def test_a_guest_that_dies(site: Platform, actors: dict[str, Actor], dies: str) -> None:
    survivor = "db" if dies == "web" else "web"
    both_lose(site, actors, actors[dies].kill, survivor)
    assert actors.pop(dies)


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize("how", ["ends", "is another"])
def test_the_ledgers_word_about_a_guest(site: Platform, actors: dict[str, Actor], how: str) -> None:
    """The process lives, but it is not any more whom it was taken for."""

    def change() -> None:
        ledger = SqliteLedger(str(site.folder))
        guest = ledger.guest("red/web")
        assert guest is not None
        ledger.end(guest.uuid)
        if how == "is another":
            ledger.release(guest.uuid)
            admit(ledger, "web", 0)  # the same uuid and uid, the next incarnation
        ledger.close()

    both_lose(site, actors, change)


@pytest.mark.usefixtures("linked")
def test_the_administrators_word(site: Platform, actors: dict[str, Actor]) -> None:
    with Rendezvous(str(site.socket)) as root:
        name = root.channels()[0].link
        assert actors["mail"].do(f"broker.revoke({name!r})") == "Denied: the policy does not allow this"
        both_lose(site, actors, lambda: root.revoke(name))


@pytest.mark.usefixtures("linked")
def test_septumd_is_gone_for_good(site: Platform, actors: dict[str, Actor]) -> None:
    assert site.septumd is not None
    site.septumd.stop(signal.SIGKILL)
    assert actors["web"].do("broker.connect('blue/sql')").startswith("Denied: septumd gives no decision")
    actors["web"].tell(WAITS)
    assert ended(actors["web"])
    until(lambda: site.rows() == [])


@pytest.mark.usefixtures("linked")
def test_septumd_comes_back(site: Platform, actors: dict[str, Actor]) -> None:
    assert site.septumd is not None
    site.septumd.stop(signal.SIGKILL)
    site.start_septumd()
    time.sleep(0.3)
    both_lose(site, actors, lambda: site.reload(web_sql=False))


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize("busy", ["link.sender.send(b'x' * 100)", "link.sender.send_many([b'x' * 9] * 50)"])
def test_ends_that_never_sleep_find_out_too(site: Platform, actors: dict[str, Actor], busy: str) -> None:
    web, db = actors["web"], actors["db"]
    web.tell(SPINS.format(call=busy))
    db.tell(SPINS.format(call="link.receiver.recv_many()"))
    time.sleep(0.2)
    begun = time.monotonic()
    site.reload(web_sql=False)
    assert ended(web) - begun < SOON
    assert ended(db) - begun < SOON


def test_what_was_in_the_memory_is_gone(site: Platform, actors: dict[str, Actor]) -> None:
    """A reader that keeps its mapping finds zeros."""
    web, db = actors["web"], actors["db"]
    # A second mapping of the segment, made behind the library's back while the descriptor is on its way.
    db.do(
        "import mmap\nfrom septum.rendezvous import joining\nold = joining.join\nkept = []\n"
        "def keep(link, terms, role, fds, broker):\n"
        "    kept.append(mmap.mmap(fds[1], 0, prot=mmap.PROT_READ))\n"
        "    old(link, terms, role, fds, broker)\n"
        "from septum.rendezvous import client\nclient.join = keep\nbroker.offer('sql')"
    )
    join(web, db, "blue/sql")
    assert web.do("link.sender.send(b'secret' * 100)") is None
    assert db.do("any(b'secret' in one[:] for one in kept)") is True
    assert db.do("len(link.receiver.recv(20.0))") == 600
    both_lose(site, actors, lambda: site.reload(web_sql=False))
    assert db.do("any(b'secret' in one[:] for one in kept)") is False


def test_ends_are_for_asyncio_too(actors: dict[str, Actor]) -> None:
    web, db = actors["web"], actors["db"]
    assert db.do("broker.offer('sql')") is None
    join(web, db, "blue/sql")
    web.do("import asyncio")
    db.do("import asyncio")
    db.tell(
        "async def echo():\n    async for message in link.receiver:\n        await link.sender.send_async(message)\n"
        "asyncio.run(echo()); link.close()"
    )
    web.tell(
        "async def ask():\n    for number in range(100):\n        await link.sender.send_async(b'%d' % number)\n"
        "    return [int(await link.receiver.recv_async()) for _ in range(100)] == list(range(100))\n"
        "result = asyncio.run(ask()); link.close(); result"
    )
    assert web.answer() is True
    assert db.answer() is None


def test_by_default_what_was_applied_is_declared() -> None:
    """Here nothing was: services of the own realm are all there is."""
    with platform() as bare:
        bare.start_septumd()
        bare.start_broker("--declaration", "")
        web, other, db = (bare.guest(name) for name in ("web", "other", "db"))
        for actor in (web, other, db):
            actor.do("broker = Rendezvous(PATH)")
        assert db.do("broker.offer('sql')") is None
        assert web.do("broker.connect('blue/sql')") == HIDDEN
        assert other.do("broker.offer('chat')") is None
        join(web, other, "chat")
        for actor in (web, other, db):
            actor.close()
