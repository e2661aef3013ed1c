"""A hostile other end, in a process of its own or played here: whatever it writes, at any time, the honest end answers.

It never crashes, hangs, reads past its memory, allocates without bound, or delivers a frame that was not sent.
"""

import ctypes
import fcntl
import multiprocessing
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from septum.errors import ChannelClosed, ChannelDenied, ChannelError, ChannelLost, ChannelPoisoned, ChannelTimeout
from septum.ivc import PATIENCE, Kind, MemfdCarrier, MemfdGrant, Reader, Receiver, Sender, State, Terms, Writer
from tests.ringkit import BROKEN, INDEX, PAGE, STATE, WANTED, PlainProducer, Segment, frame
from tests.ringlies import CONSUMER_LIES, LIES, LIMIT, SIZE, raw, scribble

TERMS = Terms("hostile", 9, size=SIZE)
LATE = 5.0
"""Seconds in which an honest end must have an answer."""


class Peer:
    """The honest end, and all that its hostile peer may write."""

    def __init__(self, plays: str, kind: Kind = Kind.MESSAGES) -> None:
        self.carrier = MemfdCarrier(spin=0)
        producers, consumers = self.carrier.create(TERMS._replace(kind=kind))
        self.end: Any
        if plays == "producer":
            self.grant, other = producers, consumers
            make: Any = Receiver if kind is Kind.MESSAGES else Reader
            self.end = make(self.carrier.receiver(other))
        else:
            self.grant, other = consumers, producers
            make = Sender if kind is Kind.MESSAGES else Writer
            self.end = make(self.carrier.sender(other))
        self.own = Segment(self.grant.own, PAGE + (SIZE if plays == "producer" else 0), True)
        self.line = socket.socket(fileno=os.dup(self.grant.line))

    def close(self) -> None:
        with suppress(ChannelError):
            self.end.close()
        self.carrier.discard(self.grant)
        self.line.close()


@pytest.fixture
def producer() -> Iterator[Peer]:
    peer = Peer("producer")
    yield peer
    peer.close()


@pytest.fixture
def consumer() -> Iterator[Peer]:
    peer = Peer("consumer")
    yield peer
    peer.close()


def for_ever(call: Callable[[], object]) -> None:
    while True:
        call()


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_a_producer_poison_the_channel(producer: Peer, lie: str) -> None:
    tell, rule = LIES[lie]
    tell(producer.own)
    with pytest.raises(ChannelPoisoned) as refused:
        for_ever(lambda: producer.end.recv(LATE))
    assert rule in refused.value.rule
    assert producer.end.state is State.POISONED
    assert Segment(producer.grant.peer, PAGE, False).state() == BROKEN
    assert select.select([producer.line], [], [], 0)[0]  # and the other end was woken for it
    with pytest.raises(ChannelPoisoned):
        producer.end.recv(LATE)


def test_an_index_that_goes_back(producer: Peer) -> None:
    plain = PlainProducer(producer.own, SIZE)
    plain.send(b"one")
    plain.send(b"two")
    assert producer.end.recv_many(timeout=LATE) == [b"one", b"two"]
    producer.own.put_u64(INDEX, 32)
    with pytest.raises(ChannelPoisoned) as refused:
        producer.end.recv(LATE)
    assert "went backwards" in refused.value.rule


def test_what_came_before_a_lie_is_delivered(producer: Peer) -> None:
    raw(frame(0, b"sound"), frame(1, b"also"), frame(1, b"lie"))(producer.own)
    assert producer.end.recv_many(timeout=LATE) == [b"sound", b"also"]
    with pytest.raises(ChannelPoisoned):
        producer.end.recv_many(timeout=LATE)


def test_empty_frames_of_a_stream_are_no_end() -> None:
    peer = Peer("producer", Kind.BYTES)
    raw(frame(0, b"x"), frame(1, b""))(peer.own)
    assert peer.end.read(9, LATE) == b"x"
    with pytest.raises(ChannelPoisoned):
        peer.end.read(9, LATE)
    peer.close()


def test_a_stream_keeps_to_a_frame_that_it_has_begun() -> None:
    """The length of a half-read frame is not read again."""
    peer = Peer("producer", Kind.BYTES)
    raw(frame(0, b"abcdef"))(peer.own)
    assert peer.end.read(2, LATE) == b"ab"
    raw(frame(0, b"ABCDEF", length=1), index=32)(peer.own)
    assert peer.end.read(100, LATE) == b"CDEF"
    with pytest.raises(ChannelTimeout):
        peer.end.read(100, 0.01)
    peer.close()


