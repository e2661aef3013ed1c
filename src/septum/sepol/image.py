"""The bytes of a policy: reading them, their version, and libsepol's view of them apart from decisions."""

from __future__ import annotations

import ctypes as c
import os
from collections.abc import Callable, Mapping
from struct import unpack_from
from typing import Final

from septum.errors import PolicyError, UnknownName
from septum.sepol.library import Library, borrow, give_back, libc

__all__ = ["Database", "header", "read", "refused", "stream", "with_booleans"]

SIZE_MAX: Final = 64 << 20
"""Bytes. Debian's whole policy has 3 MB."""
_MAGIC: Final = 0xF97CFF8C  # POLICYDB_MAGIC in sepol/policydb/policydb.h
_REJECT: Final = 2  # REJECT_UNKNOWN, ALLOW_UNKNOWN in sepol/policydb/policydb.h
_ALLOW: Final = 4
_TARGETS: Final = (b"SE Linux", b"XenFlask")


def read(path: str) -> bytes:
    """The content of a policy file.

    Raises:
        PolicyError: it can't be read, or is too large.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise PolicyError(f"the policy {path} can't be read: {error.strerror}", target=path) from error
    if len(content) > SIZE_MAX:
        raise PolicyError(f"the policy {path} is larger than {SIZE_MAX >> 20} MiB", target=path)
    return content


def header(content: bytes, name: str) -> tuple[int, str]:
    """The version that a policy says it has, and what becomes of classes that it lacks: deny, allow or reject.

    Raises:
        PolicyError: it is no binary kernel policy.
    """
    if len(content) < 16:
        raise PolicyError(f"{name} is no policy: it ends after {len(content)} bytes", target=name)
    magic, length = unpack_from("<II", content)
    if magic != _MAGIC or content[8 : 8 + length] not in _TARGETS or len(content) < 8 + length + 8:
        raise PolicyError(
            f"{name} is no compiled policy",
            target=name,
            rule="it begins with POLICYDB_MAGIC and names SELinux or Xen",
            remedy="compile it: `septum policy build`, secilc or checkpolicy",
        )
    number, config = unpack_from("<II", content, 8 + length)
    return number, "reject" if config & _REJECT else "allow" if config & _ALLOW else "deny"


def stream(content: bytes) -> int:
    """A C stream (FILE *) over a copy of the content; for `fclose`."""
    copy = _memfd()
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(copy, view) :]
        os.lseek(copy, 0, os.SEEK_SET)
        file = libc.fdopen(copy, b"r+")
    except OSError as error:
        os.close(copy)
        raise _no_memory(error) from error
    if not file:
        os.close(copy)
        raise MemoryError("no C stream can be had")
    return int(file)


def _memfd() -> int:
    try:
        return os.memfd_create("policy", os.MFD_CLOEXEC)
    except OSError as error:
        raise _no_memory(error) from error


def _no_memory(error: OSError) -> PolicyError:
    return PolicyError(
        f"a policy can't be copied into memory: {error.strerror}",
        rule="libsepol reads files only, and nobody may write the one that it reads",
    )


def refused(name: str) -> PolicyError:
    """libsepol said no, which is all that it says."""
    return PolicyError(
        f"libsepol does not take {name} for a policy",
        target=name,
        rule="damaged, cut off, or of a version that this libsepol does not know",
        remedy="compile it anew",
    )


def with_booleans(content: bytes, values: Mapping[str, bool], name: str = "the policy") -> bytes:
    """The same policy with other values of booleans; nothing is compiled.

    Args:
        content: a compiled policy.
        values: of those that change.
        name: for errors.

    Raises:
        PolicyError: libsepol does not take the policy.
        UnknownName: it has no such boolean.
    """
    library = borrow()
    try:
        database = Database(library, content, name)
        try:
            for boolean, value in values.items():
                database.set_boolean(boolean, value)
            return database.written()
        finally:
            database.close()
    finally:
        give_back(library)


class Database:
    """A policy that is looked at and not asked; close it.

    Args:
        library: whichever; no decision of it is touched.
        content: of the policy.
        name: for errors.

    Raises:
        PolicyError: libsepol does not take it.
    """

    def __init__(self, library: Library, content: bytes, name: str) -> None:
        self._library = library
        self._name = name
        self._handle = c.c_void_p(library.sepol_handle_create())
        # No callback: what libsepol has to say of a broken file would go to standard error.
        library.sepol_msg_set_callback(self._handle, None, None)
        self._database = c.c_void_p()
        library.sepol_policydb_create(c.byref(self._database))
        source = stream(content)
        file = self._file(source)
        try:
            if library.sepol_policydb_read(self._database, file) < 0:
                self.close()
                raise refused(name)
        finally:
            library.sepol_policy_file_free(file)
            libc.fclose(source)

    @property
    def mls(self) -> bool:
        return bool(self._library.sepol_policydb_mls_enabled(self._database))

    def set_boolean(self, name: str, value: bool) -> None:
        """Raises UnknownName if there is no such boolean."""
        library, key, boolean = self._library, c.c_void_p(), c.c_void_p()
        if not name.isascii() or "\0" in name:
            raise UnknownName(f"{self._name} has no boolean {name[:100]!r}", target=name[:100])
        library.sepol_bool_key_create(self._handle, name.encode(), c.byref(key))
        try:
            library.sepol_bool_query(self._handle, self._database, key, c.byref(boolean))
            if not boolean:
                raise UnknownName(f"{self._name} has no boolean {name[:100]!r}", target=name[:100])
            library.sepol_bool_set_value(boolean, int(value))
            library.sepol_bool_set(self._handle, self._database, key, boolean)
        finally:
            library.sepol_bool_free(boolean)
            library.sepol_bool_key_free(key)

    def written(self) -> bytes:
        """The policy as it is now."""
        return self._written_by(self._write)

    def cil(self) -> str:
        """The policy as text."""
        convert = self._library.sepol_kernel_policydb_to_cil
        return self._written_by(lambda target: int(convert(target, self._database))).decode("utf-8", "surrogateescape")

    def close(self) -> None:
        self._library.sepol_policydb_free(self._database)
        self._library.sepol_handle_destroy(self._handle)
        self._database = self._handle = c.c_void_p()

    def _write(self, target: int) -> int:
        file = self._file(target)
        try:
            return int(self._library.sepol_policydb_write(self._database, file))
        finally:
            self._library.sepol_policy_file_free(file)

    def _written_by(self, write: Callable[[int], int]) -> bytes:
        copy = _memfd()
        try:
            target = libc.fdopen(os.dup(copy), b"w")
            code = write(target)
            if libc.fclose(target) != 0 or code < 0:
                raise PolicyError(f"{self._name} can't be written out", target=self._name)
            os.lseek(copy, 0, os.SEEK_SET)
            with open(copy, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(copy)

    def _file(self, source: int) -> c.c_void_p:
        file = c.c_void_p()
        self._library.sepol_policy_file_create(c.byref(file))
        self._library.sepol_policy_file_set_fp(file, source)
        self._library.sepol_policy_file_set_handle(file, self._handle)
        return file
