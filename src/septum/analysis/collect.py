"""Takes a snapshot of a live host: what runs with which label, what emulators hold, the policy that is in force.

The one module of the analysis that looks at the system. It looks at every process, whoever started it: guests of
libvirt, podman's containers and Xen's emulators are there like septum's own; who owns them, only septum's ledger says,
so each of the others is an owner of its own.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple

from septum.analysis.snapshot import Instance, PolicyFile, Snapshot
from septum.errors import LabelError, Unenforceable
from septum.labels import Context, context_text
from septum.sepol import Policy

__all__ = ["Known", "collect"]

_POLICY: Final = "/sys/fs/selinux/policy"
_ENFORCE: Final = "/sys/fs/selinux/enforce"
_EMULATORS: Final = ("qemu", "kvm", "xen-qemu", "crosvm", "firecracker", "cloud-hypervisor")
_CONTAINERS: Final = ("container_t", "spc_t", "lxc_t")
_CLASSES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFBLK: "blk_file",
    stat.S_IFCHR: "chr_file",
    stat.S_IFDIR: "dir",
    stat.S_IFIFO: "fifo_file",
}


class Known(NamedTuple):
    """A guest of septum's ledger.

    Attributes:
        name, realm: of it.
        reaches: absolute paths that Landlock lets it reach → ``ro`` or ``rw``; None if Landlock does not confine it.
    """

    name: str
    realm: str
    reaches: Mapping[str, str] | None = None


class _Found(NamedTuple):
    pid: int
    name: str
    realm: str
    kind: str
    context: str
    known: Known | None


def collect(known: Mapping[int, Known], policy: str, *, proc: str = "/proc", title: str = "") -> Snapshot:
    """Takes a snapshot; the policy is copied into a file.

    Args:
        known: pid → guest of septum's.
        policy: where the policy is to lie, which the snapshot will name.
        proc: where procfs is.
        title: one line.

    Raises:
        Unenforceable: SELinux is off, or only records; or the policy may not be read.
    """
    try:
        with open(_ENFORCE) as enforce:
            enforcing = enforce.read().strip() == "1"
        with open(_POLICY, "rb") as source:
            image = source.read()
    except OSError as error:
        raise Unenforceable(
            f"there is no policy to take a snapshot of: {error.strerror}",
            target=error.filename or _POLICY,
            remedy="write a snapshot by hand, or take it on a host with SELinux, as root",
        ) from error
    if not enforcing:
        raise Unenforceable(
            "SELinux only records: what a snapshot would say of its policy does not hold here", remedy="setenforce 1"
        )
    with open(policy, "wb") as target:
        target.write(image)
    found = list(_processes(known, proc))
    objects = _objects([one for one in found if one.realm], proc)
    instances = [
        Instance(
            one.name,
            one.realm,
            one.kind,
            "process",
            one.context,
            ruled=bool(one.known and one.known.reaches is not None),
        )
        for one in found
    ]
    names = {instance.name for instance in instances}
    instances += [one for one in objects if one.name not in names]
    there = {one.name for one in objects}
    reaches = {
        one.name: {path: access for path, access in one.known.reaches.items() if path in there}
        for one in found
        if one.known and one.known.reaches is not None
    }
    with Policy.open(image) as opened:
        fingerprint = opened.fingerprint
    files = {"selinux": PolicyFile(os.path.basename(policy), fingerprint)}
    return Snapshot(
        title or f"{os.uname().nodename}",
        files,
        tuple(instances),
        (),
        reaches,
        os.path.dirname(os.path.abspath(policy)),
    )


def _processes(known: Mapping[int, Known], proc: str) -> Iterator[_Found]:
    """Guests one by one; of everything else one for each label and program, as the next one can do no more."""
    met = set()
    for entry in sorted(os.listdir(proc), key=lambda name: (len(name), name)):
        if not entry.isdigit():
            continue
        pid = int(entry)
        try:
            context = _context(f"{proc}/{pid}/attr/current")
            comm = _text(f"{proc}/{pid}/comm")
            argv = _text(f"{proc}/{pid}/cmdline").split("\0")
        except (OSError, LabelError):
            continue  # it has ended
        kind = Context.parse(context).type
        if guest := known.get(pid):
            yield _Found(pid, f"{guest.realm}/{guest.name}", guest.realm, "guest", context, guest)
        elif comm.startswith(_EMULATORS):
            name = _emulated(argv) or str(pid)
            yield _Found(pid, f"{name} ({pid})", name, "guest", context, None)
        elif kind in _CONTAINERS:
            # A container's processes share its label, which is all there is to know it by.
            owner = context.partition(kind + ":")[2] or kind
            if ("container", context) not in met:
                met.add(("container", context))
                yield _Found(pid, f"container {owner}", f"container {owner}", "container", context, None)
        elif (comm, context) not in met:
            met.add((comm, context))
            yield _Found(pid, f"{comm} ({pid})", "", "daemon", context, None)


def _emulated(argv: Sequence[str]) -> str:
    """The guest's name, as QEMU's command line gives it: ``-name x``, ``-name guest=x,debug-threads=on``."""
    for word, value in pairwise(argv):
        if word in ("-name", "--name"):
            parts = dict(part.partition("=")[::2] for part in value.split(","))
            return parts.get("guest") or value.partition(",")[0]
    return ""


def _objects(guests: Sequence[_Found], proc: str) -> list[Instance]:
    """What guests' processes have open: images, devices, memory, logs."""
    found: dict[str, Instance] = {}
    for guest in guests:
        level = guest.context.split(":", 3)[-1]
        with suppress(OSError):
            for fd in os.listdir(f"{proc}/{guest.pid}/fd"):
                path = f"{proc}/{guest.pid}/fd/{fd}"
                with suppress(OSError, LabelError):
                    tclass = _CLASSES.get(stat.S_IFMT(os.stat(path).st_mode))
                    name = os.readlink(path)
                    if tclass is None or not name.startswith("/"):
                        continue
                    name = f"{name} of {guest.name}" if name.startswith(("/memfd:", "/dev/shm/")) else name
                    context = context_text(os.getxattr(path, "security.selinux"))
                    owner = guest.realm if context.split(":", 3)[-1] == level and ":c" in level else ""
                    found.setdefault(name, Instance(name, owner, "object", tclass, context))
    return sorted(found.values())


def _context(path: str) -> str:
    with open(path, "rb") as file:
        return context_text(file.read())


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace").strip("\0\n")
