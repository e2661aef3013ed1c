"""The operation ``context``: gives an object a SELinux context, and back the one that it had."""

import errno
import os
from collections.abc import Collection, Mapping
from typing import Any, Final

from septum.errors import Held, HostError
from septum.host import kernel
from septum.host.driver import Outcome, Step
from septum.host.objects import CONTEXT, Gone, by_fd, open_object, read_xattr

_NO_LEVELS: Final = ("", "s0")


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
            fd = open_object(step.path, step.key)
        except Gone:
            return "gone"
        try:
            now = _read(fd, step.path)
            if now == original["context"]:
                return "untouched"
            if now != step.args["context"]:
                return "foreign"
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
