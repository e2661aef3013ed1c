"""What the tests of the `landlock` driver share: a guest to confine, and a process to run inside its confinement."""

import json
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from septum.guests.resource import Access, Kind, Resource, Sharing
from septum.host.driver import Confinement, Driver, Facts, Item
from septum.host.objects import look

QEMU = "/usr/bin/qemu-system-x86_64"


def facts(path: str = "/images/a", **given: Any) -> Facts:
    """Facts out of nothing, for what is pure."""
    values: dict[str, Any] = {
        "key": f"k:{path}",
        "path": path,
        "type": "file",
        "dev": 1,
        "ino": 2,
        "nlink": 1,
        "uid": 0,
        "gid": 0,
        "mode": 0o644,
        "acl": "",
        "context": "",
    }
    return Facts(**{**values, **given})


def item(
    path: str,
    kind: Kind = "image",
    access: Access = "rw",
    sharing: Sharing = "exclusive",
    *,
    creates: bool = False,
    **given: Any,
) -> Item:
    """An item whose facts and parent are given or, if neither is, made up."""
    given.setdefault("facts", facts(path))
    given.setdefault("parent", facts(os.path.dirname(path), type="dir", mode=0o755))
    return Item(Resource(path, kind, access, sharing, "-drive file=", creates), **given)


def found(path: Path | str, kind: Kind = "image", access: Access = "rw", sharing: Sharing = "exclusive") -> Item:
    """An item as the host has it."""
    seen = look(str(path))
    return Item(Resource(str(path), kind, access, sharing, "-drive file=", True), seen.facts, seen.parent)


def guest(items: Iterable[Item] = (), **given: Any) -> Confinement:
    """A guest that asks for nothing but its items."""
    values: dict[str, Any] = {
        "uuid": "00000000-0000-4000-8000-000000000001",
        "name": "a",
        "realm": "red",
        "level": "s0:c1,c2",
        "realm_level": "s0:c1",
        "uid": -1,
        "gid": -1,
        "realm_gid": -1,
        "groups": (),
        "binary": QEMU,
        "items": tuple(items),
        "network": False,
        "connects": False,
        "executes": False,
        "daemonize": False,
        "memlock": False,
        "run_dir": "",
    }
    return Confinement(**{**values, **given})


def searchable() -> Iterator[Path]:
    """For a fixture: a folder that any uid may search, as pytest's own is its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def enter(driver: Driver, subject: Confinement) -> None:
    """What a launch does between its last look at the host and exec."""
    for entry in sorted(driver.entries(subject), key=lambda entry: entry.phase):
        entry.act()


def inside(act: Callable[[], Any]) -> Any:
    """Runs `act` in a child process, which may confine itself there, and returns its JSON result."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            answer = json.dumps({"result": act()})
        except BaseException:
            answer = json.dumps({"error": traceback.format_exc()})
        os.write(into, answer.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        answer = json.loads(stream.read())
    os.waitpid(child, 0)
    assert "error" not in answer, answer["error"]
    return answer["result"]


def errno_of(act: Callable[[], Any]) -> int:
    """0 if it works, else the errno; HostError and OSError both carry it."""
    try:
        result = act()
    except Exception as error:
        number = getattr(error, "errno", None)
        if number is None:
            raise
        return int(number)
    if isinstance(result, int) and result > 2:
        os.close(result)
    return 0


class Qmp:
    """Just enough of the machine protocol to ask a QEMU one thing at a time."""

    def __init__(self, path: Path, seconds: float = 20) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._stream = self._socket.makefile("rw")
        self.greeting = json.loads(self._stream.readline())
        assert "return" in self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer: dict[str, Any] = json.loads(self._stream.readline())
            if "event" not in answer:
                return answer

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
