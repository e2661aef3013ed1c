"""What the host tells a guest about a channel: the name of the virtio-serial port that is its bell.

A guest believes the name, as it believes all that its QEMU emulates. It does not believe what lies in a segment that
another guest writes: by that one channel could pass for another.

``septum:1:ROLE:KIND:GENERATION:SIZE:SLOT:NAME``, the numbers in hexadecimal. The slot is the device and function of the
root port on bus 0; below it, function 1 is the guest's own segment and function 0 the other end's.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from septum.errors import ChannelDenied
from septum.ivc.terms import Kind, Role, Terms, check

_FORMAT: Final = re.compile(
    r"septum:1:(producer|consumer):(messages|bytes):([0-9a-f]{1,16}):([0-9a-f]{4,8}):([0-9a-f]{1,2}):([\w.-]{1,64})",
    re.ASCII,
)

OWN: Final = 1
"""Function of the guest's own segment."""

PEER: Final = 0
"""Function of the other end's. It is plugged last: function 0 makes the slot visible."""


class Announced(NamedTuple):
    """One end of a channel that a guest was given.

    Attributes:
        terms: of the channel.
        role: which end it is.
        slot: of the root port on bus 0: device times 8, and function.
    """

    terms: Terms
    role: Role
    slot: int


def name(announced: Announced) -> str:
    """The port's name.

    Raises:
        ChannelDenied: the channel has a name that a port can't have, or terms that can't be.
    """
    terms = check(announced.terms)
    text = ":".join(
        (
            "septum:1",
            announced.role.name.lower(),
            terms.kind.name.lower(),
            f"{terms.generation:x}",
            f"{terms.size:x}",
            f"{announced.slot:x}",
            terms.name,
        )
    )
    if not _FORMAT.fullmatch(text):
        raise ChannelDenied(
            "a guest can't be told of a channel of this name",
            target=terms.name,
            rule="it has up to 64 letters, digits, underscores, dots and hyphens",
        )
    return text


def announced(text: str) -> Announced | None:
    """What a port's name says; None: it is no channel's, or of one that can't be."""
    found = _FORMAT.fullmatch(text)
    if not found:
        return None
    role, kind, generation, size, slot, called = found.groups()
    terms = Terms(called, int(generation, 16), Kind[kind.upper()], int(size, 16))
    try:
        return Announced(check(terms), Role[role.upper()], int(slot, 16))
    except ChannelDenied:
        return None
