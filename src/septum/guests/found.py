"""What has been found so far, and the rules that hold for every path: its form, its sharing, its merging.

The rest of the package says *where* a path stands on a command line; this module alone decides what becomes of it.
"""

from __future__ import annotations

from septum.errors import ArgvError
from septum.guests.resource import Access, Kind, Resource, Sharing, Unknown
from septum.lean import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BLOB",
    "BOUND_SOCKET",
    "CONFIG",
    "DEVICE",
    "DTB",
    "FIRMWARE",
    "HELPER",
    "INITRD",
    "KERNEL",
    "LOG",
    "MEMORY",
    "NOBODY",
    "PEER_SOCKET",
    "PIPE",
    "PLUGIN",
    "SECRET",
    "SHARED_DEVICE",
    "SYSFS",
    "TREE",
    "Found",
    "Host",
    "Spec",
    "looks_like_path",
]


class Spec(NamedTuple):
    """How a path is used: one cell of the tables."""

    kind: Kind
    access: Access
    creates: bool = False


FIRMWARE = Spec("firmware", "ro")
KERNEL = Spec("kernel", "ro")
INITRD = Spec("initrd", "ro")
DTB = Spec("dtb", "ro")
BLOB = Spec("blob", "ro")
SECRET = Spec("secret", "ro")
CONFIG = Spec("config", "ro")
LOG = Spec("log", "rw", creates=True)
PIDFILE = Spec("pidfile", "rw", creates=True)
BOUND_SOCKET = Spec("socket", "rw", creates=True)
PEER_SOCKET = Spec("peer-socket", "rw")
PIPE = Spec("pipe", "rw")
DEVICE = Spec("device", "rw")
SHARED_DEVICE = Spec("shared-device", "rw")
MEMORY = Spec("memory", "rw", creates=True)
TREE = Spec("directory", "ro")
SYSFS = Spec("sysfs", "ro")
HELPER = Spec("helper", "ro")
PLUGIN = Spec("plugin", "ro")
TMPDIR = Spec("tmpdir", "rw", creates=True)


class Host(Protocol):
    """The few things that can only be learnt by looking at the host; none of them raises."""

    def exists(self, path: str) -> bool:
        """Is there anything at that path?"""

    def readlink(self, path: str) -> str:
        """What a symbolic link points to, or ""."""

    def listdir(self, path: str) -> Sequence[str]:
        """The names in a directory, in any order; none if it can't be read."""

    def read(self, path: str) -> str:
        """The text of a small file below /sys without its newline, or ""."""


class Nobody:
    """The host about which nothing is known: what `parse` uses if it is given none."""

    def exists(self, path: str) -> bool:
        return False

    def readlink(self, path: str) -> str:
        return ""

    def listdir(self, path: str) -> Sequence[str]:
        return ()

    def read(self, path: str) -> str:
        return ""


NOBODY = Nobody()

# Nodes that the kernel gives out to many at once, and that carry nothing from one opener to another.
_SHARED_NODES = frozenset(
    """/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/hwrng /dev/tty /dev/ptmx /dev/kvm /dev/vhost-net
    /dev/vhost-vsock /dev/vhost-scsi /dev/net/tun /dev/vfio/vfio /dev/iommu /dev/sev /dev/sgx_vepc /dev/sgx_provision
    /dev/userfaultfd /dev/udmabuf /dev/mshv /dev/nvmm /dev/HAX /dev/dsp /dev/netmap /dev/xen/privcmd /dev/xen/evtchn
    /dev/xen/gntdev /dev/xen/gntalloc /dev/xen/xenbus""".split()
)
# Families of such nodes; a name with ".." in it belongs to none.
_SHARED_FAMILIES = ("/dev/dri/", "/dev/kvm")
_STANDARD_STREAMS = frozenset({"/dev/stdin", "/dev/stdout", "/dev/stderr"})
_DESCRIPTOR_SETS = "/dev/fdset/"
_DESCRIPTOR_DIRECTORIES = ("/dev/fd/", "/proc/self/fd/")

_SHARED_READ_ONLY = frozenset({"backing", "firmware", "kernel", "initrd", "dtb", "helper", "plugin"})


def looks_like_path(value: str) -> bool:
    """May a value that no table explains be the name of something on the host?"""
    return "/" in value or value.startswith(("unix:", "file:", "pipe:", "exec:"))


