"""Without root: Landlock alone, under the caller's own uid, with the ledger in his own folder."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.confined import Qmp
from tests.launchkit import EMPTY, NOBODY, QEMU, World, became, snapshot, somebodys, wait, world

pytestmark = [pytest.mark.root, pytest.mark.qemu]


class Person:
    """Runs septum as an unprivileged user."""

    def __init__(self, place: World) -> None:
        self.home = place.folder / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, NOBODY, NOBODY)
        self.state = self.home / "state" / "septum"
        self._environment = {**place.environment, "XDG_STATE_HOME": str(self.home / "state"), "HOME": str(self.home)}
        del self._environment["SEPTUM_STATE"]
        self.started: list[subprocess.Popen[bytes]] = []

    def _command(self, words: tuple[object, ...]) -> list[str]:
        return [*somebodys(NOBODY), *map(str, words)]

    def septum(self, *words: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self._command(words), env=self._environment, cwd=self.home, capture_output=True, check=False, timeout=60
        )

    def json(self, *words: object) -> Any:
        return json.loads(self.septum(*words, "--json").stdout)

    def run(self, *words: object) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            self._command(("run", "--", QEMU, *EMPTY, *words)), env=self._environment, cwd=self.home,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        wait(lambda: process.poll() is not None or (became(process.pid) and self._is_qemu(process.pid)))
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        return process

    @staticmethod
    def _is_qemu(pid: int) -> bool:
        return "qemu" in os.readlink(f"/proc/{pid}/exe")

    def image(self, name: str) -> Path:
        path = self.home / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
        os.chown(path, NOBODY, NOBODY)
        return path

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"septum-watcher\0") and str(self.state).encode() in line:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def person() -> Iterator[Person]:
    for place in world():
        person = Person(place)
        yield person
        person.close()


def disk(path: Path) -> tuple[str, str]:
    return "-drive", f"file={path},format=qcow2,if=none,id=d"


def test_landlock_alone_keeps_guests_apart(person: Person) -> None:
    own, other = person.image("own.qcow2"), person.image("other.qcow2")
    before = snapshot(person.home)
    monitor = person.home / "a.qmp"
    serving = ("-qmp", f"unix:{monitor},server=on,wait=off", "-D", person.home / "a.log")
    first = person.run("-name", "a", *disk(own), *serving)
    person.run("-name", "b", *disk(other))
    qmp = Qmp(monitor)
    for path in (other, person.state / "ledger.db", Path("/etc/passwd")):
        answer = qmp("blockdev-add", driver="file", filename=str(path), **{"node-name": "x", "read-only": True})
        assert "Permission denied" in answer["error"]["desc"], path
    rows = {row["name"]: row for row in person.json("ps")}
    assert set(rows) == {"a", "b"}
    assert (rows["a"]["uid"], rows["a"]["drivers"], rows["a"]["pid"]) == (-1, ["landlock"], first.pid)
    assert own.stat().st_uid == NOBODY
    refused = person.septum("run", "--", QEMU, *EMPTY, *disk(own))
    assert refused.returncode == 125
    assert b"default/a" in refused.stderr
    qmp.close()
    for process in person.started:
        process.kill()
        process.wait()
    wait(lambda: person.json("ps", "--all") == [])
    kept = {path: thing for path, thing in snapshot(person.home).items() if "/state" not in path}
    assert kept == before


def test_what_is_weaker_is_said(person: Person) -> None:
    report = person.json("doctor")
    landlock = next(entry for entry in report["drivers"] if entry["name"] == "landlock")
    assert landlock["works"] is True
    assert [sentence for sentence in landlock["weaker"] if "without root" in sentence]
    assert report["ledger"]["path"] == str(person.state)
    assert not person.state.exists(), "a question makes no folder"


def test_the_ledger_is_the_callers_own(person: Person) -> None:
    process = person.run("-name", "a")
    assert person.state.stat().st_uid == NOBODY
    assert person.state.stat().st_mode & 0o777 == 0o700
    process.kill()
    process.wait()
    wait(lambda: person.json("ps", "--all") == [])
    assert person.septum("reconcile").stdout == b"nothing to put back\n"


def test_a_daemon_without_a_cgroup_is_found_by_its_command_line(person: Person) -> None:
    monitor = person.home / "a.qmp"
    words = ("-daemonize", "-qmp", f"unix:{monitor},server=on,wait=off", *disk(person.image("a.qcow2")))
    done = person.septum("run", "--", QEMU, *EMPTY, "-name", "a", *words)
    assert done.returncode == 0, done.stderr
    qmp = Qmp(monitor)
    assert [row["state"] for row in person.json("ps")] == ["running"]
    assert person.septum("reconcile").stdout == b"nothing to put back\n"
    assert "return" in qmp("quit")
    qmp.close()
    wait(lambda: person.json("ps", "--all") == [])
    assert not monitor.exists()
