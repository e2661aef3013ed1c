"""The namespaces that a guest's process gets for itself.

An empty network namespace leaves a guest that names no host network no interface but an unconfigured `lo`, and none of
the host's abstract unix sockets: the scope of both is the network namespace (network_namespaces(7)). That closes what
Landlock does not cover, UDP and raw sockets among it. An IPC namespace keeps System V IPC and POSIX message queues
apart. Unix sockets with a path are reached from any network namespace.
"""

from __future__ import annotations

import os

from septum.host import kernel
from septum.host.driver import Confinement, Entry


def flags(guest: Confinement) -> int:
    """CLONE_NEW* bits; 0 without a uid of its own, as a namespace takes CAP_SYS_ADMIN."""
    if guest.uid < 0:
        return 0
    return kernel.CLONE_NEWIPC | (0 if guest.network else kernel.CLONE_NEWNET)


def entries(guest: Confinement) -> list[Entry]:
    """One step into all of them, as one call costs less than two."""
    wanted = flags(guest)
    if not wanted:
        return []
    what = "an IPC namespace" if guest.network else "an IPC namespace and an empty network namespace"
    return [Entry(20, f"enter {what}", lambda: kernel.unshare(wanted))]


def identity(kind: str, process: str = "self") -> int:
    """The inode number that names a process's namespace.

    Args:
        kind: `net`, `ipc`…
        process: a process id, or `self`.
    """
    return os.stat(f"/proc/{process}/ns/{kind}").st_ino
