"""A guest's Landlock ruleset, as pure data: which right on which object, and why.

`ruleset` computes it, `resolved` looks up what of the platform exists on this host, `landlock` hands it to the kernel,
and `explain`, `show` and `attack` read the same data. Rights, their numbers and the ABI that brought each are those of
include/uapi/linux/landlock.h and Documentation/userspace-api/landlock.rst.

What decides in the kernel (security/landlock/fs.c, one layer): the rights of all rules on the object itself and on the
directories above it add up; the access is granted if every right that it needs, and that the ruleset handles, is among
them.
"""

from __future__ import annotations

import os

from septum.guests.resource import Resource
from septum.host.driver import Confinement, Facts, Item
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE_CHAR: Final = 1 << 6
MAKE_DIR: Final = 1 << 7
MAKE_REG: Final = 1 << 8
MAKE_SOCK: Final = 1 << 9
MAKE_FIFO: Final = 1 << 10
MAKE_BLOCK: Final = 1 << 11
MAKE_SYM: Final = 1 << 12
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
BIND_TCP: Final = 1 << 0
CONNECT_TCP: Final = 1 << 1
SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
SCOPE_SIGNAL: Final = 1 << 1

NAMES: Final = {
    EXECUTE: "execute",
    WRITE_FILE: "write_file",
    READ_FILE: "read_file",
    READ_DIR: "read_dir",
    REMOVE_DIR: "remove_dir",
    REMOVE_FILE: "remove_file",
    MAKE_CHAR: "make_char",
    MAKE_DIR: "make_dir",
    MAKE_REG: "make_reg",
    MAKE_SOCK: "make_sock",
    MAKE_FIFO: "make_fifo",
    MAKE_BLOCK: "make_block",
    MAKE_SYM: "make_sym",
    REFER: "refer",
    TRUNCATE: "truncate",
    IOCTL_DEV: "ioctl_dev",
}

KNOWN_ABI: Final = 7
_FIRST_ABI: Final = 0x1FFF
_SINCE_FS: Final = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_NET_ABI: Final = 4
_SCOPE_ABI: Final = 6

_READ_TREE: Final = READ_FILE | READ_DIR
_READ_WRITE: Final = READ_FILE | WRITE_FILE | TRUNCATE
# Device nodes are left out: who may make one in a tree reaches any device.
_WRITE_TREE: Final = (
    _READ_TREE | _READ_WRITE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
)
_TEMPORARY: Final = _READ_WRITE | MAKE_REG | REMOVE_FILE

_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/local/lib64")
# The loaders' names are fixed by the processors' ABI supplements, and by musl.
_LOADERS: Final = (
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
)
_FIRMWARE: Final = tuple(
    f"/usr/share/{name}"
    for name in (
        "qemu",
        "qemu-efi-aarch64",
        "qemu-kvm",
        "seabios",
        "seavgabios",
        "sgabios",
        "vgabios",
        "ipxe",
        "ovmf",
        "OVMF",
        "AAVMF",
        "edk2",
        "edk2-ovmf",
        "opensbi",
    )
)
_SETTINGS: Final = (
    ("/etc/ld.so.cache", READ_FILE, "the loader's index of libraries"),
    ("/etc/localtime", READ_FILE, "the time zone, for -rtc base=localtime and log lines"),
    ("/usr/share/zoneinfo", READ_FILE, "the time zone, for -rtc base=localtime and log lines"),
    ("/etc/gnutls", _READ_TREE, "GnuTLS's system settings"),
    ("/etc/crypto-policies", _READ_TREE, "GnuTLS's system settings"),
    ("/usr/share/crypto-policies", READ_FILE, "GnuTLS's system settings"),
)
# Whoever opens the first gets a new terminal in the second, as its owner.
_PTMX: Final = "/dev/ptmx"
_TERMINALS: Final = "/dev/pts"
_DEVICES: Final = (
    ("/dev/null", READ_FILE | WRITE_FILE, "standard streams after -daemonize"),
    ("/dev/zero", READ_FILE, "harmless"),
    ("/dev/random", READ_FILE, "random numbers"),
    ("/dev/urandom", READ_FILE, "random numbers"),
)
_RESOLVER: Final = tuple(
    f"/etc/{name}" for name in ("resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services")
)
_PROGRAMS: Final = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib", "/usr/libexec")


