"""The operation ``context``: gives an object a SELinux context, and back the one that it had.

A directory hands its type on to what the guest makes in it, and the guest's level comes with that. So undoing a
directory first takes the guest's label from everything below it, and from the directory itself last: once that one
has its own label again, nothing below it is left.
"""

from __future__ import annotations

import errno
import os
import stat

from septum.errors import Held, HostError
from septum.host import kernel
from septum.host.driver import Outcome, Step
from septum.host.objects import CONTEXT, Gone, by_fd, open_object, read_xattr, recover
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any, Final

_NO_LEVELS: Final = ("", "s0")
_DEPTH_MAX: Final = 256  # a guest may build a tree so deep that walking it would need every descriptor there is


class Relabel:
    """args: context.

    Args:
        guest_types: types that mark an object as some guest's own. An object that has one of them, with categories
            that are not those of the step, belongs to another guest, be it of another manager or of a ledger that was
            lost, and is not taken from it.
    """

    def __init__(self, guest_types: Collection[str]) -> None:
        self._guest_types = guest_types

    def describe(self, step: Step) -> str:
        return f"label {step.path} {step.args['context']}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        fd = open_object(step.path, step.key)
        try:
            return {"context": _read(fd, step.path)}
        finally:
            os.close(fd)

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        wanted, before = step.args["context"], original["context"]
        if before != wanted and self._is_a_guests(before):
            raise Held(
                "the object carries another guest's label",
                target=step.path,
                holder=f"whoever runs with the categories of {before}",
                rule="an exclusive object is never taken from a guest",
                remedy=f"if no guest uses it any more: restorecon -F {step.path}",
            )
        fd = open_object(step.path, step.key)
        try:
            now = _read(fd, step.path)
            if now not in (before, wanted):
                raise HostError(
                    "somebody else labelled the object meanwhile",
                    target=step.path,
                    rule=f"expected {before}, found {now}",
                    remedy="run the command again",
                )
            _write(fd, step.path, wanted)
        finally:
            os.close(fd)

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        try:
            fd = recover(step.path, step.key)
        except Gone:
            return "gone"
        try:
            now = _read(fd, step.path)
            if now == original["context"]:
                return "untouched"
            if now != step.args["context"]:
                return "foreign"
            for inner, path in _below(fd, step.path, 0):
                if _read(inner, path) == step.args["context"]:
                    _write(inner, path, original["context"])
            _write(fd, step.path, original["context"])
            return "restored"
        finally:
            os.close(fd)

    def _is_a_guests(self, context: str) -> bool:
        parts = context.split(":", 3)
        return len(parts) == 4 and parts[2] in self._guest_types and parts[3] not in _NO_LEVELS


def _read(fd: int, path: str) -> str:
    try:
        return read_xattr(fd, CONTEXT).rstrip(b"\0").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise kernel.oserror("reading its SELinux context", error.errno or 0, target=path) from error


def _below(fd: int, path: str, depth: int) -> Iterator[tuple[int, str]]:
    """Descriptors of everything below a directory, children before their directory; nothing for what is none.

    Neither symlinks nor other file systems are entered. Each descriptor is closed when the next one is asked for.

    Raises:
        HostError: it can't be read, or is deeper than any tree that makes sense.
    """
    status = os.fstat(fd)
    if not stat.S_ISDIR(status.st_mode):
        return
    if depth > _DEPTH_MAX:
        raise HostError("a guest's folder is too deep to be walked", target=path, remedy="look at it, and remove it")
    try:
        listing = os.open(by_fd(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(listing):
                inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=listing)
                try:
                    if os.fstat(inner).st_dev == status.st_dev:
                        yield from _below(inner, os.path.join(path, name), depth + 1)
                        yield inner, os.path.join(path, name)
                finally:
                    os.close(inner)
        finally:
            os.close(listing)
    except OSError as error:
        raise kernel.oserror("walking a guest's folder", error.errno or 0, target=path) from error


def _write(fd: int, path: str, context: str) -> None:
    """Sets and reads back. An object that had no context, where SELinux isn't running, gets none again."""
    try:
        if context:
            os.setxattr(by_fd(fd), CONTEXT, context.encode("utf-8", "surrogateescape") + b"\0")
        else:
            os.removexattr(by_fd(fd), CONTEXT)
    except OSError as error:
        raise _refused(error, path, context) from error
    found = _read(fd, path)
    if found != context:
        raise HostError("its SELinux context does not read back as it was set", target=path, rule=f"found {found}")


def _refused(error: OSError, path: str, context: str) -> HostError:
    worded = kernel.oserror(f"setting its SELinux context to {context or 'none'}", error.errno or 0, target=path)
    if isinstance(error, PermissionError):
        worded.remedy = "this domain may not relabel it: run septum as a type with relabelfrom and relabelto"
    elif error.errno == errno.EOPNOTSUPP:
        worded.remedy = "its file system keeps no labels, or is mounted with context=: put the object somewhere else"
    return worded
