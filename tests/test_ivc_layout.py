"""The page docs/ring.md is what the core does: an end in pure Python, written from it, understands the core's."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.ivc import Kind, MemfdCarrier, Receiver, Sender, State, Terms
from tests.ringkit import DONE, HEADER, INDEX, PAGE, WANTED, PlainConsumer, PlainProducer, Segment

SIZE = 1 << 12
TERMS = Terms("plain", 3, size=SIZE)
LIMIT = SIZE // 4 - 16


class Half:
    """The core's end on one side, raw segments of the other on the other."""

    def __init__(self, honest: str, terms: Terms = TERMS) -> None:
        self.carrier = MemfdCarrier(spin=0)
        one, other = self.carrier.create(terms)
        if honest == "receiver":
            self.own, self.peer = Segment(one.own, PAGE + terms.size, True), Segment(one.peer, PAGE, False)
            self.receiver = Receiver(self.carrier.receiver(other))
            self.grant = one
        else:
            self.own, self.peer = Segment(other.own, PAGE, True), Segment(other.peer, PAGE + terms.size, False)
            self.sender = Sender(self.carrier.sender(one))
            self.grant = other

    def close(self) -> None:
        self.carrier.discard(self.grant)


@pytest.fixture
def sending() -> Iterator[Half]:
    half = Half("sender")
    yield half
    half.close()


@pytest.fixture
def receiving() -> Iterator[Half]:
    half = Half("receiver")
    yield half
    half.close()


def test_both_first_pages(sending: Half, receiving: Half) -> None:
    assert HEADER.unpack_from(sending.own.memory) == (b"SEPTRING", 1, 2, 1, 3, SIZE)
    assert HEADER.unpack_from(receiving.own.memory) == (b"SEPTRING", 1, 1, 1, 3, SIZE)
    for half in (sending, receiving):
        assert not any(half.own.memory[HEADER.size :])


payloads = st.lists(st.binary(max_size=LIMIT), max_size=20)


@settings(max_examples=60, deadline=None)
@given(payloads)
def test_the_core_understands_plain_python(sent: list[bytes]) -> None:
    half = Half("receiver")
    producer = PlainProducer(half.own, SIZE)
    for payload in sent:
        producer.send(payload)
        assert half.receiver.recv(1) == payload
        assert half.peer.u64(INDEX) == producer.index
    assert half.receiver.try_recv() is None
    assert half.peer.u64(WANTED) == producer.index
    half.own.put_state(DONE)
    assert list(half.receiver) == []
    half.close()


@settings(max_examples=60, deadline=None)
@given(payloads)
def test_plain_python_understands_the_core(sent: list[bytes]) -> None:
    half = Half("sender")
    consumer = PlainConsumer(half.own, half.peer, SIZE)
    for payload in sent:
        half.sender.send(payload, 1)
        assert list(consumer.frames()) == [payload]
    half.sender.close()
    assert half.peer.state() == DONE
    half.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=LIMIT), st.integers(1, 5)), max_size=60))
def test_nothing_is_lost_or_doubled_at_any_fill(steps: list[bytes | int]) -> None:
    """Sends when there is a payload, receives when there is a number; what does not fit is not sent."""
    half = Half("sender")
    consumer = PlainConsumer(half.own, half.peer, SIZE)
    sent: list[bytes] = []
    got: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            if half.sender.try_send(step):
                sent.append(step)
        else:
            got += consumer.frames()
    got += consumer.frames()
    assert got == sent
    half.close()


def test_a_sleeping_producer_asks_for_half_of_the_ring(sending: Half) -> None:
    while sending.sender.try_send(bytes(112)):
        pass
    assert sending.own.u64(INDEX) == 0
    assert sending.peer.u64(INDEX) == SIZE
    assert sending.peer.u64(WANTED) == SIZE - SIZE // 2 - 1


def test_a_finished_producer_is_only_finished_when_all_is_read(receiving: Half) -> None:
    producer = PlainProducer(receiving.own, SIZE)
    producer.send(b"a")
    producer.send(b"b")
    receiving.own.put_state(DONE)
    assert list(receiving.receiver) == [b"a", b"b"]
    assert receiving.receiver.state is State.CLOSED
    assert receiving.peer.state() == 0  # it did not close, it was told


def test_indices_only_grow(sending: Half) -> None:
    consumer = PlainConsumer(sending.own, sending.peer, SIZE)
    seen = []
    for number in range(200):
        sending.sender.send(bytes(number * 5 % 900), 1)
        seen.append(sending.peer.u64(INDEX))
        list(consumer.frames())
    assert all(one < other for one, other in pairwise(seen))
    assert seen[-1] > 10 * SIZE


def test_streams_say_so_in_the_first_page() -> None:
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS._replace(kind=Kind.BYTES))
    segment = Segment(one.own, PAGE + SIZE, False)
    assert HEADER.unpack_from(segment.memory)[3] == 2
    carrier.discard(one)
    carrier.discard(other)
