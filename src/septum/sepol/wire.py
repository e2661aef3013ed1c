"""Messages between a worker and whoever asks it: JSON, with its length before it (4 bytes, big-endian).

Each side takes what comes for data: no more than `MESSAGE_MAX` bytes are read, and whoever asks waits no longer than
it said.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any, Final

__all__ = ["MESSAGE_MAX", "receive", "send"]

MESSAGE_MAX: Final = 1 << 28
"""Bytes: more than a batch of the longest contexts."""
_LENGTH: Final = struct.Struct("!I")
_PIECE: Final = 1 << 18


def send(channel: socket.socket, value: Any, seconds: float | None = None) -> None:
    """Sends one message.

    Args:
        channel: a connected stream.
        value: whatever JSON has a form for.
        seconds: to wait in all; None for no limit.

    Raises:
        OSError: the other side is gone; TimeoutError if it does not read.
    """
    content = json.dumps(value, separators=(",", ":")).encode()
    end = _end(seconds)
    view = memoryview(_LENGTH.pack(len(content)) + content)
    while view:
        _wait(channel, end)
        view = view[channel.send(view[:_PIECE]) :]


def receive(channel: socket.socket, seconds: float | None = None) -> Any:
    """One message. See `send`.

    Raises:
        OSError: as `send`.
        EOFError: the other side has closed.
        ValueError: this is no message.
    """
    end = _end(seconds)
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, end))
    if length > MESSAGE_MAX:
        raise ValueError(f"a message of {length} bytes")
    try:
        return json.loads(_exactly(channel, length, end))
    except RecursionError as error:
        raise ValueError("a message that is nested without end") from error


def _exactly(channel: socket.socket, count: int, end: float | None) -> bytes:
    content = bytearray()
    while len(content) < count:
        _wait(channel, end)
        piece = channel.recv(min(count - len(content), _PIECE))
        if not piece:
            raise EOFError("it has closed its end")
        content += piece
    return bytes(content)


def _end(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _wait(channel: socket.socket, end: float | None) -> None:
    """The time that is left counts for each piece: one that comes byte by byte wins nothing."""
    if end is None:
        channel.settimeout(None)
        return
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    channel.settimeout(left)
