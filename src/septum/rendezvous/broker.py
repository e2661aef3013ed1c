"""The rendezvous itself: what each packet does, and what ends a channel. Descriptors' readiness is the server's.

The order in which a channel comes to be is the point of it: decided, charged to both realms' quotas, entered in the
ledger, made, labelled, handed out; and the other way when it ends: cut, then out of the ledger. See `links`.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from septum.access import Question
from septum.declare import PLATFORM, End, Limits
from septum.errors import Denied, EngineGone, Exhausted, Held, LedgerError, MessageError, NotFound, SeptumError
from septum.ivc import SIZE_MIN, Kind, MemfdCarrier, Role, StreamCarrier, Terms
from septum.ivc.carriers.relay import Through
from septum.ledger.protocol import Ledger
from septum.ledger.records import Channel
from septum.rendezvous import wire
from septum.rendezvous.connection import Connection
from septum.rendezvous.decider import Decider
from septum.rendezvous.doors import Doors, Things, parse_service, questions, refused, registering, ways
from septum.rendezvous.links import (
    Grant,
    Link,
    Made,
    Offer,
    Relayed,
    grants_of,
    in_memory,
    make,
    new_rows,
    over_sockets,
    parts,
)
from septum.rendezvous.relays import Relays
from septum.rendezvous.sight import Sight

__all__ = ["Broker", "Rules"]

_KINDS: Final = {"messages": Kind.MESSAGES, "bytes": Kind.BYTES}


class Rules(NamedTuple):
    """Bounds of what clients may have, and times.

    Attributes:
        offers: services of one client.
        backlog: links that may wait for an offering client to join.
        size: bytes of a ring.
        join: seconds that an end may take to join.
        drain: seconds that the second end may take to close after the first one.
        metered: declared doors go through the broker, which holds them to their limits; otherwise through memory, of
            which it sees nothing.
        grace: seconds for which live channels are left alone while nothing can be decided.
    """

    offers: int = 64
    backlog: int = 64
    size: int = 1 << 22
    join: float = 5.0
    drain: float = 30.0
    grace: float = 2.0
    metered: bool = False


class Broker:
    """Makes and ends channels; for one thread.

    Args:
        ledger: has a row for each live channel.
        decider: decides about each.
        doors: what is declared.
        carrier: makes the memory.
        label: the kernel has labels, and segments get theirs.
        rules: see there.
        report: is told what an operator should know.
        drop: is called with a client that has to go. It goes later, so that what is being done is not about a client
            that is gone in the middle of it.
    """

    def __init__(
        self,
        ledger: Ledger,
        decider: Decider,
        doors: Doors,
        carrier: MemfdCarrier,
        *,
        label: bool,
        rules: Rules,
        report: Callable[[str], None],
        drop: Callable[[Connection], None],
    ) -> None:
        self.doors = doors
        self.decider = decider
        self.relays = Relays()
        self.links: dict[str, Link] = {}
        self._passing: set[Link] = set()  # in a state that may last only so long
        self.offers: dict[End, Connection] = {}
        self.now = 0.0
        self._ledger = ledger
        self._sight = Sight(ledger, decider)
        self._carrier = carrier
        self._label = label
        self._rules = rules
        self._report = report
        self._drop = drop
        self._undecided = 0.0
        self._left: list[int] = []
        self._verbs: Mapping[str, Callable[[Connection, wire.Packet], None]] = {
            "offer": self._offer,
            "withdraw": self._withdraw,
            "connect": self._connect,
            "ready": self._ready,
            "close": self._close,
            "list": self._list,
            "revoke": self._revoke_named,
        }

    def sweep(self) -> int:
        """Takes out the rows that a broker which was killed has left; its clients have lost their connection to it and
        with that, by their own library's doing, their channels. How many there were."""
        return self._ledger.close_channels([row.id for row in self._ledger.channels()])

    def take(self, client: Connection, packet: wire.Packet) -> None:
        """Does what a packet says. Refusals are answered; a packet that is none ends the client.

        Raises:
            MessageError: it is none.
        """
        if packet.fd >= 0:
            os.close(packet.fd)
            raise MessageError("a client sends a descriptor")
        if not client.greeted:
            if packet.verb != "hello" or packet.fields != (str(wire.VERSION),):
                raise MessageError("the first packet is not a hello that is understood here")
            self._hello(client)
            return
        act = self._verbs.get(packet.verb)
        if act is None or not packet.fields:
            raise MessageError(f"{packet.verb[:40]!a} is no packet that is understood here")
        try:
            act(client, packet)
        except MessageError:
            raise
        except SeptumError as error:
            self._send(client, wire.failure(packet.fields[0], error))

    def refuse(self, client: Connection, error: SeptumError) -> None:
        """Tells a client, which is about to go, what was wrong."""
        self._send(client, wire.failure("", error))

    # What clients ask for

    def _hello(self, client: Connection) -> None:
        broker = "system_u:object_r:septum_broker_t:s0"
        try:
            self._permit(client, Question(client.party.context, broker, "septum_broker", ("hello",)))
        except SeptumError as error:
            self._send(client, wire.failure("hello", error))
            self._drop(client)
            return
        client.greeted = True
        self._send(client, wire.text("welcome", wire.VERSION, client.party))

    def _offer(self, client: Connection, packet: wire.Packet) -> None:
        reference, name, kind, size, backlog = _fields(packet, 5)
        service = parse_service(name, client.party.realm)
        if service.realm != client.party.realm:
            raise Denied("a service is offered in the own realm only", target=str(service), rule=str(client.party))
        if kind not in _KINDS:
            raise MessageError(f"{kind[:20]!a} is no kind of channel")
        if len(client.offers) >= self._rules.offers:
            raise Exhausted("this client offers as many services as it may", rule=f"at most {self._rules.offers}")
        if service in self.offers:
            raise Held("somebody offers this service already", target=str(service))
        carries = self.doors.kind(service)
        if carries is not None and carries is not _KINDS[kind]:
            raise Denied(f"the service is declared to carry {carries.name.lower()}", target=str(service))
        asked = registering(client.party, self.doors.things(client.party, service, self._sight.code(service.realm)))
        self._permit(client, *asked)
        ring = wire.number(size, self._rules.size)
        if ring < SIZE_MIN or ring & (ring - 1):
            raise MessageError(f"a ring of {ring} bytes", rule=f"a power of two, {SIZE_MIN} to {self._rules.size}")
        most = max(1, wire.number(backlog, self._rules.backlog))
        client.offers[service] = Offer(service, _KINDS[kind], ring, most, asked)
        self.offers[service] = client
        self._send(client, wire.text("offered", reference, service))

    def _withdraw(self, client: Connection, packet: wire.Packet) -> None:
        reference, name = _fields(packet, 2)
        service = parse_service(name, client.party.realm)
        if service not in client.offers:
            raise NotFound("this client does not offer that", target=str(service))
        self._unoffer(client, service)
        self._send(client, wire.text("withdrawn", reference, service))

    def _connect(self, client: Connection, packet: wire.Packet) -> None:
        reference, name = _fields(packet, 2)
        service = parse_service(name, client.party.realm)
        things = self.doors.things(client.party, service, self._sight.code(service.realm))
        server = self.offers.get(service)
        # Without a server the same questions are asked, so that the answer takes as long.
        asked = questions(client.party, (server or client).party, things)
        seqno, decisions = self.decider.decide(asked)
        open_ways = ways(decisions)
        if server is None or server is client or not open_ways:
            raise refused(service)
        offer = server.offers[service]
        waiting = sum(1 for link in server.links.values() if server not in link.joined and link.server is server)
        if waiting >= offer.backlog:
            raise _busy(service)
        limits = self.doors.limits(client.party, service)
        if limits is not None:
            role = client.party.realm, client.party.role
            others = [link for link in self.links.values() if link.service == service]
            count = sum(1 for link in others if (link.user.party.realm, link.user.party.role) == role)
            if count >= limits.channels:
                raise Exhausted("the door has as many channels as it may", rule=f"at most {limits.channels}")
        metered = limits if self._rules.metered else None
        carrier = MemfdCarrier.name if metered is None else StreamCarrier.name
        rows = new_rows(client, server, offer, open_ways, things, seqno, carrier)
        quotas = {realm: self.doors.quota(realm) for realm in {client.party.realm, server.party.realm} - {PLATFORM}}
        try:
            rows = self._ledger.open_channels(rows, quotas)
        except Exhausted as error:
            # How much another realm may have, and has, is not for this one to know.
            raise error if error.target == f"realm {client.party.realm}" else _busy(service) from error
        made: list[Made] = []
        try:
            made = make(rows, offer.kind, lambda row, terms: self._make(row, terms, things, metered))
        finally:
            if not made:
                self._take_out([row.id for row in rows])
        link = Link(rows[0].link, client, server, service, asked, open_ways, rows, [one.kept for one in made], self.now)
        self.links[link.name] = link
        self._passing.add(link)
        for end in link.ends:
            end.links[link.name] = link
        self._hand_out(link, made, reference)

    def _make(self, row: Channel, terms: Terms, things: Things, metered: Limits | None) -> Made:
        if metered is None:
            return in_memory(self._carrier, row, terms, things.marks[row.way] if self._label else "")
        return over_sockets(self.relays, row, terms, Through(metered.message, metered.rate, metered.bandwidth))

    def _hand_out(self, link: Link, made: list[Made], reference: str) -> None:
        """Sends both ends what they need. Descriptors are closed with their packet, whatever becomes of it."""
        count = len(made)
        carrier = link.rows[0].carrier
        to_user = wire.text("link", reference, link.name, link.service, link.server.party.realm, count, carrier)
        to_server = wire.text("link", "", link.name, link.service, _shown(link), count, carrier)
        for end, head, user in ((link.user, to_user, True), (link.server, to_server, False)):
            self._send(end, head)
            for number, grant in grants_of(made, user):
                self._send_grant(end, link, number, grant)

    def _send_grant(self, end: Connection, link: Link, number: int, grant: Grant) -> None:
        terms = grant.terms
        role = "producer" if grant.role is Role.PRODUCER else "consumer"
        head = (link.name, number, role, terms.kind.name.lower(), terms.size)
        for part, fd in parts(grant):
            self._send(end, wire.text(part, *(head if part == "own" else head[:2])), fd)

    def _ready(self, client: Connection, packet: wire.Packet) -> None:
        link = self._link(client, packet)
        if client in link.joined:
            raise MessageError("an end says a second time that it has joined")
        link.joined.add(client)
        if len(link.joined) == 2 and link.state == "granted":
            self._ledger.move_channels(link.ids, "granted", "active")
            link.state, link.since = "active", self.now
            self._passing.discard(link)
            for end in link.ends:
                self._send(end, wire.text("active", link.name))

    def _close(self, client: Connection, packet: wire.Packet) -> None:
        link = self._link(client, packet)
        if link.state == "granted":
            self.end(link, "an end did not join")
            return
        link.closed.add(client)
        if len(link.closed) == 2:
            self._forget(link)
            link.let_go()
            self._take_out(link.ids)
            for end in link.ends:
                self._send(end, wire.text("closed", link.name))
            return
        link.state, link.since = "draining", self.now
        self._passing.add(link)
        self._ledger.move_channels(link.ids, "active", "draining")
        self._send(link.server if client is link.user else link.user, wire.text("closing", link.name))

    def _list(self, client: Connection, packet: wire.Packet) -> None:
        (reference,) = _fields(packet, 1)
        rows = self._ledger.channels(None if client.party.realm == PLATFORM else client.party.realm)
        for row in rows:
            link = self.links.get(row.link)
            if link is not None and (client in link.ends or self._sight.may_see(client.party, link)):
                self._send(client, wire.text("channel", reference, *self._sight.facts(row)))
        self._send(client, wire.text("end", reference))

    def _revoke_named(self, client: Connection, packet: wire.Packet) -> None:
        reference, name = _fields(packet, 2)
        link = self.links.get(name)
        realms = {link.service.realm, link.user.party.realm} if link else {client.party.realm}
        if not self._sight.may_end(client.party, realms):
            raise Denied("the policy does not allow this", target=str(client.party))
        if link is None:
            raise NotFound("there is no such channel", target=name[:40])
        self.end(link, "it was revoked")
        self._send(client, wire.text("end", reference))

    # What ends channels

    def relay(self) -> None:
        """Passes on what came over channels that go through here."""
        broken = self.relays.attend(self.now)
        for relay in broken:
            for link in list(self.links.values()):
                if any(isinstance(kept, Relayed) and kept.relay is relay for kept in link.kept):
                    self._report(f"{link.service}: {relay.why}")
                    self.end(link, relay.why)

    def end(self, link: Link, why: str) -> None:
        """Cuts a link, takes it out of the ledger, and tells its ends."""
        if self._forget(link):
            link.cut()
            self._take_out(link.ids)
            for end in link.ends:
                self._send(end, wire.text("revoked", link.name, why))

    def leave(self, client: Connection) -> None:
        """A client is gone: its services and channels go with it."""
        for service in list(client.offers):
            self._unoffer(client, service)
        for link in list(client.links.values()):
            self.end(link, "its other end is gone")

    def decide_again(self) -> None:
        """Decides about all that lives as if it were asked for now, and ends what is not allowed any more."""
        links, offers = list(self.links.values()), list(self.offers.items())
        asked = [question for link in links for question in link.asked]
        asked += [question for service, client in offers for question in client.offers[service].asked]
        if not asked:
            self._undecided = 0.0
            return
        try:
            _, decisions = self.decider.decide(asked)
        except EngineGone as error:
            self._undecided = self._undecided or self.now
            self._report(f"live channels wait for a decision: {error.what}")
            return
        self._undecided = 0.0
        answers = iter(decisions)
        for link in links:
            still = ways([next(answers) for _ in link.asked])
            if not set(link.ways) <= set(still):
                self.end(link, "the policy does not allow it any more")
        for service, client in offers:
            if not all(next(answers).allowed for _ in client.offers[service].asked):
                self._unoffer(client, service)
                self._send(client, wire.text("withdrawn", "", service))

    def tick(self) -> None:
        """What is due several times a second."""
        try:
            self.decider.ready()
        except EngineGone:
            self._undecided = self._undecided or self.now
        if self._undecided:
            self.decide_again()
        if self._undecided and self.now - self._undecided > self._rules.grace:
            if self.links:
                self._report("nothing can be decided: all channels are revoked")
            for link in list(self.links.values()):
                self.end(link, "nothing can be decided")
        if self._left:
            ids, self._left = self._left, []
            self._take_out(ids)
        for link in list(self._passing):
            most = self._rules.join if link.state == "granted" else self._rules.drain
            if self.now - link.since > most:
                self.end(link, "an end took too long")

    # Inside

    def _permit(self, client: Connection, *asked: Question) -> None:
        for decision in self.decider.decide(asked)[1]:
            if not decision.allowed:
                raise Denied("the policy does not allow this", target=str(client.party), rule=decision.rule)

    def _link(self, client: Connection, packet: wire.Packet) -> Link:
        (name,) = _fields(packet, 1)
        link = client.links.get(name)
        if link is None:
            raise NotFound("there is no such channel", target=name[:40])
        return link

    def _forget(self, link: Link) -> bool:
        self._passing.discard(link)
        for end in link.ends:
            end.links.pop(link.name, None)
        return self.links.pop(link.name, None) is not None

    def _take_out(self, ids: list[int]) -> None:
        """Takes rows out of the ledger, now or as soon as it can be written again: what they told of is over anyhow."""
        try:
            self._ledger.close_channels(ids)
        except LedgerError as error:
            if not self._left:
                self._report(f"channels that are over can't be taken out of the ledger yet: {error.what}")
            self._left += ids

    def _unoffer(self, client: Connection, service: End) -> None:
        del client.offers[service]
        del self.offers[service]

    def _send(self, client: Connection, data: bytes, fd: int = -1) -> None:
        if client.doomed:
            if fd >= 0:
                os.close(fd)
            return
        try:
            client.send(data, fd, self.now)
        except (Exhausted, OSError):
            self._drop(client)


def _fields(packet: wire.Packet, count: int) -> tuple[str, ...]:
    if len(packet.fields) != count:
        raise MessageError(f"a packet {packet.verb} with {len(packet.fields)} fields", rule=f"it has {count}")
    return packet.fields


def _busy(service: End) -> Exhausted:
    return Exhausted("the service does not take more at the moment", target=str(service), remedy="try again later")


def _shown(link: Link) -> str:
    """How the serving end is told who came: across realms not by the guest's name."""
    party = link.user.party
    return str(party) if party.realm == link.service.realm else f"{party.realm}/{party.role}"
