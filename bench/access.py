"""How fast decisions are: in process, over septumd's socket one by one and in batches, and what recording them costs.

The policy is septum's own, decided by libsepol in septumd's worker. Beside the socket figures stands a bare exchange of
the same bytes over a unix socket, between two Python processes that do nothing with them: what is left is septum's.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from bench.figures import BenchError, Figure, Goal, Result, ratio
from septum.access import Asker, Client, DecisionLog, Log, MemoryLog, ObjectManager, Question
from septum.access.client import SOCKET
from septum.access.libsepol import LibsepolEngine
from septum.errors import NotFound
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE, build

_PLATFORM = "system_u:system_r:septum_daemon_t:s0-s0:c0.c1023"
_ASKER = Asker(_PLATFORM, 0)
_BATCH = 1000
_ECHO = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
connection, _ = listener.accept()
while data := connection.recv(65536):
    connection.send(data[:40])
"""


def questions(count: int) -> list[Question]:
    """As many different ones, about guests."""
    base = "system_u:system_r:septum_vm.process:s0"
    levels = [f"c{realm},c{one},c{one + 1}" for one in range(256, 1000) for realm in range(200)][:count]
    return [Question("", f"{base}:{level}", "septum_guest", ("start",)) for level in levels]


def bench(runs: int, *, calls: int = 5000) -> Result:
    """Measures.

    Args:
        runs: of each figure.
        calls: in each run.
    """
    folder = tempfile.mkdtemp(dir="/var/tmp")
    try:
        return _measure(folder, build("standalone").image, runs, calls)
    finally:
        shutil.rmtree(folder)


def _measure(folder: str, image: bytes, runs: int, calls: int) -> Result:
    asked = questions(calls)
    few = asked[:_BATCH]
    single, batched, first, bare = _over_the_socket(folder, image, runs, calls)
    found, recorded, audited = _in_process(folder, image, few, runs)
    return Result(
        "access",
        (single, batched, first, bare, found, recorded, audited),
        (
            ratio("a single decision over the socket to a bare exchange", _inverse(single), _inverse(bare)),
            ratio("a remembered decision with its record to one without, in batches", recorded, found),
        ),
        (
            Goal("single decisions from one client", single.median, 20_000, "per s", most=False),
            Goal("decisions in batches", batched.median, 200_000, "per s", most=False),
        ),
        ("every decision is recorded before it is answered; goals are for a machine with nothing else to do",),
    )


def _inverse(rate: Figure) -> Figure:
    return Figure(rate.name, "s", tuple(1 / value for value in rate.values))


def _rates(runs: int, count: int, act: Callable[[], object]) -> tuple[float, ...]:
    act()
    rates = []
    for _ in range(runs):
        begun = time.perf_counter()
        act()
        rates.append(count / (time.perf_counter() - begun))
    return tuple(rates)


def _over_the_socket(folder: str, image: bytes, runs: int, calls: int) -> tuple[Figure, Figure, Figure, Figure]:
    state = os.path.join(folder, "state")
    os.mkdir(state, 0o700)
    with open(os.path.join(state, FILE), "wb") as file:
        file.write(image)
    code = "from septum.daemon.main import main; main()"
    daemon = subprocess.Popen([sys.executable, "-c", code, "--state", state], stderr=subprocess.DEVNULL)
    try:
        with closing(_connect(os.path.join(state, SOCKET), daemon)) as client:
            asked = questions(calls + runs * _BATCH)
            fresh = iter(range(calls, len(asked), _BATCH))
            few = asked[:_BATCH]

            def one_by_one() -> None:
                for question in few:
                    client.decide(question)

            def new() -> None:
                at = next(fresh)
                client.decide_all(asked[at : at + _BATCH])

            client.decide_all(few)
            single = Figure("over the socket, one at a time", "per s", _rates(runs, len(few), one_by_one))
            many = few * max(1, calls // _BATCH)
            rates = _rates(runs, len(many), lambda: client.decide_all(many))
            batched = Figure(f"over the socket, {_BATCH} in a message", "per s", rates)
            times = []
            for _ in range(runs):
                begun = time.perf_counter()
                new()
                times.append(_BATCH / (time.perf_counter() - begun))
            first = Figure(f"the same, never asked before ({_BATCH} in a message)", "per s", tuple(times))
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    return single, batched, first, _exchange(folder, runs)


def _connect(path: str, daemon: "subprocess.Popen[bytes]") -> Client:
    for _ in range(500):
        try:
            return Client(path)
        except NotFound:
            if daemon.poll() is not None:
                raise BenchError("septumd did not start") from None
            time.sleep(0.02)
    raise BenchError("septumd does not answer")


def _exchange(folder: str, runs: int) -> Figure:
    """A bare exchange: 130 bytes there, 40 back."""
    path = os.path.join(folder, "echo")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(path)
        listener.listen()
        echo = subprocess.Popen([sys.executable, "-c", _ECHO, str(listener.fileno())], pass_fds=(listener.fileno(),))
        try:
            connection.connect(path)
            data = b"x" * 130

            def exchange() -> None:
                for _ in range(_BATCH):
                    connection.send(data)
                    connection.recv(64)

            return Figure("a bare exchange over a unix socket", "per s", _rates(runs, _BATCH, exchange))
        finally:
            connection.close()
            echo.wait()


def _in_process(folder: str, image: bytes, asked: list[Question], runs: int) -> tuple[Figure, Figure, Figure]:
    ledger = SqliteLedger(os.path.join(folder, "ledger"))
    log = DecisionLog(os.path.join(folder, "log"))
    try:
        without = _times(_Unrecorded(), ledger, image, asked, len(asked), runs)
        whole = _times(log, ledger, image, asked, len(asked), runs)
        alone = _times(log, ledger, image, asked, 1, runs)
    finally:
        log.close()
        ledger.close()
    return (
        Figure("in process, remembered, not recorded", "µs", without),
        Figure(f"in process, remembered, recorded, {_BATCH} in a block", "µs", whole),
        Figure("in process, remembered, recorded, each in a block of its own", "µs", alone),
    )


def _times(
    log: Log, ledger: SqliteLedger, image: bytes, asked: list[Question], portion: int, runs: int
) -> tuple[float, ...]:
    manager = ObjectManager(LibsepolEngine(image), ledger, log)

    def decide() -> None:
        for at in range(0, len(asked), portion):
            manager.decide(_ASKER, asked[at : at + portion])

    try:
        return tuple(1e6 / rate for rate in _rates(runs, len(asked), decide))
    finally:
        manager.engine.close()


class _Unrecorded(MemoryLog):
    """What decisions cost by themselves. Nothing but a bench may do that."""

    def note(self, asker: str, decisions: Sequence[str]) -> None:
        pass
