"""What the tests of decisions share: a policy as a function, a daemon in a process of its own, guests in a ledger."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from septum.access import Client, FakeEngine
from septum.access.client import SOCKET
from septum.errors import NotFound, SeptumError
from septum.labels import CategorySet
from septum.ledger.records import Guest, Realm
from septum.ledger.sqlite import SqliteLedger

PLATFORM = "system_u:system_r:septum_daemon_t:s0-s0:c0.c1023"
RED = "system_u:system_r:septum_vm.process:s0:c1,c300,c301"
BLUE = "system_u:system_r:septum_vm.process:s0:c2,c300,c302"
RED_UID, BLUE_UID = 0x7000_0011, 0x7000_0012
WAIT = 20.0


def policy(source: str, target: str, tclass: str) -> frozenset[str]:
    """The platform may do all; others only `getattr` and `hello`, and that not to realms."""
    if ":septum_daemon_t:" in source:
        return frozenset("create start getattr check explain load introspect hello read".split())
    return frozenset({"hello", "getattr"}) if tclass in ("septum_broker", "septum_guest") else frozenset()


def stricter(source: str, target: str, tclass: str) -> frozenset[str]:
    """The same without `start`."""
    return policy(source, target, tclass) - {"start"}


class FileSource:
    """Engines whose policy is a file with a number: even is `policy`, odd `stricter`; anything else can't be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fresh(self) -> FakeEngine:
        text = self.path.read_text().strip()
        if not text.isdecimal():
            raise SeptumError("the policy is damaged", target=str(self.path))
        classes = {"classes": {"septum_guest": frozenset({"start"})}} if text == "99" else {}
        return FakeEngine(stricter if int(text) % 2 else policy, fingerprint=text, **classes)

    def again(self, engine: FakeEngine) -> FakeEngine:
        return self.fresh()


def ledger(folder: Path) -> SqliteLedger:
    """Two realms with a guest each."""
    opened = SqliteLedger(str(folder))
    for number, (realm, uid, level) in enumerate((("red", RED_UID, RED), ("blue", BLUE_UID, BLUE)), 1):
        opened.add_realm(Realm(realm, (number,), -1))
        admit(opened, realm, uid, level.split(":", 3)[3], number)
    return opened


def admit(opened: SqliteLedger, realm: str, uid: int, level: str, number: int, name: str = "web") -> Guest:
    code = CategorySet.parse(level.split(":", 1)[1])
    guest = Guest(
        uuid=f"00000000-0000-4000-8000-{number:012d}",
        incarnation=0,
        name=name,
        realm=realm,
        state="admitted",
        categories=tuple(code),
        level=level,
        uid=uid,
        drivers=("landlock",),
        boot_id="b",
        pid=1,
        started=1,
        since=1.0,
        argv=("qemu",),
        details={},
    )
    return opened.admit(guest, [("code", str(code)), ("uid", str(uid))])


class Daemon:
    """A septumd in a process of its own that decides by a `FileSource`.

    Args:
        folder: of the state; the policy is the file ``fake`` in it.
        options: for septumd.
        at: where it listens, if not in the state folder.
        prepare: Python that runs in its process first.
    """

    def __init__(self, folder: Path, *options: str, at: Path | None = None, prepare: str = "", **popen: Any) -> None:
        self.folder = folder
        self.policy = folder / "fake"
        self.socket = at or folder / SOCKET
        if at:
            options = (*options, "--socket", str(at))
        self.said = folder / "said"
        if not self.policy.exists():
            self.policy.write_text("0")
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); {prepare}\n"
            "from pathlib import Path; from argparse import ArgumentParser\n"
            "from septum.daemon import main; from tests.accesskit import FileSource\n"
            f"parser = ArgumentParser(); main.arguments(parser); options = parser.parse_args({list(options)!r})\n"
            f"main.run(lambda: main.serve(options, {str(folder)!r}, FileSource(Path({str(self.policy)!r}))))"
        )
        with self.said.open("ab") as said:
            self.process = subprocess.Popen([sys.executable, "-c", code], stderr=said, **popen)

    def up(self) -> "Daemon":
        """Waits until it answers."""
        until = time.monotonic() + WAIT
        while True:
            try:
                Client(str(self.socket), timeout=WAIT).close()
                return self
            except (NotFound, SeptumError):
                assert self.process.poll() is None, self.said.read_text()
                assert time.monotonic() < until
                time.sleep(0.02)

    def client(self, timeout: float = WAIT) -> Client:
        return Client(str(self.socket), timeout=timeout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT)


@contextmanager
def daemon(folder: Path, *options: str, **more: Any) -> Iterator[Daemon]:
    """A daemon that serves, and is stopped at the end."""
    one = Daemon(folder, *options, **more)
    try:
        yield one.up()
    finally:
        one.stop()
