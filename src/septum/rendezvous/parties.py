"""Who is at the end of a connection to the broker: the kernel's word, then the ledger's; nothing that a packet says."""

import os
from typing import Final, NamedTuple

from septum.access.objects import Contexts
from septum.daemon.peer import Peer
from septum.declare import PLATFORM, End, process_type
from septum.errors import Denied, LabelError
from septum.labels import Context
from septum.ledger.protocol import Ledger
from septum.ledger.records import Guest

__all__ = ["Parties", "Party"]

_LIVE: Final = ("admitted", "starting", "running")


class Party(NamedTuple):
    """Whom a process belongs to.

    Attributes:
        context: of the process, as decisions are taken about it.
        realm: its owner's name; ``platform`` for none.
        guest: its name in the realm, "" for the platform.
        uuid, incarnation: of the guest, "" and 0 for the platform.
        role: of the guest, as it was declared; "" if it has none.
    """

    context: str
    realm: str
    guest: str
    uuid: str
    incarnation: int
    role: str

    def __str__(self) -> str:
        return f"{self.realm}/{self.guest}" if self.guest else self.realm


class Parties:
    """Tells who peers are, by the ledger as it is now.

    Args:
        ledger: knows guests by uid and by code.
        contexts: the policy's names.
    """

    def __init__(self, ledger: Ledger, contexts: Contexts) -> None:
        self._ledger = ledger
        self._contexts = contexts

    def of(self, peer: Peer) -> Party:
        """
        Raises:
            Denied: nobody whom channels are made for.
            LedgerError: the ledger can't be read.
        """
        guest = self._guest(peer)
        if guest is not None:
            context = peer.label or f"{self._type(guest)}:{guest.level}"
            return Party(context, guest.realm, guest.name, guest.uuid, guest.incarnation, _role(context, guest.realm))
        if peer.uid == 0 or (peer.uid == os.geteuid() and not any(one.uid < 0 for one in self._ledger.guests())):
            return Party(peer.label or self._contexts.platform, PLATFORM, "", "", 0, "")
        raise Denied(
            "this process is no guest's and not the platform's",
            target=f"uid {peer.uid}, pid {peer.pid}",
            rule="channels are made for guests, known by uid and label, and for root",
            remedy="ask from within a guest's confinement",
        )

    def _guest(self, peer: Peer) -> Guest | None:
        """The live guest whose uid the process has and, where there are labels, whose label too.

        Raises:
            Denied: it has only one of the two.
        """
        by_uid = self._live("uid", str(peer.uid)) if peer.uid else None
        if not peer.label:
            return by_uid
        by_label = self._live("code", _categories(peer.label))
        if by_label is None and by_uid is None:
            return None
        if by_label is None or by_label.uid not in (-1, peer.uid):
            raise Denied(
                "this process has the uid of a guest, or its label, but not both",
                target=f"uid {peer.uid}, {peer.label}",
                rule="a guest is known by its uid and its label together",
            )
        return by_label

    def _live(self, kind: str, key: str) -> Guest | None:
        bearer = self._ledger.bearer(kind, key)
        guest = self._ledger.guest(bearer.uuid) if bearer else None
        return guest if guest is not None and guest.state in _LIVE else None

    def _type(self, guest: Guest) -> str:
        role = guest.details.get("role", "")
        if not isinstance(role, str) or not role:
            return self._contexts.guest
        return f"{self._contexts.guest.rsplit(':', 1)[0]}:{process_type(End(guest.realm, role))}"


def _categories(label: str) -> str:
    """Those that say whose a label is, as the ledger's claims have them."""
    try:
        found = Context.parse(label).range
    except LabelError:
        return ""
    return str(found.high.categories) if found else ""


def _role(context: str, realm: str) -> str:
    """The role whose type a context has, if it is one of the realm's own."""
    name = context.split(":", 3)[2]
    before, _, after = process_type(End(realm, "\0")).partition("\0")
    fits = name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
    return name[len(before) : len(name) - len(after)] if fits else ""
