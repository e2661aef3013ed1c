"""The carrier stream: the conformance suite, with the two ends on one pair and with a relay between them; what a relay
counts and stops; and what a hostile end can write into a socket."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from septum.errors import ChannelDenied, ChannelLost, ChannelPoisoned
from septum.ivc import Incoming, Outgoing, Receiver, Sender, StreamCarrier, StreamGrant, Terms
from septum.ivc.carriers import frames
from septum.ivc.carriers.relay import Relay, Through
from tests.ivc_conformance import SIZE, SOON, CarrierConformance, Channel

TERMS = Terms("test", 41, size=SIZE)


class TestStream(CarrierConformance):
    @pytest.fixture
    def carrier(self) -> StreamCarrier:
        return StreamCarrier()


class Settled:
    """A half whose calls find the relay with nothing to do: the suite looks at one end right after it used the other,
    which over memory, and without a relay, needs no waiting."""

    def __init__(self, half: Any, relays: "Relays") -> None:
        self._half = half
        self._relays = relays

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._half, name)
        if not callable(found):
            return found

        def call(*args: Any) -> Any:
            self._relays.settle()
            try:
                return found(*args)
            finally:
                self._relays.settle()

        return call


class Relays:
    """Relays on a thread, as a broker has them in its loop."""

    def __init__(self, through: Through | None = None) -> None:
        self.all: list[Relay] = []
        self.lock = threading.Lock()
        self._through = through
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def between(self, terms: Terms, producer: socket.socket, consumer: socket.socket) -> None:
        with self.lock:
            self.all.append(Relay(terms, producer, consumer, self._through))

    def settle(self) -> None:
        with self.lock:
            for relay in self.all:
                if relay.producer.fileno() >= 0:
                    relay.move(time.monotonic())
                    if relay.why:
                        relay.cut()

    def _run(self) -> None:
        while not self._over:
            self.settle()
            time.sleep(0.001)

    def stop(self) -> None:
        self._over = True
        self._thread.join()
        for relay in self.all:
            relay.close()


class SettledCarrier(StreamCarrier):
    def __init__(self, relays: Relays) -> None:
        super().__init__(relays.between)
        self._relays = relays

    def sender(self, grant: StreamGrant) -> Outgoing:
        made = super().sender(grant)
        return made._replace(half=Settled(made.half, self._relays))

    def receiver(self, grant: StreamGrant) -> Incoming:
        made = super().receiver(grant)
        return made._replace(half=Settled(made.half, self._relays))


@pytest.fixture
def relays() -> Iterator[Relays]:
    made = Relays()
    yield made
    made.stop()


class TestRelayed(CarrierConformance):
    @pytest.fixture
    def carrier(self, relays: Relays) -> StreamCarrier:
        return SettledCarrier(relays)


def forever(act: Callable[[], object]) -> None:
    """Until it raises; not for ever, though."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        act()


def test_a_relay_can_be_cut_in_mid_flight(relays: Relays) -> None:
    channel = Channel(StreamCarrier(relays.between))
    channel.sender.send(b"x")
    assert channel.receiver.recv(SOON) == b"x"
    threading.Timer(0.05, relays.all[0].cut).start()
    with pytest.raises(ChannelLost):
        channel.receiver.recv(SOON)
    with pytest.raises(ChannelLost):
        forever(lambda: channel.sender.send(b"x", SOON))


@pytest.mark.parametrize(
    ("through", "least"),
    [(Through(4000, 100.0, 1e9), 0.2), (Through(4000, 1e9, 20_000.0), 1.0)],
    ids=["rate", "bandwidth"],
)
def test_a_relay_lets_through_what_the_door_does(through: Through, least: float) -> None:
    relays = Relays(through)
    channel = Channel(StreamCarrier(relays.between))
    begun = time.monotonic()
    thread = threading.Thread(target=lambda: [channel.sender.send(b"x" * 1000, SOON) for _ in range(30)])
    thread.start()
    assert [channel.receiver.recv(SOON) for _ in range(30)] == [b"x" * 1000] * 30  # later, but all of it
    assert time.monotonic() - begun > least
    thread.join()
    channel.close()
    relays.stop()


def test_a_message_that_is_longer_than_the_door_is_wide_ends_the_channel() -> None:
    relays = Relays(Through(100, 1e9, 1e9))
    channel = Channel(StreamCarrier(relays.between))
    channel.sender.send(b"x" * 100)
    assert channel.receiver.recv(SOON) == b"x" * 100
    channel.sender.send(b"x" * 101)
    with pytest.raises(ChannelLost):
        channel.receiver.recv(SOON)
    assert relays.all[0].why == "a message of 101 bytes is longer than the door lets through"
    relays.stop()


# A hostile end


def frame(kind: int = frames.DATA, length: int = 0, flags: int = 0, sequence: int = 0, payload: bytes = b"") -> bytes:
    return frames.HEADER.pack(length, kind, flags, sequence) + payload


