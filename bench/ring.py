"""The ring: how fast beside a bare copy and beside other transports, how many messages, how long there and back.

Other transports are driven from Python as the ring is. The machine's mood changes from second to second; ways are
measured by turns, and the ratios are of medians of one run.
"""

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles

from bench.figures import BenchError, Figure, Goal, Ratio, Result, ratio
from bench.transports import PEERS, RING, Opened, Way, Work, apart, join, once, seconds
from septum.ivc import MemfdCarrier, Receiver, Sender, Terms

_ROOT = Path(__file__).resolve().parent
_CORE = _ROOT.parent / "src" / "septum" / "ivc"
SIZES = (64, 1024, 4096, 65536, 1 << 20, 4 << 20)
_BYTES = 64 << 20  # of a measurement, if that is not too many messages
_SMALL = 64


def bench(runs: int, *, sizes: tuple[int, ...] = SIZES, volume: int = _BYTES, channels: int = 1000) -> Result:
    """Measures.

    Args:
        runs: of each measurement.
        sizes: bytes of a message; one of them is 4 KiB or more.
        volume: bytes of a measurement.
        channels: how many to have open at once.
    """
    parts = [
        _copies(runs, [size for size in sizes if size >= 1024], volume),
        _transports(runs, sizes, volume),
        _small(runs, max(2000, volume // 320)),
        _trips(runs, max(1000, volume // 1300)),
        _channels(channels),
    ]
    return Result(
        "ring",
        tuple(one for part in parts for one in part.figures),
        tuple(one for part in parts for one in part.ratios),
        tuple(one for part in parts for one in part.goals),
        (
            "Bare: two copies, one counter each way, no frames, no checks, no waking, in C: what any channel must do.",
            "Each process has a processor of its own as far as others leave it to them.",
        ),
    )


def _times(size: int, volume: int) -> int:
    return max(20, min(20_000, volume // size))


def _copies(runs: int, sizes: Iterable[int], volume: int) -> Result:
    """In C: the ring beside the bound."""
    figures, ratios, worst = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        program = _compile(folder)
        for size in sizes:
            found: dict[str, list[float]] = {}
            for _ in range(3 * runs):  # short, and often: on a busy machine little is undisturbed
                for name, value in _told(program, "copy", str(size), str(volume)).items():
                    found.setdefault(name, []).append(value)
            mine, bound = (Figure(f"{name}, C, {size:,} B", "GB/s", tuple(found[name])) for name in ("ring", "bare"))
            figures += [mine, bound, Figure(f"memcpy, {size:,} B", "GB/s", tuple(found["memcpy"]))]
            ratios.append(ratio(f"{size:,} B, ring to bare", mine, bound))
            # By turns: what disturbed the one has mostly disturbed the other.
            if size >= 4096:
                worst.append(median(one / other for one, other in zip(found["ring"], found["bare"], strict=True)))
    goals = (
        [Goal("ring to bare copies from 4 KiB on, worst size", min(worst), 0.9, "times", most=False)] if worst else []
    )
    return Result("", tuple(figures), tuple(ratios), tuple(goals))


def _compile(folder: str) -> str:
    program = os.path.join(folder, "ring_bench")
    words = ["cc", "-std=c11", "-O2", f"-I{_CORE}", str(_ROOT / "ring.c"), str(_CORE / "ring.c"), "-o", program]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"the C part can't be compiled: {error}") from error
    return program


def _told(program: str, *words: str) -> dict[str, float]:
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchError("two processors are needed")
    done = subprocess.run([program, *words], check=True, capture_output=True, text=True, timeout=300)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def _transports(runs: int, sizes: tuple[int, ...], volume: int) -> Result:
    """From Python: the ring beside other transports."""
    figures, ratios, worst = [], [], []
    for size in sizes:
        count = _times(size, volume)
        rates: dict[str, list[float]] = {}
        for _ in range(runs):
            for way in (RING, *PEERS):
                rates.setdefault(way.name, []).append(size * count / seconds(way, size, count) / 1e9)
        mine, *others = (Figure(f"{name}, {size:,} B", "GB/s", tuple(found)) for name, found in rates.items())
        figures += [mine, *others]
        ratios += [ratio(f"{size:,} B, ring to {way.name}", mine, its) for way, its in zip(PEERS, others, strict=True)]
        worst.append(min(mine.median / its.median for its in others))
    goal = Goal("ring to the best of the others, worst size", min(worst), 1, "times", most=False)
    return Result("", tuple(figures), tuple(ratios), (goal,))


def _small(runs: int, count: int) -> Result:
    """Messages a second from Python."""

    def batched(number: int) -> Opened:
        carrier = MemfdCarrier()
        one, other = carrier.create(Terms("bench", 1, size=1 << 20))
        batch = [bytes(number)] * 1000

        def sending() -> Work:
            send = Sender(carrier.sender(one)).send_many

            def work(wanted: int) -> None:
                for _ in range(wanted // 1000):
                    send(batch)
                send(batch[: wanted % 1000])

            return work

        def receiving() -> Work:
            receive = Receiver(carrier.receiver(other)).recv_many

            def work(wanted: int) -> None:
                while wanted:
                    wanted -= len(receive(wanted))

            return work

        return once(sending), once(receiving), lambda: carrier.discard(other)

    many = Way("batched", batched)
    together, single = [], []
    for _ in range(runs):
        together.append(10 * count / seconds(many, _SMALL, 10 * count))
        single.append(count / seconds(RING, _SMALL, count))
    figures = (
        Figure("messages of 64 B, batched", "per s", tuple(together)),
        Figure("one by one", "per s", tuple(single)),
    )
    return Result(
        "",
        figures,
        (),
        (
            Goal("small messages from Python, batched", figures[0].median, 1_500_000, "per s", most=False),
            Goal("small messages from Python, one by one", figures[1].median, 250_000, "per s", most=False),
        ),
    )


def _trips(runs: int, count: int) -> Result:
    """There and back, spinning."""
    found: dict[str, list[float]] = {"bare": [], "ring": []}
    with tempfile.TemporaryDirectory() as folder:
        program = _compile(folder)
        for _ in range(runs):
            for name, value in _told(program, "trip", str(count)).items():
                found[name].append(value / 1000)
    bare = Figure("round trip of a bare counter, C", "µs", tuple(found["bare"]))
    ring = Figure("round trip of 64 B, C", "µs", tuple(found["ring"]))
    python = Figure("round trip of 64 B, Python", "µs", tuple(_trip(count) for _ in range(runs)))
    return Result(
        "",
        (bare, ring, python),
        (ratio("round trip, ring in C to a bare counter", ring, bare), ratio("round trip, Python to C", python, ring)),
        (Goal("round trip in C", ring.median, 0.5, "µs"), Goal("round trip in Python", python.median, 3, "µs")),
    )


def _trip(count: int) -> float:
    """Microseconds: the median trip, since a trip that was interrupted by another process is no trip."""
    carrier = MemfdCarrier()
    there, back = carrier.create(Terms("there", 1)), carrier.create(Terms("back", 1))
    cpus = os.sched_getaffinity(0)

    def answer() -> None:
        receiver, sender = Receiver(carrier.receiver(there[1])), Sender(carrier.sender(back[0]))
        for _ in range(count):
            sender.send(receiver.recv())
        sender.drain()

    child = apart(answer)
    carrier.discard(there[1])
    carrier.discard(back[0])
    send, receive = Sender(carrier.sender(there[0])).send, Receiver(carrier.receiver(back[1])).recv
    data, times = bytes(_SMALL), []
    for _ in range(count):
        begun = time.perf_counter_ns()
        send(data)
        receive()
        times.append(time.perf_counter_ns() - begun)
    join(child, cpus)
    return median(times) / 1000


def _channels(count: int) -> Result:
    """Setting up, and having many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 200
    if hard < wanted:
        raise BenchError(f"{count} channels need {wanted} descriptors; the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    carrier = MemfdCarrier()
    times, ends = [], []
    before = _resident()
    for number in range(count):
        begun = time.perf_counter()
        one, other = carrier.create(Terms(f"channel {number}", number, size=1 << 16))
        pair = Sender(carrier.sender(one)), Receiver(carrier.receiver(other))
        pair[0].send(b"first")
        pair[1].recv()
        times.append((time.perf_counter() - begun) * 1000)
        ends.append(pair)
    grown = (_resident() - before) / count
    begun, spent = time.perf_counter(), time.process_time()
    time.sleep(0.5)
    idle = (time.process_time() - spent) / (time.perf_counter() - begun) * 100
    for pair in ends:
        for end in pair:
            end.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    setup = Figure("set up, and the first message received", "ms", tuple(times))
    worst = quantiles(times, n=100)[98]
    return Result(
        "",
        (
            setup,
            Figure(f"{count:,} channels of 64 KiB, memory each", "KiB", (grown,)),
            Figure(f"{count:,} idle channels", "% of a processor", (idle,)),
        ),
        (Ratio("set-up, 99th percentile to median", worst / setup.median),),
        (Goal("set-up, 99th percentile", worst, 1, "ms"),),
    )


def _resident() -> float:
    """KiB of this process in memory, what it shares included."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1024
