"""Channels over a stream socket: between processes of one host, and later over vsock and virtio-serial.

Nothing is shared, so the channel can be cut in mid-flight, and whoever stands between the two sockets of a channel can
count what passes (`relay`). The ends keep the ring's promises: bounded memory, whole messages, a full channel that
blocks.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from septum.errors import ChannelDenied, HostError
from septum.ivc.carriers.frames import size_of
from septum.ivc.carriers.protocol import Incoming, Outgoing
from septum.ivc.carriers.stream_halves import StreamHalf, StreamRx, StreamTx
from septum.ivc.terms import Role, Terms, check, header

__all__ = ["StreamCarrier", "StreamGrant"]

_HEADER: Final = 32
_SO_SNDBUFFORCE: Final = 32  # include/uapi/asm-generic/socket.h

H = TypeVar("H", StreamTx, StreamRx)


class StreamGrant(NamedTuple):
    """What one end of a channel needs. The descriptor is the holder's to close, or to send and then close.

    Attributes:
        terms: of the channel.
        role: which end it is for.
        line: descriptor of a connected stream socket.
    """

    terms: Terms
    role: Role
    line: int


class StreamBell:
    """The socket once more, as what wakes.

    Args:
        half: that reads from it.
        line: the socket; owned from now on.
    """

    __slots__ = ("_half", "_line")

    def __init__(self, half: StreamHalf, line: socket.socket) -> None:
        self._half = half
        self._line = line

    def fileno(self) -> int:
        """See `Bell.fileno`."""
        return self._line.fileno()

    def ring(self) -> None:
        """What is sent rings by itself."""

    def clear(self) -> int:
        """See `Bell.clear`."""
        return self._half.pull()

    def close(self) -> None:
        """See `Bell.close`."""
        self._line.close()


class StreamCarrier:
    """The carrier `stream`.

    Args:
        between: is given terms and the inner sockets of producer and consumer, and passes on what comes; without it the
            two ends have one pair.
    """

    name = "stream"

    def __init__(self, between: Callable[[Terms, socket.socket, socket.socket], object] | None = None) -> None:
        self._between = between

    def create(self, terms: Terms) -> tuple[StreamGrant, StreamGrant]:
        """See `Carrier.create`."""
        check(terms)
        ends: list[socket.socket] = []
        try:
            ends += socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            if self._between is not None:
                ends += socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            for end in ends:
                _enlarge(end, terms.size)
            # To each end what the other end's segment would begin with.
            ends[1].send(header(terms, Role.CONSUMER))
            ends[-2].send(header(terms, Role.PRODUCER))
        except OSError as error:
            for end in ends:
                end.close()
            number = error.errno or 0
            raise HostError(
                f"the channel's sockets can't be made: {os.strerror(number)}", errno=number, target=terms.name
            ) from error
        if self._between is not None:
            self._between(terms, ends[1], ends[2])
        return (
            StreamGrant(terms, Role.PRODUCER, ends[0].detach()),
            StreamGrant(terms, Role.CONSUMER, ends[-1].detach()),
        )

    def sender(self, grant: StreamGrant) -> Outgoing:
        """See `Carrier.sender`."""
        half, bell = _join(grant, Role.PRODUCER, StreamTx)
        return Outgoing(grant.terms, half, bell)

    def receiver(self, grant: StreamGrant) -> Incoming:
        """See `Carrier.receiver`."""
        half, bell = _join(grant, Role.CONSUMER, StreamRx)
        return Incoming(grant.terms, half, bell)

    def discard(self, grant: StreamGrant) -> None:
        """See `Carrier.discard`."""
        os.close(grant.line)


def _join(grant: StreamGrant, role: Role, make: type[H]) -> tuple[H, StreamBell]:
    terms = grant.terms
    line: socket.socket | None = None
    try:
        check(terms)
        line = socket.socket(fileno=grant.line)
        if grant.role is not role:
            raise _denied(terms, f"it is the {grant.role.name.lower()}'s end that was granted")
        if line.type != socket.SOCK_STREAM:
            raise _denied(terms, "it is no stream socket")
        other = Role.CONSUMER if role is Role.PRODUCER else Role.PRODUCER
        line.settimeout(0)
        if line.recv(_HEADER) != header(terms, other):
            raise _denied(terms, "what it begins with is not what was agreed, or this end was joined before")
    except ChannelDenied:
        if line is not None:
            line.close()
        else:
            os.close(grant.line)
        raise
    except OSError as error:
        if line is not None:
            line.close()
        else:
            with suppress(OSError):
                os.close(grant.line)
        raise _denied(terms, f"nothing of what was agreed can be read: {error.strerror}") from error
    half = make(line, terms)
    return half, StreamBell(half, line)


def _enlarge(end: socket.socket, size: int) -> None:
    """Room for a whole window, so that what may be sent can be; where the kernel gives less, a sender waits earlier."""
    room = 2 * size + 64 * size_of(0)
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, room)
    except OSError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)


def _denied(terms: Terms, rule: str) -> ChannelDenied:
    return ChannelDenied(
        "the channel can't be trusted", target=terms.name, rule=rule, remedy="have the channel set up anew"
    )