FROM_PRODUCER = {
    "too long": (frame(length=SIZE), "longer than a quarter"),
    "unknown type": (frame(kind=99), "unknown type or flags"),
    "flags": (frame(flags=1), "unknown type or flags"),
    "wrong sequence": (frame(sequence=1, length=1, payload=b"x"), "next sequence number"),
    "a consumer's frame": (frame(kind=frames.READ), "unknown type or flags"),
    "a payload that none has": (frame(kind=frames.DONE, length=4, payload=b"abcd"), "longer than a quarter"),
    "after the end": (frame(kind=frames.DONE) + frame(length=1, payload=b"x"), "state"),
    "broken": (frame(kind=frames.BROKEN), "this end broke the rules"),
}
FROM_CONSUMER = {
    "read what was not sent": (frame(kind=frames.READ, sequence=32), "passed what can be"),
    "odd": (frame(kind=frames.READ, sequence=17), "passed|multiple of 16"),
    "far": (frame(kind=frames.READ, sequence=1 << 63), "passed what can be"),
    "data": (frame(), "unknown type or flags"),
    "done twice": (frame(kind=frames.DONE) * 2, "state"),
    "broken": (frame(kind=frames.BROKEN), "this end broke the rules"),
}


def against(role: int) -> tuple[Any, socket.socket]:
    """An end, and the other end's bare socket."""
    carrier = StreamCarrier()
    grants = carrier.create(TERMS)
    end: Any = Receiver(carrier.receiver(grants[1])) if role == 1 else Sender(carrier.sender(grants[0]))
    return end, socket.socket(fileno=grants[1 - role].line)


@pytest.mark.parametrize("case", FROM_PRODUCER)
def test_a_hostile_producer_poisons(case: str) -> None:
    data, rule = FROM_PRODUCER[case]
    end, other = against(1)
    other.send(data)
    with pytest.raises(ChannelPoisoned) as refused:
        end.recv(SOON)
    assert rule in refused.value.rule
    other.close()


@pytest.mark.parametrize("case", FROM_CONSUMER)
def test_a_hostile_consumer_poisons(case: str) -> None:
    data, rule = FROM_CONSUMER[case]
    end, other = against(0)
    other.send(data)
    with pytest.raises(ChannelPoisoned) as refused:
        forever(lambda: end.send(b"", 1.0))
    assert any(one in refused.value.rule for one in rule.split("|"))
    other.close()


def test_what_never_becomes_a_frame_costs_no_more_than_a_window() -> None:
    end, other = against(1)
    other.setblocking(False)
    head = frame(length=end.limit)
    sent = other.send(head)
    assert end.try_recv() is None
    for _ in range(1000):
        try:
            sent += other.send(frame(kind=frames.TELL) * 4000)
        except BlockingIOError:
            break
        try:
            end.try_recv()
        except ChannelPoisoned:
            break
    assert len(end._half._in) <= 2 * SIZE + (1 << 18)
    other.close()


def test_asking_without_end_is_a_flood() -> None:
    end, other = against(1)
    with pytest.raises(ChannelPoisoned) as refused:
        forever(lambda: (other.send(frame(kind=frames.TELL)), end.try_recv()))
    assert refused.value.rule == "it rings without news"
    other.close()


@pytest.mark.parametrize("what", ["nothing", "another generation", "a pipe", "closed"])
def test_a_forged_line_is_refused(what: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    carrier = StreamCarrier()
    grants = carrier.create(TERMS)
    grant, more = grants[1], -1
    if what == "another generation":
        grant = grant._replace(terms=TERMS._replace(generation=40))
    elif what == "closed":
        os.read(grant.line, 32)
        carrier.discard(grants[0])
        grants = (grants[0]._replace(line=-1), grants[1])
    elif what != "x":
        os.close(grant.line)
        if what == "a pipe":
            fd, more = os.pipe()
        else:
            fd, more = (one.detach() for one in socket.socketpair())
        grant = grant._replace(line=fd)
    with pytest.raises(ChannelDenied, match="can't be trusted"):
        carrier.receiver(grant)
    for fd in (grants[0].line, more):
        if fd >= 0:
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("side", [0, 1])
def test_a_relay_passes_on_what_is_a_frame_and_nothing_else(relays: Relays, side: int) -> None:
    grants = StreamCarrier(relays.between).create(TERMS)
    bad, good = (socket.socket(fileno=grant.line) for grant in (grants if side == 0 else grants[::-1]))
    bad.send(frame(kind=frames.TELL if side == 0 else frames.MORE) + frame(kind=frames.READ if side == 0 else 1))
    poll = select.poll()
    poll.register(good, select.POLLRDHUP)
    assert poll.poll(SOON * 1000)
    got = good.recv(1000)
    assert len(got) in (32, 48)  # what it begins with, and perhaps the frame before
    assert "none that may be sent this way" in relays.all[0].why
    bad.close()
    good.close()
