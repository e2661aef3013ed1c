"""What a sender and a receiver have in common: states, waiting, closing, and the wording of what goes wrong."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, Self, TypeVar

from septum.errors import (
    ChannelBusy,
    ChannelClosed,
    ChannelDenied,
    ChannelLost,
    ChannelPoisoned,
    ChannelTimeout,
    SeptumError,
)
from septum.ivc import _ring
from septum.ivc.carriers.protocol import Bell, Half
from septum.ivc.states import State, require
from septum.ivc.terms import Terms

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

PATIENCE: Final = 1000
"""Rings without news, one after the other, that an end bears. An honest other end has news when it rings: at most two
can come late, when the news was seen already."""

_FAULTS: Final = (
    "",
    "its index went backwards",
    "its index passed what can be",
    "its index is not a multiple of 16",
    "a frame is longer than a quarter of the ring, or empty in a stream",
    "a frame reaches past what was published",
    "a frame has an unknown type or flags",
    "padding does not reach to the end of the ring",
    "a frame has not the next sequence number",
    "its state is none that there is",
    "it says that this end broke the rules",
    "it rings without news",
    "the channel was cut",
)
"""In the order of `enum ring_fault` in ring.h."""


class End:
    """One end of a channel; the base of senders and receivers.

    One thread or task uses an end at a time; another gets `ChannelBusy`, or finds it waiting as well. An end belongs
    to the process that made it: a child must not use it after a fork.
    """

    def __init__(self, terms: Terms, half: Half, bell: Bell) -> None:
        self._terms = terms
        self._half = half
        self._bell = bell
        self._state = State.OPEN
        self._gone = False
        self._seen = self._idle = 0
        self._waited_for = False
        self._poll = select.poll()
        self._poll.register(bell.fileno(), select.POLLIN)

    @property
    @require(*State)
    def terms(self) -> Terms:
        """What was agreed about the channel."""
        return self._terms

    @property
    @require(*State)
    def state(self) -> State:
        """Where this end is, as far as its calls have found out."""
        return self._state

    @property
    @require(*State)
    def limit(self) -> int:
        """The longest message, in bytes."""
        return self._half.limit

    @require(State.OPEN)
    def fileno(self) -> int:
        """A descriptor that polls readable when it is worth trying again after a `try_…` that had nothing.

        Only as long as `try_…` is called until it has nothing: that is what asks the other end to ring.

        Raises:
            ChannelClosed, ChannelLost, ChannelPoisoned: the channel is over.
        """
        if self._state is not State.OPEN:
            raise self._over()
        return self._bell.fileno()

    @require(*State)
    def close(self) -> None:
        """Ends the channel for both. What was sent can still be received. A second call does nothing.

        Raises:
            ChannelBusy: another thread is in a call, or a view was not given back.
        """
        if self._state is State.OPEN:
            self._half.finish()
            self._end(State.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, state: State) -> None:
        if not self._half.detach():
            raise ChannelBusy("this end of the channel is in use", target=self._terms.name)
        self._state = state
        self._bell.close()

    def _over(self) -> SeptumError:
        """Words why nothing can be done any more."""
        name = self._terms.name
        if self._state is State.POISONED:
            return ChannelPoisoned(
                "the other end broke the rules of the channel",
                target=name,
                rule=_FAULTS[self._half.fault],
                remedy="what was received before is sound; have the channel set up anew",
            )
        if self._state is State.LOST:
            return ChannelLost(
                "the other end of the channel is gone",
                target=name,
                rule="it ended without closing, or the channel was cut",
                remedy="have the channel set up anew",
            )
        return ChannelClosed("the channel was closed", target=name)

    def _check(self, status: int, need: int) -> None:
        """Raises, unless it is only too early."""
        if self._state is not State.OPEN:
            raise self._over()
        if status == _ring.AGAIN:
            if not self._gone:
                return
            self._end(State.LOST)
        elif status == _ring.BUSY:
            raise ChannelBusy("this end of the channel is in use", target=self._terms.name)
        elif status == _ring.TOO_LONG:
            raise self._too_long(need)
        elif status == _ring.POISONED:
            self._end(State.LOST if self._half.fault == _ring.CUT_OFF else State.POISONED)
        else:
            self._end(State.CLOSED)
        raise self._over()

    def _too_long(self, need: int) -> ChannelDenied:
        return ChannelDenied(
            f"a message of {need} bytes is too long",
            target=self._terms.name,
            rule=f"one is at most a quarter of the ring: {self.limit} bytes",
            remedy="send parts, use a channel of bytes, or have one with a larger ring",
        )

    def _attempts(
        self, attempt: Callable[[], T | int], status: int, need: int = 0, want: Callable[[], bool] | None = None
    ) -> Generator[None, None, T]:
        """Tries until it succeeds; comes back to its caller whenever it is time to sleep until the bell rings.

        The order is the protocol's: take the rings that came, ask for a ring, look again, sleep. Nothing between
        two of these steps can be missed. Who makes it go round without news gets away with it `PATIENCE` times: by
        ringing, or by an index that is there when asked for and gone when read.
        """
        want = want or (lambda: self._half.want(need))
        while True:
            self._check(status, need)
            rings = self._bell.clear()
            self._gone = rings < 0
            awake = self._gone or want()
            self._count(rings > 0 or awake)
            if not awake:
                yield
            answer = attempt()
            if not isinstance(answer, int) or answer >= 0:
                return answer  # type: ignore[return-value] # a number that is no status is a T as well
            status = answer

    def _count(self, called: bool) -> None:
        """Counts how often the other end had this one look for nothing."""
        if self._half.seen != self._seen:
            self._seen, self._idle = self._half.seen, 0
        elif called:
            self._idle += 1
        if self._idle > PATIENCE:
            self._half.poison(_ring.FLOOD)
            self._end(State.POISONED)
            raise self._over()

    def _at_once(self, attempts: Generator[None, None, T]) -> T | None:
        """What comes of attempts without sleeping; None: nothing yet, and the bell will ring."""
        try:
            next(attempts)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        return None

    def _wait(self, attempts: Generator[None, None, T], timeout: float | None) -> T:
        """Runs attempts, and sleeps between them.

        Args:
            timeout: seconds for all of it; None: any time.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                next(attempts)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            if not self._poll.poll(left):
                raise ChannelTimeout(
                    f"nothing happened on the channel for {timeout:g} s",
                    target=self._terms.name,
                    remedy="try again later; nothing was lost",
                )

    async def _wait_async(self, attempts: Generator[None, None, T]) -> T:
        """The same for asyncio. Timeouts are `asyncio.timeout`'s."""
        if self._waited_for:
            raise ChannelBusy("another task waits for this end of the channel", target=self._terms.name)
        self._waited_for = True
        try:
            while True:
                try:
                    next(attempts)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                await _readable(self._bell.fileno())
        finally:
            self._waited_for = False


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _tell, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
