"""Channels between guests: a ring in memory that is split by writer, and the carriers that bring it to both ends.

docs/ring.md has the layout, what is promised against a hostile other end, and what it costs.
"""

from septum.ivc.carriers import (
    Bell,
    Carrier,
    Half,
    Incoming,
    MemfdCarrier,
    MemfdGrant,
    Outgoing,
    Sink,
    Source,
    StreamCarrier,
    StreamGrant,
)
from septum.ivc.ends import PATIENCE
from septum.ivc.messages import Receiver, Sender
from septum.ivc.states import State, require
from septum.ivc.streams import Reader, Writer
from septum.ivc.terms import SIZE_MAX, SIZE_MIN, Kind, Role, Terms

__all__ = [
    "PATIENCE",
    "SIZE_MAX",
    "SIZE_MIN",
    "Bell",
    "Carrier",
    "Half",
    "Incoming",
    "Kind",
    "MemfdCarrier",
    "MemfdGrant",
    "Outgoing",
    "Reader",
    "Receiver",
    "Role",
    "Sender",
    "Sink",
    "Source",
    "State",
    "StreamCarrier",
    "StreamGrant",
    "Terms",
    "Writer",
    "require",
]
