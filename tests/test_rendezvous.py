"""The rendezvous between processes of guests, under a real policy that septumd decides by."""

from collections.abc import Iterator

import pytest

from tests.rendezvouskit import Actor, Platform, platform

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
