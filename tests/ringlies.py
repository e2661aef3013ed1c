"""What a hostile end of a ring writes: for tests in this process, in another, and in a guest."""

import random
import time
from collections.abc import Callable
from typing import Any

from tests.ringkit import BROKEN, INDEX, PAD, PAGE, STATE, WANTED, PlainProducer, Segment, frame

SIZE = 1 << 12
LIMIT = SIZE // 4 - 16


def raw(*frames: bytes, index: int | None = None) -> Callable[[Segment], None]:
    data = b"".join(frames)

    def write(own: Segment) -> None:
        own.memory[PAGE : PAGE + len(data)] = data
        own.put_u64(INDEX, len(data) if index is None else index)

    return write


def lap(own: Segment, last: bytes) -> None:
    """Sound frames up to 64 bytes before the data's end, then this."""
    plain = PlainProducer(own, SIZE)
    while plain.index < SIZE - 64:
        plain.send(bytes(min(LIMIT, SIZE - 64 - plain.index - 16)))
    own.memory[PAGE + plain.index : PAGE + plain.index + len(last)] = last
    own.put_u64(INDEX, plain.index + 64)


def last(**changes: Any) -> Callable[[Segment], None]:
    return lambda own: lap(own, frame(5, **changes)[:64])


LIES: dict[str, tuple[Callable[[Segment], None], str]] = {
    "an index past the ring": (raw(index=SIZE + 16), "its index passed what can be"),
    "an index far away": (raw(index=(1 << 64) - 16), "its index passed what can be"),
    "an index between frames": (raw(frame(0, b"x"), index=24), "its index is not a multiple of 16"),
    "a frame longer than a quarter": (raw(frame(0, length=LIMIT + 1), index=SIZE), "longer than a quarter"),
    "a frame longer than memory": (raw(frame(0, length=(1 << 32) - 1), index=SIZE), "longer than a quarter"),
    "a frame past the index": (raw(frame(0, length=500), index=64), "past what was published"),
    "an unknown type": (raw(frame(0, b"x", kind=3)), "unknown type or flags"),
    "no type": (raw(frame(0, b"x", kind=0)), "unknown type or flags"),
    "flags": (raw(frame(0, b"x", flags=1)), "unknown type or flags"),
    "a first frame with a number from before": (raw(frame(7, b"x")), "next sequence number"),
    "a frame twice": (raw(frame(0, b"x"), frame(0, b"x")), "next sequence number"),
    "a frame left out": (raw(frame(0, b"x"), frame(2, b"x")), "next sequence number"),
    "padding that ends early": (raw(frame(0, kind=PAD)), "padding does not reach"),
    "padding as long as the data": (raw(frame(0, kind=PAD, length=SIZE - 16), index=SIZE), "longer than a quarter"),
    "a frame past the data's end": (last(length=100), "past what was published"),
    "a state that is none": (lambda own: own.put_state(77), "its state is none"),
    "a state of poison": (lambda own: own.put_state(BROKEN), "this end broke the rules"),
}


CONSUMER_LIES: dict[str, tuple[int, str]] = {
    "read more than was sent": (SIZE, "passed what can be"),
    "read past everything": ((1 << 64) - 16, "passed what can be"),
    "read half a frame's header": (8, "not a multiple of 16"),
}


def scribble(own: Segment, length: int, ring: Callable[[], None], seed: int, seconds: float = 1e9) -> None:
    """Writes whatever, wherever it may, for as long as it lives.

    Args:
        length: of the segment.
        ring: rings the other end's bell.
    """
    dice = random.Random(seed)
    sequence = index = 0
    special = [0, 1, 15, 16, SIZE, SIZE - 16, SIZE + 16, (1 << 64) - 16, (1 << 64) - 1, 1 << 63]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        way = dice.random()
        if way < 0.5:  # a sound frame, so that there is something to break
            data = frame(sequence, bytes([sequence % 256]) * dice.randrange(60))
            at = PAGE + index % SIZE
            if index % SIZE + len(data) <= SIZE and length > PAGE:
                own.memory[at : at + len(data)] = data
                index += len(data)
                sequence += 1
            own.put_u64(INDEX, index)
        elif way < 0.6:
            own.put_u64(dice.choice((WANTED, INDEX, STATE)), dice.choice(special))
        elif way < 0.9:
            own.put_u64(dice.randrange(0, length // 8) * 8, dice.getrandbits(64))
        else:
            ring()
