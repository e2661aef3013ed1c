"""Links as an end sees them, and how one comes of the packets that bring its descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

from septum.errors import ChannelBusy
from septum.ivc import (
    Incoming,
    Kind,
    MemfdCarrier,
    MemfdGrant,
    Outgoing,
    Reader,
    Receiver,
    Role,
    Sender,
    StreamCarrier,
    StreamGrant,
    Terms,
    Writer,
)
from septum.rendezvous.bell import BrokerBell

__all__ = ["PARTS", "Link", "Listed", "Pending", "join"]

PARTS: Final = {"memfd": ("own", "peer", "line"), "stream": ("own",)}
"""The descriptors of one end of a channel by its carrier, in the order of a grant."""


class Listed(NamedTuple):
    """A live channel, as the broker tells of it.

    Attributes:
        id: its number.
        link: name of what it belongs to.
        service: that was reached.
        way: ``to-service`` or ``from-service``.
        source, target: who reached it, and who offers it.
        state: ``granted``, ``active`` or ``draining``.
    """

    id: int
    link: str
    service: str
    way: str
    source: str
    target: str
    state: str


class Link:
    """What came of a connection: an end of one or two channels.

    Attributes:
        name: as the broker calls it.
        service: that was reached.
        peer: the other side: its realm, and within it perhaps guest or role.
        sender: sends, or None if the door lets nothing out.
        receiver: receives, or None.
        over: ``closing`` once the other side has closed, ``closed`` once both have; else why it was ended, or "" while
            it lives.
    """

    def __init__(
        self,
        name: str,
        service: str,
        peer: str,
        let_go: Callable[[Link, float], None],
        attend: Callable[[], None],
    ) -> None:
        self.name = name
        self.service = service
        self.peer = peer
        self.sender: Sender | Writer | None = None
        self.receiver: Receiver | Reader | None = None
        self.over = ""
        self._let_go = let_go
        self._attend = attend
        self._closed = False

    def ending(self) -> bool:
        """Whether the other side has closed it, or the broker ended it: nothing more can be sent.

        Raises:
            ChannelLost: the broker is gone.
        """
        self._attend()
        return self.over != ""

    def close(self) -> None:
        """Ends it for both. What was sent can still be received. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for end in (self.sender, self.receiver):
            if end is not None:
                with suppress(ChannelBusy):
                    end.close()
        self._let_go(self, 0.0)

    def end(self, timeout: float = 30.0) -> bool:
        """Closes it, and waits until the other side has closed too: what was sent is received then, also if this
        process ends at once.

        Args:
            timeout: seconds.

        Returns:
            Whether it has.
        """
        self.close()
        self._let_go(self, timeout)
        return self.over == "closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pending:
    """A link whose descriptors are still coming.

    Args:
        link: it will be.
        reference: of the request that it answers, "" for one that was not asked for.
        count: of its channels.
        parts: the descriptors of each.

    Attributes:
        refused: the part that the kernel did not let through.
    """

    def __init__(self, link: Link, reference: str, count: int, parts: tuple[str, ...]) -> None:
        self.link = link
        self.reference = reference
        self.count = count
        self.parts = parts
        self.terms: dict[int, tuple[Terms, Role]] = {}
        self.fds: dict[tuple[int, str], int] = {}
        self.refused = ""

    def whole(self) -> bool:
        """All has come."""
        return len(self.fds) == len(self.parts) * self.count == len(self.parts) * len(self.terms)

    def discard(self) -> None:
        """Closes what came."""
        for fd in self.fds.values():
            if fd >= 0:
                os.close(fd)
        self.fds.clear()


def join(link: Link, terms: Terms, role: Role, fds: Sequence[int], broker: socket.socket) -> None:
    """Gives a link one of its ends. Descriptors are used up, whether it succeeds or not.

    Args:
        link: gets it.
        terms, role: as the broker told them.
        fds: three for a carrier over memory, one for sockets.
        broker: the connection that the link ends with.

    Raises:
        ChannelDenied, HostError: what was granted can't be used.
    """
    messages = terms.kind is Kind.MESSAGES
    if role is Role.PRODUCER:
        out = _outgoing(terms, role, fds)
        out = out._replace(bell=BrokerBell(out.bell, broker))
        link.sender = Sender(out) if messages else Writer(out)
    else:
        come = _incoming(terms, role, fds)
        come = come._replace(bell=BrokerBell(come.bell, broker))
        link.receiver = Receiver(come) if messages else Reader(come)


def _outgoing(terms: Terms, role: Role, fds: Sequence[int]) -> Outgoing:
    if len(fds) == 1:
        return StreamCarrier().sender(StreamGrant(terms, role, *fds))
    return MemfdCarrier().sender(MemfdGrant(terms, role, *fds))


def _incoming(terms: Terms, role: Role, fds: Sequence[int]) -> Incoming:
    if len(fds) == 1:
        return StreamCarrier().receiver(StreamGrant(terms, role, *fds))
    return MemfdCarrier().receiver(MemfdGrant(terms, role, *fds))
