"""Taking a declaration from disk. The platform's file is trusted; a realm's, and its folder, is somebody else's."""

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from septum.declare.document import MOST_BYTES
from septum.declare.model import Declaration
from septum.declare.parse import Fetched, Unfetched, parse
from septum.errors import DeclarationError, Fault

__all__ = ["Taken", "again", "read", "take"]

_ROOT: Final = 0
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_AS_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_AS_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Taken(NamedTuple):
    """A declaration as it was read, so that it can be kept and read again.

    Attributes:
        declaration: what it says.
        file: name of the platform's file, for messages.
        content: of that file.
        parts: realms' files, as the platform's names them → content.
    """

    declaration: Declaration
    file: str
    content: bytes
    parts: Mapping[str, bytes]


def read(path: str) -> Declaration:
    """The declaration in a file; see `take`."""
    return take(path).declaration


def again(file: str, content: bytes, parts: Mapping[str, bytes]) -> Taken:
    """A declaration that was kept.

    Raises:
        DeclarationError: this version reads it otherwise than the one that kept it.
    """

    def fetch(name: str) -> Fetched:
        if name not in parts:
            raise Unfetched(f"{name} was not kept")
        return Fetched(os.path.join(os.path.dirname(file), name), parts[name], name)

    return Taken(parse(file, content, fetch), file, content, dict(parts))


def take(path: str) -> Taken:
    """Reads and checks the declaration in a file, and the realms' files that it names.

    Nobody but root and the caller may write the platform's file. A realm's file may be anybody's, but the world may
    write neither it nor a folder on the way; it lies below the platform's folder, and neither symbolic nor hard links
    lead to it. Else one realm could put its text, or a file that it may not read, in another's place.

    Args:
        path: of the platform's file.

    Raises:
        DeclarationError: with all faults of all files; a file that can't be taken is one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = _regular(descriptor)
            if status.st_uid not in (_ROOT, os.geteuid()):
                raise Unfetched(f"it belongs to uid {status.st_uid}: expected root or whoever runs this")
            if status.st_mode & _OTHERS:
                mode = f"{stat.S_IMODE(status.st_mode):04o}"
                raise Unfetched(f"others may write it (mode {mode}), and with it open doors: expected 0644 or less")
            content = _content(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DeclarationError([Fault(path, 0, 0, f"it can't be read: {error.strerror}")]) from error
    except Unfetched as unfetched:
        raise DeclarationError([Fault(path, 0, 0, unfetched.why)]) from None
    try:
        parts: dict[str, bytes] = {}

        def fetch(name: str) -> Fetched:
            fetched = _fetch(folder, os.path.dirname(path), (status.st_dev, status.st_ino), name)
            parts[name] = fetched.content
            return fetched

        return Taken(parse(path, content, fetch), path, content, parts)
    finally:
        os.close(folder)


def _fetch(folder: int, prefix: str, platform: tuple[int, int], name: str) -> Fetched:
    """A realm's file.

    Args:
        folder: the platform's, open.
        prefix: its path, for messages.
        platform: device and inode of the platform's own file.
        name: relative to the folder, without ``.`` and ``..``.
    """
    *folders, last = name.split("/")
    current = os.dup(folder)
    try:
        for part in [".", *folders]:
            below = os.open(part, _AS_FOLDER, dir_fd=current)
            os.close(current)
            current = below
            if os.fstat(current).st_mode & stat.S_IWOTH:
                raise Unfetched(f"everybody may write the folder {part} on the way to {name}")
        descriptor = os.open(last, _AS_FILE, dir_fd=current)
    except OSError as error:
        # A link gives ELOOP by O_NOFOLLOW, ENOTDIR together with O_PATH and O_DIRECTORY (open(2)).
        link = " (symbolic links are not followed)" if error.errno in (errno.ELOOP, errno.ENOTDIR) else ""
        raise Unfetched(f"{name} can't be read: {error.strerror}{link}") from error
    finally:
        os.close(current)
    try:
        status = _regular(descriptor)
        if status.st_mode & stat.S_IWOTH:
            raise Unfetched(f"everybody may write {name} (mode {stat.S_IMODE(status.st_mode):04o}), not only its realm")
        identity = (status.st_dev, status.st_ino)
        if identity == platform:
            raise Unfetched(f"{name} is the platform's own file")
        if status.st_nlink > 1:
            raise Unfetched(f"{name} has {status.st_nlink} names: expected a file without other hard links")
        return Fetched(os.path.join(prefix, name), _content(descriptor), identity)
    except OSError as error:
        raise Unfetched(f"{name} can't be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _regular(descriptor: int) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Unfetched("it is no regular file")
    return status


def _content(descriptor: int) -> bytes:
    """At most one byte more than is taken, so that a longer file is refused and not read."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(MOST_BYTES + 1)
