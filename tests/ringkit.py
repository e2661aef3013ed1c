"""The ring in pure Python, written from docs/ring.md alone: proof that the page is enough, and a peer that may lie.

`Segment` is the raw memory of one end, and whoever holds it may write anything there.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Final

PAGE: Final = 4096
INDEX, WANTED, STATE = 128, 256, 264
OPEN, DONE, BROKEN = 0, 1, 2
DATA, PAD = 1, 2
HEADER = struct.Struct("<8sIHHQQ")
FRAME = struct.Struct("<IHHQ")
_WORD = struct.Struct("@Q")  # in one piece, where "<Q" goes byte by byte


class Segment:
    """One end's memory.

    Args:
        fd: its descriptor; stays the caller's.
        length: in bytes.
        writable: whether it is this end's own.
    """

    def __init__(self, fd: int, length: int, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.memory = mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=access)

    def u64(self, at: int) -> int:
        return int(_WORD.unpack_from(self.memory, at)[0])

    # In one store: `struct` would write zeros first, and the other end might see them.

    def put_u64(self, at: int, value: int) -> None:
        memoryview(self.memory)[at : at + 8].cast("Q")[0] = value

    def put_state(self, value: int) -> None:
        memoryview(self.memory)[STATE : STATE + 4].cast("I")[0] = value

    def state(self) -> int:
        return int(struct.unpack_from("<I", self.memory, STATE)[0])


def aligned(length: int) -> int:
    """Bytes of a frame with a payload of this length."""
    return (16 + length + 15) & ~15


def frame(sequence: int, payload: bytes = b"", *, kind: int = DATA, flags: int = 0, length: int | None = None) -> bytes:
    """A frame as it lies in memory; `length` only for lies."""
    told = len(payload) if length is None else length
    return (FRAME.pack(told, kind, flags, sequence) + payload).ljust(aligned(len(payload)), b"\0")


class PlainProducer:
    """Writes by the page. It never waits: the caller sees to room."""

    def __init__(self, own: Segment, size: int) -> None:
        self.own, self.size = own, size
        self.index = self.sequence = 0

    def _put(self, data: bytes) -> None:
        at = PAGE + self.index % self.size
        self.own.memory[at : at + len(data)] = data
        self.index += len(data)
        self.sequence += 1

    def send(self, payload: bytes, *, publish: bool = True) -> None:
        left = self.size - self.index % self.size
        if left < aligned(len(payload)):
            self._put(frame(self.sequence, bytes(left - 16), kind=PAD))
        self._put(frame(self.sequence, payload))
        if publish:
            self.publish()

    def publish(self) -> None:
        self.own.put_u64(INDEX, self.index)


class PlainConsumer:
    """Reads by the page."""

    def __init__(self, own: Segment, peer: Segment, size: int) -> None:
        self.own, self.peer, self.size = own, peer, size
        self.index = self.sequence = 0

    def frames(self) -> Iterator[bytes]:
        """What is there now."""
        published = self.peer.u64(INDEX)
        assert self.index <= published <= self.index + self.size
        while self.index < published:
            at = PAGE + self.index % self.size
            length, kind, flags, sequence = FRAME.unpack_from(self.peer.memory, at)
            assert length <= self.size // 4 - 16
            assert at + aligned(length) <= PAGE + self.size
            assert (flags, sequence) == (0, self.sequence)
            assert kind in (DATA, PAD)
            if kind == DATA:
                yield self.peer.memory[at + 16 : at + 16 + length]
            else:
                assert at + aligned(length) == PAGE + self.size
            self.index += aligned(length)
            self.sequence += 1
        self.own.put_u64(INDEX, self.index)
