"""libsepol by ctypes, a copy of it for each open policy, since it keeps one policy in global variables.

The first policy of a process has the library as it is installed. Further ones get a private copy each, loaded from a
memfd: the dynamic linker takes a file with an inode of its own for another library. A closed policy's copy waits for
the next one, as loading a policy frees the one before (`sepol_set_policydb_from_file` in libsepol/src/services.c).

Functions and constants are from sepol/policydb/services.h, sepol/policydb.h, sepol/handle.h and sepol/booleans.h
of libsepol 3.4, the first that exports them.
"""

from __future__ import annotations

import ctypes as c
import os
import threading

from septum.errors import Unenforceable
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["REASONS", "AvDecision", "Library", "borrow", "give_back", "libc"]

_NAME: Final = "libsepol.so.2"
REASONS: Final = {1: "type enforcement", 2: "constraint", 4: "role", 8: "bounds"}
"""SEPOL_COMPUTEAV_TE, _CONS, _RBAC, _BOUNDS."""


class AvDecision(c.Structure):
    """struct sepol_av_decision."""

    _fields_ = [(name, c.c_uint32) for name in ("allowed", "decided", "auditallow", "auditdeny", "seqno")]


_Pointer = c.c_void_p
_SIGNATURES: Final = {
    "sepol_debug": (None, [c.c_int]),
    "sepol_set_policydb_from_file": (c.c_int, [_Pointer]),
    "sepol_check_context": (c.c_int, [c.c_char_p]),
    "sepol_context_to_sid": (c.c_int, [c.c_char_p, c.c_size_t, c.POINTER(c.c_uint32)]),
    "sepol_string_to_security_class": (c.c_int, [c.c_char_p, c.POINTER(c.c_uint16)]),
    "sepol_string_to_av_perm": (c.c_int, [c.c_uint16, c.c_char_p, c.POINTER(c.c_uint32)]),
    "sepol_av_perm_to_string": (c.c_char_p, [c.c_uint16, c.c_uint32]),
    "sepol_compute_av_reason": (
        c.c_int,
        [c.c_uint32, c.c_uint32, c.c_uint16, c.c_uint32, c.POINTER(AvDecision), c.POINTER(c.c_uint)],
    ),
    "sepol_compute_av_reason_buffer": (
        c.c_int,
        [
            c.c_uint32,
            c.c_uint32,
            c.c_uint16,
            c.c_uint32,
            c.POINTER(AvDecision),
            c.POINTER(c.c_uint),
            c.POINTER(_Pointer),
            c.c_uint,
        ],
    ),
    "sepol_handle_create": (_Pointer, []),
    "sepol_handle_destroy": (None, [_Pointer]),
    "sepol_msg_set_callback": (None, [_Pointer, _Pointer, _Pointer]),
    "sepol_policydb_create": (c.c_int, [c.POINTER(_Pointer)]),
    "sepol_policydb_free": (None, [_Pointer]),
    "sepol_policydb_read": (c.c_int, [_Pointer, _Pointer]),
    "sepol_policydb_write": (c.c_int, [_Pointer, _Pointer]),
    "sepol_policydb_mls_enabled": (c.c_int, [_Pointer]),
    "sepol_policy_file_create": (c.c_int, [c.POINTER(_Pointer)]),
    "sepol_policy_file_free": (None, [_Pointer]),
    "sepol_policy_file_set_fp": (None, [_Pointer, _Pointer]),
    "sepol_policy_file_set_handle": (None, [_Pointer, _Pointer]),
    "sepol_kernel_policydb_to_cil": (c.c_int, [_Pointer, _Pointer]),
    "sepol_bool_key_create": (c.c_int, [_Pointer, c.c_char_p, c.POINTER(_Pointer)]),
    "sepol_bool_key_free": (None, [_Pointer]),
    "sepol_bool_query": (c.c_int, [_Pointer, _Pointer, _Pointer, c.POINTER(_Pointer)]),
    "sepol_bool_get_value": (c.c_int, [_Pointer]),
    "sepol_bool_set_value": (None, [_Pointer, c.c_int]),
    "sepol_bool_set": (c.c_int, [_Pointer, _Pointer, _Pointer, _Pointer]),
    "sepol_bool_free": (None, [_Pointer]),
}


class Library:
    """One copy of libsepol; a function is an attribute of its name. The GIL is held in every call.

    Args:
        copy: 0 for the library that the whole process shares; another number for a copy of its own, each its own.

    Raises:
        Unenforceable: there is no libsepol, or one that is too old.
    """

    def __init__(self, *, copy: int) -> None:
        try:
            loaded = c.PyDLL(_NAME)
            if copy:
                loaded = _copy(_path_of(loaded), copy)
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
        except (AttributeError, OSError) as error:
            raise Unenforceable(
                f"libsepol can't be used: {error}",
                target=_NAME,
                rule="libsepol 3.4 or later decides where the kernel does not",
                remedy="install it (Debian 12: libsepol2)",
            ) from error
        loaded.sepol_debug(0)
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded, name)


class _DlInfo(c.Structure):
    _fields_ = [("fname", c.c_char_p), ("fbase", _Pointer), ("sname", c.c_char_p), ("saddr", _Pointer)]


def _libc() -> Any:
    found = c.PyDLL(None, use_errno=True)
    found.fdopen.restype, found.fdopen.argtypes = _Pointer, [c.c_int, c.c_char_p]
    found.fclose.restype, found.fclose.argtypes = c.c_int, [_Pointer]
    found.free.restype, found.free.argtypes = None, [_Pointer]
    found.dladdr.restype, found.dladdr.argtypes = c.c_int, [_Pointer, c.POINTER(_DlInfo)]
    return found


libc: Final = _libc()


def _path_of(loaded: c.PyDLL) -> str:
    info = _DlInfo()
    if not libc.dladdr(c.cast(loaded.sepol_debug, _Pointer), c.byref(info)):
        raise OSError("the dynamic linker does not say where it is")
    return os.fsdecode(info.fname)


def _copy(path: str, number: int) -> c.PyDLL:
    copy = os.memfd_create("libsepol", os.MFD_CLOEXEC)
    try:
        with open(path, "rb") as source, open(copy, "wb", closefd=False) as target:
            target.write(source.read())
        # The linker goes by names before it looks at a file: /proc/self/fd/5 of another time would be the same library.
        return c.PyDLL(f"/proc/self{'/' * number}/fd/{copy}")
    finally:
        os.close(copy)


_idle: list[Library] = []
_made = 0
_lock = threading.Lock()


def borrow() -> Library:
    """A copy that no open policy uses. See `Library` for errors."""
    global _made
    with _lock:
        if _idle:
            return _idle.pop()
        library = Library(copy=_made)
        _made += 1
        return library


def give_back(library: Library) -> None:
    """For the next policy; its own is freed when that one is loaded."""
    with _lock:
        _idle.append(library)
