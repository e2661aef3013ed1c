"""What a guest's command line names on the host: resources, and everything else that a launcher has to know."""

from __future__ import annotations

from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

Access: TypeAlias = 'Literal["ro", "rw"]'
Sharing: TypeAlias = 'Literal["exclusive", "shared"]'
if TYPE_CHECKING:
    Kind = Literal[
        "image",  # a disk, floppy, CD or flash image, or a block device that serves as one
        "backing",  # a member of an image's chain: backing file, data file, extent
        "firmware",  # -bios, -pflash in its read-only half, option ROMs, romfile=
        "kernel",
        "initrd",
        "dtb",
        "blob",  # other read-only data: -acpitable, -smbios file=, -fw_cfg file=, -device loader,file=
        "secret",  # key material: secret file=, tls-creds dir=, keyrings
        "config",  # -readconfig, authz lists
        "log",  # files that QEMU writes and nobody boots from: -D, serial file, logfile=, filter-dump, trace
        "pidfile",
        "socket",  # a unix socket that QEMU binds
        "peer-socket",  # a unix socket that QEMU connects to
        "pipe",
        "device",  # a device node of this guest's own: vfio, usb, evdev, serial, parallel, tpm, /dev/sdX passthrough
        "shared-device",  # a node that many guests use at once: /dev/kvm, /dev/vhost-net, /dev/net/tun, /dev/vfio/vfio
        "memory",  # -mem-path, memory-backend-file
        "directory",  # a tree that is shared into the guest or served to it: fsdev, smb=, tftp=, fat:, usb-mtp
        "sysfs",  # files below /sys that QEMU reads or writes for a device
        "helper",  # a program that QEMU executes: bridge helper, tap scripts, exec: migration
        "plugin",  # a shared object that QEMU loads
        "tmpdir",  # where snapshot=on puts its temporary files
    ]
else:
    Kind = str


class Resource(NamedTuple):
    """One host object that a command line names.

    Attributes:
        path: absolute; `..` is left for the kernel, as it has no lexical meaning behind a symlink.
        kind: what it is to the guest.
        access: the most that QEMU needs.
        sharing: `exclusive` objects belong to one guest at a time; `shared` ones to the guests of one realm.
        option: where the command line names it, as a person would write it: ``-drive file=``.
        creates: QEMU makes it if it is missing.
        format: the declared image format; "" if none was declared or none applies.
        overrides: links (``backing file``, ``data file``) that the command line sets itself, so that QEMU does not take
            them from the image's header.
    """

    path: str
    kind: Kind
    access: Access
    sharing: Sharing
    option: str
    creates: bool = False
    format: str = ""
    overrides: tuple[str, ...] = ()


class Unknown(NamedTuple):
    """A part of a command line that may name a host object, and that no table explains.

    Attributes:
        option: the option as given.
        value: the part of its value that looks like a path.
        why: what made it suspicious.
    """

    option: str
    value: str
    why: str


class CommandLine(NamedTuple):
    """A QEMU command line, understood.

    Attributes:
        argv: as given, argv[0] included.
        name: of ``-name``, or "".
        uuid: of ``-uuid``, or "".
        resources: each path once, with the strongest access that any option asks for.
        unknown: what could not be explained; launching with any is refused unless allowed by name.
        network: the options that need the host's network, empty if none does.
        connects: the options that make QEMU open a connection by itself (unix or network).
        executes: the options that make QEMU run another program.
        daemonize: ``-daemonize`` is given.
        runas: argument of ``-runas``, or "".
        chroot: argument of ``-chroot``, or "".
        memlock: memory is locked (``mem-lock=on`` or vfio).
        descriptors: numbers of inherited descriptors that the command line names.
        query: QEMU only prints something and exits (``-version``, ``-device help``): no guest comes of it.
        xen_domid: of ``-xen-domid``, or -1.
        sandbox: argument of ``-sandbox``, or "".
    """

    argv: tuple[str, ...]
    name: str
    uuid: str
    resources: tuple[Resource, ...]
    unknown: tuple[Unknown, ...]
    network: tuple[str, ...]
    connects: tuple[str, ...]
    executes: tuple[str, ...]
    daemonize: bool
    runas: str
    chroot: str
    memlock: bool
    descriptors: tuple[int, ...]
    query: bool
    xen_domid: int
    sandbox: str = ""
