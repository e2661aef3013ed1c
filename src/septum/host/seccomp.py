"""The system calls that a guest's process has no business with, as a classic BPF program.

This is no allow-list: QEMU's own ``-sandbox on`` narrows what it needs, and septum's filter must not break what a
toolstack asks for. It closes what files, uids and namespaces leave open: tracing and copying from other processes,
keyrings, new namespaces and mounts (the usual ways to a kernel's less tested parts), SysV IPC and, for a guest that
opens no connections, `connect`, since Landlock before ABI 9 does not know of unix sockets with a path.

What can't be done here: `execve` can't be refused, as QEMU itself is yet to be executed (Landlock leaves only QEMU and
its loader executable); `sendmsg` hides its address behind a pointer, so a datagram to a unix socket is a matter of the
socket's mode; `clone3` hides its flags likewise, so it fails with ENOSYS and the C library falls back to `clone`.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl, and include/uapi/asm-generic/unistd.h for aarch64; instructions and
`struct seccomp_data`: include/uapi/linux/{bpf_common,filter,seccomp,audit}.h.
"""

from __future__ import annotations

import errno
import struct

from septum.errors import Unenforceable
from septum.host import kernel
from septum.host.driver import Confinement
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

# bpf_common.h: class, size, mode, operation
_LD_W_ABS: Final = 0x20
_JMP_JEQ_K: Final = 0x15
_JMP_JSET_K: Final = 0x45
_RET_K: Final = 0x06

SECCOMP_RET_ERRNO: Final = 0x00050000
SECCOMP_RET_ALLOW: Final = 0x7FFF0000

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6], little-endian on both architectures
_NR_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_ARGS_OFFSET: Final = 16

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_SYSCALL_BIT: Final = 0x40000000

_AF_INET: Final = 2
_AF_INET6: Final = 10
_AF_VSOCK: Final = 40
_IOPRIO_WHO_PGRP: Final = 2
_IOPRIO_WHO_USER: Final = 3
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_CLONE_NEW: Final = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)

NUMBERS: Final = {
    "x86_64": {
        "ioctl": 16,
        "shmget": 29,
        "socket": 41,
        "connect": 42,
        "sendto": 44,
        "clone": 56,
        "semget": 64,
        "msgget": 68,
        "ptrace": 101,
        "setpriority": 141,
        "pivot_root": 155,
        "mount": 165,
        "umount2": 166,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "ioprio_set": 251,
        "unshare": 272,
        "perf_event_open": 298,
        "prlimit64": 302,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "bpf": 321,
        "userfaultfd": 323,
    },
    "aarch64": {
        "ioctl": 29,
        "ioprio_set": 30,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "unshare": 97,
        "ptrace": 117,
        "setpriority": 140,
        "msgget": 186,
        "semget": 190,
        "shmget": 194,
        "socket": 198,
        "connect": 203,
        "sendto": 206,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "clone": 220,
        "perf_event_open": 241,
        "prlimit64": 261,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "bpf": 280,
        "userfaultfd": 282,
    },
}
_EVERYWHERE: Final = {
    "io_uring_setup": 425,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "open_tree_attr": 467,
}

