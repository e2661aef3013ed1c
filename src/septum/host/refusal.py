"""What the kernel refuses to do with an object, worded."""

from __future__ import annotations

import os

from septum.errors import HostError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def refused(what: str, path: str, error: OSError) -> HostError:
    """Words what the kernel refused to do with an object."""
    number = error.errno or 0
    return HostError(f"{what}: {os.strerror(number)}", errno=number, target=path)


class using:  # noqa: N801 (used like a function)
    """Closes a descriptor at the end, and words what the kernel refuses meanwhile.

    Args:
        fd: of the object.
        path: of the object, for the error.
        what: the error's first words: ``its owner can't be changed``.

    Raises:
        HostError: instead of an OSError.
    """

    __slots__ = ("_fd", "_path", "_what")

    def __init__(self, fd: int, path: str, what: str) -> None:
        self._fd, self._path, self._what = fd, path, what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if isinstance(error, OSError):
            raise refused(self._what, self._path, error) from error
