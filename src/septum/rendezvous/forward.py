"""Copies between channels and what unmodified programs have: standard streams and sockets."""

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from septum.errors import ChannelError, ChannelPoisoned, HostError, SeptumError, UsageError
from septum.ivc import Reader, Sender, Writer
from septum.rendezvous.client import Rendezvous
from septum.rendezvous.joining import Link

__all__ = ["from_socket", "open_address", "streams", "to_socket"]

_PORTION: Final = 1 << 16
_PAUSE: Final = 0.02  # seconds between two looks whether the other side is still there
_BACKLOG: Final = 64


def streams(link: Link, source: int, target: int) -> bool:
    """Copies a descriptor into a link and the link into a descriptor, until both ways have ended or the other side has
    closed the whole.

    Args:
        link: of bytes, or of messages: then each line of `source` is one, and each one becomes a line.
        source, target: descriptors.

    Returns:
        Whether all came to an orderly end.
    """
    failed: list[SeptumError] = []

    def send() -> None:
        try:
            _send(link, source)
        except (ChannelError, ChannelPoisoned) as error:
            failed.append(error)

    sending = threading.Thread(target=send, daemon=True)
    if link.sender is not None:
        sending.start()
    try:
        if link.receiver is not None:
            _receive(link, target)
        # The other side has sent its last; whether it still takes something is another matter.
        while sending.is_alive() and not link.ending():
            sending.join(_PAUSE)
    except (ChannelError, ChannelPoisoned) as error:
        failed.append(error)
    return link.end() and not failed


def from_socket(broker: Rendezvous, service: str, listener: socket.socket, report: Callable[[str], None]) -> None:
    """Takes connections at a socket, and brings each to a service by a link of its own.

    Args:
        broker: makes links.
        service: of bytes.
        listener: a listening stream socket.
        report: is told why one could not be brought there.

    Raises:
        ChannelLost: the broker is gone.
    """
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(broker.fileno(), select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if broker.fileno() in ready:
            broker.attend()
        if listener.fileno() not in ready:
            continue
        sock, _ = listener.accept()
        try:
            link = broker.connect(service)
        except SeptumError as error:
            report(str(error))
            sock.close()
            if broker.gone:
                raise
            continue
        threading.Thread(target=_both, args=(link, sock), daemon=True).start()


def to_socket(broker: Rendezvous, address: str, report: Callable[[str], None]) -> None:
    """Accepts links of a service that is offered, and connects each to a socket.

    Args:
        broker: has offered the service, of bytes.
        address: as `open_address` takes it.
        report: is told why one could not be connected.

    Raises:
        ChannelLost: the broker is gone.
    """
    while True:
        link = broker.accept()
        try:
            sock = open_address(address, listen=False)
        except HostError as error:
            report(str(error))
            link.close()
            continue
        threading.Thread(target=_both, args=(link, sock), daemon=True).start()


def open_address(address: str, *, listen: bool) -> socket.socket:
    """A stream socket.

    Args:
        address: ``unix:PATH``, or ``tcp:HOST:PORT`` with a numeric HOST.
        listen: at the address; otherwise it is connected to.

    Raises:
        UsageError: it is no address.
        HostError: the kernel refused.
    """
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    place: str | tuple[str, int]
    if kind == "unix" and rest:
        sock, place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), rest
    elif kind == "tcp" and host and port.isdecimal():
        bare = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM)
        place = (bare, int(port))
    else:
        raise UsageError(f"{address!r} is no address", rule="unix:PATH or tcp:HOST:PORT")
    try:
        if listen:
            if kind == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            sock.listen(_BACKLOG)
        else:
            sock.connect(place)
    except (OSError, OverflowError) as error:
        sock.close()
        number = getattr(error, "errno", 0) or 0
        raise HostError(
            f"can't {'listen at' if listen else 'connect to'} {address}: {getattr(error, 'strerror', error)}",
            errno=number,
            target=address,
        ) from error
    return sock


def _both(link: Link, sock: socket.socket) -> None:
    """Copies both ways, each until its end; the end of one way is passed on as such."""

    def inward() -> None:
        try:
            _send(link, sock.fileno())
        except (ChannelError, ChannelPoisoned, OSError):
            _shut(sock, socket.SHUT_RDWR)

    sending = threading.Thread(target=inward, daemon=True)
    if link.sender is not None:
        sending.start()
    try:
        if link.receiver is not None:
            _receive(link, sock.fileno())
        _shut(sock, socket.SHUT_WR)
    except (ChannelError, ChannelPoisoned, OSError):
        _shut(sock, socket.SHUT_RDWR)
    if link.sender is not None:
        sending.join()
    link.close()
    sock.close()


def _shut(sock: socket.socket, how: int) -> None:
    with suppress(OSError):
        sock.shutdown(how)


def _send(link: Link, source: int) -> None:
    sender = link.sender
    if isinstance(sender, Writer):
        while data := os.read(source, _PORTION):
            sender.write(data)
    elif isinstance(sender, Sender):
        with open(source, "rb", closefd=False) as lines:
            for line in lines:
                sender.send(line.removesuffix(b"\n"))
    if sender is not None:
        sender.close()


def _receive(link: Link, target: int) -> None:
    receiver = link.receiver
    if isinstance(receiver, Reader):
        while data := receiver.read(_PORTION):
            _write(target, data)
    elif receiver is not None:
        for message in receiver:
            _write(target, message + b"\n")


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
