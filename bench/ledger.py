"""How long the ledger's calls take on a disk, with few and with many guests in it.

The control is a bare write and fdatasync of 64 KiB, about what a commit of `begin` writes: without it the disk's mood
can't be told from septum's cost.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from bench.figures import Figure, Result, ratio
from septum.ledger.records import Entry, Guest, Hold, Realm
from septum.ledger.sqlite import SqliteLedger

_KEPT = 500  # of the last calls, when the ledger is as full as it gets
_CALLS = ("admit", "begin", "run", "guest by uuid", "end", "settle", "orphan", "release")
_BASE = Hold("base", "/vm/base.img", False, "ro")


class Clock:
    """Collects durations by name."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = call(*arguments)
        self.times.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
        return result

    def figure(self, name: str, label: str) -> Figure:
        return Figure(label, "ms", tuple(self.times[name][-_KEPT:]))


def guest(number: int) -> Guest:
    return Guest(
        uuid=f"00000000-0000-4000-8000-{number:012d}",
        incarnation=0,
        name=f"guest-{number}",
        realm="bench",
        state="admitted",
        categories=(3, 300, 301),
        level="s0:c3,c300,c301",
        uid=200_000 + number,
        drivers=("selinux", "landlock"),
        boot_id="b",
        pid=1,
        started=1,
        since=1.0,
        argv=("qemu-system-x86_64", *(f"-argument={n}" for n in range(40))),
        details={"confinement": [["/var/lib/libvirt/images/disk.qcow2", "image", "rw"]] * 12},
    )


def start(ledger: SqliteLedger, clock: Clock, number: int) -> None:
    one, disk = guest(number), f"disk {number}"
    clock.time("admit", ledger.admit, one, [("code", str(number)), ("uid", str(one.uid))])
    entries = [Entry(0, one.uuid, op, disk, f"/vm/{disk}", {"uid": 1}, {"uid": 0}, "") for op in ("own", "context")]
    entries.append(Entry(0, "base", "own", "base", "/vm/base.img", {"gid": 1}, {"gid": 0}, ""))
    clock.time("begin", ledger.begin, one.uuid, [Hold(disk, f"/vm/{disk}", True, "rw"), _BASE], entries)
    clock.time("run", ledger.run, one.uuid, 10, 20, {"cgroup": "/sys/fs/cgroup/x"})


def look(ledger: SqliteLedger, clock: Clock, guests: int) -> None:
    for _ in range(50):
        clock.time("guest by uuid", ledger.guest, guest(guests // 2).uuid)


def stop(ledger: SqliteLedger, clock: Clock, number: int) -> None:
    uuid = guest(number).uuid
    clock.time("end", ledger.end, uuid)
    for entry in ledger.journal(uuid):
        clock.time("settle", ledger.settle, entry.id, "restored")
    clock.time("orphan", ledger.orphan, uuid)
    clock.time("release", ledger.release, uuid)


def control(folder: str, clock: Clock) -> None:
    fd = os.open(os.path.join(folder, "control"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 65536)

    def sync() -> None:
        os.pwrite(fd, b"y" * 65536, 0)
        os.fdatasync(fd)

    for _ in range(200):
        clock.time("control", sync)
    os.close(fd)


def bench(runs: int, *, guests: tuple[int, ...] = (100, 10_000)) -> Result:
    """Measures.

    Args:
        runs: lives of guests that are ended again, ten times as many.
        guests: in the ledger, one ledger after the other.
    """
    parts = [_measure(count, 10 * runs) for count in guests]
    figures = [figure for part in parts for figure in part.figures]
    lives = [part.figures[0] for part in parts]
    return Result(
        "ledger",
        tuple(figures),
        (
            *(one for part in parts for one in part.ratios),
            ratio(f"a guest's life, {guests[-1]} guests to {guests[0]}", lives[-1], lives[0]),
        ),
    )


def _measure(guests: int, lives: int) -> Result:
    folder = tempfile.mkdtemp(dir="/var/tmp")
    clock = Clock()
    try:
        control(folder, clock)
        ledger: SqliteLedger = clock.time("make", SqliteLedger, os.path.join(folder, "ledger"))
        ledger.add_realm(Realm("bench", (3,), 70000))
        for number in range(guests):
            start(ledger, clock, number)
        look(ledger, clock, guests)
        for number in range(guests, guests + lives):
            begun = time.perf_counter()
            start(ledger, clock, number)
            stop(ledger, clock, number)
            clock.times.setdefault("life", []).append((time.perf_counter() - begun) * 1000)
        ledger.close()
    finally:
        shutil.rmtree(folder)
    about = f"{guests:,} guests: "
    life = clock.figure("life", f"{about}a guest's life, all calls")
    sync = clock.figure("control", f"{about}control, fdatasync of 64 KiB")
    admit = clock.figure("admit", f"{about}admit")
    rates = Figure(f"{about}admits", "per s", tuple(1000 / value for value in admit.values))
    whole = Figure(f"{about}lives", "per s", tuple(1000 / value for value in life.values))
    calls = [clock.figure(name, about + name) for name in _CALLS]
    return Result("", (life, whole, rates, *calls, sync), (ratio(f"{about}a life to one fdatasync", life, sync),))
