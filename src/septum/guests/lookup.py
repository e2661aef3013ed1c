"""The only part of this package that looks at the host: what `parse` is given in earnest."""

from __future__ import annotations

import os

from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ThisHost", "read_file"]

_MOST = 1 << 20


class ThisHost:
    """Answers about the machine this runs on; a `septum.guests.found.Host`."""

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def readlink(self, path: str) -> str:
        try:
            return os.readlink(path)
        except OSError:
            return ""

    def listdir(self, path: str) -> Sequence[str]:
        try:
            return os.listdir(path)
        except OSError:
            return ()

    def read(self, path: str) -> str:
        try:
            return read_file(path).strip()
        except (OSError, ValueError):
            return ""


def read_file(path: str) -> str:
    """The text of a configuration file, of up to 1 MiB; never waits for a FIFO.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, or no UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        content = file.read(_MOST + 1)
    if content is None or len(content) > _MOST:
        raise ValueError(f"{path} is larger than 1 MiB, or nothing can be read from it now")
    return content.decode()
