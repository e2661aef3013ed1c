"""What the kernel says about SELinux, without libselinux: selinuxfs, and this task's attributes in procfs.

The decisions asked for here are the kernel's own (``/sys/fs/selinux/access``, security/selinux/selinuxfs.c
`sel_write_access`). They are computed from the loaded policy whether or not SELinux enforces it, and unknown classes
and permissions are errors, unlike with `selinux_check_access()`.
"""

from __future__ import annotations

import os

from septum.errors import HostError
from septum.host import kernel
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Final

FOLDER: Final = "/sys/fs/selinux"

# include/uapi/linux/magic.h, fs/proc/inode.c
_SELINUX_MAGIC: Final = 0xF97CFF8C
_PROC_SUPER_MAGIC: Final = 0x9FA0
_PROC_ROOT_INO: Final = 1

_AVD_FLAGS_PERMISSIVE: Final = 0x0001  # security/selinux/include/security.h
_REPLY_SIZE: Final = 4096


class Decision(NamedTuple):
    """The kernel's answer for one pair of contexts and one class.

    Attributes:
        allowed: names of the permissions that were asked about and are allowed.
        refused: the others.
        permissive: the source's domain is permissive: what is refused happens all the same.
    """

    allowed: frozenset[str]
    refused: frozenset[str]
    permissive: bool


def mounted() -> bool:
    """Whether selinuxfs, and not something else, is where it belongs."""
    try:
        fd = os.open(FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return kernel.file_system_type(fd) == _SELINUX_MAGIC
    finally:
        os.close(fd)


def enforcing() -> bool:
    """Whether refusals are more than records."""
    return _read("enforce") == "1"


def policy_version() -> str:
    """The newest policy format that this kernel takes."""
    return _read("policyvers")


def canonical(context: str) -> str:
    """A context as the kernel prints it.

    Raises:
        HostError: EINVAL if the loaded policy does not define it.
    """
    return _ask("context", context, target=context)


def decide(source: str, target: str, cls: str, permissions: frozenset[str]) -> Decision:
    """Which permissions the policy gives to a source context on a target context.

    Raises:
        HostError: EINVAL for an unknown context, class or permission; EACCES if this process may not ask.
    """
    bits = {name: 1 << _number(f"class/{cls}/perms/{name}", cls, name) - 1 for name in permissions}
    allowed, permissive = vector(source, target, _number(f"class/{cls}/index", cls))
    granted = frozenset(name for name, bit in bits.items() if allowed & bit)
    return Decision(granted, permissions - granted, permissive)


def vector(source: str, target: str, number: int) -> tuple[int, bool]:
    """The access vector for two contexts and the number of a class: what is allowed, as bits, and whether the source's
    domain is permissive.

    Raises:
        HostError: as from `decide`.
    """
    reply = _ask("access", f"{source} {target} {number}", target=target).split()
    return int(reply[0], 16), bool(int(reply[5], 16) & _AVD_FLAGS_PERMISSIVE)


def classes() -> dict[str, tuple[int, dict[str, int]]]:
    """All classes of the loaded policy: number, and permissions with their bits.

    Raises:
        HostError: selinuxfs can't be read.
    """
    found = {}
    for name in _list("class"):
        permissions = {
            permission: 1 << _number(f"class/{name}/perms/{permission}", name, permission) - 1
            for permission in _list(f"class/{name}/perms")
        }
        found[name] = (_number(f"class/{name}/index", name), permissions)
    return found


def current() -> str:
    """The context of this task."""
    fd = open_attribute("current", os.O_RDONLY)
    try:
        return read_attribute(fd)
    finally:
        os.close(fd)


def open_attribute(name: str, flags: int = os.O_RDWR) -> int:
    """Opens ``/proc/thread-self/attr/NAME``, and certainly that.

    A mount below /proc can make the path lead to a file that takes the write and does nothing with it, or does
    something else (CVE-2025-52881 in runc). So the walk starts at procfs' own root, takes neither mounts nor symlinks,
    and the kernel refuses writes to another task's attribute anyhow.

    Raises:
        HostError: /proc is not procfs, something is mounted over the file, or the kernel refused.
    """
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if kernel.file_system_type(proc) != _PROC_SUPER_MAGIC or os.fstat(proc).st_ino != _PROC_ROOT_INO:
            raise HostError("/proc is not the root of procfs", target="/proc", remedy="mount procfs there")
        task = os.readlink("thread-self", dir_fd=proc)
        walk = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_XDEV | kernel.RESOLVE_NO_SYMLINKS
        return kernel.openat2(proc, f"{task}/attr/{name}", flags, walk)
    finally:
        os.close(proc)


def read_attribute(fd: int) -> str:
    """What an attribute holds; "" if it isn't set."""
    try:
        return os.pread(fd, _REPLY_SIZE, 0).rstrip(b"\0\n").decode("ascii", "replace")
    except OSError as error:
        raise kernel.oserror("reading a task's SELinux attribute", error.errno or 0) from error


def write_attribute(fd: int, context: str) -> None:
    """Sets an attribute and reads it back.

    Raises:
        HostError: the kernel refused it, or holds something else afterwards.
    """
    try:
        os.write(fd, context.encode() + b"\0")
    except OSError as error:
        raise kernel.oserror("setting a task's SELinux attribute", error.errno or 0, target=context) from error
    found = read_attribute(fd)
    if not same(found, context):
        raise HostError(
            "a task's SELinux attribute does not read back as it was set", target=context, rule=f"found {found!r}"
        )


def same(one: str, other: str) -> bool:
    """Whether two texts are one context: ``c4,c5,c6`` and ``c4.c6`` are."""
    return one == other or canonical(one) == canonical(other)


def _read(name: str) -> str:
    try:
        with open(f"{FOLDER}/{name}", "rb", buffering=0) as file:
            return file.read(_REPLY_SIZE).rstrip(b"\0\n").decode("ascii", "replace")
    except OSError as error:
        raise kernel.oserror("reading selinuxfs", error.errno or 0, target=f"{FOLDER}/{name}") from error


def _list(name: str) -> list[str]:
    try:
        return sorted(os.listdir(f"{FOLDER}/{name}"))
    except OSError as error:
        raise kernel.oserror("reading selinuxfs", error.errno or 0, target=f"{FOLDER}/{name}") from error


def _number(name: str, *parts: str) -> int:
    try:
        return int(_read(name))
    except HostError as error:
        raise HostError(
            f"the loaded SELinux policy does not know {' '.join(parts)}",
            errno=error.errno,
            target=f"{FOLDER}/{name}",
            rule="what the policy does not define can't be enforced",
        ) from error


def _ask(name: str, question: str, *, target: str) -> str:
    """One transaction: the answer to a write is what the same open file then reads."""
    fd = -1
    try:
        fd = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CLOEXEC)
        os.write(fd, question.encode())
        return os.read(fd, _REPLY_SIZE).rstrip(b"\0\n").decode("ascii", "replace")
    except OSError as error:
        raise kernel.oserror(f"asking selinuxfs ({name})", error.errno or 0, target=target) from error
    finally:
        if fd >= 0:
            os.close(fd)
