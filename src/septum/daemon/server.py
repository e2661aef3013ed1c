"""The loop of septumd: descriptors in, answers out, within bounds.

One thread and epoll. In each round every client that has a whole message waiting gets one of them answered; all that
was decided is written to the log in one block; then the answers are sent. A client whose answer could not be sent whole
is not read from until it was; nobody's bytes are kept beyond the bounds.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from septum.access import wire
from septum.access.spin import spinning
from septum.daemon import peer
from septum.daemon.connection import PORTION, Connection
from septum.daemon.desk import Answer
from septum.daemon.notify import Notifier
from septum.daemon.service import Service
from septum.errors import DecisionLogError, Denied, MessageError, SeptumError

__all__ = ["DEFAULT_BOUNDS", "Bounds", "Server"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLHUP | select.EPOLLERR
_TICK: Final = 0.5  # seconds
_WATCH: Final = 0.03  # the same while somebody wants to be told of another policy
_ACCEPTS: Final = 64  # in one round


class Bounds(NamedTuple):
    """How much clients may take.

    Attributes:
        connections: at once, of all clients.
        each: of one uid other than root's.
        memory: bytes of all messages and answers that wait.
        message: seconds within which a message that has begun must be whole, and an answer taken.
        idle: seconds without a byte after which a connection is closed.
        drain: seconds that stopping takes at most.
    """

    connections: int = 256
    each: int = 32
    memory: int = 64 << 20
    message: float = 10.0
    idle: float = 600.0
    drain: float = 5.0


DEFAULT_BOUNDS: Final = Bounds()


class Server:
    """Serves until `stop`.

    Args:
        service: answers messages.
        listeners: listening sockets.
        notifier: tells the service manager.
        bounds: see there.
        report: is told what an operator should know.
    """

    def __init__(
        self,
        service: Service,
        listeners: Sequence[socket.socket],
        notifier: Notifier,
        bounds: Bounds,
        report: Callable[[str], None],
    ) -> None:
        self._service = service
        self._notifier = notifier
        self._bounds = bounds
        self._report = report
        self._listeners = list(listeners)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = self._reloading = self._answered = False
        self._clients: dict[int, Connection] = {}
        self._pidfds: dict[int, Connection] = {}
        self._uids: dict[int, int] = {}
        self._ready: dict[int, Connection] = {}
        self._special: dict[int, Callable[[], None]] = {self._wake: self._woken}
        self._next_tick = 0.0
        self._turned_away = 0
        self._turned_why = ""
        self._silent_until = 0.0
        self._engine = -1
        for listener in self._listeners:
            listener.setblocking(False)
            self._special[listener.fileno()] = lambda listener=listener: self._accept(listener)  # type: ignore[misc]
        self._special[service.loader.fileno()] = self._loaded
        for fd in self._special:
            self._epoll.register(fd, _IN)
        self._watch_engine()

    def stop(self) -> None:
        """Answers what has come, then ends `run`. From any thread or signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def reload(self) -> None:
        """Loads the policy anew. From any thread or signal handler."""
        self._reloading = True
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serves."""
        self._notifier.ready(f"policy {self._service.manager.seqno}")
        try:
            while not self._stopping:
                self._round(self._timeout())
            self._notifier.stopping()
            self._drain()
            self._tell_of_turned_away()
        finally:
            for client in list(self._clients.values()):
                self._close(client)
            self._epoll.close()
            os.close(self._wake)

    # One round

    def _round(self, timeout: float) -> None:
        special = []
        for fd, events in self._poll(timeout):
            client = self._clients.get(fd)
            if client is not None:
                self._attend(client, events)
            elif fd in self._special:
                special.append(fd)
            elif fd in self._pidfds:
                # A connection ends with the process that made it, whoever has a copy of the descriptor.
                self._close(self._pidfds[fd])
        # Last of all, as what is accepted here may get the number of a descriptor that was closed above.
        for fd in special:
            if fd in self._special:
                self._special[fd]()
        now = time.monotonic()
        if self._ready:
            self._answer(now)
        if self._service.watched:
            self._tell(self._service.changed())
        if now >= self._next_tick:
            self._tick(now)

    def _attend(self, client: Connection, events: int) -> None:
        now = time.monotonic()
        try:
            if events & _OUT:
                client.flush(now)
            if events & _IN and not client.whole():
                client.receive(now)
            if events & _GONE and not events & _IN:
                self._close(client)
                return
        except MessageError as error:
            self._send(client, wire.failure(error), closing=True)
            return
        except OSError:
            self._close(client)
            return
        self._settle(client)

    def _answer(self, now: float) -> None:
        """Answers a message of each client that has one, records all of it, then sends."""
        answers: list[tuple[Connection, Answer, bool]] = []
        self._answered = True
        for client in list(self._ready.values()):
            if client.resume > now:
                continue
            answer: Answer | None
            closing = False
            try:
                body = client.message(now)
                if body is None:
                    del self._ready[client.sock.fileno()]
                    continue
                answer = self._service.answer(client, body, now)
            except SeptumError as error:
                closing = isinstance(error, MessageError) or not client.greeted
                answer = Answer(wire.failure(error))
            if answer is not None:
                answers.append((client, answer, closing))
        try:
            self._service.log.commit()
        except DecisionLogError as error:
            self._unrecorded(error, answers, now)
            return
        for client, answer, closing in answers:
            self._send(client, answer.body, closing=closing)
        self._service.begin_reloads()

    def _unrecorded(
        self, error: DecisionLogError, answers: Iterable[tuple[Connection, Answer, bool]], now: float
    ) -> None:
        if now >= self._silent_until:
            self._silent_until = now + 1
            self._report(str(error))
        for client, answer, closing in answers:
            count = answer.decisions
            body = self._service.desk.unrecorded(count, error) if count else wire.failure(error)
            self._send(client, body, closing=closing)
        for client in self._service.refuse_reloads():
            client.parked = False
            self._send(client, wire.failure(error))

    def _send(self, client: Connection, body: bytes, *, closing: bool = False) -> None:
        client.closing = client.closing or closing
        try:
            client.send(body)
        except OSError:
            self._close(client)
            return
        self._settle(client)

    def _settle(self, client: Connection) -> None:
        """Closes a client that is done with; otherwise waits for what it needs next."""
        fd = client.sock.fileno()
        if fd < 0:
            return
        if client.size > PORTION and sum(one.size for one in self._clients.values()) > self._bounds.memory:
            self._turn_away("the memory for messages is full")
            self._close(client)
            return
        whole = not client.closing and client.whole()
        if not client.sending and (client.closing or (client.ended and not whole and not client.parked)):
            self._close(client)
            return
        if client.sending:
            events = _OUT
        elif (whole and client.resume > 0) or client.parked or client.ended or self._stopping:
            events = 0
        else:
            # Also while a message waits, which is answered in this round or the next: that spares two system calls.
            events = _IN
        if whole and not client.sending and not client.parked:
            self._ready[fd] = client
        else:
            self._ready.pop(fd, None)
        if events != client.events:
            client.events = events
            self._epoll.modify(fd, events)

    def _poll(self, timeout: float) -> list[tuple[int, int]]:
        if self._answered and timeout:
            self._answered = False
            return spinning(lambda: self._epoll.poll(0)) or self._epoll.poll(timeout)
        return self._epoll.poll(timeout)

    def _timeout(self) -> float:
        most = _WATCH if self._service.watched else _TICK
        if not self._ready:
            return most
        now = time.monotonic()
        return min(most, max(0.0, min(client.resume for client in self._ready.values()) - now))

    # Clients come and go

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._turn_away(f"a connection can't be accepted: {error.strerror}")
                return
            sock.setblocking(False)
            try:
                self._admit(sock)
            except SeptumError as error:
                self._turn_away(error.what)
                with suppress(OSError):
                    sock.send(wire.frame(wire.failure(error)))
                sock.close()

    def _admit(self, sock: socket.socket) -> None:
        if len(self._clients) >= self._bounds.connections:
            raise Denied("septumd has as many connections as it may", rule=f"at most {self._bounds.connections}")
        found = peer.identify(sock)
        try:
            if found.uid and self._uids.get(found.uid, 0) >= self._bounds.each:
                raise Denied(f"uid {found.uid} has as many connections as it may", rule=f"at most {self._bounds.each}")
            asker = self._service.peers.asker(found)
        except SeptumError:
            if found.pidfd >= 0:
                os.close(found.pidfd)
            raise
        client = Connection(sock, found, asker, time.monotonic())
        client.resume = self._service.resume(asker.context)
        client.events = _IN
        self._clients[sock.fileno()] = client
        self._uids[found.uid] = self._uids.get(found.uid, 0) + 1
        self._epoll.register(sock.fileno(), _IN)
        if found.pidfd >= 0:
            self._pidfds[found.pidfd] = client
            self._epoll.register(found.pidfd, _IN)
        self._service.counts["connections"] = len(self._clients)

    def _close(self, client: Connection) -> None:
        fd = client.sock.fileno()
        if fd < 0:
            return
        self._ready.pop(fd, None)
        del self._clients[fd]
        self._epoll.unregister(fd)
        client.sock.close()
        uid, pidfd = client.peer.uid, client.peer.pidfd
        self._uids[uid] -= 1
        if not self._uids[uid]:
            del self._uids[uid]
        if pidfd >= 0:
            del self._pidfds[pidfd]
            self._epoll.unregister(pidfd)
            os.close(pidfd)
        self._service.counts["connections"] = len(self._clients)

    def _turn_away(self, why: str) -> None:
        self._turned_away += 1
        self._turned_why = why
        self._service.counts["refused"] += 1

    # Beside the clients

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        if self._reloading:
            self._reloading = False
            self._service.reload()

    def _loaded(self) -> None:
        told = self._service.loaded()
        self._watch_engine()
        self._tell([*told, *self._service.changed()])

    def _tell(self, told: Iterable[tuple[Connection, bytes]]) -> None:
        for client, body in told:
            client.parked = False
            self._send(client, body)

    def _watch_engine(self) -> None:
        """Minds the descriptor of the engine in use."""
        fd = self._service.manager.engine.fileno()
        if self._engine >= 0:
            del self._special[self._engine]
            with suppress(OSError, ValueError):
                self._epoll.unregister(self._engine)
        self._engine = fd
        if fd >= 0:
            self._special[fd] = self._engine_gone
            self._epoll.register(fd, _IN)

    def _engine_gone(self) -> None:
        self._epoll.unregister(self._engine)
        del self._special[self._engine]
        self._engine = -1
        self._service.revive()

    def _tick(self, now: float) -> None:
        self._next_tick = now + _TICK
        bounds = self._bounds
        for client in list(self._clients.values()):
            stuck = client.sending and now - client.active > bounds.message
            halted = client.begun and now - client.begun > bounds.message
            if stuck or halted or (now - client.active > bounds.idle and not client.parked):
                self._close(client)
        self._tell_of_turned_away()
        self._service.tick(now)
        try:
            self._service.log.commit()
        except DecisionLogError as error:
            self._report(str(error))

    def _tell_of_turned_away(self) -> None:
        """In the log and to the operator, once for all since the last time: it must not be a way to flood either."""
        if self._turned_away:
            fields = {"count": self._turned_away, "last": self._turned_why}
            self._service.manager.record("clients.refused", fields)
            self._report(f"{self._turned_away} connections were refused, the last one because: {self._turned_why}")
            self._turned_away = 0

    def _drain(self) -> None:
        """Answers all that has come before the stop; takes nothing new."""
        for listener in self._listeners:
            self._epoll.unregister(listener.fileno())
            listener.close()
        deadline = time.monotonic() + self._bounds.drain
        due = {client: client.pending() for client in self._clients.values()}
        while (now := time.monotonic()) < deadline:
            for client, count in due.items():
                if count and client.sock.fileno() >= 0 and not client.whole() and not client.sending:
                    due[client] = count - self._take(client, now, count)
            left = [client for client in self._clients.values() if client.sending or due.get(client)]
            if not left and not self._ready:
                return
            self._round(0.0 if self._ready else 0.01)

    def _take(self, client: Connection, now: float, count: int) -> int:
        """Reads what had come before the stop; returns how much of it is done with."""
        try:
            taken = client.receive(now, min(count, PORTION))
        except MessageError as error:
            self._send(client, wire.failure(error), closing=True)
            return count
        except OSError:
            self._close(client)
            return count
        self._settle(client)
        return taken or count