class Rule(NamedTuple):
    """Rights on one object and, if it is a directory, on all below it.

    Attributes:
        path: of the object; free of symlinks in a rule for an item and after `resolved`.
        rights: the constants of this module.
        why: for people.
        key: `Facts.key` of the object that is meant, "" takes whatever has the path.
        optional: part of a platform that may lack it.
    """

    path: str
    rights: int
    why: str
    key: str = ""
    optional: bool = False


class Ruleset(NamedTuple):
    """All that the kernel is told.

    Attributes:
        abi: the Landlock ABI that it needs.
        rules: see `Rule`.
        handled_fs: file rights that are refused unless a rule grants them.
        handled_net: TCP rights, all refused.
        scoped: what reaches processes of the same guest only.
    """

    abi: int
    rules: tuple[Rule, ...]
    handled_fs: int
    handled_net: int
    scoped: int


def names(rights: int) -> str:
    """``read_file,write_file``."""
    return ",".join(name for bit, name in NAMES.items() if rights & bit)


def weaker(abi: int) -> tuple[str, ...]:
    """What a kernel with this ABI leaves open that one with `KNOWN_ABI` closes, a sentence each."""
    gaps = (
        (2, "ABI 1: a guest can't move files between the directories that it may write"),
        (3, "before ABI 3: truncating a file by its path is not covered; its mode alone protects it"),
        (4, "before ABI 4: TCP is not covered; only an empty network namespace or seccomp closes it"),
        (5, "before ABI 5: ioctl on device files is not covered; who may open a device may do all with it"),
        (6, "before ABI 6: abstract unix sockets and signals are not covered; uid and network namespace must do it"),
        (7, "before ABI 7: refusals do not show in the audit log"),
    )
    return tuple(sentence for since, sentence in gaps if abi < since)


def ruleset(guest: Confinement, abi: int) -> Ruleset:
    """What the guest's process may do, for a kernel with this Landlock ABI.

    Args:
        guest: the guest.
        abi: at least 1; what is newer than `KNOWN_ABI` is not made use of.
    """
    handled = _FIRST_ABI
    for since, right in _SINCE_FS:
        if abi >= since:
            handled |= right
    rules = (*_platform(guest), *_items(guest))
    return Ruleset(
        abi=min(abi, KNOWN_ABI),
        rules=_merged(rule._replace(rights=rule.rights & handled) for rule in rules),
        handled_fs=handled,
        handled_net=BIND_TCP | CONNECT_TCP if abi >= _NET_ABI and not guest.network else 0,
        scoped=SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= _SCOPE_ABI else 0,
    )


def resolved(rules: Ruleset, real: Callable[[str], str | None] | None = None) -> Ruleset:
    """The same with the platform's symlinks followed, and without what this host does not have.

    Args:
        rules: from `ruleset`.
        real: path → path without symlinks, or None if nothing is there; asks the host unless given.
    """
    look = real or _real
    found: list[Rule] = []
    for rule in rules.rules:
        path = look(rule.path) if rule.optional else rule.path
        if path is not None:
            found.append(rule._replace(path=path))
    return rules._replace(rules=_merged(iter(found)))


def granting(rules: Ruleset, path: str, key: str = "") -> tuple[Rule, ...]:
    """The rules that say something about an object, nearest first.

    Args:
        rules: from `resolved`.
        path: real path of the object.
        key: `Facts.key` of the object: a rule on it holds by whatever name it is reached; "" if unknown.
    """
    found = [
        rule
        for rule in rules.rules
        if path == rule.path or path.startswith(rule.path.rstrip("/") + "/") or (key and key == rule.key)
    ]
    return tuple(sorted(found, key=lambda rule: -len(rule.path)))


def allowed(rules: Ruleset, path: str, rights: int, key: str = "") -> bool:
    """What the kernel will answer for an access that needs `rights`; arguments as for `granting`."""
    wanted = rights & rules.handled_fs
    for rule in granting(rules, path, key):
        wanted &= ~rule.rights
    return not wanted


def created(item: Item) -> str:
    """Where a file that septum makes for QEMU goes, as QEMU would have made it itself; "" if there is none to make."""
    if item.facts is not None or item.parent is None or not item.resource.creates:
        return ""
    if item.resource.kind in ("socket", "peer-socket", "tmpdir", "directory"):
        return ""
    return name_in(item.parent, item.resource)


