"""The rendezvous itself: what each packet does, and what ends a channel. Descriptors' readiness is the server's.

The order in which a channel comes to be is the point of it: decided, charged to both realms' quotas, entered in the
ledger, made, labelled, handed out; and the other way when it ends: cut, then out of the ledger. See `links`.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from septum.access import Question
from septum.declare import PLATFORM, End
from septum.errors import Denied, EngineGone, Exhausted, Held, MessageError, NotFound, SeptumError
from septum.ivc import SIZE_MIN, Kind, MemfdCarrier, MemfdGrant, Role
from septum.labels import CategorySet, Level
from septum.ledger.protocol import Ledger
from septum.rendezvous import wire
from septum.rendezvous.connection import Connection
from septum.rendezvous.decider import Decider
from septum.rendezvous.doors import Doors, parse_service, questions, refused, registering, ways
from septum.rendezvous.links import Link, Made, Offer, grants_of, make, new_rows

__all__ = ["Broker", "Rules"]

_KINDS: Final = {"messages": Kind.MESSAGES, "bytes": Kind.BYTES}
_ALL: Final = CategorySet(range(1024))
"""What no guest includes: an undeclared service of the platform's is for the platform."""


class Rules(NamedTuple):
    """Bounds of what clients may have, and times.

    Attributes:
        offers: services of one client.
        backlog: links that may wait for an offering client to join.
        size: bytes of a ring.
        join: seconds that an end may take to join.
        drain: seconds that the second end may take to close after the first one.
        grace: seconds for which live channels are left alone while nothing can be decided.
    """

    offers: int = 64
    backlog: int = 64
    size: int = 1 << 22
    join: float = 5.0
    drain: float = 30.0
    grace: float = 2.0


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
        self.links: dict[str, Link] = {}
        self.offers: dict[End, Connection] = {}
        self.now = 0.0
        self._ledger = ledger
        self._carrier = carrier
        self._label = label
        self._rules = rules
        self._report = report
        self._drop = drop
        self._undecided = 0.0
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
        asked = registering(client.party, self.doors.things(client.party, service, self._code(service.realm)))
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
        things = self.doors.things(client.party, service, self._code(service.realm))
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
        rows = new_rows(client, server, offer, open_ways, things, seqno)
        quotas = {realm: self.doors.quota(realm) for realm in {client.party.realm, server.party.realm} - {PLATFORM}}
        try:
            rows = self._ledger.open_channels(rows, quotas)
        except Exhausted as error:
            # How much another realm may have, and has, is not for this one to know.
            raise error if error.target == f"realm {client.party.realm}" else _busy(service) from error
        made: list[Made] = []
        try:
            made = make(self._carrier, rows, offer.kind, things.marks, self._label)
        finally:
            if not made:
                self._ledger.close_channels([row.id for row in rows])
        link = Link(rows[0].link, client, server, service, asked, open_ways, rows, [one.kept for one in made], self.now)
        self.links[link.name] = link
        for end in link.ends:
            end.links[link.name] = link
        self._hand_out(link, made, reference)

    def _hand_out(self, link: Link, made: list[Made], reference: str) -> None:
        """Sends both ends what they need. Descriptors are closed with their packet, whatever becomes of it."""
        count = len(made)
        to_user = wire.text("link", reference, link.name, link.service, link.server.party.realm, count)
        to_server = wire.text("link", "", link.name, link.service, _shown(link), count)
        for end, head, user in ((link.user, to_user, True), (link.server, to_server, False)):
            self._send(end, head)
            for number, grant in grants_of(made, user):
                self._send_grant(end, link, number, grant)

    def _send_grant(self, end: Connection, link: Link, number: int, grant: MemfdGrant) -> None:
        terms = grant.terms
        role = "producer" if grant.role is Role.PRODUCER else "consumer"
        head = (link.name, number, role, terms.kind.name.lower(), terms.size)
        self._send(end, wire.text("own", *head), grant.own)
        self._send(end, wire.text("peer", link.name, number), grant.peer)
        self._send(end, wire.text("line", link.name, number), grant.line)

    def _ready(self, client: Connection, packet: wire.Packet) -> None:
        link = self._link(client, packet)
        if client in link.joined:
            raise MessageError("an end says a second time that it has joined")
        link.joined.add(client)
        if len(link.joined) == 2 and link.state == "granted":
            self._ledger.move_channels(link.ids, "granted", "active")
            link.state, link.since = "active", self.now
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
            self._ledger.close_channels(link.ids)
            return
        link.state, link.since = "draining", self.now
        self._ledger.move_channels(link.ids, "active", "draining")
        self._send(link.server if client is link.user else link.user, wire.text("closing", link.name))

    def _list(self, client: Connection, packet: wire.Packet) -> None:
        (reference,) = _fields(packet, 1)
        rows = self._ledger.channels(None if client.party.realm == PLATFORM else client.party.realm)
        for row in rows:
            link = self.links.get(row.link)
            if link is None or not (client in link.ends or self._may_see(client, link)):
                continue
            source = self._named(row.source, row.source_incarnation, row.source_realm)
            target = self._named(row.target, row.target_incarnation, row.target_realm)
            facts = (row.id, row.link, row.service, row.way, source, target, row.state)
            self._send(client, wire.text("channel", reference, *facts))
        self._send(client, wire.text("end", reference))

    def _revoke_named(self, client: Connection, packet: wire.Packet) -> None:
        reference, name = _fields(packet, 2)
        link = self.links.get(name)
        if not self._may_end(client, {link.service.realm, link.user.party.realm} if link else {client.party.realm}):
            raise Denied("the policy does not allow this", target=str(client.party))
        if link is None:
            raise NotFound("there is no such channel", target=name[:40])
        self.end(link, "it was revoked")
        self._send(client, wire.text("end", reference))

    # What ends channels

    def end(self, link: Link, why: str) -> None:
        """Cuts a link, takes it out of the ledger, and tells its ends."""
        if self._forget(link):
            link.cut()
            self._ledger.close_channels(link.ids)
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
        bounds = {"granted": self._rules.join, "draining": self._rules.drain}
        for link in list(self.links.values()):
            if self.now - link.since > bounds.get(link.state, float("inf")):
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
        for end in link.ends:
            end.links.pop(link.name, None)
        return self.links.pop(link.name, None) is not None

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

    def _code(self, realm: str) -> CategorySet:
        if realm == PLATFORM:
            return _ALL
        found = self._ledger.realm(realm)
        return CategorySet(found.categories) if found else _ALL

    def _named(self, uuid: str, incarnation: int, realm: str) -> str:
        guest = self._ledger.guest(uuid) if uuid else None
        return f"{realm}/{guest.name}" if guest is not None and guest.incarnation == incarnation else realm

    def _may_see(self, client: Connection, link: Link) -> bool:
        """Whether it may know of a channel that it has no end of."""
        channel = link.asked[3].target
        asked = Question(client.party.context, channel, "septum_channel", ("getattr",))
        if self.decider.decide([asked])[1][0].allowed:
            return True
        return self._may_end(client, {link.service.realm, link.user.party.realm})

    def _may_end(self, client: Connection, realms: Iterable[str]) -> bool:
        """Whether it may revoke channels that have an end in one of the realms: orchestrators and the platform may."""
        targets = [f"system_u:object_r:septum_channel_t:{Level(0, self._code(realm))}" for realm in realms]
        asked = [Question(client.party.context, target, "septum_channel", ("revoke",)) for target in targets]
        return any(decision.allowed for decision in self.decider.decide(asked)[1])


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
