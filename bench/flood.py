"""What one realm feels when another floods the API: its calls' times, alone and during the flood, in one run.

The flood comes from processes of its own, so that both compete for the machine's processors too. The control is as many
processes that only burn time: what they cost is the machine's doing and not the API's.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import BenchError, Figure, Goal, Ratio, Result
from bench.realms import place
from septum.client import Client

_CALLS = 600
_CONNECTIONS = 1000
_FLOODER = """
import socket, sys
path, held = sys.argv[1], int(sys.argv[2])
request = b"GET /v1/realms/red/guests HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
idle = []
for _ in range(held):
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    idle.append(one)
print("up", flush=True)
while True:
    one = socket.socket(socket.AF_UNIX)
    try:
        one.connect(path)
        for _ in range(1000):
            one.sendall(request)
            if not one.recv(65536):
                break
    except OSError:
        pass
    one.close()
"""
_BURNER = 'print("up", flush=True)\nwhile True: pass'


def bench(runs: int, *, calls: int = _CALLS, connections: int = _CONNECTIONS) -> Result:
    """Measures; `connections` are held open by the flood. `runs` is not used: each call is a run of its own."""
    if os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"):
        raise BenchError("needs root and QEMU")
    with place() as folder:
        state = folder / "state"
        with Client(str(state / "platform.sock")) as api:
            api.create_realm("red")
            api.create_realm("blue", {"calls": 100_000})
            api.create_guest("blue", "one", {"machine": "none"})
        address = str(state / "realms" / "red.sock")
        alone = _calls(state, calls)
        with _Others(_BURNER, "", 0):
            burning = _calls(state, calls)
        with _Others(_FLOODER, address, connections // 2):
            before = _memory(state)
            flooded = _calls(state, calls)
            after = _memory(state)
    figures = (
        Figure("a call, alone", "ms", alone),
        Figure("a call beside busy processes", "ms", burning),
        Figure("a call beside a flood", "ms", flooded),
    )
    p99 = [_p99(one.values) for one in figures]
    return Result(
        "flood",
        figures,
        (
            Ratio("99th percentile beside busy processes over alone", p99[1] / p99[0]),
            Ratio("99th percentile beside a flood over alone", p99[2] / p99[0]),
        ),
        (
            Goal("99th percentile beside a flood over beside busy processes", p99[2] / p99[1], 2, "times"),
            Goal("growth of the API's memory during the flood", after - before, 64, "MiB"),
        ),
        (f"two flooding processes on another realm's socket, {connections} connections, 200 calls a second allowed",),
    )


class _Others:
    """Two processes that keep the machine busy."""

    def __init__(self, code: str, address: str, held: int) -> None:
        self._words = [sys.executable, "-c", code, address, str(held)]

    def __enter__(self) -> None:
        self._processes = [subprocess.Popen(self._words, stdout=subprocess.PIPE) for _ in range(2)]
        for one in self._processes:
            if one.stdout is None or one.stdout.readline() != b"up\n":
                raise BenchError("the flood does not begin")

    def __exit__(self, *_: object) -> None:
        for one in self._processes:
            one.kill()
            one.communicate()


def _calls(state: Path, calls: int) -> tuple[float, ...]:
    """Milliseconds of calls, one after the other."""
    times = []
    with Client(str(state / "realms" / "blue.sock")) as api:
        for _ in range(calls):
            begun = time.perf_counter()
            api.guest("blue", "one")
            times.append((time.perf_counter() - begun) * 1000)
    return tuple(times)


def _p99(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def _memory(state: Path) -> float:
    """MiB of the API's process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"septum.api.main" in line and os.fsencode(state) in line:
                return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        except OSError:
            continue
    raise BenchError("the API has ended")
