"""An end's side of the rendezvous: offer a service, or reach one, and get the ends of a channel.

```python
with Rendezvous("/var/lib/septum/channels.sock") as broker:
    link = broker.connect("blue/sql")
    link.sender.send(b"select 1")
    answer = link.receiver.recv(timeout=1.0)
```
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from septum.access.wire import address
from septum.errors import (
    ChannelDenied,
    ChannelError,
    ChannelLost,
    ChannelTimeout,
    HostError,
    MessageError,
    NotFound,
    SeptumError,
)
from septum.ivc import Kind, Role, Terms
from septum.rendezvous import wire
from septum.rendezvous.joining import PARTS, Link, Listed, Pending, join

__all__ = ["Link", "Listed", "Rendezvous"]

_KINDS: Final = {"messages": Kind.MESSAGES, "bytes": Kind.BYTES}
_LIVE: Final = ("", "closing")
_AT_ONCE: Final = int(socket.MSG_DONTWAIT)
_ROLES: Final = {"producer": Role.PRODUCER, "consumer": Role.CONSUMER}


class Rendezvous:
    """A connection to the broker. One thread at a time uses it; the ends that come of it may be used by others.

    Args:
        path: of its socket: ``channels.sock`` in the state folder.
        timeout: seconds to wait for an answer.

    Raises:
        NotFound: no broker listens there.
        Denied: it does not serve this process; the message says why.
        HostError: the kernel refused the connection.

    Attributes:
        party: who this process is to the broker.
    """

    def __init__(self, path: str, *, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._pending: dict[str, Pending] = {}
        self._joined: dict[str, tuple[Link, str]] = {}
        self._links: dict[str, Link] = {}
        self._arrived: deque[Link] = deque()
        self._answers: dict[str, deque[wire.Packet | SeptumError | Link]] = {}
        self._told: set[str] = set()
        self._count = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            _connect(self._socket, path)
            self._answers["hello"] = deque()
            with suppress(ChannelLost):  # then it was turned away, and the answer says why
                self._send(wire.text("hello", wire.VERSION))
            answer = self._answer("hello", timeout)
        except BaseException:
            self._socket.close()
            raise
        self.party = answer.fields[-1]

    def fileno(self) -> int:
        """Polls readable when `accept` may have something."""
        return self._socket.fileno()

    @property
    def gone(self) -> bool:
        """The connection has ended: nothing comes of it any more."""
        poll = select.poll()
        if self._socket.fileno() >= 0:
            poll.register(self._socket, select.POLLRDHUP)
            return bool(poll.poll(0))
        return True

    def close(self) -> None:
        """Ends the connection, and with it all channels and services of it."""
        self._socket.close()
        for pending in self._pending.values():
            pending.discard()
        self._pending.clear()
        for link in list(self._links.values()):
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def offer(self, service: str, kind: Kind = Kind.MESSAGES, *, size: int = 1 << 16, backlog: int = 16) -> None:
        """Offers a service of the own realm; `accept` returns who reaches it.

        Args:
            service: its name.
            kind: of its channels.
            size: of each ring, in bytes: a power of two.
            backlog: how many may be let in before `accept` is called.

        Raises:
            Denied: the policy does not allow it.
            Held: somebody offers it already.
        """
        self._ask("offer", service, kind.name.lower(), size, backlog)

    def withdraw(self, service: str) -> None:
        """Offers it no more; channels that are there stay."""
        self._ask("withdraw", service)

    def connect(self, service: str, timeout: float | None = None) -> Link:
        """Reaches a service; returns once both ends have joined.

        Args:
            service: ``realm/name``, or the name of one in the own realm.
            timeout: seconds; None: the connection's.

        Raises:
            Denied: nobody offers it, or it is not for this guest; or the kernel refuses a descriptor.
            Exhausted: a quota, or the service's backlog.
            ChannelTimeout: the other end did not join in time.
        """
        reference = self._ask_for("connect", service)
        answer = self._wait(reference, self._timeout if timeout is None else timeout)
        if not isinstance(answer, Link):
            raise MessageError("the broker's answer is none of the protocol's", target=self._path)
        return answer

    def accept(self, timeout: float | None = None) -> Link:
        """The next one that has reached a service of this connection.

        Args:
            timeout: seconds; None: any time.

        Raises:
            ChannelTimeout: nobody came in time.
            ChannelLost: the broker is gone.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._arrived:
            self._pump(until)
        return self._arrived.popleft()

    def attend(self) -> None:
        """Takes note of what the broker has sent, without waiting; for a process that has links and asks for nothing.

        Raises:
            ChannelLost: the broker is gone.
        """
        while self._poll.poll(0):
            self._pump(time.monotonic())

    def channels(self) -> list[Listed]:
        """The live channels that this process may see.

        Raises:
            HostError, ChannelLost: the connection broke.
        """
        reference = self._ask_for("list")
        found: list[Listed] = []
        while True:
            answer = self._answer(reference, self._timeout, last=False)
            if answer.verb == "end":
                del self._answers[reference]
                return found
            found.append(Listed(int(answer.fields[1]), *answer.fields[2:]))

    def revoke(self, link: str) -> None:
        """Ends a link by its name.

        Raises:
            Denied: this process may not.
            NotFound: there is no such link.
        """
        self._ask("revoke", link)

    def serve(self, timeout: float | None = None) -> Iterator[Link]:
        """Those who reach a service, one after the other, until `timeout` seconds pass without one."""
        while True:
            try:
                yield self.accept(timeout)
            except ChannelTimeout:
                return

    # Inside

    def _let_go(self, link: Link, timeout: float) -> None:
        """Tells the broker that a link is closed here; then waits for up to so many seconds until it is over."""
        if self._socket.fileno() < 0:
            return
        with suppress(ChannelError):
            if link.name in self._links and link.over in _LIVE and link.name not in self._told:
                self._told.add(link.name)
                self._send(wire.text("close", link.name))
            until = time.monotonic() + timeout
            while timeout and link.over in _LIVE:
                self._pump(until)

    def _ask(self, verb: str, *fields: object) -> wire.Packet:
        return self._answer(self._ask_for(verb, *fields), self._timeout)

    def _ask_for(self, verb: str, *fields: object) -> str:
        self._count += 1
        reference = str(self._count)
        self._answers[reference] = deque()
        self._send(wire.text(verb, reference, *fields))
        return reference

    def _answer(self, reference: str, timeout: float, *, last: bool = True) -> wire.Packet:
        answer = self._wait(reference, timeout, last=last)
        if isinstance(answer, Link):
            raise MessageError("the broker's answer is none of the protocol's", target=self._path)
        return answer

    def _wait(self, reference: str, timeout: float, *, last: bool = True) -> wire.Packet | Link:
        until = time.monotonic() + timeout
        answers = self._answers[reference]
        try:
            while not answers:
                self._pump(until)
        except BaseException:
            del self._answers[reference]
            raise
        answer = answers.popleft()
        if last:
            del self._answers[reference]
        if isinstance(answer, SeptumError):
            raise answer
        return answer

    def _send(self, data: bytes) -> None:
        try:
            wire.send(self._socket, data, flags=socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> SeptumError:
        return ChannelLost(
            f"the connection to the broker broke: {error.strerror}",
            target=self._path,
            rule="channels end with the connection that they were made over",
        )

    def _pump(self, until: float | None) -> None:
        """Does one packet.

        Raises:
            ChannelTimeout: none came in time.
            ChannelLost: the broker is gone.
        """
        try:
            try:
                packet = _received(self._socket)
            except BlockingIOError:
                left = None if until is None else max(0.0, until - time.monotonic()) * 1000
                if not self._poll.poll(left):
                    raise ChannelTimeout("the broker had nothing to say in time", target=self._path) from None
                packet = _received(self._socket)
        except OSError as error:
            raise self._broken(error) from error
        if not packet.verb:
            raise ChannelLost("the broker is gone", target=self._path, remedy="connect again")
        self._take(packet)

    def _take(self, packet: wire.Packet) -> None:
        verb, fields = packet.verb, packet.fields
        if verb in ("own", "peer", "line"):
            self._part(packet)
        elif verb == "link":
            reference, name, service, peer, count, carrier = fields
            link = Link(name, service, peer, self._let_go, self.attend)
            self._pending[name] = Pending(link, reference, int(count), PARTS[carrier])
        elif verb == "active":
            joined = self._joined.pop(fields[0], None)
            if joined is not None and joined[1]:
                self._tell(joined[1], joined[0])
            elif joined is not None:
                self._arrived.append(joined[0])
        elif verb in ("closing", "closed", "revoked"):
            self._over(fields[0], fields[1] if verb == "revoked" else verb)
        elif verb == "error":
            if fields[0] not in self._answers and "hello" in self._answers:
                fields = ("hello", *fields[1:])
            self._tell(fields[0], wire.refusal(fields))
        elif verb == "welcome":
            self._tell("hello", packet)
        elif fields:
            self._tell(fields[0], packet)

    def _tell(self, reference: str, what: wire.Packet | SeptumError | Link) -> None:
        waiting = self._answers.get(reference)
        if waiting is not None:
            waiting.append(what)
        elif isinstance(what, Link):
            what.close()  # who asked for it has given up

    def _over(self, name: str, why: str) -> None:
        link = self._links.get(name)
        if link is not None:
            link.over = why
            if why not in _LIVE:
                del self._links[name]
                self._told.discard(name)
        pending = self._pending.pop(name, None)
        if pending is not None:
            pending.discard()
            self._fail(pending.reference, name, why)
        joined = self._joined.pop(name, None)
        if joined is not None:
            joined[0].close()
            self._fail(joined[1], name, why)

    def _fail(self, reference: str, name: str, why: str) -> None:
        if reference:
            self._tell(reference, ChannelLost("the channel ended before it began", target=name, rule=why))

    def _part(self, packet: wire.Packet) -> None:
        name, number = packet.fields[0], int(packet.fields[1])
        pending = self._pending.get(name)
        if pending is None:
            if packet.fd >= 0:
                os.close(packet.fd)
            return
        if packet.verb == "own":
            role, kind, size = packet.fields[2:]
            terms = Terms(pending.link.service, number, _KINDS[kind], int(size))
            pending.terms[number] = terms, _ROLES[role]
        if packet.fd < 0:
            pending.refused = packet.verb
        pending.fds[number, packet.verb] = packet.fd
        if pending.whole():
            del self._pending[name]
            self._join(pending)

    def _join(self, pending: Pending) -> None:
        link = pending.link
        try:
            if pending.refused:
                raise ChannelDenied(
                    "the kernel lets this process not have the channel's memory",
                    target=link.service,
                    rule=f"the descriptor {pending.refused!r} was refused on its way: see the audit log",
                )
            for number, (terms, role) in pending.terms.items():
                fds = [pending.fds.pop((number, part)) for part in pending.parts]
                join(link, terms, role, fds, self._socket)
        except SeptumError as error:
            pending.discard()
            self._send(wire.text("close", link.name))
            if pending.reference:
                self._tell(pending.reference, error)
            return
        self._links[link.name] = link
        self._joined[link.name] = link, pending.reference
        self._send(wire.text("ready", link.name))


def _received(sock: socket.socket) -> wire.Packet:
    try:
        return wire.receive(sock, flags=_AT_ONCE)
    except ConnectionResetError:
        # The broker closed it with something of ours unread, which is told first; what it had sent is still there.
        return wire.receive(sock, flags=_AT_ONCE)


def _connect(sock: socket.socket, path: str) -> None:
    directory = -1
    try:
        directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock.connect(address(directory, path))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NotFound("no broker runs here", target=path, remedy="septum-broker --state DIR") from error
    except OSError as error:
        raise HostError(
            f"the broker can't be reached: {error.strerror}", errno=error.errno or 0, target=path
        ) from error
    finally:
        if directory >= 0:
            os.close(directory)
