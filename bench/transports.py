"""Ways to carry messages of one length from this process to a child, timed until the child has them all."""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.figures import BenchError
from septum.ivc import Kind, MemfdCarrier, Receiver, Sender, Terms

_PATIENCE = 60  # seconds for anything

Work = Callable[[int], None]
"""Sends, or receives, that many messages."""


class Way(NamedTuple):
    """A transport.

    Attributes:
        name: for the figures.
        open: makes one for messages of a length; returns what sends and what receives. Called before the fork.
    """

    name: str
    open: Callable[[int], tuple[Work, Work]]


def apart(work: Callable[[], None]) -> int:
    """Runs work in a child on the second processor, if there is one; this process takes the first.

    Returns:
        The child's pid; `join` waits for it.
    """
    cpus = sorted(os.sched_getaffinity(0))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(_PATIENCE)
            os.sched_setaffinity(0, {cpus[-1]})
            work()
            status = 0
        finally:
            os._exit(status)
    os.sched_setaffinity(0, {cpus[0]})
    return child


def join(child: int, cpus: set[int]) -> None:
    """Waits for a child, and gives this process its processors back.

    Raises:
        BenchError: the child failed.
    """
    _, status = os.waitpid(child, 0)
    os.sched_setaffinity(0, cpus)
    if status:
        raise BenchError(f"the receiving process ended with {os.waitstatus_to_exitcode(status)}")


def seconds(way: Way, length: int, count: int) -> float:
    """How long it takes until a child has received so many messages."""
    send, receive = way.open(length)
    reader, writer = os.pipe()
    cpus = os.sched_getaffinity(0)

    def work() -> None:
        receive(1)
        os.write(writer, b".")
        receive(count)
        os.write(writer, b".")

    child = apart(work)
    send(1)  # what is slow the first time: joining, connecting
    os.read(reader, 1)
    begun = time.perf_counter()
    send(count)
    os.read(reader, 1)
    taken = time.perf_counter() - begun
    join(child, cpus)
    os.close(reader)
    os.close(writer)
    return taken


def once(make: Callable[[], Work]) -> Work:
    """Makes it at the first call, in the process that calls."""
    made: list[Work] = []

    def work(count: int) -> None:
        if not made:
            made.append(make())
        made[0](count)

    return work


def ring_size(length: int) -> int:
    """As small as will do, but large enough that a few messages are under way."""
    size = 1 << 18
    while size < 8 * (length + 16):
        size *= 2
    return size


def _ring(length: int) -> tuple[Work, Work]:
    carrier = MemfdCarrier()
    one, other = carrier.create(Terms("bench", 1, Kind.MESSAGES, ring_size(length)))

    def sending() -> Work:
        carrier.discard(other)
        send, data = Sender(carrier.sender(one)).send, bytes(length)
        return lambda count: [None for _ in range(count) if send(data)] and None

    def receiving() -> Work:
        carrier.discard(one)
        receive, buffer = Receiver(carrier.receiver(other)).recv_into, bytearray(length)

        def work(count: int) -> None:
            for _ in range(count):
                receive(buffer)

        return work

    return once(sending), once(receiving)


def _fill(read: Callable[[memoryview], int], length: int) -> Work:
    whole = memoryview(bytearray(length))

    def work(count: int) -> None:
        for _ in range(count):
            got = 0
            while got < length:
                got += read(whole[got:])

    return work


def _unix(length: int) -> tuple[Work, Work]:
    one, other = socket.socketpair()
    data = bytes(length)

    def send(count: int) -> None:
        for _ in range(count):
            one.sendall(data)

    return send, _fill(other.recv_into, length)


def _pipe(length: int) -> tuple[Work, Work]:
    reader, writer = os.pipe()
    source, sink = open(reader, "rb", buffering=0), open(writer, "wb", buffering=0)
    data = bytes(length)

    def send(count: int) -> None:
        for _ in range(count):
            sent = sink.write(data)
            while sent < length:
                sent += sink.write(memoryview(data)[sent:])

    return send, _fill(lambda part: source.readinto(part) or 0, length)


def _zmq(length: int) -> tuple[Work, Work]:
    try:
        import zmq
    except ImportError as error:
        raise BenchError("no pyzmq here") from error
    folder = tempfile.TemporaryDirectory(prefix="septum-bench-")
    address = f"ipc://{folder.name}/socket"

    def sending() -> Work:
        out = zmq.Context().socket(zmq.PUSH)
        out.connect(address)
        data = bytes(length)

        def work(count: int) -> None:
            assert folder
            for _ in range(count):
                out.send(data)

        return work

    def receiving() -> Work:
        come = zmq.Context().socket(zmq.PULL)
        come.bind(address)

        def work(count: int) -> None:
            for _ in range(count):
                come.recv()

        return work

    return once(sending), once(receiving)


RING = Way("ring", _ring)
PEERS = (Way("unix socket", _unix), Way("pipe", _pipe), Way("ZeroMQ ipc", _zmq))
