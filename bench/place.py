"""A folder with images and a ledger in it, and guests that are started there, bare or under septum.

*Ready* is when QEMU has answered its first QMP command, not when it greets; *gone* is when its process was waited
for; *restored* is when the images are as they were and the socket is no more; *released* is when the ledger knows
nothing of the guest.

QEMU is asked over a socket pair that it inherits. Who connects to a path has to look for it all the time, and a
connection that comes just when QEMU 7.2 gives its listening socket to the monitor's thread may stop it for ever: both
accept, and the first thread waits in accept4 (seen with bare QEMUs, three starting at a time).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from bench.figures import BenchError
from septum.ledger.sqlite import SqliteLedger

PROGRAM = "qemu-system-x86_64"
_PATIENCE = 30.0  # seconds for anything
_GLANCE = 0.0005  # seconds between two looks


class Stop(NamedTuple):
    """Milliseconds from the end of the guest's process on; negative if it was earlier."""

    restored: float
    released: float


class Place:
    """Use it in a ``with``: at its end nothing is left, neither a process nor a file.

    Attributes:
        folder: any uid may search it. On a disk, as that is where ledgers are.
        state: the ledger's folder in it.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="septum-bench-", dir="/var/tmp")
        os.chmod(self.folder, 0o711)
        self.state = os.path.join(self.folder, "state")
        self.base = os.path.join(self.folder, "base.qcow2")
        self.guests: list[Guest] = []
        self._states = [self.state]
        self._image(self.base, "64M")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for guest in self.guests:
            guest.kill()
        for state in self._states:
            for pid in self.watchers(state):
                with suppress(BenchError):
                    wait(lambda state=state: not guests(state), "the ledger to be empty")  # type: ignore[misc]
                os.kill(pid, signal.SIGKILL)
            wait(lambda state=state: not self.watchers(state), "the watchers to end")  # type: ignore[misc]
        shutil.rmtree(self.folder)

    def disk(self, name: str) -> str:
        """Path of a disk that has the base image as its backing file; made if it is not there."""
        path = os.path.join(self.folder, f"{name}.qcow2")
        if not os.path.exists(path):
            self._image(path, "-b", self.base, "-F", "qcow2")
        return path

    def septum(self, driver: str, state: str = "") -> list[str]:
        """The words before QEMU's."""
        beside = os.path.join(os.path.dirname(sys.executable), "septum")
        program = [beside] if os.path.exists(beside) else [sys.executable, "-m", "septum"]
        return [*program, "run", "--driver", driver, "--state", state or self.state, "--"]

    def fresh_state(self) -> str:
        """Another ledger's folder, which has no watcher yet."""
        self._states.append(os.path.join(self.folder, f"state-{len(self._states)}"))
        return self._states[-1]

    def start(self, name: str, machine: Sequence[str], before: Sequence[str] = ()) -> "Guest":
        """Starts a guest and waits until it is ready.

        Args:
            name: of its disk and socket.
            machine: QEMU's words for the machine.
            before: words before QEMU's, none to run it bare.
        """
        guest = Guest(self, name, machine, before)
        self.guests.append(guest)
        guest.await_ready()
        return guest

    def watchers(self, state: str) -> list[int]:
        """pids of the watchers of a ledger."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read()
                if b"septum.launch.watcher" in words and repr(state).encode() in words:
                    found.append(int(pid))
        return found

    @staticmethod
    def _image(path: str, *more: str) -> None:
        words = more if more[0] == "-b" else ()
        size = () if words else more
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, path, *size], check=True, timeout=_PATIENCE)


class Guest:
    """One QEMU. `ready` has the milliseconds that it took."""

    def __init__(self, place: Place, name: str, machine: Sequence[str], before: Sequence[str]) -> None:
        self.place = place
        self.disk = place.disk(name)
        self.socket = os.path.join(place.folder, f"{name}.qmp")
        self.state = before[before.index("--state") + 1] if "--state" in before else ""
        self.ready = 0.0
        self._before = self._look()
        self._monitor, inherited = socket.socketpair()
        self._monitor.settimeout(_PATIENCE)
        self._reader = self._monitor.makefile("rb")
        words = [
            *before, PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-S", *machine,
            "-qmp", f"unix:{self.socket},server=on,wait=off", "-name", name,
            "-chardev", f"socket,id=bench,fd={inherited.fileno()}", "-mon", "chardev=bench,mode=control",
        ]  # fmt: skip
        words = [word.replace("DISK", self.disk) for word in words]
        self._begun = time.perf_counter()
        with inherited:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(inherited.fileno(),),
            )

    def await_ready(self) -> None:
        self._answer()
        self._command("qmp_capabilities")
        self.ready = (time.perf_counter() - self._begun) * 1000

    def stop(self) -> Stop:
        """Ends it and waits until nothing is left of it."""
        self._command("quit")
        self.process.wait(_PATIENCE)
        gone = time.perf_counter()
        wait(self._restored, "everything to be restored")
        restored = (time.perf_counter() - gone) * 1000
        self.kill()
        if not self.state:
            return Stop(restored, restored)
        name = os.path.basename(self.socket).removesuffix(".qmp")
        wait(lambda: name not in guests(self.state), "the ledger to forget the guest")
        return Stop(restored, (time.perf_counter() - gone) * 1000)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_PATIENCE)
        self._reader.close()
        self._monitor.close()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _command(self, name: str) -> None:
        self._monitor.sendall(json.dumps({"execute": name}).encode() + b"\n")
        self._answer()

    def _answer(self) -> None:
        try:
            answer = self._reader.readline()
        except TimeoutError as error:
            raise BenchError(f"QEMU did not answer in {_PATIENCE:.0f} s") from error
        if not answer:
            self.process.wait(_PATIENCE)
            said = self.process.stderr.read().decode().strip() if self.process.stderr else ""
            raise BenchError(f"it ended with {self.process.returncode}: {said}")

    def _restored(self) -> bool:
        return not os.path.exists(self.socket) and self._look() == self._before

    def _look(self) -> list[tuple[int, int, int, bytes]]:
        found = []
        for path in (self.disk, self.place.base):
            status = os.stat(path)
            try:
                acl = os.getxattr(path, "system.posix_acl_access")
            except OSError:
                acl = b""
            found.append((status.st_uid, status.st_gid, status.st_mode, acl))
        return found


def guests(state: str) -> set[str]:
    """Names of the guests in a ledger."""
    if not os.path.exists(os.path.join(state, "ledger.db")):
        return set()
    ledger = SqliteLedger(state, create=False, read_only=True)
    try:
        return {guest.name for guest in ledger.guests()}
    finally:
        ledger.close()


def wait(condition: Callable[[], object], what: str) -> None:
    """Looks until it is so.

    Raises:
        BenchError: it does not come to pass.
    """
    deadline = time.perf_counter() + _PATIENCE
    while not condition():
        if time.perf_counter() > deadline:
            raise BenchError(f"waited {_PATIENCE:.0f} s for {what}")
        time.sleep(_GLANCE)
