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


Opened = tuple[Work, Work, Callable[[], None]]


class Way(NamedTuple):
    """A transport.

    Attributes:
        name: for the figures.
        open: makes one for messages of a length; returns what sends, what receives, and what closes it here. Called
            before the fork.
    """

    name: str
    open: Callable[[int], Opened]


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
    send, receive, close = way.open(length)
    reader, writer = os.pipe()
    cpus = os.sched_getaffinity(0)

    def work() -> None:
        receive(1)
        os.write(writer, b".")
        receive(count)
        os.write(writer, b".")

    child = apart(work)
    os.close(writer)
    send(1)  # what is slow the first time: joining, connecting
    os.read(reader, 1)
    begun = time.perf_counter()
    send(count)
    os.read(reader, 1)
    taken = time.perf_counter() - begun
    join(child, cpus)
    close()
    os.close(reader)
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


def _ring(length: int) -> Opened:
    carrier = MemfdCarrier()
    one, other = carrier.create(Terms("bench", 1, Kind.MESSAGES, ring_size(length)))

    def sending() -> Work:
        send, data = Sender(carrier.sender(one)).send, bytes(length)

        def work(count: int) -> None:
            for _ in range(count):
                send(data)

        return work

    def receiving() -> Work:
        carrier.discard(one)
        receive, buffer = Receiver(carrier.receiver(other)).recv_into, bytearray(length)

        def work(count: int) -> None:
            for _ in range(count):
                receive(buffer)

        return work

    return once(sending), once(receiving), lambda: carrier.discard(other)


def _fill(read: Callable[[memoryview], int], length: int) -> Work:
    whole = memoryview(bytearray(length))

    def work(count: int) -> None:
        for _ in range(count):
            got = 0
            while got < length:
                got += read(whole[got:])

    return work


def _unix(length: int) -> Opened:
    one, other = socket.socketpair()
    data = bytes(length)

    def send(count: int) -> None:
        for _ in range(count):
            one.sendall(data)

    def close() -> None:
        one.close()
        other.close()

    return send, _fill(other.recv_into, length), close


def _pipe(length: int) -> Opened:
    reader, writer = os.pipe()
    data = bytes(length)

    def send(count: int) -> None:
        for _ in range(count):
            sent = os.write(writer, data)
            while sent < length:
                sent += os.write(writer, memoryview(data)[sent:])

    def close() -> None:
        os.close(reader)
        os.close(writer)

    return send, _fill(lambda part: os.readv(reader, [part]), length), close


def _zmq(length: int) -> Opened:
    try:
        import zmq
    except ImportError as error:
        raise BenchError("no pyzmq here") from error
    folder = tempfile.TemporaryDirectory(prefix="septum-bench-")
    context = zmq.Context()
    address = f"ipc://{folder.name}/socket"

    def sending() -> Work:
        out = context.socket(zmq.PUSH)
        out.connect(address)
        data = bytes(length)

        def work(count: int) -> None:
            for _ in range(count):
                out.send(data)

        return work

    def receiving() -> Work:
        come = zmq.Context().socket(zmq.PULL)  # of the child
        come.bind(address)

        def work(count: int) -> None:
            for _ in range(count):
                come.recv()

        return work

    def close() -> None:
        context.destroy(linger=0)
        folder.cleanup()

    return once(sending), once(receiving), close


RING = Way("ring", _ring)
PEERS = (Way("unix socket", _unix), Way("pipe", _pipe), Way("ZeroMQ ipc", _zmq))
