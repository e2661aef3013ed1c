"""What the tests of launching share: a folder with images and a ledger, a stand-in for QEMU, launches that can be
killed at any point, and snapshots of all that a launch could leave changed."""

import atexit
import fcntl
import functools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from septum.errors import LedgerError
from septum.host import cgroup, ownership
from septum.host.driver import Confinement, Driver, Operation, Step
from septum.host.fake import FakeDriver
from septum.host.kernel import close_range
from septum.launch import watch
from septum.launch.inspect import Allowed
from septum.launch.plan import Request
from septum.launch.reconcile import reconcile
from septum.launch.run import run
from septum.launch.undo import Report, survivors
from septum.ledger.records import AuditRecord, Guest
from septum.ledger.sqlite import SqliteLedger

QEMU = "/usr/bin/qemu-system-x86_64"
DUMPER = Path(__file__).parent / "data" / "dumper.c"
SOURCES = Path(__file__).parent.parent / "src"
EMPTY = ("-machine", "none", "-display", "none", "-nodefaults")
NOBODY = 65534
_XATTRS = ("system.posix_acl_access", "system.posix_acl_default", "user.mark", "security.selinux")


class World:
    """A place for one test.

    Attributes:
        folder: any uid may search it, and nobody but root may list it.
        state: the ledger's folder.
        program: the stand-in, under QEMU's name.
        said: what launches in forked children print, in that file.
    """

    def __init__(self, folder: Path, state: Path, dumper: Path) -> None:
        self.folder = folder
        self.state = state
        self.program = folder / "bin" / "qemu-system-x86_64"
        self.program.parent.mkdir(mode=0o755)
        shutil.copy2(dumper, self.program)
        self.said = state / "said"
        self.started: list[subprocess.Popen[bytes]] = []

    def image(self, name: str = "a.img", mode: int = 0o644) -> Path:
        path = self.folder / name
        path.write_bytes(b"\0" * 4096)
        path.chmod(mode)
        return path

    def qcow2(self, name: str, backing: Path | None = None, mode: int = 0o644) -> Path:
        path = self.folder / name
        more = ["-F", "qcow2", "-b", backing] if backing else []
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *more, path, *([] if backing else ["8M"])], check=True
        )
        path.chmod(mode)
        return path

    @property
    def ledger(self) -> SqliteLedger:
        """To be closed before anything forks: SQLite's locks and its state don't survive that."""
        return SqliteLedger(str(self.state))

    def guest(self, name: str) -> Guest | None:
        with closing(self.ledger) as ledger:
            return ledger.guest(name)

    def guests(self) -> list[Guest]:
        with closing(self.ledger) as ledger:
            return ledger.guests()

    def taken(self, kind: str) -> dict[str, str]:
        with closing(self.ledger) as ledger:
            return ledger.taken(kind)

    def audit(self) -> list[AuditRecord]:
        with closing(self.ledger) as ledger:
            return ledger.audit_records()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SEPTUM_STATE": str(self.state), "PYTHONPATH": str(SOURCES)}

    def septum(self, *words: object, status: int | None = 0, **given: Any) -> subprocess.CompletedProcess[bytes]:
        """Runs the command to its end."""
        given.setdefault("env", self.environment)
        given.setdefault("cwd", self.folder)
        given.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [*SEPTUM, *(os.fspath(w) if isinstance(w, Path) else w for w in words)],
            capture_output=True, check=False, timeout=60, **given,
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, (done.returncode, done.stderr.decode())
        return done

    def json(self, *words: object, **given: Any) -> Any:
        return json.loads(self.septum(*words, "--json", **given).stdout)

    def start(self, *words: object, then: str = "sleep", **given: Any) -> subprocess.Popen[bytes]:
        """Starts `septum run WORDS`; it is ended after the test."""
        environment = {**given.pop("env", self.environment), "FAKE_THEN": then}
        given.setdefault("cwd", self.folder)
        given.setdefault("stdout", subprocess.DEVNULL)
        given.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(
            [*SEPTUM, "run", *(os.fspath(w) if isinstance(w, Path) else w for w in words)],
            env=environment, stdin=subprocess.DEVNULL, **given,
        )  # fmt: skip
        self.started.append(process)
        return process

    def ps(self, *words: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.json("ps", *words)}

    def wait_running(self, name: str, seconds: float = 20) -> int:
        """The guest's pid, once the program runs in the place of septum."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (self.state / "ledger.db").exists():
                guest = self.guest(name)
                if guest is not None and guest.state == "running" and became(guest.pid):
                    return guest.pid
            for process in self.started:
                if process.poll() not in (None, 0, -9, -15) and process.stderr:
                    raise AssertionError(process.stderr.read().decode())
            time.sleep(0.01)
        raise AssertionError(f"{name} does not run")

    def wait_empty(self, seconds: float = 20) -> None:
        """Until no guest is left in the ledger."""
        deadline = time.monotonic() + seconds
        while self.guests():
            assert time.monotonic() < deadline, (self.guests(), self.log())
            time.sleep(0.01)

    def watchers(self) -> list[int]:
        """Watchers of this ledger."""
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"septum.launch.watcher" in line and repr(str(self.state)).encode() in line:
                found.append(pid)
        return found

    def log(self) -> str:
        path = self.state / "watch.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
        guests: list[Guest] = []
        if (self.state / "ledger.db").exists():
            with suppress(LedgerError):
                guests = self.guests()
        for guest in guests:
            for pid in survivors(guest):
                os.kill(pid, signal.SIGKILL)
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        for guest in guests:
            group = guest.details.get("cgroup", "")
            wait(lambda group=group: not group or not cgroup.populated(group))  # type: ignore[misc]
            with suppress(FileNotFoundError):  # the watcher may have got that far
                os.rmdir(group)
        shutil.rmtree(self.folder)
        shutil.rmtree(self.state, ignore_errors=True)


SEPTUM = (sys.executable, "-m", "septum")


def somebodys(uid: int) -> list[str]:
    """The words that run septum as an unprivileged user.

    Not from this checkout and its virtual environment: they may lie in a home that is closed to others, as root's is.
    """
    drop = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*drop, "/usr/bin/env", f"PYTHONPATH={_open_to_all()}", os.path.realpath(sys.executable), "-m", "septum"]


@functools.cache
def _open_to_all() -> str:
    folder = tempfile.mkdtemp(prefix="septum-sources-", dir="/var/tmp")
    atexit.register(shutil.rmtree, folder)
    shutil.copytree(SOURCES / "septum", Path(folder) / "septum")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


def world() -> Iterator[World]:
    """For a fixture. The ledger lies in memory, where a sync costs nothing."""
    folder = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    state = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/dev/shm"))
    place = World(folder, state, compiled())
    try:
        yield place
    finally:
        place.close()


@functools.cache
def compiled() -> Path:
    """The stand-in for QEMU."""
    into = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, into)
    program = into / "dumper"
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, DUMPER], check=True)
    program.chmod(0o755)
    return program


def became(pid: int) -> bool:
    """Whether the process has executed what it was to become."""
    try:
        return b"python" not in os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def wait(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.005)


class Thing(NamedTuple):
    """What a launch may change of an object."""

    uid: int
    gid: int
    mode: int
    xattrs: tuple[tuple[str, bytes], ...]
    content: bytes | None


def snapshot(*roots: Path) -> dict[str, Thing]:
    """Everything below some directories, and the directories themselves."""
    found = {}
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
            status = path.lstat()
            xattrs = []
            for name in _XATTRS if not path.is_symlink() else ():
                try:
                    xattrs.append((name, os.getxattr(path, name)))
                except OSError:
                    continue
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= 4096 else None
            found[str(path)] = Thing(status.st_uid, status.st_gid, status.st_mode, tuple(xattrs), content)
    return found


class Silent:
    """Takes the watcher's place and does nothing: everything is left for `reconcile`."""

    def __init__(self, state: Path) -> None:
        self._lock = os.open(state / "watch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._listener = watch.listen(str(state))
        self._listener.setblocking(False)

    def drain(self) -> None:
        """Throws away what launches have sent."""
        while True:
            try:
                fd, _ = self._listener._accept()
            except BlockingIOError:
                return
            os.close(fd)

    def close(self) -> None:
        self._listener.close()
        os.close(self._lock)


class Killer:
    """Ends this process at the n-th point, counted from 1; remembers what the points were."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def __call__(self, what: str = "") -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


# What changes the host, or the ledger: a process is killed before each of them in turn.
_SYSCALLS = (
    "chmod", "chown", "fchown", "fchmod", "setxattr", "removexattr", "unlink", "rmdir", "mkdir",
)  # fmt: skip
_CHANGES = ("admit", "begin", "run", "end", "settle", "orphan", "release", "add_realm")


def kill_between_syscalls(at: int) -> Killer:
    """From now on this process dies before its `at`-th change of the host or the ledger. For a forked child only."""
    killer = Killer(at)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **given: Any) -> Any:
            killer()
            return function(*args, **given)

        return call

    for name in _SYSCALLS:
        setattr(os, name, before(getattr(os, name)))
    for name in _CHANGES:
        setattr(SqliteLedger, name, before(getattr(SqliteLedger, name)))
    return killer


def forked(act: Callable[[], object], output: Path | None = None) -> int:
    """Runs `act` in a child process; its exit status, negative if a signal ended it; 0 if `act` returns."""
    child = os.fork()
    if child == 0:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            into = os.open(output or os.devnull, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            for fd in (1, 2):
                os.dup2(into, fd)
            close_range(3, 0xFFFFFFFF)
            sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False)
            act()
        except BaseException as error:
            os.write(2, traceback.format_exc().encode())
            os._exit(getattr(error, "exit_status", 99))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def request(place: World, *words: object, **given: Any) -> Request:
    """A request for the stand-in."""
    argv = (str(place.program), *map(str, words))
    return Request(argv=argv, **{"realm": "red", "allowed": Allowed(forbidden=(str(place.state),)), **given})


def launch(
    place: World,
    asked: Request,
    *,
    at: int = 0,
    syscall: int = 0,
    drivers: Callable[[], Sequence[Driver]] | None = None,
    output: Path | None = None,
) -> int:
    """A launch in a child, killed at a checkpoint, or before a change of the host, or not at all; its exit status."""

    def act() -> None:
        if syscall:
            kill_between_syscalls(syscall)
        run(asked, str(place.state), drivers=drivers() if drivers else None, checkpoint=Killer(at))

    return forked(act, output or place.said)


def restore(place: World) -> list[Report]:
    """What `septum reconcile` does."""
    ledger = place.ledger
    try:
        return reconcile(ledger, str(place.state))
    finally:
        ledger.close()


def left_over(place: World) -> list[str]:
    """What is left of any guest that a ledger ever had: rows, claims, cgroups. Realms stay."""
    ledger = place.ledger
    found = [f"guest {guest.name} {guest.state}" for guest in ledger.guests()]
    for kind in ("code", "uid", "name", "uuid"):
        found += [f"{kind} {key}" for key in ledger.taken(kind)]
    found += [f"orphan {key}" for key in ledger.orphans()]
    uuids = {record.fields["uuid"] for record in ledger.audit_records() if "uuid" in record.fields}
    for uuid in uuids:
        group = os.path.join(cgroup.base(), uuid)
        if os.path.isdir(group):
            # It may have been made before the ledger knew of it; then age is what tells that nobody will use it.
            os.utime(group, (0, 0))
            cgroup.sweep(cgroup.base(), ())
            found += [f"cgroup of {uuid}"] if os.path.isdir(group) else []
    ledger.audit_verify()
    ledger.check()
    ledger.close()
    return found


class Plain(FakeDriver):
    """What the `landlock` driver does to files, and nothing of what it does to the process."""

    name = "landlock"

    def operations(self) -> Mapping[str, Operation]:
        return {}

    def steps(self, guest: Confinement) -> list[Step]:
        return ownership.steps(guest)


def plain() -> Sequence[Driver]:
    return [Plain()]


def sections(dump: bytes) -> Mapping[str, bytes]:
    """What the stand-in wrote."""
    found: dict[str, bytes] = {}
    while dump:
        head, _, rest = dump.partition(b"\n")
        name, size = head.split(b" ")
        found[name.decode()] = rest[: int(size)]
        dump = rest[int(size) :]
    return found
