"""What a carrier is: the memory, or the transport, under a channel, and a bell for each end.

A carrier has two users. Who sets channels up calls `create` and hands one grant to each end. An end calls `sender` or
`receiver` with its grant, and gets half a channel. Nothing above a carrier knows whether descriptors, grant references
or a socket are behind it.

Halves answer a call at once. They answer with a status, a negative number of `septum.ivc._ring`, when they can't
do what was asked: AGAIN (not now), FINISHED (the other end has closed), POISONED (`fault` says why), TOO_LONG, BUSY.
A carrier over shared memory uses the core's own `Tx` and `Rx`; one over a socket implements the same calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from septum.ivc.terms import Terms

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Bell(Protocol):
    """Wakes the other end, and is rung by it."""

    def fileno(self) -> int:
        """A descriptor that polls readable when the bell was rung or the other end is gone."""
        ...

    def ring(self) -> None:
        """Wakes the other end. Never blocks, never fails: a bell that nobody hears is the hearer's loss."""
        ...

    def clear(self) -> int:
        """Takes the rings that have come, a bounded number at a time, and counts them; -1: the other end is gone."""
        ...

    def close(self) -> None:
        """The other end learns of it."""
        ...


class Half(Protocol):
    """What a sender's and a receiver's half have in common."""

    @property
    def fault(self) -> int:
        """What the other end did that it may not; 0: nothing. Numbers are `enum ring_fault`'s."""
        ...

    @property
    def limit(self) -> int:
        """The longest message, in bytes."""
        ...

    @property
    def seen(self) -> int:
        """Grows with each piece of news from the other end that a call took note of."""
        ...

    def want(self, need: int, /) -> bool:
        """Asks to be rung for news: for room for `need` bytes, or for anything to receive. True: look again first."""
        ...

    def finish(self) -> None:
        """Tells the other end that this one has sent or received its last."""
        ...

    def poison(self, fault: int, /) -> int:
        """Gives the channel up, here and for the other end."""
        ...

    def detach(self) -> bool:
        """Lets go of the memory; False while another thread uses it."""
        ...


class Sink(Half, Protocol):
    """A sender's half. `spin` says whether to look a little longer before AGAIN."""

    def put(self, data: ReadableBuffer, spin: bool, /) -> int:
        """Sends one message; 0: sent."""
        ...

    def put_many(self, messages: list[ReadableBuffer], first: int, /) -> int:
        """Sends messages from the `first` on; how many were sent."""
        ...

    def write(self, data: ReadableBuffer, first: int, spin: bool, /) -> int:
        """Sends bytes from the `first` on; how many were sent."""
        ...

    def drained(self) -> int:
        """0: the other end has received everything."""
        ...

    def want_drained(self) -> bool:
        """As `want`, for `drained`."""
        ...


class Source(Half, Protocol):
    """A receiver's half."""

    def get(self, spin: bool, /) -> bytes | int:
        """One message."""
        ...

    def get_many(self, most: int, spin: bool, /) -> list[bytes] | int:
        """At least one message, and at most what had been sent when the call began."""
        ...

    def get_into(self, buffer: WriteableBuffer, spin: bool, /) -> int:
        """One message into a buffer; its length. TOO_LONG leaves it where it is."""
        ...

    def read_into(self, buffer: WriteableBuffer, spin: bool, /) -> int:
        """Bytes into a buffer; at least one."""
        ...

    def peek(self, spin: bool, /) -> memoryview | int:
        """The next message where it lies; nothing else may be asked for until `skip`."""
        ...

    def skip(self) -> None:
        """Lets go of what `peek` showed."""
        ...


class Outgoing(NamedTuple):
    """What a carrier gives to a sender."""

    terms: Terms
    half: Sink
    bell: Bell


class Incoming(NamedTuple):
    """What a carrier gives to a receiver."""

    terms: Terms
    half: Source
    bell: Bell


G = TypeVar("G")


class Carrier(Protocol[G]):
    """A way to carry channels; `G` is what it hands to an end: descriptors, grant references, a name.

    Attributes:
        name: as in a policy or a ledger's row.
    """

    @property
    def name(self) -> str: ...

    def create(self, terms: Terms) -> tuple[G, G]:
        """Makes a channel.

        Returns:
            The producer's grant and the consumer's. Each serves one end, once.

        Raises:
            ChannelDenied: terms that can't be.
            HostError: the kernel refused a step.
        """
        ...

    def sender(self, grant: G) -> Outgoing:
        """Joins as the producer. What the grant holds is used up, whether it succeeds or not.

        Raises:
            ChannelDenied: what was granted can't be trusted, was used before, or is the consumer's.
            HostError: the kernel refused a step.
        """
        ...

    def receiver(self, grant: G) -> Incoming:
        """Joins as the consumer; else as `sender`."""
        ...

    def discard(self, grant: G) -> None:
        """Lets go of a grant that nobody will use."""
        ...