class Found:
    """Collects resources and the rest of a `CommandLine`.

    Args:
        cwd: what relative paths are relative to; absolute.
        host: answers about the host.
        tmpdir: where this QEMU would put temporary files.
    """

    __slots__ = (
        "by_path",
        "connects",
        "cwd",
        "descriptors",
        "executes",
        "host",
        "memlock",
        "network",
        "query",
        "tmpdir",
        "unknown",
    )

    def __init__(self, cwd: str, host: Host, tmpdir: str) -> None:
        self.cwd = cwd
        self.host = host
        self.tmpdir = tmpdir
        self.by_path: dict[str, Resource] = {}
        self.unknown: dict[Unknown, None] = {}
        self.network: dict[str, None] = {}
        self.connects: dict[str, None] = {}
        self.executes: dict[str, None] = {}
        self.descriptors: dict[int, None] = {}
        self.memlock = False
        self.query = False

    def absolute(self, path: str) -> str:
        """The path as septum writes it: absolute, without empty or ``.`` components; ``..`` stays for the kernel."""
        if path[0] != "/":
            path = f"{self.cwd}/{path}"
        if "//" in path or "/./" in path or path.endswith(("/", "/.")):
            path = "/" + "/".join(part for part in path.split("/") if part and part != ".")
        return path

    def add(
        self,
        path: str,
        spec: Spec,
        option: str,
        *,
        image_format: str = "",
        overrides: tuple[str, ...] = (),
        sharing: Sharing | None = None,
    ) -> None:
        """Record a path; an empty one, a standard stream and an inherited descriptor are no resources.

        Args:
            path: as the command line gives it.
            spec: how it is used.
            option: where it stands, for people.
            image_format: the declared format of an image.
            overrides: see `Resource`.
            sharing: overrides what kind and access decide.

        Raises:
            ArgvError: the path has a NUL character.
        """
        if not path:
            return
        if "\0" in path:
            raise ArgvError("A path has a NUL character", target=option)
        path = self.absolute(path)
        if path.startswith(("/dev/", "/proc/")):
            folder, _, name = path.rpartition("/")
            if path in _STANDARD_STREAMS or (folder + "/" == _DESCRIPTOR_SETS and name.isdigit()):
                return
            if folder + "/" in _DESCRIPTOR_DIRECTORIES and name.isdigit():
                self.descriptor(name)
                return
        kind, access, creates = _fitting(path, spec)
        if sharing is None or kind == "shared-device":
            shared = kind == "shared-device" or (access == "ro" and kind in _SHARED_READ_ONLY)
            sharing = "shared" if shared else "exclusive"
        found = Resource(path, kind, access, sharing, option, creates, image_format, overrides)
        known = self.by_path.get(path)
        self.by_path[path] = found if known is None else _stronger(known, found)

    def suspect(self, option: str, value: str, why: str) -> None:
        """Record a value that may name a host object and that no table explains."""
        self.unknown[Unknown(option, value, why)] = None

    def descriptor(self, number: str) -> None:
        """Record an inherited descriptor; a name given by ``getfd`` or ``add-fd`` is none."""
        if number.isascii() and number.isdigit() and len(number) < 8:
            self.descriptors[int(number)] = None

    def descriptors_of(self, numbers: str) -> None:
        """Record each of ``3:4:5``."""
        for number in numbers.split(":"):
            self.descriptor(number)

    def needs_network(self, option: str) -> None:
        self.network[option] = None

    def opens_connection(self, option: str) -> None:
        self.connects[option] = None

    def runs(self, option: str, command: str) -> None:
        """Record that QEMU executes a command; its first word is a resource if it names a file."""
        self.executes[option] = None
        words = command.split(None, 1)
        if words and "/" in words[0]:
            self.add(words[0].strip("'\""), HELPER, option)


def _fitting(path: str, spec: Spec) -> Spec:
    """What a path is used as, seen where it lies.

    Nodes that all guests share, and files below /sys, are exempt from some of a launcher's checks. Nothing else may
    pass for one because of the option that names it: ``rng-random,filename=`` takes any file.
    """
    climbs = "/.." in path
    if path in _SHARED_NODES or (path.startswith(_SHARED_FAMILIES) and not climbs):
        return Spec("shared-device", spec.access)
    if spec.kind == "shared-device":
        return DEVICE if path.startswith("/dev/") else BLOB
    if spec.kind == "sysfs" and (climbs or not path.startswith("/sys/")):
        return Spec("device", spec.access)
    return spec


def _stronger(known: Resource, found: Resource) -> Resource:
    """One resource for two mentions: the stronger access keeps its kind, exclusive wins, a header counts if it does
    for either."""
    if known.access == "ro" and found.access == "rw":
        known, found = found, known
    if known.sharing == "shared" and found.sharing == "exclusive":
        known = known._replace(sharing="exclusive")
    if found.creates and not known.creates:
        known = known._replace(creates=True)
    if found.format and not known.format:
        known = known._replace(format=found.format)
    both = tuple(role for role in known.overrides if role in found.overrides)
    return known if both == known.overrides else known._replace(overrides=both)
