"""A hostile QEMU behind the monitor: nothing that it says or leaves out hurts who is connected."""

import asyncio
import json
import os
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from septum.errors import MonitorBroken, MonitorError, MonitorGone, MonitorOverflow, MonitorRefused, MonitorTimeout
from septum.monitor import Events, Monitor

SOON = 60.0
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
READY = b'{"return": {}}\n'

Play = Callable[[socket.socket], None]


class Fake:
    """A listener that plays one part for one client, in a thread."""

    def __init__(self, path: Path, play: Play, greet: bool = True) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._play = play
        self._greet = greet
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        line, _ = self._listener.accept()
        with line, self._listener:
            line.settimeout(SOON)
            try:
                if self._greet:
                    line.sendall(GREETING)
                    line.recv(4096)
                    line.sendall(READY)
                self._play(line)
            except OSError:
                return  # the client has hung up on it, as it should

    def end(self) -> None:
        self._thread.join(SOON)
        assert not self._thread.is_alive()


def asked(line: socket.socket) -> str:
    """Reads one command and returns its number."""
    return str(json.loads(line.recv(65536))["id"])


def answer(line: socket.socket, number: str, **members: object) -> None:
    line.sendall(json.dumps({"id": number, **members}).encode() + b"\n")


def stay(line: socket.socket) -> None:
    while line.recv(65536):
        pass


def meet(folder: Path, play: Play, expected: type[MonitorError], timeout: float = SOON, greet: bool = True) -> str:
    """Connects and asks for something; returns the message of the error that must come, from all later calls too."""

    async def talk() -> None:
        async with await Monitor.connect(folder / "qmp", timeout) as monitor:
            try:
                await monitor.command("query-status")
            except MonitorError as error:
                with pytest.raises(type(error), match="query-name"):
                    await monitor.command("query-name")
                raise

    async def main() -> str:
        with pytest.raises(expected) as caught:
            await talk()
        assert caught.value.target == f"{folder}/qmp"
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return str(caught.value)

    before = len(os.listdir("/proc/self/fd"))
    fake = Fake(folder / "qmp", play, greet)
    text = asyncio.run(main())
    fake.end()
    assert len(os.listdir("/proc/self/fd")) == before
    return text


GARBAGE = {
    "nothing that is JSON": b"\xff\xfe\n",
    "half of it": b'{"return": \n',
    "not an object": b"[1, 2]\n",
    "nested too deep": b'{"return": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
    "a number without end": b'{"return": ' + b"1" * 100_000 + b"}\n",
    "a long line": b'{"return": "' + b"x" * (3 << 20) + b'"}\n',
    "a line without end": b"x" * (8 << 20),
    "an event without a name": b'{"event": []}\n',
    "an event with odd data": b'{"event": "RESET", "data": 3}\n',
    "an identity that is none": b'{"id": {}, "return": 1}\n',
    "an error of no command": b'{"error": {"class": "GenericError", "desc": "x"}}\n',
    "answers to nobody": b'{"id": "none", "return": 1}\n' * 2,
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_no_answer(tmp_path: Path, said: bytes) -> None:
    def play(line: socket.socket) -> None:
        line.recv(65536)
        line.sendall(said)
        stay(line)

    assert "query-status" in meet(tmp_path, play, MonitorBroken)


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_no_greeting(tmp_path: Path, said: bytes) -> None:
    def play(line: socket.socket) -> None:
        line.sendall(said)
        stay(line)

    meet(tmp_path, play, MonitorBroken, greet=False)


@pytest.mark.parametrize(
    "reply",
    [{}, {"error": {}}, {"error": 3}, {"error": {"class": [], "desc": "x"}}],
    ids=["nothing", "no error", "a number", "no class"],
)
def test_an_answer_that_is_none(tmp_path: Path, reply: dict[str, object]) -> None:
    def play(line: socket.socket) -> None:
        answer(line, asked(line), **reply)
        stay(line)

    meet(tmp_path, play, MonitorBroken)


def test_two_answers(tmp_path: Path) -> None:
    def play(line: socket.socket) -> None:
        number = asked(line)
        for answered in range(1, 4):
            answer(line, number, **{"return": answered})
        stay(line)

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            assert await monitor.command("query-status") == 1
            with pytest.raises(MonitorBroken):
                await monitor.command("query-status")

    fake = Fake(tmp_path / "qmp", play)
    asyncio.run(main())
    fake.end()


def test_no_greeting(tmp_path: Path) -> None:
    assert "greet" in meet(tmp_path, stay, MonitorTimeout, timeout=0.2, greet=False)


def test_no_answer(tmp_path: Path) -> None:
    assert "unknown" in meet(tmp_path, stay, MonitorTimeout, timeout=0.2)


def test_events_are_no_answer(tmp_path: Path) -> None:
    def play(line: socket.socket) -> None:
        while True:
            line.sendall(b'{"event": "RESET", "data": {}}\n' * 1000)

    meet(tmp_path, play, MonitorTimeout, timeout=0.5)


def test_it_never_reads(tmp_path: Path) -> None:
    over = threading.Event()

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "qmp", 0.5) as monitor:
            with pytest.raises(MonitorTimeout):
                await monitor.command("query-status", much="x" * (8 << 20))
        over.set()

    fake = Fake(tmp_path / "qmp", lambda _line: over.wait(SOON) and None)
    asyncio.run(main())
    fake.end()
    assert over.is_set()


