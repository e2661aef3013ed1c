"""What there is to attack: other guests, the host's own processes and objects, and probes made for the occasion.

Plain data, so that an attacker that has to be executed anew can be given it as JSON.
"""

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from glob import glob
from typing import Any, Final, NamedTuple

from septum.errors import HostError, SeptumError
from septum.host import kernel
from septum.host.driver import Confinement, Facts, Item
from septum.host.objects import look
from septum.host.ruleset import created, name_in
from septum.launch.stored import pack, unpack
from septum.launch.undo import survivors
from septum.ledger.records import Guest

_NOT_OBJECTS: Final = frozenset({"shared-device", "helper", "plugin", "sysfs", "tmpdir", "peer-socket"})
_VICTIMS: Final = 3
_OBJECTS: Final = 4
_PLACES: Final = 60

# Patterns of paths, by what an attacker would do with them. Left out is what does something when it is merely opened:
# watchdogs, tapes, printers.
WORTH_TRYING: Final[Mapping[str, tuple[str, ...]]] = {
    "device": tuple(
        f"/dev/{name}"
        for name in (
            "mem kmem port kvm net/tun vhost-net vhost-vsock vhost-scsi vsock loop-control loop0 fuse vfio/vfio "
            "userfaultfd cpu/0/msr kmsg console tty0 uinput uhid mapper/control nbd0 sg0 udmabuf dma_heap/system "
            "hwrng ptmx mei0 btrfs-control autofs"
        ).split()
    ),
    "secret": (
        "/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_*_key", "/etc/machine-id", "/etc/passwd", "/root",
        "/home", "/var/log", "/var/lib", "/etc/libvirt", "/var/lib/libvirt", "/boot",
    ),
    "readable": ("/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/1/environ", "/proc/iomem", "/proc/cmdline"),
    "writable": (
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/sys/fs/selinux/enforce",
        "/sys/fs/selinux/load", "/sys/power/state", "/sys/bus/pci/rescan", "/sys/kernel/mm/ksm/run",
        "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", "/etc/passwd", "/etc/ld.so.cache",
    ),
    "folder": (
        "/", "/etc", "/usr/bin", "/usr/lib", "/usr/share/qemu", "/root", "/tmp", "/var/tmp", "/dev/shm", "/run",
        "/var/lib", "/etc/cron.d",
    ),
    "socket": (
        "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/dev-log", "/run/docker.sock",
        "/run/containerd/containerd.sock", "/run/libvirt/*-sock", "/run/udev/control", "/run/xen*/socket*",
        "/var/run/xenstored/socket", "/run/openvswitch/db.sock",
    ),
    "firmware": ("/usr/share/qemu/vgabios*.bin", "/usr/share/seabios/bios*.bin", "/usr/share/qemu/bios*.bin"),
    "setuid": ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/sudo", "/usr/bin/passwd"),
}  # fmt: skip


class Object(NamedTuple):
    """A file, folder or device of somebody else's.

    Attributes:
        path: real path.
        handle: of `kernel.file_handle`, in hex; "" if it has none.
        uid, gid, mode: as they are.
        acl: raw, in hex; the least one that says what the mode says if it has none.
    """

    path: str
    handle: str
    uid: int
    gid: int
    mode: int
    acl: str


class Process(NamedTuple):
    """A process of somebody else's."""

    name: str
    pid: int
    context: str = ""


class Victim(NamedTuple):
    """Another guest."""

    name: str
    process: Process
    objects: tuple[Object, ...]
    sockets: tuple[str, ...]
    cgroup: str


class Probes(NamedTuple):
    """What was made outside for the attacker to look for; all of it is open to everybody by its mode.

    Attributes:
        token: part of every name.
        folder: holds `file`, `stream` and `dgram`.
        file: mode 0666.
        stream, dgram: unix sockets, mode 0666.
        abstract, abstract_dgram: names of abstract unix sockets, without the NUL.
        tcp, udp: ports on 127.0.0.1.
        shm: path below /dev/shm.
        key: of System V shared memory, a semaphore set and a message queue.
        queue: name of a POSIX message queue; "" if this kernel has none.
    """

    token: str
    folder: str
    file: str
    stream: str
    dgram: str
    abstract: str
    abstract_dgram: str
    tcp: int
    udp: int
    shm: str
    key: int
    queue: str


class Stage(NamedTuple):
    """All of it.

    Attributes:
        guest: whose emulator is played.
        pid: of its QEMU.
        folder: of the ledger.
        cgroup: of the guest, or "".
        victims: other guests.
        more: how many there are besides these.
        hosts: processes of the host.
        probes: see `Probes`.
        own_folder: where the guest can make names, or comes closest to it.
        places: what of `WORTH_TRYING` is there, and the ledger's files.
    """

    guest: Confinement
    pid: int
    folder: str
    cgroup: str
    victims: tuple[Victim, ...]
    more: int
    hosts: tuple[Process, ...]
    probes: Probes
    own_folder: str
    places: Mapping[str, tuple[str, ...]]

    def name(self, what: str) -> str:
        """A name for an attempt to make something in `own_folder`; `sweep` removes what came of it."""
        return os.path.join(self.own_folder, f".{self.probes.token}-{what}")

    def touched(self) -> set[str]:
        """The folders in which attempts may have made names."""
        theirs = {os.path.dirname(thing.path) for victim in self.victims for thing in victim.objects}
        return {self.own_folder, *theirs, *(item.parent.path for item in self.guest.items if item.parent)}


def as_json(stage: Stage) -> dict[str, Any]:
    return {**stage._asdict(), "guest": pack(stage.guest)}


