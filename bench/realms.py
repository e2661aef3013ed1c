"""How long the API takes with few and with many guests: a list, a look, and the start of a real emulator.

The peer of a start is `septum run` itself, which the API calls: what is added is the decision, the commits and HTTP.
Many guests are entered into the ledger as they would be there, without emulators; twenty real ones are paused.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.figures import BenchError, Figure, Goal, Result, ratio
from septum.client import Client
from septum.errors import NotFound, SeptumError
from septum.ledger.records import Commit, Guest, Put
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE, build

_MANY = 1000
_REAL = 20
_QEMU = "qemu-system-x86_64"
_PAUSED = {"machine": "q35", "memory": 32, "paused": True}
_WAIT = 30.0


def bench(runs: int, *, many: int = _MANY, real: int = _REAL) -> Result:
    """Measures; `many` guests in the ledger, `real` emulators."""
    if os.geteuid() != 0 or not shutil.which(_QEMU):
        raise BenchError("needs root and QEMU")
    times: dict[str, list[float]] = {}

    def measure(name: str, act: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        act()
        times.setdefault(name, []).append((time.perf_counter() - begun) * 1000)

    with place() as folder, Client(str(folder / "state" / "platform.sock"), timeout=_WAIT) as api:
        api.create_realm("small", {"calls": 100_000})
        api.create_realm("large", {"calls": 100_000, "guests": 2 * many})
        for number in range(real):
            api.create_guest("small", f"real{number}", _PAUSED)
            measure("start, few guests", lambda n=number: api.wait(api.start_guest("small", f"real{n}")))  # type: ignore[misc]
        api.create_guest("small", "one", _PAUSED)
        for _ in range(runs):
            measure("list of 20, few guests", lambda: api.guests("small"))
        _fill(folder / "state", many)
        small = Client(str(folder / "state" / "realms" / "small.sock"), timeout=_WAIT)
        for turn in range(runs):
            measure("list of 20, many guests", lambda: api.guests("small"))
            measure("list of all", lambda: api.guests("large"))
            measure("show", lambda: api.guest("large", f"guest{many // 2}"))
            # In turn, and each time after a change of the ledger: who comes first finds less that is remembered.
            looks = [("look at another realm's guest", "guest1"), ("look at a guest that is not there", "nothing")]
            for title, guest in looks if turn % 2 else reversed(looks):
                api.create_guest("small", f"{guest}{turn}")
                measure(title, lambda name=guest: _absent(small, "large", name))  # type: ignore[misc]
            measure("start, many guests", lambda: api.wait(api.start_guest("small", "one")))
            api.wait(api.stop_guest("small", "one", force=True))
            measure("septum run", lambda: _run(folder))
        small.close()
        for number in range(real):
            api.wait(api.stop_guest("small", f"real{number}", force=True))
    found = {name: Figure(name, "ms", tuple(values)) for name, values in times.items()}
    return Result(
        "realms",
        tuple(found.values()),
        (
            ratio(
                "a start with many guests over one with few", found["start, many guests"], found["start, few guests"]
            ),
            ratio(
                "another realm's guest over one that is not there",
                found["look at another realm's guest"],
                found["look at a guest that is not there"],
            ),
            ratio("a start over septum run alone", found["start, many guests"], found["septum run"]),
        ),
        (
            Goal(f"list of {many} guests", found["list of all"].median, 50, "ms"),
            Goal("start through the API", found["start, many guests"].median, 150, "ms"),
        ),
        (f"{many} guests in the ledger, {real} real emulators, paused; policy decided by libsepol through septumd",),
    )


def _absent(api: Client, realm: str, name: str) -> None:
    try:
        api.guest(realm, name)
    except NotFound:
        return
    raise BenchError("another realm's guest can be seen")


@contextmanager
def place() -> Iterator[Path]:
    """A folder with both daemons."""
    folder = Path(tempfile.mkdtemp(prefix="septum-bench-", dir="/var/tmp"))
    folder.chmod(0o711)
    state = folder / "state"
    state.mkdir(0o700)
    (state / FILE).write_bytes(build("standalone").image)
    daemons = [_daemon("daemon", state, "--engine", "libsepol")]
    try:
        _until(lambda: (state / "septumd.sock").exists())
        daemons.append(_daemon("api", state, "--store", str(folder / "store")))
        _until(lambda: _answers(state))
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(_WAIT)
        shutil.rmtree(folder, ignore_errors=True)


def _daemon(package: str, state: Path, *words: str) -> subprocess.Popen[bytes]:
    code = f"from septum.{package}.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--state", str(state), *words], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )


def _answers(state: Path) -> bool:
    try:
        with Client(str(state / "platform.sock")) as api:
            api.me()
    except NotFound:
        return False
    except SeptumError as error:
        raise BenchError(f"the API does not come up: {error.what}") from error
    return True


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _WAIT
    while not condition():
        if time.monotonic() > until:
            raise BenchError("a daemon does not come up")
        time.sleep(0.02)


def _fill(state: Path, many: int) -> None:
    """Guests that run, as far as the ledger can tell."""
    ledger = SqliteLedger(str(state))
    realm = ledger.realm("large")
    if realm is None:
        raise BenchError("the realm is missing")
    config = {"machine": "q35", "memory": 128, "vcpus": 1, "disks": [{"image": "x", "read_only": False}]}
    puts = []
    for number in range(many):
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        body = {"uuid": uuid, "config": config, "state": "started", "charged": 0, "attached": []}
        puts.append(Put("guest", "large", f"guest{number}", 0, body))
        guest = Guest(
            uuid, 0, f"guest{number}", "large", "admitted", realm.categories, f"s0:c1,c{number}", 300_000 + number,
            ("landlock",), "b", 1, 1, 1.0, tuple(f"-argument={n}" for n in range(40)),
            {"confinement": [["/var/lib/septum-realms/large/disk.img", "image", "rw"]] * 12},
        )  # fmt: skip
        ledger.admit(guest, [("code", f"bench {number}"), ("uid", str(guest.uid))])
        ledger.begin(uuid, (), ())
        ledger.run(uuid, 1, 1, {})
    ledger.commit(Commit(tuple(puts)))
    ledger.close()


def _run(folder: Path) -> None:
    """`septum run` until QEMU has become it, and its end."""
    words = [
        sys.executable,
        "-m",
        "septum",
        "run",
        "--state",
        str(folder / "state"),
        "--realm",
        "small",
        "--name",
        "bare",
    ]
    argv = [_QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    guest = subprocess.Popen(
        [*words, "--", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if guest.stdout is None or not guest.stdout.readline():
        raise BenchError("septum run does not come up")
    guest.kill()
    guest.communicate()
