"""Links as an end sees them, and how one comes of the packets that bring its descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

from septum.errors import ChannelBusy
from septum.ivc import Kind, MemfdCarrier, MemfdGrant, Reader, Receiver, Role, Sender, Terms, Writer
from septum.rendezvous.bell import BrokerBell

__all__ = ["PARTS", "Link", "Listed", "Pending", "join"]

PARTS: Final = ("own", "peer", "line")
"""The descriptors of one end of a channel, in the order of a `MemfdGrant`."""


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
        over: why the broker has ended it, or ``closing`` once the other side has closed; "" while it lives.
    """

    def __init__(self, name: str, service: str, peer: str, let_go: Callable[[Link], None]) -> None:
        self.name = name
        self.service = service
        self.peer = peer
        self.sender: Sender | Writer | None = None
        self.receiver: Receiver | Reader | None = None
        self.over = ""
        self._let_go = let_go
        self._closed = False

    def close(self) -> None:
        """Ends it for both. What was sent can still be received. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for end in (self.sender, self.receiver):
            if end is not None:
                with suppress(ChannelBusy):
                    end.close()
        self._let_go(self)

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

    Attributes:
        refused: the part that the kernel did not let through.
    """

    def __init__(self, link: Link, reference: str, count: int) -> None:
        self.link = link
        self.reference = reference
        self.count = count
        self.terms: dict[int, tuple[Terms, Role]] = {}
        self.fds: dict[tuple[int, str], int] = {}
        self.refused = ""

    def whole(self) -> bool:
        """All has come."""
        return len(self.fds) == len(PARTS) * self.count == len(PARTS) * len(self.terms)

    def discard(self) -> None:
        """Closes what came."""
        for fd in self.fds.values():
            if fd >= 0:
                os.close(fd)
        self.fds.clear()


def join(carrier: MemfdCarrier, link: Link, grant: MemfdGrant, broker: socket.socket) -> None:
    """Gives a link one of its ends.

    Raises:
        ChannelDenied, HostError: the grant can't be used.
    """
    messages = grant.terms.kind is Kind.MESSAGES
    if grant.role is Role.PRODUCER:
        out = carrier.sender(grant)
        out = out._replace(bell=BrokerBell(out.bell, broker))
        link.sender = Sender(out) if messages else Writer(out)
    else:
        come = carrier.receiver(grant)
        come = come._replace(bell=BrokerBell(come.bell, broker))
        link.receiver = Receiver(come) if messages else Reader(come)
