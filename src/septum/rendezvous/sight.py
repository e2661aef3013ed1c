"""Who may know of a channel that is none of his, and who may end it; and how the ledger's rows are shown to them."""

from collections.abc import Iterable
from typing import Final

from septum.access import Question
from septum.declare import PLATFORM
from septum.labels import CategorySet, Level
from septum.ledger.protocol import Ledger
from septum.ledger.records import Channel
from septum.rendezvous.decider import Decider
from septum.rendezvous.links import Link
from septum.rendezvous.parties import Party

__all__ = ["Sight"]

_CHANNEL: Final = "system_u:object_r:septum_channel_t"
_CLASS: Final = "septum_channel"
_ALL: Final = CategorySet(range(1024))
"""What no guest includes: an undeclared service of the platform's is for the platform."""


class Sight:
    """Asks about channels on others' behalf.

    Args:
        ledger: knows realms and guests.
        decider: decides.
    """

    def __init__(self, ledger: Ledger, decider: Decider) -> None:
        self._ledger = ledger
        self._decider = decider

    def may_see(self, party: Party, link: Link) -> bool:
        """Whether it may know of a channel that it has no end of.

        Raises:
            EngineGone: nothing can be decided.
        """
        asked = Question(party.context, link.asked[3].target, _CLASS, ("getattr",))
        if self._decider.decide([asked])[1][0].allowed:
            return True
        return self.may_end(party, {link.service.realm, link.user.party.realm})

    def may_end(self, party: Party, realms: Iterable[str]) -> bool:
        """Whether it may revoke channels that have an end in one of the realms: orchestrators and the platform may.

        Raises:
            EngineGone: nothing can be decided.
        """
        targets = [f"{_CHANNEL}:{Level(0, self.code(realm))}" for realm in realms]
        asked = [Question(party.context, target, _CLASS, ("revoke",)) for target in targets]
        return any(decision.allowed for decision in self._decider.decide(asked)[1])

    def code(self, realm: str) -> CategorySet:
        """A realm's code; one that nobody includes where there is no such realm."""
        found = None if realm == PLATFORM else self._ledger.realm(realm)
        return CategorySet(found.categories) if found else _ALL

    def facts(self, row: Channel) -> tuple[object, ...]:
        """What is told of a row."""
        source = self._named(row.source, row.source_incarnation, row.source_realm)
        target = self._named(row.target, row.target_incarnation, row.target_realm)
        return row.id, row.link, row.service, row.way, source, target, row.state

    def _named(self, uuid: str, incarnation: int, realm: str) -> str:
        guest = self._ledger.guest(uuid) if uuid else None
        return f"{realm}/{guest.name}" if guest is not None and guest.incarnation == incarnation else realm
