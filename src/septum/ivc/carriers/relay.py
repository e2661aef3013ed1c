"""What stands between the two sockets of a channel: it passes frames on, counts them, and can stop at any moment.

It reads headers, since it has to know where a frame begins and how long it is; what is in it is the ends' affair. It
keeps at most one frame and a portion of what comes for each direction.
"""

import socket
from contextlib import suppress
from typing import Final, NamedTuple

from septum.ivc.carriers import frames
from septum.ivc.terms import Terms

__all__ = ["Meter", "Relay", "Through"]

_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_PORTION: Final = 1 << 16
_TURN: Final = 1 << 18  # bytes after which others have their turn
_BURST: Final = 0.05  # seconds of the rate that may come at once; one message always may
_TO_CONSUMER: Final = frozenset({frames.DATA, frames.DONE, frames.BROKEN, frames.TELL})
_TO_PRODUCER: Final = frozenset({frames.READ, frames.DONE, frames.BROKEN, frames.MORE})


class Through(NamedTuple):
    """What may pass at most.

    Attributes:
        message: bytes of a payload.
        rate: frames a second.
        bandwidth: bytes of payloads a second.
    """

    message: int
    rate: float
    bandwidth: float


class Meter:
    """Generic cell rate algorithm, for frames and for bytes at once.

    Args:
        through: what may pass; None for anything.
    """

    def __init__(self, through: Through | None) -> None:
        self._through = through
        self._full = [0.0, 0.0]

    def fits(self, length: int) -> bool:
        """Whether a payload may be so long."""
        return self._through is None or length <= self._through.message

    def wait(self, length: int, now: float) -> float:
        """Charges a frame, and returns 0.0; or when it may pass, and charges nothing."""
        if self._through is None:
            return 0.0
        costs = 1 / self._through.rate, length / self._through.bandwidth
        later = max(full - _BURST for full in self._full)
        if later > now:
            return later
        self._full = [max(full, now) + cost for full, cost in zip(self._full, costs, strict=True)]
        return 0.0


class Relay:
    """One channel.

    Args:
        terms: of it.
        producer, consumer: the inner sockets; owned from now on.
        through: what may pass.

    Attributes:
        why: what an end did that it may not, "" as long as it did nothing of the kind.
    """

    def __init__(
        self, terms: Terms, producer: socket.socket, consumer: socket.socket, through: Through | None = None
    ) -> None:
        self.why = ""
        self.producer = producer
        self.consumer = consumer
        limit = frames.limit_of(terms.size)
        self._flows = (
            _Flow(producer, consumer, limit, _TO_CONSUMER, Meter(through)),
            _Flow(consumer, producer, limit, _TO_PRODUCER, Meter(None)),
        )

    def move(self, now: float) -> float | None:
        """Passes on what can be.

        Returns:
            When to call again even if neither socket has news; None: not before that.
        """
        again: float | None = None
        for flow in self._flows:
            when = flow.move(now)
            if flow.why:
                self.why = flow.why
                return None
            if when is not None:
                again = when if again is None else min(again, when)
        return again

    def cut(self) -> None:
        """Stops, in the middle of a frame if it has to be. What an end's socket has taken already it can still read."""
        for line in (self.producer, self.consumer):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Lets go of both sockets; the ends find out."""
        self.producer.close()
        self.consumer.close()


class _Flow:
    """One direction of a relay."""

    def __init__(
        self, source: socket.socket, target: socket.socket, limit: int, kinds: frozenset[int], meter: Meter
    ) -> None:
        self.why = ""
        self._source = source
        self._target = target
        self._limit = limit
        self._kinds = kinds
        self._meter = meter
        self._in = bytearray()
        self._out = bytearray()
        self._ended = False

    def move(self, now: float) -> float | None:
        moved = 0
        while not self.why:
            if self._out:
                try:
                    done = self._target.send(self._out, _FLAGS)
                except BlockingIOError:
                    return None
                except OSError:
                    self._out.clear()  # nobody takes it; what goes the other way still does
                    self._in.clear()
                    continue
                del self._out[:done]
                continue
            if moved > _TURN:
                return now
            later = self._ready(now)
            if self._out:
                continue
            if later:
                return later
            if self._ended or self.why:
                return None
            try:
                data = self._source.recv(_PORTION, _FLAGS)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                self._ended = True
                with suppress(OSError):
                    self._target.shutdown(socket.SHUT_WR)
                return None
            self._in += data
            moved += len(data)
        return None

    def _ready(self, now: float) -> float:
        """Takes over whole frames that may pass; returns when the next one may, 0.0 if none waits for that."""
        at = 0
        later = 0.0
        while len(self._in) - at >= frames.HEADER.size:
            frame = frames.parse(self._in, at, self._limit)
            if isinstance(frame, int) or frame.kind not in self._kinds:
                self.why = "a frame is none that may be sent this way"
                break
            if not self._meter.fits(frame.length):
                self.why = f"a message of {frame.length} bytes is longer than the door lets through"
                break
            whole = frames.HEADER.size + frame.length
            if len(self._in) - at < whole:
                break
            later = self._meter.wait(frame.length, now)
            if later:
                break
            at += whole
        self._out += self._in[:at]
        del self._in[:at]
        return later
