"""What the tests of the rendezvous share: a platform with declared doors, septumd and broker in processes of their own,
and guests that are processes with a guest's uid."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from septum.access import Client
from septum.access.client import SOCKET as SEPTUMD
from septum.declare import Declaration, cil, consents, read
from septum.errors import NotFound, SeptumError
from septum.labels import CategorySet
from septum.ledger.records import Channel, Guest, Realm
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE, build
from septum.policy.sources import Source
from septum.rendezvous import SOCKET, Rendezvous
from septum.sepol.image import Database
from septum.sepol.library import borrow, give_back

WAIT = 20.0
ROOT = Path(__file__).resolve().parent.parent

PLATFORM = """
[realm.red]
file = "red.toml"
quota = { guests = 9, memory = "64 GiB", disk = "1 TiB", channels = 400 }
[realm.blue]
file = "blue.toml"
quota = { guests = 9, memory = "64 GiB", disk = "1 TiB", channels = 400 }
"""
RED = """
[role.web]
memory = "1 GiB"
[role.mail]
memory = "1 GiB"
[[use]]
role = "web"
service = "blue/sql"
channels = 300
[[use]]
role = "mail"
service = "blue/log"
direction = "to-service"
"""
BLUE = """
[role.db]
memory = "1 GiB"
[service.sql]
role = "db"
kind = "message"
[service.log]
role = "db"
kind = "stream"
[[offer]]
service = "sql"
to = "red/web"
channels = 300
[[offer]]
service = "log"
to = "red"
direction = "to-service"
"""
GUESTS = {
    "web": ("red", "web", 0x7000_0101, (1, 300, 301)),
    "mail": ("red", "mail", 0x7000_0102, (1, 300, 302)),
    "other": ("red", "", 0x7000_0103, (1, 300, 303)),
    "db": ("blue", "db", 0x7000_0104, (2, 300, 301)),
    "spy": ("blue", "", 0x7000_0105, (2, 300, 302)),
}


def write_declaration(folder: Path, platform: str = PLATFORM, red: str = RED, blue: str = BLUE) -> Declaration:
    """The files, and what they say."""
    for name, content in (("platform", platform), ("red", red), ("blue", blue)):
        (folder / f"{name}.toml").write_text(content)
    return read(str(folder / "platform.toml"))


@cache
def _built(text: str) -> bytes:
    return build("standalone", extra=[Source("declared", text)]).image


def policy(declaration: Declaration, **booleans: bool) -> bytes:
    """The stand-alone policy of a declaration with the consents of its realms in force.

    Args:
        booleans: others' values, by the door: ``web_sql=False``.
    """
    library = borrow()
    image = Database(library, _built(cil(declaration)), "declared")
    try:
        for name, value in consents(declaration).items():
            short = "_".join(re.findall(r"role-([a-z]+).*service-([a-z]+)", name)[0])
            image.set_boolean(name, booleans.get(short, value))
        return image.written()
    finally:
        image.close()
        give_back(library)


def until(true: Callable[[], bool]) -> None:
    """Waits for what is to come about by itself."""
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Process:
    """A daemon of septum's in a process of its own; its standard error is a file.

    Args:
        code: Python that runs in it.
        said: the file.
    """

    def __init__(self, code: str, said: Path) -> None:
        self.said = said
        with said.open("ab") as file:
            code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
            self.process = subprocess.Popen([sys.executable, "-c", code], stderr=file)

    def up(self, ready: Callable[[], object]) -> None:
        until = time.monotonic() + WAIT
        while True:
            try:
                ready()
                return
            except (NotFound, SeptumError):
                assert self.process.poll() is None, self.said.read_text()
                assert time.monotonic() < until, self.said.read_text()
                time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT)


class Platform:
    """A state folder with guests in its ledger, a policy, septumd and a broker.

    Args:
        folder: of the state, in one that others can enter.
        declaration: of the platform; its files are beside the state folder.
    """

    def __init__(self, folder: Path, declaration: Declaration) -> None:
        self.folder = folder
        self.declaration = declaration
        self.socket = folder.parent / SOCKET
        self.septumd: Process | None = None
        self.broker: Process | None = None
        ledger = SqliteLedger(str(folder))
        for number, realm in enumerate(("red", "blue"), 1):
            ledger.add_realm(Realm(realm, (number,), -1))
        for number, name in enumerate(GUESTS):
            admit(ledger, name, number)
        ledger.close()
        self.load()

    def load(self, **booleans: bool) -> None:
        """Puts a policy in place; a septumd that runs takes it when it is told."""
        (self.folder / FILE).write_bytes(policy(self.declaration, **booleans))

    def start_septumd(self) -> None:
        path = str(self.folder / SEPTUMD)
        code = f"from septum.daemon.main import main; main(['--state', {str(self.folder)!r}, '--engine', 'libsepol'])"
        self.septumd = Process(code, self.folder / "said")
        self.septumd.up(lambda: Client(path, timeout=WAIT).close())

    def start_broker(self, *options: str, prepare: str = "", wait: bool = True) -> Process:
        words = ["--state", str(self.folder), "--socket", str(self.socket), "--open"]
        words += ["--declaration", str(self.folder.parent / "platform.toml"), *options]
        code = f"{prepare}\nfrom septum.rendezvous.main import main; main({words!r})"
        self.broker = Process(code, self.folder / "said-broker")
        if wait:
            self.broker.up(lambda: Rendezvous(str(self.socket), timeout=WAIT).close())
        return self.broker

    def reload(self, **booleans: bool) -> None:
        """Another policy, in force when this returns."""
        self.load(**booleans)
        with Client(str(self.folder / SEPTUMD), timeout=WAIT) as client:
            client.reload()

    def guest(self, name: str) -> "Actor":
        """A process of a guest's."""
        return Actor(GUESTS[name][2], str(self.socket))

    def rows(self) -> list[Channel]:
        ledger = SqliteLedger(str(self.folder), read_only=True)
        try:
            return ledger.channels()
        finally:
            ledger.close()

    def stop(self) -> None:
        for process in (self.broker, self.septumd):
            if process is not None:
                process.stop()


