"""System calls that septum itself never makes, and an attacker does.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl, and include/uapi/asm-generic/unistd.h for aarch64; those that the
guests' filter refuses come from `host.seccomp`.
"""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from typing import Final

from septum.errors import HostError
from septum.host import seccomp

_NUMBERS: Final = {
    "x86_64": {
        "shmctl": 31, "semctl": 66, "msgctl": 71, "capset": 126, "prctl": 157, "swapon": 167, "reboot": 169,
        "sethostname": 170, "iopl": 172, "init_module": 175, "mq_open": 240, "mq_unlink": 241, "kexec_load": 246,
        "ioprio_get": 252, "get_robust_list": 274, "move_pages": 279,
    },
    "aarch64": {
        "ioprio_get": 31, "capset": 91, "get_robust_list": 100, "kexec_load": 104,
        "init_module": 105, "reboot": 142, "sethostname": 161, "prctl": 167, "mq_open": 180, "mq_unlink": 181,
        "msgctl": 187, "semctl": 191, "shmctl": 195, "swapon": 224, "move_pages": 239,
    },
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 7, use_errno=True)(("syscall", _libc))


def call(name: str, *arguments: int | bytes | None) -> int:
    """Makes a system call.

    Args:
        name: the kernel's.
        arguments: numbers, NULL, or bytes that the kernel reads or writes; at most six.

    Raises:
        OSError: with the kernel's errno; ENOSYS for a call that this machine doesn't have.
    """
    machine = os.uname().machine
    number = _NUMBERS.get(machine, {}).get(name)
    if number is None:
        if name not in seccomp.NUMBERS.get(machine, {}) and name not in _ANYWHERE:
            raise OSError(errno.ENOSYS, name)
        number = seccomp.number(name, machine)
    buffers = [ctypes.create_string_buffer(word, len(word)) if isinstance(word, bytes) else word for word in arguments]
    words = [
        word if isinstance(word, int) else 0 if word is None else ctypes.addressof(word)
        for word in (*buffers, *[0] * (6 - len(buffers)))
    ]
    answer = int(_syscall(number, *words))
    if answer < 0:
        raise OSError(ctypes.get_errno(), name)
    return answer


_ANYWHERE: Final = frozenset(
    "io_uring_setup open_tree move_mount fsopen fsconfig fsmount fspick clone3 pidfd_getfd mount_setattr".split()
)


def read_memory(pid: int) -> None:
    """One byte from address 0 of a process, where nothing is: EFAULT comes after permission.

    The local buffer must not be empty, or the kernel has nothing to do and does not look at permission.
    """
    here = ctypes.create_string_buffer(1)
    local = struct.pack("@LL", ctypes.addressof(here), 1)
    call("process_vm_readv", pid, local, 1, struct.pack("@LL", 0, 1), 1, 0)


def errno_of(act: Callable[[], object]) -> int:
    """Runs an attempt: 0 if it worked, else the error number."""
    try:
        act()
    except (OSError, HostError) as error:
        return error.errno or errno.EIO
    return 0


def apart(act: Callable[[], object]) -> None:
    """Runs `act` in a child, so that success changes nothing for the attempts that follow.

    Raises:
        OSError: what `act` met with.
    """
    child = os.fork()
    if child == 0:
        os._exit(min(errno_of(act), 255))
    try:
        number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if number:
        raise OSError(number if number > 0 else errno.EINTR, "in a child")


def executing(program: str, *words: str) -> None:
    """Executes a program in a child. How it ends is its own business.

    Raises:
        OSError: the kernel did not execute it.
    """
    out, into = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        # Nothing comes through the pipe if exec closes it.
        os.write(into, bytes([min(errno_of(lambda: os.execve(program, [program, *words], {})), 255)]))
        os._exit(0)
    os.close(into)
    try:
        said = os.read(out, 1)
        os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(out)
    if said:
        raise OSError(said[0], program)


def loading(loader: str, program: str) -> None:
    """Runs a program, one that always succeeds, by giving it to the loader.

    Raises:
        OSError: EACCES, as the loader reports all its failures by status 127.
    """
    child = os.fork()
    if child == 0:
        os._exit(errno_of(lambda: os.execve(loader, [loader, program], {})) or errno.EIO)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(errno.EACCES, program)
