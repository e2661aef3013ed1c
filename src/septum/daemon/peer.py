"""Who is at the other end of a socket: what the kernel says, and nothing that the peer says.

Where SELinux is on, the peer's label (SO_PEERSEC) is its context. Elsewhere its uid (SO_PEERCRED) is looked up in the
ledger. Both are those of the moment of `connect`. The pidfd (SO_PEERPIDFD, Linux 6.5) holds on to the process itself:
its number can't have been given to another one as long as the pidfd's process lives, and a connection ends with it.
"""

import os
import select
import socket
import struct
from typing import Final, NamedTuple

from septum.access import Asker
from septum.access.objects import Contexts, of_uid
from septum.errors import Denied, LabelError
from septum.host import selinux_kernel
from septum.labels import Context, context_text
from septum.launch.process import start_time
from septum.ledger.protocol import Ledger

__all__ = ["Peer", "Peers", "identify"]

_SO_PEERSEC: Final = 31  # include/uapi/asm-generic/socket.h
_SO_PEERPIDFD: Final = 77
_LONGEST: Final = 1024  # bytes of a label that Python's getsockopt takes; whoever has a longer one is refused
_UCRED: Final = struct.Struct("iII")  # struct ucred, include/linux/socket.h


class Peer(NamedTuple):
    """What the kernel says of a peer.

    Attributes:
        uid: in the daemon's own user namespace; 65534 for one that has none there.
        pid: 0 if it can't be vouched for.
        started: start time of that process in clock ticks since boot, or 0.
        label: SELinux context, "" where SELinux is off.
        pidfd: of the process, -1 on an older kernel.
    """

    uid: int
    pid: int
    started: int
    label: str
    pidfd: int


class Peers:
    """Gives peers their contexts.

    Args:
        ledger: knows guests' uids.
        contexts: the policy's names.
    """

    def __init__(self, ledger: Ledger, contexts: Contexts) -> None:
        self._ledger = ledger
        self._contexts = contexts

    def asker(self, peer: Peer) -> Asker:
        """The peer as who asks, by the ledger as it is now.

        Raises:
            Denied: it is nobody that questions are taken from.
            LedgerError: the ledger can't be read.
        """
        context = peer.label or of_uid(self._ledger, self._contexts, peer.uid, os.geteuid())
        if not context:
            raise Denied(
                "this process has no context here",
                target=f"uid {peer.uid}, pid {peer.pid}",
                rule="without SELinux, questions are taken from root and from guests by the uid in the ledger",
                remedy="ask as root, or from within a guest's confinement",
            )
        return Asker(context, peer.uid, peer.pid, peer.started)


def identify(connection: socket.socket) -> Peer:
    """
    Raises:
        Denied: the kernel's word can't be had or isn't clear.
    """
    try:
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError as error:
        raise Denied(f"the kernel does not say who asks: {error.strerror}") from error
    label = _label(connection) if selinux_kernel.mounted() else ""
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # An older kernel, or the process is gone already: then the number may be another's.
        return Peer(uid, 0, 0, label, -1)
    started = 0
    try:
        started = start_time(pid)
    except OSError as error:
        os.close(pidfd)
        raise Denied(f"who asks can't be looked at: {error.strerror}") from error
    finally:
        # Read while the process was alive, or worth nothing.
        if not started or _ended(pidfd):
            pid = started = 0
    return Peer(uid, pid, started, label, pidfd)


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _label(connection: socket.socket) -> str:
    try:
        text = context_text(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERSEC, _LONGEST))
        return str(Context.parse(text)) and text
    except (OSError, LabelError) as error:
        raise Denied("the kernel does not say which label the asker has", rule=str(error)) from error