def from_json(row: Mapping[str, Any]) -> Stage:
    victims = tuple(
        Victim(
            name, Process(*process), tuple(Object(*thing) for thing in objects), tuple(sockets), cgroup
        )
        for name, process, objects, sockets, cgroup in row["victims"]
    )  # fmt: skip
    hosts = tuple(Process(*process) for process in row["hosts"])
    fields = {"guest": unpack(row["guest"]), "victims": victims, "hosts": hosts, "probes": Probes(*row["probes"])}
    places = {kind: tuple(paths) for kind, paths in row["places"].items()}
    return Stage(**{**row, **fields, "places": places})


def survey(guest: Guest, pid: int, others: Iterable[Guest], folder: str, probes: Probes) -> Stage:
    """Looks around for a guest's attacker.

    Args:
        guest: whose emulator is played.
        pid: of its QEMU.
        others: all guests of the ledger.
        folder: of the ledger.
        probes: made beforehand.
    """
    confinement = unpack(guest.details["confinement"])
    mine = {key for item in confinement.items for key in _names(item)}
    running = [
        other
        for other in others
        if other.uuid != guest.uuid and other.state == "running" and "confinement" in other.details
    ]
    # Those of other realms first: it is from them that realms are kept apart.
    running.sort(key=lambda other: (other.realm == guest.realm, other.realm, other.name))
    living = [(other, pids[0]) for other in running if (pids := survivors(other))]
    return Stage(
        guest=confinement,
        pid=pid,
        folder=folder,
        cgroup=guest.details.get("cgroup", ""),
        victims=tuple(_victim(other, number, mine) for other, number in living[:_VICTIMS]),
        more=max(0, len(living) - _VICTIMS),
        hosts=tuple(_hosts(folder)),
        probes=probes,
        own_folder=_own_folder(confinement),
        places=_places(folder, confinement.binary),
    )


def object_at(path: str) -> Object | None:
    """What is at a path, without symlinks; None if nothing is or it can't be told."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        try:
            handle = kernel.file_handle(fd) or b""
        except HostError:
            handle = b""
        facts = look(path).facts
        acl = facts.acl if facts and facts.acl else _least_acl(status.st_mode)
        return Object(path, handle.hex(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), acl)
    except SeptumError:
        return None
    finally:
        os.close(fd)


def place_of(item: Item) -> str:
    """Where an item's object is while its guest runs; "" if it can't be told."""
    if item.facts is not None:
        return item.facts.path
    return created(item) or (name_in(item.parent, item.resource) if item.parent else "")


def is_object(item: Item) -> bool:
    """Whether it is a thing of the guest's or realm's own, and not of the platform."""
    return not item.platform and item.resource.kind not in _NOT_OBJECTS


def context_of(pid: int) -> str:
    """A process's SELinux context, or ""."""
    try:
        with open(f"/proc/{pid}/attr/current", "rb") as file:
            return file.read().rstrip(b"\0\n").decode("ascii", "replace")
    except OSError:
        return ""


def facts_of(path: str) -> tuple[Facts | None, tuple[Facts, ...]]:
    """The object at a path and the directories on the way."""
    try:
        found = look(path)
    except SeptumError:
        return None, ()
    return found.facts, found.way


def _names(item: Item) -> set[str]:
    return {place_of(item), *({item.facts.key} if item.facts else ())}


def _victim(other: Guest, pid: int, mine: set[str]) -> Victim:
    confinement = unpack(other.details["confinement"])
    objects: list[Object] = []
    sockets: list[str] = []
    for item in confinement.items:
        path = place_of(item)
        if not path or not is_object(item) or mine & _names(item):
            continue
        if item.resource.kind == "socket":
            if os.path.exists(path):
                sockets.append(path)
        elif (thing := object_at(path)) is not None:
            objects.append(thing)
    process = Process(f"{other.realm}/{other.name}", pid, context_of(pid))
    cgroup = other.details.get("cgroup", "")
    return Victim(process.name, process, tuple(objects[:_OBJECTS]), tuple(sockets[:_OBJECTS]), cgroup)


def _hosts(folder: str) -> Iterable[Process]:
    yield Process("init", 1, context_of(1))
    yield Process("septum attack", os.getpid(), context_of(os.getpid()))
    mark = os.fsencode(repr(folder))
    for name in os.listdir("/proc"):
        if name.isdigit() and _line(name, "comm") == b"septum-watcher\n" and mark in _line(name, "cmdline"):
            yield Process("septum's watcher", int(name), context_of(int(name)))


def _line(pid: str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _places(folder: str, binary: str) -> dict[str, tuple[str, ...]]:
    found = {
        kind: tuple(sorted(path for pattern in patterns for path in glob(pattern))[:_PLACES])
        for kind, patterns in WORTH_TRYING.items()
    }
    device = os.stat("/").st_dev
    root = f"/dev/block/{os.major(device)}:{os.minor(device)}"
    if os.path.exists(root):
        found["device"] = (os.path.realpath(root), *found["device"])
    found["ledger"] = tuple(glob(f"{folder}/*"))
    found["program"] = (os.path.realpath(sys.executable), os.path.realpath(__file__), binary)
    return found


def _own_folder(guest: Confinement) -> str:
    if guest.run_dir:
        return guest.run_dir
    by_rank = {"socket": 0, "directory": 0, "image": 1}
    found = [
        (by_rank.get(item.resource.kind, 2), item.parent.path)
        for item in guest.items
        if item.parent is not None and not item.platform
    ]
    return min(found, default=(0, "/var/tmp"))[1]


def _least_acl(mode: int) -> str:
    """The three entries that any mode stands for (system.posix_acl_access, version 2): tag, permissions, no id."""
    entries = ((1, mode >> 6 & 7), (4, mode >> 3 & 7), (32, mode & 7))
    packed = b"".join(tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + b"\xff" * 4 for tag, bits in entries)
    return ((2).to_bytes(4, "little") + packed).hex()
