"""How long the ledger's calls take, with few and with many guests in it: ``python -m bench.ledger [GUESTS…]``.

Each figure is the median and the 99th percentile in milliseconds of the last 500 calls. The control is a bare write and
fdatasync of 64 KiB, about what a commit of `admit` writes: without it the disk's mood can't be told from septum's cost.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from septum.ledger.records import Entry, Guest, Hold, Realm
from septum.ledger.sqlite import SqliteLedger

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

    def print(self) -> None:
        for name, all_times in self.times.items():
            times = sorted(all_times[-500:])
            print(f"  {name:24} {median(times):8.3f} {times[int(len(times) * 0.99)]:8.3f}")


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
    begun = time.perf_counter()
    clock.time("admit", ledger.admit, one, [("code", str(number)), ("uid", str(one.uid))])
    entries = [Entry(0, one.uuid, op, disk, f"/vm/{disk}", {"uid": 1}, {"uid": 0}, "") for op in ("own", "context")]
    entries.append(Entry(0, "base", "own", "base", "/vm/base.img", {"gid": 1}, {"gid": 0}, ""))
    clock.time("begin", ledger.begin, one.uuid, [Hold(disk, f"/vm/{disk}", True, "rw"), _BASE], entries)
    clock.time("run", ledger.run, one.uuid, 10, 20, {"cgroup": "/sys/fs/cgroup/x"})
    clock.times.setdefault("admit + begin + run", []).append((time.perf_counter() - begun) * 1000)


def look(ledger: SqliteLedger, clock: Clock, guests: int) -> None:
    uuid = guest(guests // 2).uuid
    for number in range(50):
        clock.time("advance", ledger.advance, "code")
        clock.time("taken, one key", ledger.taken, "code", [str(number)])
        clock.time("guest by uuid", ledger.guest, uuid)
        clock.time("guest by name", ledger.guest, f"guest-{number}")
        clock.time("holds", ledger.holds, uuid)
        clock.time("journal", ledger.journal, uuid)
        clock.time("quarantined", ledger.quarantined, "code")
        clock.time("orphans", ledger.orphans)
    for _ in range(3):
        clock.time("taken, all", ledger.taken, "code")
        clock.time("guests, all", ledger.guests)
        clock.time("audit_verify", ledger.audit_verify)


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
        clock.time("control: fdatasync", sync)
    os.close(fd)


def measure(guests: int) -> None:
    folder = tempfile.mkdtemp(dir="/var/tmp")
    clock = Clock()
    try:
        control(folder, clock)
        ledger: SqliteLedger = clock.time("make", SqliteLedger, os.path.join(folder, "ledger"))
        ledger.add_realm(Realm("bench", (3,), 70000))
        for number in range(guests):
            start(ledger, clock, number)
        look(ledger, clock, guests)
        for number in range(min(guests, 200)):
            stop(ledger, clock, number)
        for _ in range(50):
            clock.time("close, as the last one", ledger.close)
            ledger = clock.time("open, as the first one", SqliteLedger, os.path.join(folder, "ledger"))
        control(folder, clock)
        print(f"{guests} guests: median and 99th percentile, ms")
        clock.print()
        print(f"  admits a second: {1000 / median(clock.times['admit'][-500:]):.0f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    for argument in sys.argv[1:] or ["100", "10000"]:
        measure(int(argument))
