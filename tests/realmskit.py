"""What the tests of realms share: septumd with septum's own policy, and septum-apid, each in a process of its own."""

import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from septum.access import Client as Asker
from septum.client import Client, Guest, Operation
from septum.errors import SeptumError
from septum.launch.undo import survivors
from septum.policy import FILE, build
from tests.launchkit import World, compiled, wait

QEMU = "/usr/bin/qemu-system-x86_64"
ROOT = Path(__file__).parent.parent
WAIT = 30.0
EMPTY = {"machine": "none", "memory": 16}
"""A guest whose emulator is real, and has no processor."""
PAUSED = {"machine": "q35", "memory": 32, "paused": True}


@functools.cache
def policy() -> bytes:
    return build("standalone").image


class Reply(NamedTuple):
    """An answer of the API, as it came."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Host(World):
    """A host with both daemons.

    Attributes:
        store: folder of realms' images.
    """

    def __init__(self, folder: Path, state: Path, dumper: Path) -> None:
        super().__init__(folder, state, dumper)
        self.store = folder / "store"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        (state / FILE).write_bytes(policy())

    def septumd(self) -> None:
        """Starts septumd, and waits until it answers."""
        code = "from septum.daemon.main import main; main()"
        self._daemon("septumd", code, "--state", str(self.state), "--engine", "libsepol")
        self._wait("septumd", lambda: Asker(str(self.state / "septumd.sock")).close())

    def apid(self, prepare: str = "", *, up: bool = True, driver: str = "auto") -> None:
        """Starts septum-apid, and waits until it answers.

        Args:
            prepare: Python that runs in its process first; `parts` are the daemon's.
            up: wait.
            driver: what enforces.
        """
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from septum.api.main import Parts, serve\n"
            f"parts = Parts({str(self.state)!r}, {str(self.store)!r}, {QEMU!r}, {driver!r})\n{prepare}\nserve(parts)"
        )
        self._daemon("apid", code)
        if up:
            self._wait("apid", lambda: self.client().me())

    def kill(self, name: str = "apid", number: int = signal.SIGKILL) -> int:
        """Ends a daemon."""
        process = self.daemons.pop(name)
        process.send_signal(number)
        return process.wait(WAIT)

    def client(self, realm: str = "") -> Client:
        """A client on the platform's socket, or on a realm's."""
        return Client(str(self.address(realm)), timeout=WAIT)

    def address(self, realm: str = "") -> Path:
        return self.state / "realms" / f"{realm}.sock" if realm else self.state / "platform.sock"

    def call(
        self, method: str, path: str, body: object = None, *, realm: str = "", headers: dict[str, str] | None = None
    ) -> Reply:
        """One call, with nothing of the client in between; `body` is JSON, or bytes as they are."""
        connection = http.client.HTTPConnection("septum")
        connection.sock = self.connect(realm)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, raw, {**given, **(headers or {})})
        answer = connection.getresponse()
        reply = Reply(answer.status, dict(answer.headers), answer.read())
        connection.close()
        return reply

    def connect(self, realm: str = "") -> socket.socket:
        """A bare connection."""
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(WAIT)
        wait(lambda: self.address(realm).exists())
        made.connect(str(self.address(realm)))
        return made

    def running(self, realm: str, name: str, config: dict[str, Any] | None = None) -> Guest:
        """A guest that runs."""
        with self.client() as api:
            api.create_guest(realm, name, config or EMPTY)
            api.wait(api.start_guest(realm, name))
            return api.guest(realm, name)

    def documents(self, kind: str) -> list[Any]:
        ledger = self.ledger
        try:
            return ledger.documents(kind)
        finally:
            ledger.close()

    def end(self) -> None:
        """Ends the daemons, and all guests."""
        for name in list(self.daemons):
            self.kill(name, signal.SIGTERM)
        if (self.state / "ledger.db").exists():
            for guest in self.guests():
                for pid in survivors(guest):
                    os.kill(pid, signal.SIGKILL)
        self.close()

    def heard(self, name: str) -> str:
        path = self.state / f"{name}.said"
        return path.read_text() if path.exists() else ""

    def _daemon(self, name: str, code: str, *words: str) -> None:
        with (self.state / f"{name}.said").open("ab") as said:
            self.daemons[name] = subprocess.Popen(
                [sys.executable, "-c", code, *words], stderr=said, stdin=subprocess.DEVNULL, env=self.environment
            )

    def _wait(self, name: str, ask: Any) -> None:
        until = time.monotonic() + WAIT
        while True:
            try:
                ask()
                return
            except SeptumError:
                assert self.daemons[name].poll() is None, self.heard(name)
                assert time.monotonic() < until, self.heard(name)
                time.sleep(0.02)


def host() -> Iterator[Host]:
    """For a fixture: both daemons, and nothing else yet."""
    folder = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    state = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/dev/shm"))
    made = Host(folder, state, compiled())
    try:
        made.septumd()
        made.apid()
        yield made
    finally:
        made.end()


def finished(api: Client, operation: Operation) -> Operation:
    """An operation once it has ended, however it did."""
    until = time.monotonic() + WAIT
    while operation.state not in ("done", "failed"):
        assert time.monotonic() < until, operation
        time.sleep(0.01)
        operation = api.operation(operation.realm, operation.id)
    return operation