def name_in(parent: Facts, resource: Resource) -> str:
    """The real path of a resource that its directory does not hold yet."""
    return os.path.join(parent.path, os.path.basename(resource.path))


def _real(path: str) -> str | None:
    # Most of what a platform may have is not there, and realpath looks at every component.
    if not os.path.lexists(path):
        return None
    real = os.path.realpath(path)
    return real if os.path.lexists(real) else None


def _platform(guest: Confinement) -> Iterator[Rule]:
    yield Rule(guest.binary, EXECUTE | READ_FILE, "QEMU itself")
    for path in _LOADERS:
        yield Rule(path, EXECUTE | READ_FILE, "the loader that execve starts", optional=True)
    for path in _LIBRARIES:
        yield Rule(path, _READ_TREE, "libraries, QEMU's modules and ROMs", optional=True)
    for path in (*_FIRMWARE, *_beside(guest.binary)):
        yield Rule(path, _READ_TREE, "QEMU's firmware and data", optional=True)
    for path, rights, why in (*_SETTINGS, *_DEVICES):
        yield Rule(path, rights, why, optional=True)
    if guest.network:
        for path in _RESOLVER:
            yield Rule(path, READ_FILE, "name resolution, for a guest with host network", optional=True)
    if guest.executes:
        for path in _PROGRAMS:
            yield Rule(path, EXECUTE | _READ_TREE, "programs that QEMU's helpers run", optional=True)
        yield Rule("/etc/qemu", _READ_TREE, "settings of qemu-bridge-helper", optional=True)


def _beside(binary: str) -> Iterator[str]:
    """Where a QEMU outside /usr has its libraries and data: its prefix, or its build tree (`qemu-bundle`)."""
    folder = os.path.dirname(binary)
    if folder in ("/usr/bin", "/usr/sbin", "/bin"):
        return
    if os.path.basename(folder) in ("bin", "sbin", "libexec"):
        prefix = os.path.dirname(folder)
        yield from (os.path.join(prefix, name) for name in ("lib", "lib64", "share/qemu", "share/qemu-firmware"))
    else:
        yield from (os.path.join(folder, name) for name in ("qemu-bundle", "pc-bios"))


def _items(guest: Confinement) -> Iterator[Rule]:
    if guest.run_dir:
        yield Rule(guest.run_dir, _WRITE_TREE, "the guest's own folder")
    for item in guest.items:
        why = f"{item.resource.option} ({item.resource.kind}, {item.resource.access})"
        if item.resource.kind == "socket":
            if item.parent is not None:
                yield Rule(item.parent.path, MAKE_SOCK, f"{why}: make the socket", item.parent.key)
        elif created(item):
            # `mkfile` has made it by the time the rule is added: no right on the directory is needed.
            yield Rule(created(item), _file_rights(item.resource, "file"), why)
        elif item.facts is not None and item.resource.kind != "peer-socket":
            facts = item.facts
            rights = _tree_rights(item.resource) if facts.type == "dir" else _file_rights(item.resource, facts.type)
            yield Rule(facts.path, rights, why, facts.key)
            if facts.path == _PTMX:
                yield Rule(_TERMINALS, _READ_WRITE | IOCTL_DEV, f"{why}: its terminals; owner and mode keep others'")


def _tree_rights(resource: Resource) -> int:
    if resource.kind in ("memory", "tmpdir"):
        return _TEMPORARY
    if resource.kind == "sysfs":
        return _READ_TREE | (WRITE_FILE if resource.access == "rw" else 0)
    return _WRITE_TREE if resource.access == "rw" else _READ_TREE


def _file_rights(resource: Resource, kind: str) -> int:
    rights = _READ_WRITE if resource.access == "rw" else READ_FILE
    if resource.kind == "helper":
        rights |= EXECUTE
    if kind in ("block", "char"):
        rights |= IOCTL_DEV
    return rights


def _merged(rules: Iterator[Rule]) -> tuple[Rule, ...]:
    """One rule for each object, as the kernel adds them up as well; the strictest say on identity wins."""
    found: dict[str, Rule] = {}
    for rule in rules:
        there = found.get(rule.path)
        if there is None:
            found[rule.path] = rule
            continue
        found[rule.path] = Rule(
            rule.path,
            there.rights | rule.rights,
            there.why if rule.why == there.why else f"{there.why}; {rule.why}",
            there.key or rule.key,
            there.optional and rule.optional,
        )
    return tuple(found.values())