_ALWAYS: Final = (
    ("other processes' memory and descriptors", ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd")),
    ("other processes' kernel objects", ("kcmp", "perf_event_open", "bpf")),
    ("keyrings", ("add_key", "request_key", "keyctl")),
    ("mounts", ("mount", "umount2", "pivot_root", "open_tree", "open_tree_attr", "move_mount", "mount_setattr")),
    ("mounts", ("fsopen", "fsconfig", "fsmount", "fspick")),
    ("namespaces", ("unshare", "setns")),
)


class Argument(NamedTuple):
    """A test of one argument.

    Attributes:
        position: from 0.
        test: `eq` (its low 32 bits are `value`), `any` (they share a bit with `value`) or `nonzero` (all 64 bits).
        value: 32 bits.
    """

    position: int
    test: str
    value: int


class Refusal(NamedTuple):
    """One thing that the filter refuses.

    Attributes:
        call: name of the system call.
        error: errno that the caller gets.
        why: for people.
        argument: refused only if this holds; None for always.
    """

    call: str
    error: int
    why: str
    argument: Argument | None = None


def refusals(guest: Confinement, *, incoming: bool = False, io_uring: bool = False) -> tuple[Refusal, ...]:
    """What this guest's process is refused.

    Args:
        guest: the guest.
        incoming: it waits for a migration (``-incoming``), whose postcopy phase needs `userfaultfd`.
        io_uring: a drive asks for ``aio=io_uring``. A ring connects sockets past any filter, so it goes together with
            `connect` otherwise; QEMU's event loop does without it.
    """
    found = [Refusal(call, errno.EPERM, why) for why, calls in _ALWAYS for call in calls]
    found += [
        Refusal("clone3", errno.ENOSYS, "its flags can't be seen; the C library falls back to clone"),
        Refusal("clone", errno.EPERM, "namespaces", Argument(0, "any", _CLONE_NEW)),
        Refusal("ioctl", errno.EPERM, "typing into the caller's terminal", Argument(1, "eq", _TIOCSTI)),
        Refusal("ioctl", errno.EPERM, "typing into the caller's terminal", Argument(1, "eq", _TIOCLINUX)),
    ]
    if not incoming:
        found.append(Refusal("userfaultfd", errno.EPERM, "no incoming migration"))
    if guest.uid < 0:
        found += _with_a_shared_uid(guest)
    if not guest.network:
        found.append(Refusal("socket", errno.EPERM, "no network: other guests' vsock", Argument(0, "eq", _AF_VSOCK)))
    if not (guest.connects or guest.network):
        found.append(Refusal("connect", errno.EPERM, "it opens no connections"))
        found.append(Refusal("sendto", errno.EPERM, "it opens no connections", Argument(4, "nonzero", 0)))
        if not io_uring:
            found.append(Refusal("io_uring_setup", errno.EPERM, "a ring connects past this filter"))
    return tuple(found)


def _with_a_shared_uid(guest: Confinement) -> Iterator[Refusal]:
    """What a uid or a namespace of its own refuses to other guests.

    Landlock's scope for signals is no help with limits: a process over its RLIMIT_CPU gets SIGKILL from the kernel.
    """
    for call in ("shmget", "semget", "msgget"):
        yield Refusal(call, errno.EPERM, "no IPC namespace of its own")
    others = "processes of the same uid"
    yield Refusal("prlimit64", errno.EPERM, others, Argument(0, "nonzero", 0))
    for position in (0, 1):
        yield Refusal("setpriority", errno.EPERM, others, Argument(position, "nonzero", 0))
    yield Refusal("ioprio_set", errno.EPERM, others, Argument(0, "eq", _IOPRIO_WHO_PGRP))
    yield Refusal("ioprio_set", errno.EPERM, others, Argument(0, "eq", _IOPRIO_WHO_USER))
    yield Refusal("ioprio_set", errno.EPERM, others, Argument(1, "nonzero", 0))
    if not guest.network:
        # Neither Landlock nor a filter of `connect` sees the address of a datagram that sendmsg takes.
        for family in (_AF_INET, _AF_INET6):
            yield Refusal("socket", errno.EPERM, "no network, and no network namespace", Argument(0, "eq", family))


def number(call: str, machine: str) -> int:
    """The number of a system call that this module names.

    Raises:
        Unenforceable: no table for this machine.
    """
    if machine not in NUMBERS:
        raise Unenforceable(
            f"septum has no system call filter for {machine}", target="seccomp", remedy="use x86_64 or aarch64"
        )
    return NUMBERS[machine].get(call) or _EVERYWHERE[call]


def program(refused: Iterable[Refusal], machine: str) -> bytes:
    """The filter as `struct sock_filter` instructions; other architectures' calls (i386, x32) are all refused.

    Args:
        refused: from `refusals`.
        machine: as `os.uname` names it.

    Raises:
        Unenforceable: no table for this machine.
    """
    by_number: dict[int, list[Refusal]] = {}
    for refusal in refused:
        by_number.setdefault(number(refusal.call, machine), []).append(refusal)
    denied = _instruction(_RET_K, SECCOMP_RET_ERRNO | errno.EPERM)
    code = [
        _instruction(_LD_W_ABS, _ARCH_OFFSET),
        _instruction(_JMP_JEQ_K, AUDIT_ARCH[machine], 1, 0),
        denied,
        _instruction(_LD_W_ABS, _NR_OFFSET),
    ]
    if machine == "x86_64":
        code += [_instruction(_JMP_JSET_K, _X32_SYSCALL_BIT, 0, 1), denied]
    for nr, group in sorted(by_number.items()):
        block = [line for refusal in group for line in _refuse(refusal)]
        if group[-1].argument is not None:
            block.append(_instruction(_RET_K, SECCOMP_RET_ALLOW))
        code += [_instruction(_JMP_JEQ_K, nr, 0, len(block)), *block]
    code.append(_instruction(_RET_K, SECCOMP_RET_ALLOW))
    return b"".join(code)


def _instruction(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jt, jf, k)


def _refuse(refusal: Refusal) -> Iterator[bytes]:
    verdict = _instruction(_RET_K, SECCOMP_RET_ERRNO | refusal.error)
    argument = refusal.argument
    if argument is None:
        yield verdict
        return
    low = _ARGS_OFFSET + 8 * argument.position
    yield _instruction(_LD_W_ABS, low)
    if argument.test == "nonzero":
        yield _instruction(_JMP_JEQ_K, 0, 0, 2)
        yield _instruction(_LD_W_ABS, low + 4)
        yield _instruction(_JMP_JEQ_K, 0, 1, 0)
    else:
        yield _instruction(_JMP_JEQ_K if argument.test == "eq" else _JMP_JSET_K, argument.value, 0, 1)
    yield verdict
