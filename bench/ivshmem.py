"""Channels between two booted guests: throughput beside a copy in the guest itself, round trips, setting up.

The guests have no processor of their own but what software emulation gives them, so only ratios mean anything.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bench.figures import Figure, Result, ratio
from lab.guest_python import PythonGuest
from septum.ivc import Role, Terms
from septum.ivc.carriers import ivshmem
from septum.ivc.carriers.ivshmem import Place
from septum.monitor import Monitor

SIZES = (64, 4096, 65536)
_RING = 1 << 20
_ROUNDS = 50

_COPY = """
source, target = memoryview(bytearray(given["size"])), memoryview(bytearray(given["size"]))
begun = time.perf_counter()
for _ in range(given["count"]): target[:] = source
result = given["size"] * given["count"] / (time.perf_counter() - begun) / 1e9
"""
_SEND = "out.send_many([bytes(given['size'])] * given['count'], 120)"
_RECEIVE = """
end.recv(120); begun, left = time.perf_counter(), given["count"] - 1
while left: left -= len(end.recv_many(left, 120))
result = given["size"] * (given["count"] - 1) / (time.perf_counter() - begun) / 1e9
"""
_TRIPS = """
begun = time.perf_counter()
for _ in range(given["count"]): out.send(b"x" * 64); back.recv(120)
result = (time.perf_counter() - begun) / given["count"] * 1e3
"""
_ECHO = "for _ in range(given['count']): answer.send(end.recv(120), 120)"


def bench(runs: int, *, sizes: tuple[int, ...] = SIZES, volume: int = 16 << 20) -> Result:
    """Measures.

    Args:
        runs: of each measurement.
        sizes: bytes of a message.
        volume: bytes of a measurement, if that is not too many messages.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_bench(Path(folder), runs, sizes, volume))


async def _bench(folder: Path, runs: int, sizes: tuple[int, ...], volume: int) -> Result:
    figures, ratios = [], []
    with PythonGuest("one", folder) as one, PythonGuest("other", folder) as other:
        for guest in (one, other):
            guest.up()
            guest.run("import time; from septum.guest import channel")
        async with await Monitor.connect(one.monitor) as first, await Monitor.connect(other.monitor) as second:
            monitors = (first, second)
            numbers = itertools.count(1)
            attaching: list[float] = []
            detaching: list[float] = []
            opening: list[float] = []
            for _ in range(runs):
                async with _channel("setup", next(numbers), monitors, detaching) as taken:
                    attaching.append(taken)
                    begun = "begun = time.perf_counter(); end = channel('setup', 60)"
                    opening.append(one.run(f"{begun}; result = (time.perf_counter() - begun) * 1e3"))
            figures += [
                Figure("plugging a channel into two guests", "ms", tuple(attaching)),
                Figure("opening an end in a guest", "ms", tuple(opening)),
                Figure("taking it out of one guest", "ms", tuple(detaching)),
            ]
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(_channel("there", next(numbers), monitors, []))
                await stack.enter_async_context(_channel("back", next(numbers), monitors[::-1], []))
                one.run("out, back = channel('there', 60), channel('back', 60)")
                other.run("end, answer = channel('there', 60), channel('back', 60)")
                for size in sizes:
                    count = max(20, min(20_000, volume // size))
                    given: dict[str, Any] = {"size": size, "count": count}
                    copies, rates = [], []
                    for _ in range(runs):
                        copies.append(one.run(_COPY, **given))
                        one.start(_SEND, **given)
                        rates.append(other.run(_RECEIVE, **given))
                        one.finish()
                    mine = Figure(f"guest to guest, {size:,} B", "GB/s", tuple(rates))
                    copy = Figure(f"one copy in a guest, {size:,} B", "GB/s", tuple(copies))
                    figures += [mine, copy]
                    ratios.append(ratio(f"{size:,} B, channel to one copy in a guest", mine, copy))
                trips = []
                for _ in range(runs):
                    other.start(_ECHO, count=_ROUNDS)
                    trips.append(one.run(_TRIPS, count=_ROUNDS))
                    other.finish()
                figures.append(Figure("round trip of 64 B, both asleep", "ms", tuple(trips)))
    notes = ("Guests under software emulation, one processor each, and Python at both ends: trust ratios only.",)
    return Result("ivshmem", tuple(figures), tuple(ratios), (), notes)


@asynccontextmanager
async def _channel(
    name: str, number: int, monitors: tuple[Monitor, ...], detaching: list[float]
) -> AsyncIterator[float]:
    """A channel from the first guest to the second, and how long it took to plug it in, in ms."""
    made = ivshmem.pair(Terms(name, number, size=_RING))
    ends = {
        role: Place(monitor, await ivshmem.free_port(monitor))
        for role, monitor in zip((Role.PRODUCER, Role.CONSUMER), monitors, strict=True)
    }
    begun = time.perf_counter()
    attached = await ivshmem.attach(made, ends)
    taken = (time.perf_counter() - begun) * 1e3
    for line in made.lines:
        line.close()
    try:
        yield taken
    finally:
        for role, place in ends.items():
            begun = time.perf_counter()
            await ivshmem.detach(place.monitor, attached[role])
            detaching.append((time.perf_counter() - begun) * 1e3)
        made.close()
