"""A control group of its own for each guest, so that "gone" is what the kernel says of all its processes together.

Only cgroup2 will do: `cgroup.events` tells when the last process has left, `cgroup.kill` (Linux 5.14) ends all of them
at once, forks included (Documentation/admin-guide/cgroup-v2.rst). Hosts with cgroup v1 often mount a cgroup2 hierarchy
without controllers beside it, which is all that is needed here.
"""

import _thread
import errno
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from septum.errors import HostError
from septum.host import kernel
from septum.host.driver import Entry, Outcome, Step

FOLDER: Final = "septum"
_UNCLAIMED: Final = 60.0  # seconds in which a launch has noted its cgroup down, or is dead
_DELEGATED: Final = ("trusted.delegate", "user.delegate")


def mount_point(mountinfo: str) -> tuple[str, str] | None:
    """The first cgroup2 mount: its path, and which cgroup its root is; None if there is none.

    Args:
        mountinfo: text of /proc/PID/mountinfo (proc(5): optional fields end with ``-``, space and the like are octal).
    """
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        if separator and right.split(" ", 1)[0] == "cgroup2":
            fields = left.split(" ")
            return _unescaped(fields[4]), _unescaped(fields[3])
    return None


def own(cgroups: str) -> str:
    """The cgroup2 path in the text of /proc/PID/cgroup, ``/`` for the root; "" if there is none."""
    return next((line[3:] for line in cgroups.splitlines() if line.startswith("0::")), "")


def base() -> str:
    """The directory below which guests' cgroups may be made, which need not exist yet; "" where there is none.

    A cgroup that systemd delegated to the caller comes first, then, for root, the hierarchy's root; an unprivileged
    process needs one that it may write to, and so does the way into it (`cgroup.procs`).
    """
    top, here = _position()
    if not top:
        return ""
    root_user = os.geteuid() == 0
    candidates = [here] if _delegated(here) or not root_user else []
    for folder in [*candidates, *([top] if root_user else [])]:
        if os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK):
            return os.path.join(folder, FOLDER)
    return ""


def step(folder: str, uuid: str) -> Step:
    """The step that makes a guest's cgroup; `folder` from `base`."""
    return Step("cgroup", "", os.path.join(folder, uuid), "", {})


def entry(path: str) -> Entry:
    """The calling process moves in."""
    return Entry(10, f"join the cgroup {path}", lambda: join(path))


def make(path: str) -> None:
    """Makes the guest's directory, and the one that holds all of them.

    Raises:
        HostError: the kernel refused, or this is no cgroup2.
    """
    try:
        for folder in (os.path.dirname(path), path):
            if not os.path.isdir(folder):
                os.mkdir(folder, 0o755)
    except OSError as error:
        raise kernel.oserror("making the cgroup", error.errno or 0, target=path) from error
    if not os.path.exists(f"{path}/cgroup.events"):
        raise HostError("what was made is no cgroup", target=path)


def sweep(folder: str, keep: Collection[str]) -> None:
    """Removes directories that a launch made and was killed before it could note them down.

    Args:
        folder: from `base`.
        keep: uuids of guests that a ledger knows.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            old = time.time() - os.stat(path).st_mtime > _UNCLAIMED
            if name not in keep and old and os.path.isdir(path) and not populated(path):
                os.rmdir(path)
        except OSError:
            continue


def join(path: str) -> None:
    """Moves the calling process, all threads of it."""
    _write(f"{path}/cgroup.procs", "0")


class Joining:
    """The same, begun early: `wait` for it at last.

    A move waits for an RCU grace period, 8 to 20 ms where one takes part in nothing else (kernel/cgroup/cgroup.c
    `cgroup_attach_lock`), and the process can do the rest of its work meanwhile. Not fork, which waits too.

    Args:
        path: of the cgroup.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._home = _position()[1]
        self._error: HostError | None = None
        self._busy = _thread.allocate_lock()
        self._busy.acquire()
        _thread.start_new_thread(self._run, ())

    def wait(self) -> None:
        """Returns once the process is in, and its helping thread has nothing more to do.

        Raises:
            HostError: the kernel refused.
        """
        with self._busy:
            if self._error is not None:
                raise self._error

    def leave(self) -> None:
        """Back to where the process was, for a start that is given up; the cgroup goes too, if it is empty."""
        with self._busy:
            join(self._home)
        with suppress(OSError):
            os.rmdir(self._path)

    def _run(self) -> None:
        try:
            join(self._path)
        except HostError as error:
            self._error = error
        finally:
            self._busy.release()


def populated(path: str) -> bool:
    """Whether a live process is in the cgroup or below it; not if the cgroup is no more.

    Raises:
        HostError: it can't be told.
    """
    try:
        events = _read(f"{path}/cgroup.events")
    except FileNotFoundError:
        return False
    except OSError as error:
        # Removed between open and read.
        if error.errno == errno.ENODEV:
            return False
        raise kernel.oserror("reading cgroup.events", error.errno or 0, target=path) from error
    return "populated 1" in events.splitlines()


def processes(path: str) -> list[int]:
    """The live processes of the cgroup; none if it is no more. Zombies are listed by the kernel, but don't populate."""
    if not populated(path):
        return []
    try:
        return [int(line) for line in _read(f"{path}/cgroup.procs").split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise kernel.oserror("reading cgroup.procs", error.errno or 0, target=path) from error


def events_fd(path: str) -> int:
    """A descriptor that polls POLLPRI whenever `populated` may have changed; read it from offset 0 to poll again."""
    try:
        return os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise kernel.oserror("opening cgroup.events", error.errno or 0, target=path) from error


def kill(path: str) -> None:
    """SIGKILL for all processes in the cgroup, atomically; nothing if it is no more."""
    if os.path.isdir(path):
        _write(f"{path}/cgroup.kill", "1")


class CgroupOperation:
    """``cgroup``: makes the directory of the step's path; undone, removes it once nobody is left in it."""

    def describe(self, step: Step) -> str:
        return f"make the cgroup {step.path}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        """Nothing to remember: a directory of the guest's name is the guest's, also one that was begun or left over."""
        if [pid for pid in processes(step.path) if pid != os.getpid()]:
            raise HostError("processes of an earlier start are still in the guest's cgroup", target=step.path)
        return {}

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        make(step.path)

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        if populated(step.path):
            raise HostError(
                "processes of the guest are still there", target=step.path, remedy="end them, then septum reconcile"
            )
        try:
            os.rmdir(step.path)
        except FileNotFoundError:
            return "gone"
        except OSError as error:
            raise kernel.oserror("removing the cgroup", error.errno or 0, target=step.path) from error
        return "restored"


def _position() -> tuple[str, str]:
    """Where cgroup2 is mounted, and the directory of the calling process's own cgroup; empty if there is none."""
    try:
        mount = mount_point(_read("/proc/self/mountinfo"))
        current = own(_read("/proc/self/cgroup"))
    except OSError:
        return "", ""
    if mount is None or not current:
        return "", ""
    top, root = mount
    inside = current if root == "/" else current.removeprefix(root)
    return top, os.path.normpath(f"{top}/{inside}")


def _delegated(path: str) -> bool:
    """systemd marks what it delegated (Delegate=yes) with an extended attribute (systemd's CGROUP_DELEGATION.md)."""
    for name in _DELEGATED:
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _unescaped(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise kernel.oserror("writing to the cgroup", error.errno or 0, target=path) from error
