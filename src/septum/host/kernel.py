"""The one place for raw system calls: what Python's `os` does not offer, through ctypes.

Constants have the names and values of the kernel's headers (include/uapi/linux: landlock.h, prctl.h, seccomp.h,
sched.h, fcntl.h, capability.h, close_range.h). Wrappers are thin: they call, and turn a failure into the `HostError`
that `oserror` words. Nothing here decides anything, and nothing here is tried a second time in another way.

What the C library wraps is called by that name; the rest by number. Numbers from 424 on are the same on every
architecture; `seccomp` and `execveat` are older (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from septum.errors import HostError
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn

# fcntl.h
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_HANDLE_FID = 0x200
MAX_HANDLE_SZ = 128

# prctl.h
PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

# sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# seccomp.h
SECCOMP_SET_MODE_FILTER = 1

# openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

# asm-generic/signal.h, and that of x86 and arm
SIGPIPE = 13
SIGXFSZ = 25

# close_range.h
CLOSE_RANGE_CLOEXEC = 4

# capability.h
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAP_SYS_ADMIN = 21

# asm-generic/resource.h
RLIMIT_MEMLOCK = 8
RLIM_INFINITY = 2**64 - 1

# landlock.h
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_RULE_NET_PORT = 2
LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON = 2

_NR_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NR_EXECVEAT = {"x86_64": 322, "aarch64": 281}
_NR_PIDFD_SEND_SIGNAL = 424
_NR_CLOSE_RANGE = 436
_NR_OPENAT2 = 437
_NR_LANDLOCK_CREATE_RULESET = 444
_NR_LANDLOCK_ADD_RULE = 445
_NR_LANDLOCK_RESTRICT_SELF = 446

_ADVICE = {
    errno.ENOSYS: "this kernel lacks the call, or a container's filter hides it; `septum doctor` says what works",
    errno.EOPNOTSUPP: "the feature is off: built out of the kernel, or missing from its lsm= parameter",
    errno.EPERM: "run as root, or with the capability that the call needs",
    errno.E2BIG: "this kernel is too old for what was asked of it",
    errno.EINVAL: "this kernel is too old for what was asked of it, or was asked for something it does not know",
    errno.ENOSPC: "a limit of the kernel is reached (user.max_*_namespaces, cgroup.max.*)",
    errno.EMFILE: "too many open files: raise RLIMIT_NOFILE",
}


def oserror(call: str, number: int, *, target: str = "") -> HostError:
    """Words a failed call.

    Args:
        call: the system call, or what was attempted with it: ``landlock_restrict_self``.
        number: errno.
        target: the object, if there is one.
    """
    name = errno.errorcode.get(number, str(number))
    return HostError(
        f"{call} failed: {os.strerror(number)} ({name})",
        errno=number,
        target=target,
        remedy=_ADVICE.get(number, ""),
    )


_libc = ctypes.CDLL(None, use_errno=True)

_int, _uint, _ulong, _pointer, _size, _string = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
)
_strings = ctypes.POINTER(ctypes.c_char_p)

_libc.prctl.argtypes = (_int, _ulong, _ulong, _ulong, _ulong)
_libc.prctl.restype = _int
_libc.unshare.argtypes = (_int,)
_libc.unshare.restype = _int
_libc.setns.argtypes = (_int, _int)
_libc.setns.restype = _int
_libc.name_to_handle_at.argtypes = (_int, _string, _pointer, _pointer, _int)
_libc.name_to_handle_at.restype = _int
_libc.open_by_handle_at.argtypes = (_int, _string, _int)
_libc.open_by_handle_at.restype = _int
_libc.execve.argtypes = (_string, _strings, _strings)
_libc.execve.restype = _int
_libc.signal.argtypes = (_int, _pointer)
_libc.signal.restype = _pointer
_SIG_ERR = 2 ** (8 * ctypes.sizeof(_pointer)) - 1
_libc.fstatfs.argtypes = (_int, _pointer)
_libc.fstatfs.restype = _int
_libc.capget.argtypes = (_string, _pointer)
_libc.capget.restype = _int
_libc.capset.argtypes = (_string, _string)
_libc.capset.restype = _int
_libc.setrlimit.argtypes = (_int, _string)
_libc.setrlimit.restype = _int

# One typed view of syscall(2) for each signature, as the C function is variadic.
_syscall_seccomp = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _uint, _uint, _string, use_errno=True)(
    ("syscall", _libc)
)
_syscall_execveat = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, _int, _string, _strings, _strings, _int, use_errno=True
)(("syscall", _libc))
_syscall_four = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _int, _int, _pointer, _uint, use_errno=True)(
    ("syscall", _libc)
)
_syscall_openat2 = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _int, _string, _string, _size, use_errno=True)(
    ("syscall", _libc)
)
_syscall_create_ruleset = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _string, _size, _uint, use_errno=True)(
    ("syscall", _libc)
)
_syscall_add_rule = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _int, _int, _string, _uint, use_errno=True)(
    ("syscall", _libc)
)
_syscall_unsigned = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, _uint, _uint, _uint, use_errno=True)(
    ("syscall", _libc)
)


def _checked(result: int, call: str, target: str = "") -> int:
    if result < 0:
        raise oserror(call, ctypes.get_errno(), target=target)
    return result


def _number(table: dict[str, int], call: str) -> int:
    machine = os.uname().machine
    if machine not in table:
        raise oserror(f"{call} on {machine}", errno.ENOSYS)
    return table[machine]


# Landlock


def landlock_abi() -> int:
    """The Landlock ABI of the running kernel, 1 or more.

    Raises:
        HostError: ENOSYS without Landlock, EOPNOTSUPP if it is off at boot.
    """
    result = _syscall_create_ruleset(_NR_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return _checked(result, "landlock_create_ruleset")


def landlock_create_ruleset(handled_fs: int, handled_net: int, scoped: int) -> int:
    """A descriptor of a new, empty ruleset; close-on-exec.

    An older kernel takes the three-field structure as long as the fields it does not know are 0, and answers E2BIG
    otherwise.
    """
    attr = struct.pack("=QQQ", handled_fs, handled_net, scoped)
    result = _syscall_create_ruleset(_NR_LANDLOCK_CREATE_RULESET, attr, len(attr), 0)
    return _checked(result, "landlock_create_ruleset")


def landlock_add_path(ruleset: int, path_fd: int, access: int, target: str = "") -> None:
    """Allows `access` on what `path_fd` is open on and, if that is a directory, on all below it.

    Args:
        ruleset: from `landlock_create_ruleset`.
        path_fd: any descriptor, O_PATH included.
        access: LANDLOCK_ACCESS_FS_* bits; for anything but a directory only those that apply to files (else EINVAL).
        target: path for the error message.
    """
    attr = struct.pack("=Qi", access, path_fd)
    result = _syscall_add_rule(_NR_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, attr, 0)
    _checked(result, "landlock_add_rule", target)


def landlock_add_port(ruleset: int, port: int, access: int) -> None:
    """Allows LANDLOCK_ACCESS_NET_* bits for one TCP port."""
    attr = struct.pack("=QQ", access, port)
    result = _syscall_add_rule(_NR_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_NET_PORT, attr, 0)
    _checked(result, "landlock_add_rule", f"TCP port {port}")


def landlock_restrict_self(ruleset: int, flags: int = 0) -> None:
    """Confines the calling thread for good; needs no_new_privs or CAP_SYS_ADMIN."""
    _checked(
        _syscall_unsigned(_NR_LANDLOCK_RESTRICT_SELF, ruleset, flags, 0),
        "landlock_restrict_self",
    )


# prctl


def set_no_new_privs() -> None:
    """execve of the calling thread and its children never gains privileges again; there is no way back."""
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def no_new_privs() -> bool:
    """Whether `set_no_new_privs` was called here or in an ancestor."""
    return _checked(_libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), "prctl(PR_GET_NO_NEW_PRIVS)") == 1


def default_action(signal: int) -> None:
    """Gives a signal its default action. Python's own table is not told, so this is for a process about to exec.

    The module `signal` does the same, and costs a start 0.9 ms for the enumerations that it makes.
    """
    _checked(0 if _libc.signal(signal, None) != _SIG_ERR else -1, "signal")


def set_name(name: bytes) -> None:
    """The thread's name in /proc/PID/comm; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name[:15])
    _checked(_libc.prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl(PR_SET_NAME)")


def parent_death_signal() -> int:
    """The signal that this process gets when its parent thread ends, or 0."""
    signal = ctypes.c_int()
    _checked(_libc.prctl(PR_GET_PDEATHSIG, ctypes.addressof(signal), 0, 0, 0), "prctl(PR_GET_PDEATHSIG)")
    return signal.value


def set_parent_death_signal(signal: int) -> None:
    """See `parent_death_signal`. A change of credentials clears it (prctl(2))."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


# seccomp, namespaces, capabilities, limits


def seccomp_filter(program: bytes) -> None:
    """Installs a classic BPF filter on the calling thread; needs no_new_privs or CAP_SYS_ADMIN.

    Args:
        program: `struct sock_filter` instructions, 8 bytes each.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: its pointer is aligned to 8 bytes.
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    number = _number(_NR_SECCOMP, "seccomp")
    _checked(_syscall_seccomp(number, SECCOMP_SET_MODE_FILTER, 0, fprog), "seccomp(SECCOMP_SET_MODE_FILTER)")


def unshare(flags: int) -> None:
    """Moves the calling process into new namespaces, CLONE_NEW* bits."""
    _checked(_libc.unshare(flags), "unshare", f"CLONE_NEW* {flags:#x}")


def setns(fd: int, nstype: int = 0) -> None:
    """Joins the namespace (or those of the pidfd) that `fd` names."""
    _checked(_libc.setns(fd, nstype), "setns")


class Capabilities(NamedTuple):
    """Bit sets, bit n for capability number n. Ambient ones are a subset of `permitted` and of `inheritable`."""

    effective: int
    permitted: int
    inheritable: int


def capabilities() -> Capabilities:
    """Those of the calling thread."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, data), "capget")
    low, high = data[:3], data[3:]
    return Capabilities(*(bottom | top << 32 for bottom, top in zip(low, high, strict=True)))


def drop_capabilities() -> None:
    """Empties all sets of the calling thread, the ambient one included; the bounding set stays."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


def set_limit(resource: int, soft: int, hard: int) -> None:
    """setrlimit(2) for the calling process: an RLIMIT_* number and two values in its unit.

    Raises:
        HostError: EPERM if the hard limit would grow without CAP_SYS_RESOURCE, which a container's root may lack.
    """
    _checked(_libc.setrlimit(resource, struct.pack("@LL", soft, hard)), "setrlimit", f"RLIMIT number {resource}")


# descriptors and processes


def file_system_type(fd: int) -> int:
    """The magic number (include/uapi/linux/magic.h) of the file system that the open object is on.

    `struct statfs` begins with `f_type`, a long (asm-generic/statfs.h); the rest is not read.
    """
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.fstatfs(fd, buffer), "fstatfs")
    (kind,) = struct.unpack_from("@L", buffer)
    return int(kind)


def openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """Opens a path below a directory under rules for the walk.

    Args:
        dir_fd: descriptor of the directory.
        path: relative.
        flags: as for `os.open`; O_CLOEXEC is added. Nothing is created.
        resolve: RESOLVE_* bits.

    Raises:
        HostError: EXDEV if the walk would leave the file system (a mount on the way) or the directory, ELOOP at a
            symlink.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _checked(_syscall_openat2(_NR_OPENAT2, dir_fd, os.fsencode(path), how, len(how)), "openat2", path)


def file_handle(fd: int, flags: int = 0) -> bytes | None:
    """A name of the open object that survives renames and is not reused with its inode number; None if it has none.

    Args:
        fd: any descriptor, O_PATH included.
        flags: 0, or AT_HANDLE_FID for a handle that identifies only: more file systems have those (Linux 6.5), but
            `open_by_handle` does not take them.

    Returns:
        The handle's type (4 bytes, native order) and its bytes.
    """
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", MAX_HANDLE_SZ, 0), 8 + MAX_HANDLE_SZ)
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount_id), AT_EMPTY_PATH | flags) < 0:
        number = ctypes.get_errno()
        if number == errno.EOPNOTSUPP:
            return None
        raise oserror("name_to_handle_at", number)
    (size,) = struct.unpack_from("=I", buffer)
    return buffer.raw[4 : 8 + size]


def open_by_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    """Opens what `file_handle` named; needs CAP_DAC_READ_SEARCH.

    Args:
        mount_fd: a descriptor of anything in the same file system.
        handle: from `file_handle`.
        flags: as for `os.open`; O_CLOEXEC is added.

    Raises:
        HostError: ESTALE if the object is no more.
    """
    raw = struct.pack("=I", len(handle) - 4) + handle
    return _checked(_libc.open_by_handle_at(mount_fd, raw, flags | os.O_CLOEXEC), "open_by_handle_at")


def close_range(first: int, last: int, flags: int = 0) -> None:
    """Closes descriptors `first` to `last`, both included, or with CLOSE_RANGE_CLOEXEC marks them close-on-exec."""
    _checked(_syscall_unsigned(_NR_CLOSE_RANGE, first, last, flags), "close_range")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Sends a signal to exactly the process that the pidfd names.

    Raises:
        HostError: ESRCH if it has ended and was waited for.
    """
    _checked(_syscall_four(_NR_PIDFD_SEND_SIGNAL, pidfd, signal, None, 0), "pidfd_send_signal")


def _vector(call: str, values: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    for value in values:
        if b"\0" in value:
            raise oserror(f"{call} of a string with a NUL byte", errno.EINVAL, target=repr(value))
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def execve(path: bytes, argv: list[bytes], envp: list[bytes]) -> NoReturn:
    """Becomes the program at `path`, with exactly these bytes as arguments and environment (NAME=VALUE, in order).

    Raises:
        HostError: with the errno of execve(2), or EINVAL for a NUL byte.
    """
    (checked, _) = _vector("execve", [path])
    _libc.execve(checked, _vector("execve", argv), _vector("execve", envp))
    raise oserror("execve", ctypes.get_errno(), target=os.fsdecode(path))


def fexecve(fd: int, argv: list[bytes], envp: list[bytes]) -> NoReturn:
    """The same for the program that `fd` is open on, so that nobody can swap the file meanwhile.

    A script can't be run through a close-on-exec descriptor (ENOENT), as its interpreter gets a path below /dev/fd.
    """
    number = _number(_NR_EXECVEAT, "execveat")
    _syscall_execveat(number, fd, b"", _vector("execveat", argv), _vector("execveat", envp), AT_EMPTY_PATH)
    raise oserror("execveat", ctypes.get_errno(), target=f"descriptor {fd}")
