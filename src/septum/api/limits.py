"""Bounds on what a caller may take: calls a second, connections, bytes, time."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Bounds", "Bucket"]


class Bounds(NamedTuple):
    """What one caller may take of the daemon.

    Attributes:
        body: bytes of a request's body.
        header: bytes of a line of a request's head; four times as much for all of it.
        arrival: seconds in which a request must have come, from the connection or the answer before.
        connections: of one realm at a time.
        streams: of events, of one realm at a time.
        waiting: bytes that wait for a reader of events before it is dropped.
    """

    body: int = 64 << 10
    header: int = 4 << 10
    arrival: float = 10.0
    connections: int = 256
    streams: int = 32
    waiting: int = 1 << 20


class Bucket:
    """So many calls a second, and a second's worth at once (generic cell rate algorithm).

    Attributes:
        rate: calls a second; may be set anew.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._full = 0.0

    def take(self, now: float) -> float:
        """Takes one call, or says in how many seconds there is one.

        Args:
            now: seconds of a clock that only goes on.
        """
        full = max(self._full, now) + 1 / self.rate
        if full - now > 1 + 1 / self.rate:
            return full - now - 1
        self._full = full
        return 0.0