@pytest.mark.parametrize("lie", CONSUMER_LIES)
def test_lies_of_a_consumer_poison_the_channel(consumer: Peer, lie: str) -> None:
    index, rule = CONSUMER_LIES[lie]
    while consumer.end.try_send(bytes(100)):
        pass
    if index == SIZE:
        index = Segment(consumer.grant.peer, PAGE + SIZE, False).u64(INDEX) + 16
    consumer.own.put_u64(INDEX, index)
    with pytest.raises(ChannelPoisoned) as refused:
        consumer.end.send(bytes(100), LATE)
    assert rule in refused.value.rule


def test_a_consumers_index_that_goes_back(consumer: Peer) -> None:
    while consumer.end.try_send(bytes(112)):
        pass
    consumer.own.put_u64(INDEX, 256)
    while consumer.end.try_send(bytes(112)):
        pass
    consumer.own.put_u64(INDEX, 128)
    with pytest.raises(ChannelPoisoned) as refused:
        consumer.end.send(bytes(112), LATE)
    assert "went backwards" in refused.value.rule


def test_a_consumer_that_never_reads_costs_no_more_than_the_ring(consumer: Peer) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        with pytest.raises(ChannelTimeout):
            for_ever(lambda: consumer.end.send(bytes(LIMIT), 0.01))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def test_a_batch_is_bounded_however_fast_the_other_end_sends(producer: Peer) -> None:
    """What is published while a batch is taken belongs to the next one."""
    plain = PlainProducer(producer.own, SIZE)
    for _ in range(SIZE // 16):
        plain.send(b"")
    assert len(producer.end.recv_many(10**9, LATE)) <= SIZE // 16


@pytest.mark.parametrize("word", [INDEX, WANTED, STATE])
def test_own_words_are_never_read_back(word: int) -> None:
    """Even who got hold of an end's own memory only changes what the other end sees."""
    carrier = MemfdCarrier(spin=0)
    one, other = carrier.create(TERMS)
    writable = Segment(one.own, PAGE + SIZE, True), Segment(other.own, PAGE, True)
    sender, receiver = Sender(carrier.sender(one)), Receiver(carrier.receiver(other))
    plain: list[bytes] = []
    for number in range(100):
        for segment in writable:
            keep = segment.u64(word)
            segment.put_u64(word, (1 << 64) - 16 * number - 16)
        if word != STATE:
            sender.send(b"%d" % number, LATE)
        for segment in writable:
            if word == STATE:
                segment.put_u64(word, 0)
        if word == STATE:
            sender.send(b"%d" % number, LATE)
        if word == INDEX:
            writable[1].put_u64(word, keep)
        plain.append(receiver.recv(LATE))
    assert plain == [b"%d" % number for number in range(100)]


def test_an_old_generation_is_refused() -> None:
    """The same name with memory of the session before."""
    carrier = MemfdCarrier()
    old = carrier.create(TERMS._replace(generation=8))
    new = carrier.create(TERMS)
    mixed = new[1]._replace(peer=os.dup(old[1].peer))
    os.close(new[1].peer)
    with pytest.raises(ChannelDenied) as refused:
        carrier.receiver(mixed)
    assert refused.value.rule == "it is of another generation"
    for grant in (*old, new[0]):
        carrier.discard(grant)


def test_a_used_end_is_refused_even_if_its_first_page_says_otherwise() -> None:
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    again = MemfdGrant(*other[:2], *(os.dup(fd) for fd in other[2:]))
    own = Segment(other.own, PAGE, True)
    carrier.receiver(other)
    own.put_u64(INDEX, 0)
    own.put_state(0)
    with pytest.raises(ChannelDenied):
        carrier.receiver(again)
    carrier.discard(one)


# bells


def test_a_flood_of_rings_poisons_the_channel(producer: Peer) -> None:
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with suppress(OSError):
                producer.line.send(b"!" * 100, socket.MSG_DONTWAIT)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with pytest.raises(ChannelPoisoned) as refused:
            producer.end.recv(60)
    finally:
        stop.set()
        thread.join()
    assert refused.value.rule == "it rings without news"


def test_a_flood_between_calls_counts_as_well(producer: Peer) -> None:
    """Who only ever tries is not held busy for ever either."""

    def ring_and_try() -> None:
        producer.line.send(b"!")
        assert producer.end.try_recv() is None

    for _ in range(PATIENCE):
        ring_and_try()
    with pytest.raises(ChannelPoisoned):
        ring_and_try()


def test_rings_with_news_are_no_flood(producer: Peer) -> None:
    plain = PlainProducer(producer.own, SIZE)
    for number in range(3 * PATIENCE):
        producer.line.send(b"!!")
        if number % 500 == 0:
            plain.send(b"news")
        assert producer.end.try_recv() == (b"news" if number % 500 == 0 else None)


def test_an_index_that_flickers_does_not_keep_an_end(producer: Peer) -> None:
    """There when the end asks whether to sleep, gone when it reads."""
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            producer.own.put_u64(STATE, 1)
            producer.own.put_u64(STATE, 0)

    thread = threading.Thread(target=flicker)
    thread.start()
    begun = time.monotonic()
    try:
        with pytest.raises((ChannelTimeout, ChannelClosed, ChannelPoisoned)):
            producer.end.recv(0.2)
    finally:
        stop.set()
        thread.join()
    assert time.monotonic() - begun < LATE


def test_ringing_never_blocks(consumer: Peer) -> None:
    """The other end takes no ring, and has asked for all of them; it makes its own descriptor blocking, too."""
    fcntl.fcntl(consumer.line, fcntl.F_SETFL, 0)
    consumer.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    peer = Segment(consumer.grant.peer, PAGE + SIZE, False)
    for _ in range(3000):
        consumer.own.put_u64(WANTED, peer.u64(INDEX))
        consumer.end.send(b"x" * 100, LATE)
        consumer.own.put_u64(INDEX, peer.u64(INDEX))


def test_descriptors_that_come_with_a_ring_are_not_kept(producer: Peer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        socket.send_fds(producer.line, [b"!"], [0, 1, 2])
        assert producer.end.try_recv() is None
    assert len(os.listdir("/proc/self/fd")) == before


# in another process


def scribbler(own: int, length: int, line: int, seed: int) -> None:
    bell = socket.socket(fileno=line)

    def ring() -> None:
        with suppress(OSError):
            bell.send(b"!", socket.MSG_DONTWAIT)

    scribble(Segment(own, length, True), length, ring, seed)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("plays", ["producer", "consumer"])
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
def test_a_process_that_writes_anything_at_any_time(plays: str, kind: Kind, seed: int) -> None:
    peer = Peer(plays, kind)
    length = PAGE + (SIZE if plays == "producer" else 0)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=scribbler, args=(peer.grant.own, length, peer.grant.line, seed), daemon=True)
    child.start()
    begun = time.monotonic()
    calls = 0
    try:
        while time.monotonic() - begun < LATE and peer.end.state is State.OPEN:
            calls += 1
            with suppress(ChannelTimeout):
                if isinstance(peer.end, Receiver):
                    assert all(len(one) <= LIMIT for one in peer.end.recv_many(100, 0.01))
                elif isinstance(peer.end, Reader):
                    assert len(peer.end.read(500, 0.01)) <= 500
                elif isinstance(peer.end, Sender):
                    peer.end.send(bytes(LIMIT), 0.01)
                else:
                    peer.end.write(bytes(9000), 0.01)
    except (ChannelPoisoned, ChannelClosed):
        pass
    finally:
        child.kill()
        child.join()
        peer.close()
    assert calls
    assert peer.end.state is not State.OPEN


def test_a_process_that_dies_half_way(producer: Peer) -> None:
    """It is killed after it wrote a frame and before it published it."""

    def die() -> None:
        plain = PlainProducer(producer.own, SIZE)
        plain.send(b"whole")
        plain.send(b"not published", publish=False)
        os.kill(os.getpid(), signal.SIGKILL)

    context = multiprocessing.get_context("fork")
    child = context.Process(target=die)
    child.start()
    child.join()
    producer.line.close()  # the copies that this test held for the dead
    producer.line = socket.socket()
    producer.carrier.discard(producer.grant)
    assert producer.end.recv(LATE) == b"whole"
    with pytest.raises(ChannelLost):
        producer.end.recv(LATE)
    producer.grant = producer.carrier.create(TERMS)[0]


def test_a_hole_punched_under_the_reader_is_only_zeros(producer: Peer) -> None:
    """The writer may take its own pages away; the reader sees zeros, not SIGBUS."""
    plain = PlainProducer(producer.own, SIZE)
    plain.send(b"x" * 100)
    libc_fallocate(producer.grant.own, PAGE, SIZE)
    with pytest.raises(ChannelPoisoned):
        producer.end.recv(LATE)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(producer.grant.own, 0)


def libc_fallocate(fd: int, at: int, length: int) -> None:
    """FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE (include/uapi/linux/falloc.h), which Python does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(length))
    assert done == 0, os.strerror(ctypes.get_errno())
