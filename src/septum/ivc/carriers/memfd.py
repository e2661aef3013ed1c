"""Channels between processes of one host: two sealed memfds and a socket pair.

Facts (memfd_create(2), fcntl(2), mm/memfd.c, mm/shmem.c):

- Without F_SEAL_SHRINK the other end could truncate, and reading would end in SIGBUS. Both seals of the size are set
  before a descriptor leaves.
- The reader gets a descriptor that was opened read-only; PROT_WRITE on it fails with EACCES. The inode's mode is 0, so
  that only who may override modes can open it anew through /proc.
- F_SEAL_FUTURE_WRITE, set by the writer as soon as it has mapped its segment, lets nobody map or write it again, not
  even who holds the writer's descriptor. F_SEAL_SEAL makes that final. A second use of a grant fails by it.
- Pages are allocated when the channel is made: who runs out of memory learns of it then, and not by SIGBUS.
"""

import fcntl
import os
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from septum.errors import ChannelDenied, HostError
from septum.ivc import _ring
from septum.ivc.carriers.line import LineBell
from septum.ivc.carriers.protocol import Incoming, Outgoing
from septum.ivc.terms import Role, Terms, check, header, length, span

_SIZE: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_F_SEAL_FUTURE_WRITE: Final = 0x0010  # include/uapi/linux/fcntl.h
_MFD_NOEXEC_SEAL: Final = 0x0008  # include/uapi/linux/memfd.h, from Linux 6.3 on
_SPIN: Final = 50_000
"""Nanoseconds: about what it costs to be woken (docs/ring.md), so a spin in vain at most doubles a wait."""

H = TypeVar("H", _ring.Tx, _ring.Rx)


class MemfdGrant(NamedTuple):
    """What one end of a channel needs. Descriptors are the holder's to close, or to send and then close.

    Attributes:
        terms: of the channel.
        role: which end it is for.
        own: descriptor of the segment that this end writes.
        peer: read-only descriptor of the other end's segment.
        line: descriptor of a socket.
    """

    terms: Terms
    role: Role
    own: int
    peer: int
    line: int


class MemfdCarrier:
    """The carrier `memfd`.

    Args:
        spin: nanoseconds for which an end that waits may look before it sleeps; by default none on one processor.
    """

    name = "memfd"

    def __init__(self, spin: int | None = None) -> None:
        self._spin = (_SPIN if len(os.sched_getaffinity(0)) > 1 else 0) if spin is None else spin

    def create(self, terms: Terms) -> tuple[MemfdGrant, MemfdGrant]:
        """See `Carrier.create`."""
        check(terms)
        opened: list[int] = []
        try:
            produced, produced_ro = _segment(terms, Role.PRODUCER, opened)
            consumed, consumed_ro = _segment(terms, Role.CONSUMER, opened)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            _close(opened)
            number = error.errno or 0
            raise HostError(
                f"the channel's memory can't be made: {os.strerror(number)}", errno=number, target=terms.name
            ) from error
        return (
            MemfdGrant(terms, Role.PRODUCER, produced, consumed_ro, one.detach()),
            MemfdGrant(terms, Role.CONSUMER, consumed, produced_ro, other.detach()),
        )

    def sender(self, grant: MemfdGrant) -> Outgoing:
        """See `Carrier.sender`."""
        half, bell = self._join(grant, Role.PRODUCER, _ring.Tx)
        return Outgoing(grant.terms, half, bell)

    def receiver(self, grant: MemfdGrant) -> Incoming:
        """See `Carrier.receiver`."""
        half, bell = self._join(grant, Role.CONSUMER, _ring.Rx)
        return Incoming(grant.terms, half, bell)

    def discard(self, grant: MemfdGrant) -> None:
        """See `Carrier.discard`."""
        _close((grant.own, grant.peer, grant.line))

    def _join(self, grant: MemfdGrant, role: Role, make: type[H]) -> tuple[H, LineBell]:
        terms = grant.terms
        todo = [grant.own, grant.peer, grant.line]
        try:
            check(terms)
            if grant.role is not role:
                raise _denied(terms, f"it is the {grant.role.name.lower()}'s end that was granted")
            other = Role.CONSUMER if role is Role.PRODUCER else Role.PRODUCER
            _inspect(terms, grant.own, length(terms, role), os.O_RDWR)
            _inspect(terms, grant.peer, length(terms, other), os.O_RDONLY)
            own = _ring.Mapping(grant.own, length(terms, role), True)
            peer = _ring.Mapping(grant.peer, length(terms, other), False)
            fcntl.fcntl(grant.own, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
            bell = LineBell(_line(terms, grant.line))
            todo.remove(grant.line)
            try:
                half = make(own, peer, terms.kind, terms.generation, terms.size, bell.ring, self._spin)
            except ValueError:
                bell.close()
                raise
        except ValueError as error:
            raise _denied(terms, str(error)) from error
        except OSError as error:
            number = error.errno or 0
            raise HostError(
                f"the channel can't be joined: {os.strerror(number)}", errno=number, target=terms.name
            ) from error
        finally:
            _close(todo)
        return half, bell


def memory(terms: Terms, role: Role, span: int, opened: list[int]) -> int:
    """A fresh segment that can't change its size.

    Args:
        span: bytes that the file has; those beyond the segment itself are a hole.
        opened: gets the descriptor before anything can fail.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(f"septum:{role.name.lower()}", flags | _MFD_NOEXEC_SEAL)
    except OSError:  # EINVAL: an older kernel
        fd = os.memfd_create(f"septum:{role.name.lower()}", flags)
    opened.append(fd)
    os.ftruncate(fd, span)
    os.posix_fallocate(fd, 0, length(terms, role))
    os.pwrite(fd, header(terms, role), 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE)
    return fd


def _segment(terms: Terms, role: Role, opened: list[int]) -> tuple[int, int]:
    fd = memory(terms, role, length(terms, role), opened)
    readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    opened.append(readable)
    os.fchmod(fd, 0)
    return fd, readable


def _inspect(terms: Terms, fd: int, size: int, access: int) -> None:
    """Believes nothing of a descriptor that came from somewhere: a pipe, a file that shrinks, the whole of memory."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise _denied(terms, "a segment is no memory that can be sealed") from error
    if seals & _SIZE != _SIZE:
        raise _denied(terms, "a segment could change its size: it has not the seals SHRINK and GROW")
    if os.fstat(fd).st_size not in (size, span(size)):
        raise _denied(terms, f"a segment has {os.fstat(fd).st_size} bytes, not {size}")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != access:
        raise _denied(terms, "a segment's descriptor has not the access that was agreed")
    if access == os.O_RDWR and seals & _F_SEAL_FUTURE_WRITE:
        raise _denied(terms, "this end was joined before")


def _line(terms: Terms, fd: int) -> socket.socket:
    line = socket.socket(fileno=fd)
    if (line.family, line.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        line.detach()
        raise _denied(terms, "its bell is no stream socket of this host")
    return line


def _denied(terms: Terms, rule: str) -> ChannelDenied:
    return ChannelDenied(
        "the channel can't be trusted",
        target=terms.name,
        rule=rule,
        remedy="have the channel set up anew",
    )


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
