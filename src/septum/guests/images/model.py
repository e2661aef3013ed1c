"""The data and the two seams of image chains."""

from __future__ import annotations

from septum.guests.resource import Access, Kind, Resource
from septum.lean import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, TypeAlias

Role: TypeAlias = 'Literal["backing file", "data file", "extent"]'


class Limits(NamedTuple):
    """What a header, which a guest may have written, can make septum do at most.

    Attributes:
        depth: images below the top one. QEMU has no limit of its own and keeps a descriptor open for each, of the 1024
            that a process has by default, next to those of its other disks and devices; libvirt stops at 200. 64 is
            more than people build on purpose, and takes about 5 ms.
        files: members of one chain. A sparse VMDK of 8 TB has 4096 extents of 2 GB.
        bytes: read from all headers of one chain together. One VMDK descriptor has up to 1 MiB, a qcow2 header one
            cluster, 2 MiB at most.
    """

    depth: int = 64
    files: int = 4096
    bytes: int = 8 << 20


class Named(NamedTuple):
    """A host object that a protocol file name (``nbd:unix:…``, ``json:{…}``) leads to.

    Attributes:
        path: absolute.
        format: declared for this object; "" if none is, and QEMU probes.
        access: what the name asks for. Headers may not ask for `rw`, apart from sockets.
        kind: `backing`, or `peer-socket`, which is listed but not read.
    """

    path: str
    format: str
    access: Access
    kind: Kind = "backing"


ParseFilename: TypeAlias = "Callable[[str], Sequence[Named]]"
"""Explains a file name that carries a protocol prefix: the objects on this host that it leads to, that of its outermost
node first, and none if all of it is elsewhere. Raises SeptumError for what it can't explain."""


class Opener(Protocol):
    """How image files are reached. Each method raises OSError as the kernel does."""

    def locate(self, path: str) -> int:
        """A descriptor that only names the object, as ``O_PATH`` gives it: opening must have no effect on a device."""

    def real(self, fd: int) -> str:
        """The path of a located object, free of symlinks."""

    def read(self, fd: int) -> int:
        """A second descriptor of a located object, to read from; must not wait for a writer."""


class Link(NamedTuple):
    """What a header names: the next member of a chain, not yet resolved.

    Attributes:
        role: what it is to the image that names it.
        name: as the header has it.
        format: declared by the header, or fixed by QEMU for this role; "" if QEMU probes.
    """

    role: Role
    name: str
    format: str


class Finding(NamedTuple):
    """Something that a launcher has to decide about.

    Attributes:
        code: ``unsafe-probe``: no format is declared, so QEMU looks at bytes that a guest may have written;
            ``remote``: the chain goes on at another host or service, where septum can't read the headers.
        path: the image, or the name that leads elsewhere.
        holder: the image that names it; "" for the top one.
        format: what QEMU would pick, for ``unsafe-probe``.
        what: one sentence for people.
    """

    code: Literal["unsafe-probe", "remote"]
    path: str
    holder: str
    format: str
    what: str


class Chain(NamedTuple):
    """Everything below one image.

    Attributes:
        resources: the members, without the top image itself, each once.
        findings: what a launcher has to decide about.
    """

    resources: tuple[Resource, ...]
    findings: tuple[Finding, ...]
