"""A bell over a virtio-serial port.

Facts (drivers/char/virtio_console.c): a port opens once; it polls POLLHUP while the host's side is not connected, and
then reads as the end of a file; an unplugged one reads ENODEV. A write to a full port without O_NONBLOCK waits.
"""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import suppress
from typing import Final

from septum.errors import ChannelDenied, HostError

_AT_ONCE: Final = 4096
_LOOK: Final = 0.005
_CONNECTS: Final = 1.0


class PortBell:
    """One open port.

    Args:
        device: its node: ``/dev/vport0p2``.
        name: of the channel, for messages.

    Raises:
        ChannelDenied: it is open already.
        HostError: the kernel refuses.
    """

    def __init__(self, device: str, name: str) -> None:
        self._name = name
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            number = error.errno or 0
            if number == errno.EBUSY:
                raise ChannelDenied("the channel is open already", target=name, rule="an end is opened once") from None
            raise HostError(
                f"the channel's bell can't be opened: {os.strerror(number)}", errno=number, target=name
            ) from error

    def wait(self) -> None:
        """Until the host's side is connected. It is as soon as the port has its name; if not, the other end is gone
        already, and what it sent can still be received."""
        poll = select.poll()
        poll.register(self._fd, 0)
        until = time.monotonic() + _CONNECTS
        while poll.poll(0) and time.monotonic() < until:
            time.sleep(_LOOK)

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        # Full: the other end has enough to wake up for. Gone: it needs no ring.
        with suppress(OSError):
            os.write(self._fd, b"\0")

    def clear(self) -> int:
        try:
            return len(os.read(self._fd, _AT_ONCE)) or -1
        except BlockingIOError:
            return 0
        except OSError:
            return -1

    def close(self) -> None:
        os.close(self._fd)
