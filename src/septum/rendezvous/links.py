"""Channels in the making and alive: what the broker keeps of each, and the states they go through.

    granted ──both ends joined──► active ──one end closes──► draining ──the other closes──► gone
       └──────────────┴──────────────── revoked, or an end died ─┴──────────────────────────► gone

Before the first descriptor leaves there is a row in the ledger for each channel, and no row goes before its channel was
cut. So whenever the broker is killed, there are at most rows too many, never too few; the next broker takes them out.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from septum.access import Question
from septum.declare import End
from septum.errors import HostError
from septum.ivc import Kind, MemfdCarrier, MemfdGrant, StreamCarrier, StreamGrant, Terms
from septum.ivc.carriers.keeping import Kept
from septum.ivc.carriers.relay import Relay, Through
from septum.ledger.records import Channel
from septum.rendezvous.connection import Connection
from septum.rendezvous.doors import Things, Way
from septum.rendezvous.relays import Relays

__all__ = [
    "Grant",
    "Keeper",
    "Link",
    "Made",
    "Offer",
    "Relayed",
    "grants_of",
    "in_memory",
    "make",
    "new_rows",
    "over_sockets",
    "parts",
]

_KINDS: Final = {Kind.MESSAGES: "messages", Kind.BYTES: "bytes"}
_XATTR: Final = "security.selinux"


class Offer(NamedTuple):
    """A service that somebody offers.

    Attributes:
        service: realm and name.
        kind: of its channels.
        size: of each ring, in bytes.
        backlog: links that may wait for its end to join.
        asked: what was decided before it was taken.
    """

    service: End
    kind: Kind
    size: int
    backlog: int
    asked: Sequence[Question]


Grant = MemfdGrant | StreamGrant


class Keeper(Protocol):
    """The power to end a channel."""

    def cut(self) -> None:
        """For both ends, at once."""

    def close(self) -> None:
        """Lets go of one that its ends have closed."""


class Made(NamedTuple):
    """A channel, not handed out yet.

    Attributes:
        row: of the ledger.
        grants: of producer and consumer.
        kept: cuts it.
    """

    row: Channel
    grants: tuple[Grant, Grant]
    kept: Keeper


class Link:
    """One or two channels between two guests.

    Args:
        name: random; what both ends call it.
        user: who connected.
        server: who offers.
        service: what was reached.
        asked: what was decided before it was made.
        ways: that data may go.
        rows: of the ledger, one a way.
        kept: cut them.
        now: monotonic time.

    Attributes:
        state: as in the ledger.
        joined: the ends that have.
        closed: the ends that have.
        since: when it came into its state.
    """

    __slots__ = (
        "asked", "closed", "joined", "kept", "name", "rows", "server", "service", "since", "state", "user", "ways",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        user: Connection,
        server: Connection,
        service: End,
        asked: Sequence[Question],
        ways: tuple[Way, ...],
        rows: Sequence[Channel],
        kept: Sequence[Keeper],
        now: float,
    ) -> None:
        self.name = name
        self.user = user
        self.server = server
        self.service = service
        self.asked = asked
        self.ways = ways
        self.rows = rows
        self.kept = kept
        self.state = "granted"
        self.joined: set[Connection] = set()
        self.closed: set[Connection] = set()
        self.since = now

    @property
    def ids(self) -> list[int]:
        """Of its rows."""
        return [row.id for row in self.rows]

    @property
    def ends(self) -> tuple[Connection, Connection]:
        """Who connected, and who offers."""
        return self.user, self.server

    def cut(self) -> None:
        """Ends its channels for both, at once."""
        for kept in self.kept:
            kept.cut()

    def let_go(self) -> None:
        """Both ends have closed."""
        for kept in self.kept:
            kept.close()


def new_rows(
    user: Connection,
    server: Connection,
    offer: Offer,
    ways: Sequence[Way],
    things: Things,
    seqno: int,
    carrier: str,
) -> list[Channel]:
    """Rows of a link to be, without their numbers."""
    name = secrets.token_hex(8)
    one, other = user.party, server.party
    return [
        Channel(
            id=0,
            link=name,
            service=str(offer.service),
            way=way,
            source=one.uuid,
            source_incarnation=one.incarnation,
            source_realm=one.realm,
            target=other.uuid,
            target_incarnation=other.incarnation,
            target_realm=other.realm,
            kind=_KINDS[offer.kind],
            size=offer.size,
            label=things.memory[way] if carrier == MemfdCarrier.name else "",
            seqno=seqno,
            carrier=carrier,
            state="granted",
        )
        for way in ways
    ]


def make(rows: Sequence[Channel], kind: Kind, maker: Callable[[Channel, Terms], Made]) -> list[Made]:
    """Channels for rows that the ledger has.

    Args:
        rows: one a channel.
        kind: of all of them.
        maker: makes one.

    Raises:
        HostError: the kernel refused a step; nothing is left of it.
    """
    made: list[Made] = []
    try:
        for row in rows:
            made.append(maker(row, Terms(row.service, row.id, kind, row.size)))  # noqa: PERF401 (an error may come)
    except (OSError, HostError) as error:
        for one in made:
            one.kept.close()
            for grant in one.grants:
                for _, fd in parts(grant):
                    os.close(fd)
        if isinstance(error, HostError):
            raise
        raise HostError(
            f"a channel can't be made: {error.strerror}", errno=error.errno or 0, target=rows[0].service
        ) from error
    return made


def in_memory(carrier: MemfdCarrier, row: Channel, terms: Terms, mark: str) -> Made:
    """One over memory.

    Args:
        carrier: makes it.
        row: of the ledger.
        terms: of the channel.
        mark: label of the consumer's segment, "" where the kernel has no labels.

    Raises:
        OSError, HostError: the kernel refused a step; nothing is left of it.
    """
    grants = carrier.create(terms)
    try:
        kept = Kept(grants)
        if mark:
            # After the mapping, so that who keeps the channel needs no right to open what bears the label.
            _label(grants[0].own, row.label)
            _label(grants[1].own, mark)
    except OSError:
        for grant in grants:
            carrier.discard(grant)
        raise
    return Made(row, grants, kept)


class Relayed:
    """Keeps a channel by the relay in its middle.

    Args:
        relay: passes its frames on.
        relays: takes care of it.
    """

    __slots__ = ("_relays", "relay")

    def __init__(self, relay: Relay, relays: Relays) -> None:
        self.relay = relay
        self._relays = relays
        relays.add(relay)

    def cut(self) -> None:
        """See `Keeper.cut`."""
        self._relays.forget(self.relay)
        self.relay.cut()

    def close(self) -> None:
        """See `Keeper.close`."""
        self._relays.forget(self.relay)
        self.relay.close()


def over_sockets(relays: Relays, row: Channel, terms: Terms, through: Through | None) -> Made:
    """One over sockets, with a relay in its middle.

    Raises:
        HostError: the kernel refused a step; nothing is left of it.
    """
    made: list[Relayed] = []
    carrier = StreamCarrier(lambda of, one, other: made.append(Relayed(Relay(of, one, other, through), relays)))
    grants = carrier.create(terms)
    return Made(row, grants, made[0])


def parts(grant: Grant) -> list[tuple[str, int]]:
    """The descriptors of a grant, by what packets call them."""
    if isinstance(grant, StreamGrant):
        return [("own", grant.line)]
    return [("own", grant.own), ("peer", grant.peer), ("line", grant.line)]


def grants_of(made: Sequence[Made], user: bool) -> list[tuple[int, Grant]]:
    """One end's grants, by the number of the channel."""
    found = []
    for one in made:
        produces = (one.row.way == "to-service") == user
        found.append((one.row.id, one.grants[0 if produces else 1]))
    return found


def _label(fd: int, context: str) -> None:
    os.setxattr(fd, _XATTR, context.encode() + b"\0")
