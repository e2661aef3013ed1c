"""From a service's name to what is asked about it, and from the answers to what may be made. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from septum.access import Decision, Question
from septum.declare import Declaration, End, Limits, door_name, service_type
from septum.errors import Denied
from septum.ivc import Kind
from septum.labels import CategorySet, Level
from septum.rendezvous.parties import Party

__all__ = [
    "HIDDEN",
    "Doors",
    "Things",
    "Way",
    "parse_service",
    "questions",
    "refused",
    "registering",
    "ways",
]

Way = str
"""``to-service`` or ``from-service``: which way data goes."""

HIDDEN: Final = "nobody offers this service, or it is not for this guest"
"""The reason for every refusal to connect: nobody learns which services there are."""

_OBJECT: Final = "system_u:object_r:"
_SERVICE: Final = "septum_service_t"  # policy/cil/shared: a service that no declaration names
_CHANNEL: Final = "septum_channel_t"
_RING: Final = "septum_ring_t"
_MARKS: Final = {ord(mark): None for mark in "-_."}
_COMMON: Final = "s0"  # the level of what both ends of a declared door share


class Things(NamedTuple):
    """What bears a context when a guest reaches a service.

    Attributes:
        service, channel: as targets of questions.
        memory: way → context of the segment that the producer writes.
        marks: way → context of the one in which the consumer says how far it has read.
    """

    service: str
    channel: str
    memory: Mapping[Way, str]
    marks: Mapping[Way, str]


class Doors:
    """What is declared about services, and what holds for those that aren't.

    Args:
        declaration: of the platform; None while nothing is declared.
        channels: that a realm may have at a time, where no quota is declared.
    """

    def __init__(self, declaration: Declaration | None = None, channels: int = 1024) -> None:
        self._declaration = declaration
        self._channels = channels
        doors = declaration.doors if declaration else ()
        self._doors = {(door.role, door.service): door for door in doors}

    def things(self, user: Party, service: End, code: CategorySet) -> Things:
        """What a guest's reaching of a service is about, whether there is such a service or not.

        Args:
            user: who would.
            service: realm and name.
            code: of the service's realm.
        """
        level = str(Level(0, code))
        declared = self._declaration is not None and service in self._declaration.services
        if not declared:
            ring = f"{_OBJECT}{_RING}:{level}"
            both = {"to-service": ring, "from-service": ring}
            return Things(f"{_OBJECT}{_SERVICE}:{level}", f"{_OBJECT}{_CHANNEL}:{level}", both, both)
        door = f"{_OBJECT}{door_name(End(user.realm, user.role), service)}"
        return Things(
            f"{_OBJECT}{service_type(service)}:{level}",
            f"{door}.channel:{_COMMON}",
            {"to-service": f"{door}.to_service:{_COMMON}", "from-service": f"{door}.from_service:{_COMMON}"},
            {"to-service": f"{door}.to_service_mark:{_COMMON}", "from-service": f"{door}.from_service_mark:{_COMMON}"},
        )

    def kind(self, service: End) -> Kind | None:
        """What a declared service's channels carry."""
        found = self._declaration.services.get(service) if self._declaration else None
        return None if found is None else Kind.MESSAGES if found.kind == "message" else Kind.BYTES

    def limits(self, user: Party, service: End) -> Limits | None:
        """Those of the declared door."""
        door = self._doors.get((End(user.realm, user.role), service))
        return door.limits if door else None

    def quota(self, realm: str) -> int:
        """Channels that a realm's guests may have at a time, those that others have opened to them included."""
        found = self._declaration.realms.get(realm) if self._declaration else None
        return found.quota.channels if found else self._channels


def registering(server: Party, things: Things) -> list[Question]:
    """What is asked before a service is offered."""
    return [Question(server.context, things.service, "septum_service", ("register",))]


def questions(user: Party, server: Party, things: Things) -> list[Question]:
    """What is asked before a channel is made, and again whenever the answers may have changed."""
    service, channel = "septum_service", "septum_channel"
    return [
        Question(user.context, things.service, service, ("connect",)),
        Question(server.context, things.service, service, ("accept",)),
        Question(user.context, things.service, channel, ("create",)),
        Question(server.context, things.channel, channel, ("accept",)),
        Question(user.context, things.channel, channel, ("send",)),
        Question(server.context, things.channel, channel, ("recv",)),
        Question(server.context, things.channel, channel, ("send",)),
        Question(user.context, things.channel, channel, ("recv",)),
    ]


def ways(decisions: Sequence[Decision]) -> tuple[Way, ...]:
    """Which ways data may go, by the answers to `questions`; none at all is a refusal."""
    yes = [decision.allowed for decision in decisions]
    if len(yes) != 8 or not all(yes[:4]):
        return ()
    found = []
    if yes[4] and yes[5]:
        found.append("to-service")
    if yes[6] and yes[7]:
        found.append("from-service")
    return tuple(found)


def refused(service: End) -> Denied:
    """The one refusal to connect."""
    return Denied(
        HIDDEN,
        target=str(service),
        rule="both realms and the platform have a say, and the policy decides",
        remedy="ask the realm that offers it; `septum declare show` tells the platform's administrator",
    )


def parse_service(text: str, realm: str = "") -> End:
    """``realm/name``, or a name in `realm`.

    Raises:
        Denied: it is none.
    """
    before, slash, name = text.rpartition("/")
    found = End(before if slash else realm, name)
    fine = all(part.isascii() and part.translate(_MARKS).isalnum() and len(part) <= 64 for part in found)
    if not fine:
        raise Denied(f"{text[:80]!a} is no name of a service", rule="REALM/NAME, of letters, digits and hyphens")
    return found