@pytest.mark.parametrize("when", ["at once", "greeted", "asked", "amid"])
def test_it_hangs_up(tmp_path: Path, when: str) -> None:
    def play(line: socket.socket) -> None:
        if when == "greeted":
            line.sendall(GREETING)
        if when in ("asked", "amid"):
            line.sendall(GREETING)
            line.recv(4096)
            line.sendall(READY)
            line.recv(4096)
            line.sendall(b'{"ret' if when == "amid" else b"")

    meet(tmp_path, play, MonitorBroken if when == "amid" else MonitorGone, greet=False)


def test_what_it_says_is_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    def play(line: socket.socket) -> None:
        answer(line, asked(line), error={"class": "\x1b[2J", "desc": "no\x1b[2J\nway" + "!" * 100_000})
        stay(line)

    async def main() -> str:
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            with pytest.raises(MonitorRefused) as caught:
                await monitor.command("cont")
            assert caught.value.kind == "?[2J"
            return str(caught.value)

    fake = Fake(tmp_path / "qmp", play)
    text = asyncio.run(main())
    fake.end()
    assert "no?[2J?way" in text
    assert len(text) < 1000


async def take(events: Events) -> int:
    """Takes what is there, until it is said that there was more."""
    taken = 0
    try:
        async for _ in events:
            taken += 1
    except MonitorOverflow:
        return taken
    raise AssertionError("nothing was lost")


def test_a_flood_of_events_takes_neither_memory_nor_everybodys_time(tmp_path: Path) -> None:
    """Who does not take them is told so; other tasks go on; the answer among them is found; memory stays."""
    event = json.dumps({"event": "RESET", "data": {"much": "x" * 2000}}).encode() + b"\n"

    def play(line: socket.socket) -> None:
        number = asked(line)
        line.sendall(event * 2000)
        answer(line, number, **{"return": "found"})
        while True:
            line.sendall(event * 1000)

    async def main() -> None:
        steps = 0

        async def other() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0)
                steps += 1

        working = asyncio.create_task(other())
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            with monitor.events() as events:
                assert await monitor.command("query-status") == "found"
                assert steps > 1000
                await asyncio.sleep(0.5)
                taken = await take(events)
                assert 100 <= taken <= 1024
        working.cancel()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fake = Fake(tmp_path / "qmp", play)
    asyncio.run(main())
    fake.end()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_callers_who_went_away_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            for _ in range(64):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await monitor.command("query-status")
            with pytest.raises(MonitorBroken, match="64 commands"):
                await monitor.command("query-status")

    fake = Fake(tmp_path / "qmp", stay)
    asyncio.run(main())
    fake.end()


def test_a_late_answer_is_nobodys(tmp_path: Path) -> None:
    """Not the next caller's, either."""

    def play(line: socket.socket) -> None:
        first = asked(line)
        second = asked(line)
        answer(line, first, **{"return": "first"})
        answer(line, second, **{"return": "second"})
        stay(line)

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await monitor.command("query-status")
            assert await monitor.command("query-name") == "second"

    fake = Fake(tmp_path / "qmp", play)
    asyncio.run(main())
    fake.end()


@pytest.mark.parametrize("numbers", [{}, {"fdset-id": 1}, {"fdset-id": -1, "fd": 3}, {"fdset-id": 1, "fd": "3"}, 7])
def test_no_descriptor_but_a_number(tmp_path: Path, numbers: object) -> None:
    def play(line: socket.socket) -> None:
        _, fds, _, _ = socket.recv_fds(line, 1, 1)
        os.close(fds[0])
        answer(line, asked(line), **{"return": numbers})
        stay(line)

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "qmp", SOON) as monitor:
            with pytest.raises(MonitorBroken, match="add-fd"):
                await monitor.add_fd(0)
            with pytest.raises(MonitorBroken):
                await monitor.command("query-status")

    fake = Fake(tmp_path / "qmp", play)
    asyncio.run(main())
    fake.end()
