"""What the rendezvous costs: setting a channel up, cutting it, and having a thousand open.

septumd decides by libsepol, the broker enters each channel in a ledger on disk, and two processes join it. Beside the
setting up stands what it is compared with: a connection over a unix socket between two Python processes.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles

from bench.figures import BenchError, Figure, Goal, Ratio, Result
from septum.access import Client
from septum.access.client import SOCKET as SEPTUMD
from septum.errors import ChannelLost, NotFound, SeptumError
from septum.ivc import Receiver
from septum.policy import FILE, build
from septum.rendezvous import SOCKET, Link, Rendezvous

_MANY = 1000
_IDLE = 2.0  # seconds
_SERVER = """
import sys
from septum.errors import SeptumError
from septum.rendezvous import Rendezvous
kept = []
with Rendezvous(sys.argv[1]) as broker:
    broker.offer("bench", size=1 << 14, backlog=64)
    print(flush=True)
    try:
        while True:
            link = broker.accept()
            kept = [one for one in kept if one.over in ("", "closing")]
            for one in kept:
                if one.over:
                    one.close()
            kept.append(link)
    except SeptumError:
        pass
"""
_ECHO = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
print(flush=True)
while True:
    connection, _ = listener.accept()
    connection.send(connection.recv(1))
"""


def bench(runs: int) -> Result:
    """Measures.

    Args:
        runs: of each figure.
    """
    if os.geteuid() != 0:
        raise BenchError("the broker takes a process that is no guest's for the platform's only if it is root's")
    try:
        image = build("standalone").image
    except NotFound as error:
        raise BenchError(error.what) from error
    folder = tempfile.mkdtemp(dir="/var/tmp")
    try:
        with _daemons(folder, image) as broker:
            return _measure(os.path.join(folder, SOCKET), broker, max(100, runs * 50))
    finally:
        shutil.rmtree(folder)


@contextmanager
def _daemons(folder: str, image: bytes) -> Iterator[int]:
    with open(os.path.join(folder, FILE), "wb") as file:
        file.write(image)
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, ready: Callable[[], object], *words: str) -> int:
        code = f"from septum.{module} import main; main({['--state', folder, *words]!r})"
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL))
        until = time.monotonic() + 30
        while True:
            try:
                ready()
                return started[-1].pid
            except SeptumError as error:
                if time.monotonic() > until:
                    raise BenchError(f"a daemon does not come up: {error.what}") from error
                time.sleep(0.02)

    try:
        start("daemon.main", lambda: Client(os.path.join(folder, SEPTUMD)).close(), "--engine", "libsepol")
        path = os.path.join(folder, SOCKET)
        pid = start("rendezvous.main", lambda: Rendezvous(path).close())
        server = subprocess.Popen([sys.executable, "-c", _SERVER, path], stdout=subprocess.PIPE)
        started.append(server)
        assert server.stdout is not None
        server.stdout.readline()
        yield pid
    finally:
        for one in reversed(started):
            one.send_signal(signal.SIGTERM)
            one.wait(30)
            if one.stdout is not None:
                one.stdout.close()


def _measure(path: str, broker: int, count: int) -> Result:
    with Rendezvous(path) as client:
        set_up = _times(count, lambda: client.connect("bench").close())
    cuts = _cuts(path, count // 5)
    bare = _bare(count)
    cost, memory, opened = _many(path, broker)
    late = _percentile(set_up)
    figures = (
        Figure("a channel is set up, both ends joined, two directions", "ms", tuple(one * 1e3 for one in set_up)),
        Figure("a unix connection, accepted and answered", "ms", tuple(one * 1e3 for one in bare)),
        Figure("a channel that was revoked is lost to the end that sleeps in it", "ms", tuple(o * 1e3 for o in cuts)),
        Figure(f"processor of the broker for {opened} idle channels", "%", (cost * 100,)),
        Figure("memory of the broker for each of them", "KiB", (memory / 1024,)),
    )
    goals = (
        Goal("setting up, 99th percentile", late * 1e3, 1.0, "ms"),
        Goal("cutting, 99th percentile", _percentile(cuts) * 1e3, 100.0, "ms"),
        Goal(f"{opened} idle channels", cost * 100, 1.0, "%"),
    )
    ratios = (Ratio("setting up, over a bare connection", figures[0].median / figures[1].median),)
    return Result("rendezvous", figures=figures, ratios=ratios, goals=goals)


def _times(count: int, act: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        act()
        found.append(time.perf_counter() - begun)
    return found


def _percentile(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def _cuts(path: str, count: int) -> list[float]:
    """Revocation, from the administrator's word to the end that sleeps."""
    found = []
    with Rendezvous(path) as client, Rendezvous(path) as other:
        for _ in range(count):
            link = client.connect("bench")
            said = [0.0]

            def revoke(name: str = link.name, said: list[float] = said) -> None:
                time.sleep(0.002)
                said[0] = time.perf_counter()
                other.revoke(name)

            thread = threading.Thread(target=revoke)
            thread.start()
            lost = _lost(link)
            thread.join()
            found.append(lost - said[0])
    return found


def _lost(link: Link) -> float:
    """When the end is told."""
    try:
        if isinstance(link.receiver, Receiver):
            link.receiver.recv(5.0)
    except ChannelLost:
        return time.perf_counter()
    raise BenchError("a revoked channel goes on")


def _bare(count: int) -> list[float]:
    folder = tempfile.mkdtemp(dir="/var/tmp")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.join(folder, "s"))
    listener.listen(64)
    fd = listener.fileno()
    server = subprocess.Popen([sys.executable, "-c", _ECHO, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()

    def once() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(os.path.join(folder, "s"))
            sock.send(b"x")
            sock.recv(1)

    try:
        return _times(count, once)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        listener.close()
        shutil.rmtree(folder)


def _many(path: str, broker: int) -> tuple[float, float, int]:
    """Share of a processor, bytes for each, and how many channels."""
    before = _resident(broker)
    with Rendezvous(path) as client:
        links = [client.connect("bench") for _ in range(_MANY // 2)]
        bytes_each = (_resident(broker) - before) / _MANY
        spent = _processor(broker)
        time.sleep(_IDLE)
        share = (_processor(broker) - spent) / _IDLE
        return share, bytes_each, 2 * len(links)


def _processor(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
