"""Getting into a cgroup of one's own, as early as a process can.

A move waits for an RCU grace period, 8 to 20 ms where the process takes part in nothing else (kernel/cgroup/cgroup.c
`cgroup_attach_lock`). Begun before the rest of septum is loaded it is over when the guest is about to start, so
this module loads next to nothing. What is made here is an empty directory of this process's own, so nothing has to be
written down first: if the launch goes no further, `cgroup.sweep` removes it.
"""

from __future__ import annotations

import _thread
import os

from septum.errors import HostError
from septum.host import streams as streams  # loaded before anything is opened here
from septum.lean import suppress

FOLDER = "septum"
_GUEST = "guest-"
_DELEGATED = ("trusted.delegate", "user.delegate")


def begin() -> Joining | None:
    """Makes a cgroup for the guest that this process will become and begins to join it; None where none is usable."""
    folder = base()
    if not folder:
        return None
    try:
        path = fresh(folder)
        make(path)
    except HostError:
        # Whoever needs it will say so: the step that makes it is still to come.
        return None
    return Joining(path)


def apart() -> str:
    """A cgroup for septum's own processes, beside those of the guests; "" where none can be made.

    A process that a launch starts must be in neither the guest's cgroup, which has to become empty one day, nor that
    of whoever called, a service that is stopped, say.
    """
    here = _position()[1]
    folder = os.path.dirname(here) if os.path.basename(here).startswith(_GUEST) else base()
    if not folder:
        return ""
    path = os.path.join(folder, "watcher")
    try:
        make(path)
    except HostError:
        return ""
    return path


def fresh(folder: str) -> str:
    """A path in `folder` (from `base`) that nobody else uses."""
    return os.path.join(folder, f"{_GUEST}{os.getpid()}-{os.urandom(4).hex()}")


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
        raise refused("making the cgroup", path, error) from error
    if not os.path.exists(f"{path}/cgroup.events"):
        raise HostError("what was made is no cgroup", target=path)


def join(path: str) -> None:
    """Moves the calling process, all threads of it."""
    write(f"{path}/cgroup.procs", "0")


class Joining:
    """The same in a thread of its own: `wait` for it at last. A fork in between waits too.

    Args:
        path: of the cgroup.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._left = False
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
            if self._left:
                return
            self._left = True
            join(self._home)
        with suppress(OSError):  # gone already, or not empty: not this process's to remove
            os.rmdir(self.path)

    def _run(self) -> None:
        try:
            join(self.path)
        except HostError as error:
            self._error = error
        finally:
            self._busy.release()


def _position() -> tuple[str, str]:
    """Where cgroup2 is mounted, and the directory of the calling process's own cgroup; empty if there is none."""
    try:
        mount = mount_point(read("/proc/self/mountinfo"))
        current = own(read("/proc/self/cgroup"))
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


def read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise refused("writing to the cgroup", path, error) from error


def refused(doing: str, path: str, error: OSError) -> HostError:
    """What the kernel refused to do with a cgroup."""
    number = error.errno or 0
    return HostError(f"{doing} failed: {os.strerror(number)}", errno=number, target=path)
