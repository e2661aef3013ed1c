"""One client's connection to the broker: what it was sent and has not taken, and what is its own."""

import os
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from septum.daemon.peer import Peer
from septum.errors import Exhausted
from septum.rendezvous import wire
from septum.rendezvous.parties import Party

if TYPE_CHECKING:
    from septum.declare import End
    from septum.rendezvous.links import Link, Offer

__all__ = ["MOST_WAITING", "Connection"]

MOST_WAITING: Final = 512
"""Packets that a client has not taken yet; one more, and the client is dropped (XSA-326: what is never read must not
fill the memory of who answers)."""


class Connection:
    """A client.

    Args:
        sock: its socket, accepted.
        peer: what the kernel says of it.
        party: who that is.
        now: monotonic time.

    Attributes:
        greeted: it has said hello.
        doomed: it is dropped as soon as what is being done is done.
        offers: its services.
        links: that it has an end of.
        waiting: packets that it has not taken.
        stuck: since when it takes none; 0.0 if none waits.
        full: when its allowance of requests is whole again.
        events: that the loop waits for.
    """

    __slots__ = ("doomed", "events", "full", "greeted", "links", "offers", "party", "peer", "sock", "stuck", "waiting")

    def __init__(self, sock: socket.socket, peer: Peer, party: Party, now: float) -> None:
        self.sock = sock
        self.peer = peer
        self.party = party
        self.greeted = self.doomed = False
        self.offers: dict[End, Offer] = {}
        self.links: dict[str, Link] = {}
        self.waiting: deque[tuple[bytes, int]] = deque()
        self.stuck = 0.0
        self.full = now
        self.events = 0

    def send(self, data: bytes, fd: int, now: float) -> None:
        """Sends a packet, or lets it wait. The descriptor is taken over.

        Raises:
            Exhausted: too many packets wait.
            OSError: the client is gone.
        """
        self.waiting.append((data, fd))
        if len(self.waiting) > MOST_WAITING:
            raise Exhausted("a client does not take what it is sent", rule=f"{MOST_WAITING} packets may wait")
        if not self.stuck:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Sends what waits, as far as it is taken.

        Raises:
            OSError: the client is gone.
        """
        while self.waiting:
            data, fd = self.waiting[0]
            try:
                wire.send(self.sock, data, fd)
            except BlockingIOError:
                self.stuck = self.stuck or now
                return
            self.waiting.popleft()
            if fd >= 0:
                os.close(fd)
            if self.stuck:
                self.stuck = now
        self.stuck = 0.0

    def close(self) -> None:
        """Ends it, and lets go of what it was not sent."""
        for _, fd in self.waiting:
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self.waiting.clear()
        self.sock.close()
        if self.peer.pidfd >= 0:
            os.close(self.peer.pidfd)
