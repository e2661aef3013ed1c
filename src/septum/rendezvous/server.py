"""The broker's loop: descriptors in, packets out, within bounds.

One thread and epoll. In each round every client that has sent something gets one packet of it done, so that none waits
for another that sends without end; who asks for more than its rate is read from later.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from septum.daemon import peer
from septum.daemon.notify import Notifier
from septum.errors import Denied, LedgerError, MessageError, SeptumError
from septum.ledger.protocol import Ledger
from septum.rendezvous import wire
from septum.rendezvous.broker import Broker
from septum.rendezvous.connection import Connection
from septum.rendezvous.parties import Parties

__all__ = ["Bounds", "Server"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLHUP | select.EPOLLERR
_ACCEPTS: Final = 64
_AT_ONCE: Final = int(socket.MSG_DONTWAIT)
_TICK: Final = 0.03  # seconds, while there are channels or services; what was changed behind our back is seen by then
_REST: Final = 1.0
_LOOK: Final = 0.5  # between two looks for clients that take nothing


class Bounds(NamedTuple):
    """How much clients may take.

    Attributes:
        connections: at once, of all clients.
        each: of one uid other than root's.
        second, burst: requests a second of one client other than the platform, and at once.
        stuck: seconds for which a client may take nothing of what it is sent.
    """

    connections: int = 2048
    each: int = 64
    second: float = 500.0
    burst: float = 1000.0
    stuck: float = 5.0


class Server:
    """Serves until `stop`.

    Args:
        broker: gives the broker, which drops clients by the function that it is given.
        listeners: listening sockets of packets.
        parties: tells who clients are.
        ledger: tells when that may have changed.
        notifier: tells the service manager.
        bounds: see there.
        report: is told what an operator should know.
    """

    def __init__(
        self,
        broker: Callable[[Callable[[Connection], None]], Broker],
        listeners: Sequence[socket.socket],
        parties: Parties,
        ledger: Ledger,
        notifier: Notifier,
        bounds: Bounds,
        report: Callable[[str], None],
    ) -> None:
        self.broker = broker(self._doom)
        self._parties = parties
        self._ledger = ledger
        self._notifier = notifier
        self._bounds = bounds
        self._report = report
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listeners = {one.fileno(): one for one in listeners}
        self._clients: dict[int, Connection] = {}
        self._pidfds: dict[int, Connection] = {}
        self._uids: dict[int, int] = {}
        self._later: set[Connection] = set()
        self._doomed: list[Connection] = []
        self._decider = -1
        self._revision: tuple[int, ...] = ()
        self._next_tick = self._next_look = 0.0
        self._turned_away = 0
        self._stopping = self._again = False
        for one in listeners:
            one.setblocking(False)
        for fd in (self._wake, self.broker.relays.fileno(), *self._listeners):
            self._epoll.register(fd, _IN)

    def stop(self) -> None:
        """Ends `run`, and with it all channels. From any thread or signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def decide_again(self) -> None:
        """Decides anew about all that lives. From any thread or signal handler."""
        self._again = True
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serves."""
        broker = self.broker
        self._notifier.ready("")
        try:
            while not self._stopping:
                self._round()
            self._notifier.stopping()
        finally:
            broker.now = time.monotonic()
            for link in list(broker.links.values()):
                broker.end(link, "the broker stops")
            for client in list(self._clients.values()):
                self._close(client)
            self._epoll.close()
            os.close(self._wake)

    def _round(self) -> None:
        events = self._epoll.poll(self._timeout())
        now = self.broker.now = time.monotonic()
        accepting = []
        if (due := self.broker.relays.due()) is not None and due <= now:
            self.broker.relay()
        for fd, what in events:
            if fd in self._clients:
                self._attend(self._clients[fd], what, now)
            elif fd in self._pidfds:
                self._doom(self._pidfds[fd])
            elif fd == self._decider:
                self._notice()
            elif fd == self.broker.relays.fileno():
                self.broker.relay()
            elif fd == self._wake:
                self._woken()
            elif fd in self._listeners:
                accepting.append(fd)
            self._clear()
        # Last of all, as what is accepted here may get the number of a descriptor that was closed above.
        for fd in accepting:
            self._accept(self._listeners[fd], now)
        self._clear()
        for client in [one for one in self._later if self._allowance(one) <= now]:
            self._later.discard(client)
            self._watch(client)
        if now >= self._next_tick:
            self._tick(now)

    def _timeout(self) -> float:
        live = self.broker.links or self.broker.offers or self._clients
        now = time.monotonic()
        due = self.broker.relays.due()
        most = min(_TICK if live else _REST, self._next_tick - now)
        return max(0.0, most if due is None else min(most, due - now))

    def _attend(self, client: Connection, what: int, now: float) -> None:
        try:
            if what & _OUT:
                client.flush(now)
            if what & _IN and not client.doomed:
                self._read(client, now)
            elif what & _GONE:
                self._doom(client)
        except MessageError as error:
            self.broker.refuse(client, error)
            self._doom(client)
        except OSError:
            self._doom(client)
        if not client.doomed:
            self._watch(client)

    def _read(self, client: Connection, now: float) -> None:
        try:
            packet = wire.receive(client.sock, flags=_AT_ONCE)
        except BlockingIOError:
            return
        if not packet.verb and not packet.fields:
            self._doom(client)
            return
        if client.party.uuid:
            client.full = max(client.full, now) + 1 / self._bounds.second
        self.broker.take(client, packet)

    def _allowance(self, client: Connection) -> float:
        """When a packet of it is read next."""
        return client.full - self._bounds.burst / self._bounds.second

    def _watch(self, client: Connection) -> None:
        events = 0
        if client.waiting:
            events = _OUT  # not read from before it has taken what it was sent
        elif self._allowance(client) > self.broker.now:
            self._later.add(client)
        else:
            events = _IN
        if events != client.events:
            client.events = events
            self._epoll.modify(client.sock.fileno(), events)

    # Clients come and go

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors, say: who waits is not refused, and asking again at once would be all that is done.
                self._report(f"a connection can't be accepted: {error.strerror}")
                self._epoll.modify(listener.fileno(), 0)
                return
            sock.setblocking(False)
            try:
                self._admit(sock, now)
            except SeptumError as error:
                self._turned_away += 1
                with suppress(OSError):
                    wire.send(sock, wire.failure("hello", error))
                sock.close()

    def _admit(self, sock: socket.socket, now: float) -> None:
        if len(self._clients) >= self._bounds.connections:
            raise Denied("the broker has as many connections as it may", rule=f"at most {self._bounds.connections}")
        found = peer.identify(sock)
        try:
            if found.uid and self._uids.get(found.uid, 0) >= self._bounds.each:
                raise Denied(f"uid {found.uid} has as many connections as it may", rule=f"at most {self._bounds.each}")
            party = self._parties.of(found)
        except SeptumError:
            if found.pidfd >= 0:
                os.close(found.pidfd)
            raise
        client = Connection(sock, found, party, now)
        client.events = _IN
        self._clients[sock.fileno()] = client
        self._uids[found.uid] = self._uids.get(found.uid, 0) + 1
        self._epoll.register(sock.fileno(), _IN)
        if found.pidfd >= 0:
            self._pidfds[found.pidfd] = client
            self._epoll.register(found.pidfd, _IN)

    def _doom(self, client: Connection) -> None:
        if not client.doomed:
            client.doomed = True
            self._doomed.append(client)

    def _clear(self) -> None:
        """Drops those that are to go. Their going may doom others."""
        while self._doomed:
            self._close(self._doomed.pop())

    def _close(self, client: Connection) -> None:
        client.doomed = True
        self.broker.leave(client)
        del self._clients[client.sock.fileno()]
        self._later.discard(client)
        self._epoll.unregister(client.sock.fileno())
        if client.peer.pidfd >= 0:
            del self._pidfds[client.peer.pidfd]
            self._epoll.unregister(client.peer.pidfd)
        uid = client.peer.uid
        self._uids[uid] -= 1
        if not self._uids[uid]:
            del self._uids[uid]
        client.close()

    # Beside the clients

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        if self._again:
            self._again = False
            self.broker.decide_again()

    def _notice(self) -> None:
        if self.broker.decider.changed():
            self.broker.decide_again()
        self._mind_decider()

    def _mind_decider(self) -> None:
        fd = self.broker.decider.fileno()
        if fd != self._decider:
            if self._decider >= 0:
                with suppress(OSError):
                    self._epoll.unregister(self._decider)
            self._decider = fd
            if fd >= 0:
                self._epoll.register(fd, _IN)

    def _tick(self, now: float) -> None:
        self._next_tick = now + (_TICK if self._clients else _REST)
        self.broker.tick()
        self._mind_decider()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            for fd in self._listeners:
                self._epoll.modify(fd, _IN)
            for client in self._clients.values():
                if client.stuck and now - client.stuck > self._bounds.stuck:
                    self._doom(client)
        try:
            revision = self._ledger.revision()
            if revision != self._revision:
                self._look_again()
                self._revision = revision
        except LedgerError as error:
            self._report(f"whose clients are can't be told: {error.what}")
            for client in list(self._clients.values()):
                self._doom(client)
        self._clear()
        if self._turned_away:
            self._report(f"{self._turned_away} connections were refused")
            self._turned_away = 0
        self._notifier.alive()

    def _look_again(self) -> None:
        """Guests end and get other labels: who is not any more whom it was taken for goes, with its channels."""
        known: dict[tuple[int, str], object] = {}
        for client in self._clients.values():
            key = client.peer.uid, client.peer.label
            if key not in known:
                try:
                    known[key] = self._parties.of(client.peer)
                except Denied:
                    known[key] = None
            if known[key] != client.party:
                self._doom(client)
