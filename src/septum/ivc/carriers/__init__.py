"""Ways to carry a channel, behind one Protocol."""

from septum.ivc.carriers.line import LineBell
from septum.ivc.carriers.memfd import MemfdCarrier, MemfdGrant
from septum.ivc.carriers.protocol import Bell, Carrier, Half, Incoming, Outgoing, Sink, Source
from septum.ivc.carriers.stream import StreamCarrier, StreamGrant

__all__ = [
    "Bell",
    "Carrier",
    "Half",
    "Incoming",
    "LineBell",
    "MemfdCarrier",
    "MemfdGrant",
    "Outgoing",
    "Sink",
    "Source",
    "StreamCarrier",
    "StreamGrant",
]
