"""Declared doors that go through the broker: the same rendezvous, and the door's limits."""

from collections.abc import Iterator

import pytest

from tests.rendezvouskit import BLUE, Actor, Platform, platform, until

pytestmark = pytest.mark.root


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Platform]:
    limits = getattr(request, "param", "")
    with platform(blue=BLUE.replace('to = "red/web"\n', f'to = "red/web"\n{limits}')) as made:
        made.start_septumd()
        made.start_broker("--metered")
        yield made


@pytest.fixture
def linked(site: Platform) -> Iterator[tuple[Actor, Actor]]:
    web, db = site.guest("web"), site.guest("db")
    db.do("broker = Rendezvous(PATH); broker.offer('sql')")
    db.tell("link = broker.accept(20.0)")
    assert web.do("broker = Rendezvous(PATH); link = broker.connect('blue/sql')") is None
    db.answer()
    yield web, db
    web.close()
    db.close()


WAITS = "try:\n    link.receiver.recv(20.0)\nexcept ChannelLost:\n    result = 'lost'\nresult"


def test_messages_go_through_the_broker(site: Platform, linked: tuple[Actor, Actor]) -> None:
    web, db = linked
    db.tell("[link.receiver.recv(20.0) for _ in range(500)] == [b'%d' % n for n in range(500)]")
    assert web.do("link.sender.send_many([b'%d' % n for n in range(500)])") == 500
    assert db.answer() is True
    assert {(row.carrier, row.label, row.state) for row in site.rows()} == {("stream", "", "active")}
    assert web.do("link.close()") is None
    assert db.do("link.receiver.recv(20.0)") == "ChannelClosed: the channel was closed"
    assert db.do("link.close()") is None
    until(lambda: site.rows() == [])


def test_closing_the_door_cuts_it(site: Platform, linked: tuple[Actor, Actor]) -> None:
    for actor in linked:
        actor.tell(WAITS)
    site.reload(web_sql=False)
    assert [actor.answer() for actor in linked] == ["lost", "lost"]
    until(lambda: site.rows() == [])


def test_a_dead_broker_ends_it(site: Platform, linked: tuple[Actor, Actor]) -> None:
    for actor in linked:
        actor.tell(WAITS)
    assert site.broker is not None
    site.broker.stop(9)
    assert [actor.answer() for actor in linked] == ["lost", "lost"]


@pytest.mark.parametrize("site", ['message = "100 B"\n'], indirect=True)
def test_a_message_that_the_door_does_not_let_through(site: Platform, linked: tuple[Actor, Actor]) -> None:
    web, db = linked
    db.tell(WAITS)
    assert web.do("link.sender.send(b'x' * 101)") is None
    assert db.answer() == "lost"
    until(lambda: site.rows() == [])
    assert site.broker is not None
    assert "a message of 101 bytes is longer than the door lets through" in site.broker.said.read_text()


@pytest.mark.parametrize("site", ["rate = 100\n"], indirect=True)
def test_messages_come_at_the_doors_rate(site: Platform, linked: tuple[Actor, Actor]) -> None:
    web, db = linked
    db.tell("begun = time.monotonic(); got = [link.receiver.recv(20.0) for _ in range(80)]; time.monotonic() - begun")
    assert web.do("link.sender.send_many([b'x'] * 80)") == 80
    assert db.answer() > 0.6