def admit(ledger: SqliteLedger, name: str, number: int) -> Guest:
    realm, role, uid, categories = GUESTS[name]
    code = CategorySet(categories)
    guest = Guest(
        uuid=f"00000000-0000-4000-8000-{number:012d}",
        incarnation=0,
        name=name,
        realm=realm,
        state="admitted",
        categories=categories,
        level=f"s0:{code}",
        uid=uid,
        drivers=("landlock",),
        boot_id="b",
        pid=0,
        started=0,
        since=1.0,
        argv=("qemu",),
        details={"role": role} if role else {},
    )
    return ledger.admit(guest, [("code", str(code)), ("uid", str(uid))])


class Actor:
    """A process with a guest's uid that does what it is told, one call at a time: `broker` is its `Rendezvous`, `links`
    what it has by name, and what a call returns must be JSON.

    Args:
        uid: of the guest.
        path: of the broker's socket.
    """

    def __init__(self, uid: int, path: str) -> None:
        code = _ACTOR.format(root=str(ROOT), uid=uid, path=path)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, code: str) -> None:
        """Begins: statements, the last of which may be an expression."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What came of it: a value, or the error as ``Kind: what``."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(WAIT)}"
        return json.loads(line)

    def do(self, code: str) -> Any:
        self.tell(code)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(WAIT)


_ACTOR = """
import ast, json, os, sys, time
sys.path.insert(0, {root!r})
from septum.errors import *
from septum.ivc import *
from septum.rendezvous import *
from septum.rendezvous import wire
os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
PATH = {path!r}
space = dict(globals(), links={{}})
for line in sys.stdin:
    tree = ast.parse(json.loads(line))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    try:
        exec(compile(tree, "told", "exec"), space)
        value = eval(compile(ast.Expression(last.value), "told", "eval"), space) if last else None
    except SeptumError as error:
        value = type(error).__name__ + ": " + error.what
    print(json.dumps(value, default=repr), flush=True)
"""


@contextmanager
def platform(**files: str) -> Iterator[Platform]:
    """A platform without its daemons; they are stopped at the end, if they were started."""
    with tempfile.TemporaryDirectory(prefix="septum-channels-") as place:
        os.chmod(place, 0o755)
        made = Platform(Path(place) / "state", write_declaration(Path(place), **files))
        try:
            yield made
        finally:
            made.stop()
