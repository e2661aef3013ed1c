"""The stand-alone policy in the state folder, from which engines take it, and its replacement in one step."""

import fcntl
import os
from typing import Final

from septum.errors import HostError, PolicyError
from septum.policy.compile import Built

FILE: Final = "standalone.policy"
"""Name of the file in the state folder."""

_NEW: Final = f"{FILE}.new"
_MAGIC: Final = b"\x8c\xff\x7c\xf9"  # POLICYDB_MAGIC (libsepol/include/sepol/policydb/policydb.h), little-endian
_MOST: Final = 64 << 20


def install(folder: str, built: Built) -> str:
    """Puts a compiled policy into the state folder; whoever opens it gets the old one or the new one, whole.

    Args:
        folder: the state folder; it is there, and the caller's own.
        built: the policy.

    Returns:
        The file's path.

    Raises:
        HostError: it can't be written; the old one stays.
    """
    path = os.path.join(folder, FILE)
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # One at a time, so that what a killed one left can be written over.
            fcntl.flock(directory, fcntl.LOCK_EX)
            _replace(directory, built.image)
        finally:
            os.close(directory)
    except OSError as error:
        raise HostError(
            f"the policy can't be installed: {error.strerror}",
            errno=error.errno or 0,
            target=path,
            remedy="what was there before is still in force; make room, or look at the folder's owner and mode",
        ) from error
    return path


def installed(folder: str) -> bytes:
    """The image that is in force, or nothing if none was installed.

    Raises:
        PolicyError: the file is no policy.
        HostError: it can't be read.
    """
    path = os.path.join(folder, FILE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise HostError(f"the policy can't be read: {error.strerror}", errno=error.errno or 0, target=path) from error
    with open(fd, "rb") as file:
        image = file.read(_MOST + 1)
    if not image.startswith(_MAGIC) or len(image) > _MOST:
        raise PolicyError("this is no compiled policy", target=path, remedy="septum policy load --target standalone")
    return image


def _replace(directory: int, image: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW, flags, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb", buffering=0) as file:
            rest = memoryview(image)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(fd)
        os.rename(_NEW, FILE, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(_NEW, dir_fd=directory)
        raise
    os.fsync(directory)
