"""Channels that the host has given to this guest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from septum.errors import ChannelDenied, ChannelTimeout
from septum.guest import pci
from septum.guest.bell import PortBell
from septum.ivc import Kind, Reader, Receiver, Role, Sender, Writer, _ring
from septum.ivc.carriers.port import OWN, PEER, Announced, announced
from septum.ivc.carriers.protocol import Incoming, Outgoing
from septum.ivc.terms import length

_PORTS: Final = Path("/sys/class/virtio-ports")
_LOOK: Final = 0.005
_SPIN: Final = 50_000


def channels() -> list[Announced]:
    """The channels there are, open or not."""
    return [one for one, _ in _found()]


def channel(name: str, timeout: float | None = None, role: Role | None = None) -> Sender | Receiver | Writer | Reader:
    """Opens this guest's end of a channel. It can be opened once.

    Args:
        name: of the channel.
        timeout: seconds to wait for the host to plug it in; None: any time.
        role: which end it has to be, for a guest that has both of one name; None: the one there is. Of several
            generations the last one is opened.

    Returns:
        A `Sender` or `Receiver` of messages, or a `Writer` or `Reader` of bytes.

    Raises:
        ChannelTimeout: there is no such channel, or not in time.
        ChannelDenied: it was opened before, or its memory is not what the host announced.
        HostError: the guest's kernel refused a step; it takes root.
    """
    opened = wire(name, timeout, role)
    if isinstance(opened, Outgoing):
        return Sender(opened) if opened.terms.kind is Kind.MESSAGES else Writer(opened)
    return Receiver(opened) if opened.terms.kind is Kind.MESSAGES else Reader(opened)


def wire(name: str, timeout: float | None = None, role: Role | None = None) -> Outgoing | Incoming:
    """`channel` without what is above the carrier; the same arguments and errors."""
    until = None if timeout is None else time.monotonic() + timeout
    one, device = _named(name, until, role)
    bell = PortBell(device, name)
    try:
        bell.wait()
        half = _half(one, until, bell)
    except ValueError as error:
        bell.close()
        raise ChannelDenied(
            "the channel can't be trusted",
            target=name,
            rule=str(error),
            remedy="have the channel set up anew",
        ) from error
    except BaseException:
        bell.close()
        raise
    return Outgoing(one.terms, half, bell) if isinstance(half, _ring.Tx) else Incoming(one.terms, half, bell)


def _half(one: Announced, until: float | None, bell: PortBell) -> _ring.Tx | _ring.Rx:
    other = Role.CONSUMER if one.role is Role.PRODUCER else Role.PRODUCER
    # The other end's has function 0, which the guest sees last.
    peer = pci.mapped(_waited(one, PEER, until), length(one.terms, other), False, one.terms.name)
    own = pci.mapped(_waited(one, OWN, until), length(one.terms, one.role), True, one.terms.name)
    make = _ring.Tx if one.role is Role.PRODUCER else _ring.Rx
    spin = _SPIN if len(os.sched_getaffinity(0)) > 1 else 0
    return make(own, peer, one.terms.kind, one.terms.generation, one.terms.size, bell.ring, spin)


def _named(name: str, until: float | None, role: Role | None) -> tuple[Announced, str]:
    while True:
        found = [(one, device) for one, device in _found() if one.terms.name == name and role in (None, one.role)]
        if found:
            return max(found, key=lambda pair: pair[0].terms.generation)
        _sleep(name, until)


def _waited(one: Announced, function: int, until: float | None) -> Path:
    while (device := pci.device(one.slot, function)) is None:
        _sleep(one.terms.name, until)
    return device


def _found() -> Iterator[tuple[Announced, str]]:
    for file in sorted(_PORTS.glob("*/name")):
        try:
            one = announced(file.read_text().strip())
        except OSError:  # unplugged since
            continue
        if one:
            yield one, f"/dev/{file.parent.name}"


def _sleep(name: str, until: float | None) -> None:
    if until is not None and time.monotonic() >= until:
        raise ChannelTimeout(
            f"the host has not plugged in a channel named {name} in time",
            target=name,
            remedy="`septum.guest.channels()` lists those that are there",
        )
    time.sleep(_LOOK)
