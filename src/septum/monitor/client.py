"""The bounds around the library `qemu.qmp`, which trusts QEMU more than septum can.

What version 0.0.6 does by itself, and what is done about it here:

- A line is bounded by the buffer's size (`readbuflen`, 10 MiB); 1 MiB is enough for the longest answer, the 200 KB of
  QEMU 7.2's schema.
- Events are queued without bound, and remembered for ever in `EventListener.history`. The filter of the standard
  listener hands them on and keeps none.
- As long as lines are in the buffer its reader never gives way to another task. `_on_message`, which it offers for
  overriding, sleeps once for each message, and longer when they come too fast: then QEMU's own socket fills up.
- It logs each message that it can't place, and whole lines that it can't read. Its log goes nowhere.
- `disconnect` waits until QEMU has read what was sent. Shutting the socket down first makes it an error, which waits
  for nobody.
- Waiting for the greeting and for answers has no limit of time; `Monitor` sets one.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from qemu.qmp import Message, QMPClient
from qemu.qmp.error import ProtocolError

from septum.monitor.events import Event

LINE: Final = 1 << 20
"""The longest line that is read, in bytes."""

RATE: Final = 1000.0
"""Messages a second that are borne for long; a KiB of one counts as one more."""

BURST: Final = 8192.0
"""Messages at once."""

_QUIET: Final = logging.Logger("septum.monitor", level=logging.CRITICAL + 1)


class Client(QMPClient):
    """One connection.

    Args:
        hear: called for each event, with the bytes it had on the socket.
    """

    def __init__(self, hear: Callable[[Event, int], None]) -> None:
        super().__init__(readbuflen=LINE)
        self.logger = _QUIET
        self.asked = 0
        self.answered = 0
        self._hear = hear
        self._over = asyncio.Event()
        self._tokens = BURST
        self._filled = time.monotonic()
        self.events.event_filter = self._take

    def give_up(self) -> None:
        """Lets the reader end at the next line, whatever it has in its buffer."""
        self._over.set()

    async def _on_message(self, msg: Message) -> None:
        await self._pace(1 + len(bytes(msg)) / 1024)
        if "event" not in msg:
            self.answered += 1
            if self.answered > self.asked:
                raise ProtocolError("it answers more than it was asked")
        await super()._on_message(msg)

    async def _pace(self, cost: float) -> None:
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE) - cost
        self._filled = now
        await asyncio.sleep(0)
        if self._tokens < 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), -self._tokens / RATE)
        if self._over.is_set():
            raise ProtocolError("it was given up")

    def _take(self, msg: Message) -> bool:
        name, data, stamp = msg["event"], msg.get("data", {}), msg.get("timestamp")
        if not isinstance(name, str) or not isinstance(data, dict):
            raise ProtocolError("an event has no name, or data that are none")
        self._hear(Event(name, data, _seconds(stamp)), len(bytes(msg)))
        return False


def _seconds(stamp: object) -> float:
    if not isinstance(stamp, dict):
        return 0.0
    parts = cast("dict[str, object]", stamp)
    whole, micro = parts.get("seconds"), parts.get("microseconds")
    if not isinstance(whole, int) or not isinstance(micro, int) or not 0 <= whole < 1 << 40 or not 0 <= micro < 10**6:
        return 0.0
    return whole + micro / 1e6
