"""Channels in the making and alive: what the broker keeps of each, and the states they go through.

    granted ──both ends joined──► active ──one end closes──► draining ──the other closes──► gone
       └──────────────┴──────────────── revoked, or an end died ─┴──────────────────────────► gone

Before the first descriptor leaves there is a row in the ledger for each channel, and no row goes before its channel was
cut. So whenever the broker is killed, there are at most rows too many, never too few; the next broker takes them out.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from septum.access import Question
from septum.declare import End
from septum.errors import HostError
from septum.ivc import Kind, MemfdCarrier, MemfdGrant, Terms
from septum.ivc.carriers.keeping import Kept
from septum.ledger.records import Channel
from septum.rendezvous.connection import Connection
from septum.rendezvous.doors import Things, Way

__all__ = ["Link", "Made", "Offer", "grants_of", "make", "new_rows"]

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


class Made(NamedTuple):
    """A channel's memory, not handed out yet.

    Attributes:
        row: of the ledger.
        grants: of producer and consumer.
        kept: cuts it.
    """

    row: Channel
    grants: tuple[MemfdGrant, MemfdGrant]
    kept: Kept


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
        kept: Sequence[Kept],
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
    user: Connection, server: Connection, offer: Offer, ways: Sequence[Way], things: Things, seqno: int
) -> list[Channel]:
    """Rows of a link to be, without their numbers."""
    name = secrets.token_hex(8)
    return [
        Channel(
            0,
            name,
            str(offer.service),
            way,
            user.party.uuid,
            user.party.incarnation,
            user.party.realm,
            server.party.uuid,
            server.party.incarnation,
            server.party.realm,
            _KINDS[offer.kind],
            offer.size,
            things.memory[way],
            seqno,
            MemfdCarrier.name,
            "granted",
        )
        for way in ways
    ]


def make(
    carrier: MemfdCarrier, rows: Sequence[Channel], kind: Kind, marks: Mapping[Way, str], label: bool
) -> list[Made]:
    """Memory for rows that the ledger has.

    Args:
        carrier: makes it.
        rows: one a channel.
        kind: of all of them.
        marks: way → label of the consumer's segment.
        label: the kernel has labels.

    Raises:
        HostError: the kernel refused a step; nothing is left of it.
    """
    made: list[Made] = []
    grants: tuple[MemfdGrant, MemfdGrant] | None = None
    try:
        for row in rows:
            grants = carrier.create(Terms(row.service, row.id, kind, row.size))
            kept = Kept(grants)
            made.append(Made(row, grants, kept))
            grants = None
            if label:
                # After the mapping, so that who keeps the channel needs no right to open what bears the label.
                _label(made[-1].grants[0].own, row.label)
                _label(made[-1].grants[1].own, marks[row.way])
    except (OSError, HostError) as error:
        for grant in grants or ():
            carrier.discard(grant)
        for one in made:
            one.kept.close()
            for grant in one.grants:
                carrier.discard(grant)
        if isinstance(error, HostError):
            raise
        raise HostError(
            f"a channel's memory can't be made: {error.strerror}", errno=error.errno or 0, target=rows[0].service
        ) from error
    return made


def grants_of(made: Sequence[Made], user: bool) -> list[tuple[int, MemfdGrant]]:
    """One end's grants, by the number of the channel."""
    found = []
    for one in made:
        produces = (one.row.way == "to-service") == user
        found.append((one.row.id, one.grants[0 if produces else 1]))
    return found


def _label(fd: int, context: str) -> None:
    os.setxattr(fd, _XATTR, context.encode() + b"\0")
