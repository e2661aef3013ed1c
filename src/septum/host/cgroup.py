"""A control group of its own for each guest, so that "gone" is what the kernel says of all its processes together.

Only cgroup2 will do: `cgroup.events` tells when the last process has left, `cgroup.kill` (Linux 5.14) ends all of them
at once, forks included (Documentation/admin-guide/cgroup-v2.rst). Hosts with cgroup v1 often mount a cgroup2 hierarchy
without controllers beside it, which is all that is needed here.
"""

from __future__ import annotations

import errno
import os
import time

from septum.errors import HostError
from septum.host import kernel
from septum.host.driver import Entry, Outcome, Step
from septum.host.joining import Joining, base, join, make, mount_point, own, read, write
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

__all__ = [
    "CgroupOperation",
    "Joining",
    "base",
    "entry",
    "events_fd",
    "join",
    "kill",
    "make",
    "mount_point",
    "own",
    "populated",
    "processes",
    "step",
    "sweep",
]

_UNCLAIMED: Final = 60.0  # seconds in which a launch has noted its cgroup down, or is dead


def step(path: str) -> Step:
    """The step that makes a guest's cgroup, or finds it made by `joining.begin`."""
    return Step("cgroup", "", path, "", {})


def entry(path: str) -> Entry:
    """The calling process moves in."""
    return Entry(10, f"join the cgroup {path}", lambda: join(path))


def sweep(folder: str) -> None:
    """Removes empty directories of `folder` (from `base`): a launch made them and went no further."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            old = time.time() - os.stat(path).st_mtime > _UNCLAIMED
            if old and os.path.isdir(path) and not populated(path):
                os.rmdir(path)
        except OSError:
            continue


def populated(path: str) -> bool:
    """Whether a live process is in the cgroup or below it; not if the cgroup is no more.

    Raises:
        HostError: it can't be told.
    """
    try:
        events = read(f"{path}/cgroup.events")
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
        return [int(line) for line in read(f"{path}/cgroup.procs").split()]
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
        write(f"{path}/cgroup.kill", "1")


class CgroupOperation:
    """``cgroup``: makes the directory of the step's path; undone, removes it once nobody is left in it."""

    def describe(self, step: Step) -> str:
        return f"make the cgroup {step.path}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        """Nothing to remember: the directory is this guest's own, made by `joining.begin` or still to be made."""
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
