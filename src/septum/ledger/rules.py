"""What a ledger refuses, whatever engine keeps it: pure functions over values."""

from __future__ import annotations

from septum.errors import Denied, Held, LedgerError
from septum.lean import TYPE_CHECKING, NamedTuple
from septum.ledger.records import Entry, Guest, Hold, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "GONE",
    "QUARANTINED",
    "RESTORING",
    "Holder",
    "check_belonging",
    "check_entries",
    "check_hold",
    "check_realm_name",
    "check_state",
    "guest_name",
    "merge_holds",
    "refuse_claim",
    "refuse_restoring",
]

RESTORING = "septum: being restored"
QUARANTINED: tuple[State, ...] = ("ending", "stuck")
GONE = ("restored", "untouched", "gone")
"""Outcomes after which nothing of septum's is left on the object."""


class Holder(NamedTuple):
    """Who holds an object already.

    Attributes:
        name: as `guest_name` gives it.
        realm: of the guest.
        state: of the guest.
        exclusive, access: of its hold.
    """

    name: str
    realm: str
    state: str
    exclusive: bool
    access: str


def guest_name(realm: str, name: str, uuid: str) -> str:
    """How refusals name a guest."""
    return f"{realm}/{name} ({uuid})"


def check_realm_name(name: str) -> None:
    """``realm/name`` must have one reading.

    Raises:
        Denied: the name is empty or has a slash.
    """
    if not name or "/" in name:
        raise Denied("a realm can't have this name", target=name, rule="a realm's name is not empty and has no slash")


def check_state(guest: Guest, allowed: Sequence[State], doing: str) -> None:
    """
    Args:
        doing: what was asked for, as an infinitive.

    Raises:
        LedgerError: the guest's state is none of `allowed`.
    """
    if guest.state not in allowed:
        raise LedgerError(
            f"can't {doing} a guest that is {guest.state}",
            target=guest_name(guest.realm, guest.name, guest.uuid),
            rule=f"only a guest that is {' or '.join(allowed)}",
            remedy="septum reconcile finds what is left of guests that are gone",
        )


def merge_holds(holds: Iterable[Hold]) -> list[Hold]:
    """One hold an object: where two paths lead to the same one, the first path and the stronger claim."""
    merged: dict[str, Hold] = {}
    for hold in holds:
        other = merged.get(hold.key)
        if other is not None:
            access = "rw" if "rw" in (hold.access, other.access) else "ro"
            hold = Hold(
                hold.key,
                other.path,
                hold.exclusive or other.exclusive,
                access,
                hold.lasting or other.lasting,
                hold.adopted or other.adopted,
            )
        merged[hold.key] = hold
    return list(merged.values())


def check_hold(hold: Hold, realm: str, other: Holder) -> None:
    """Whether a guest of `realm` may hold the object beside `other`, which is another guest.

    Raises:
        Held: names that guest and the rule.
    """
    if hold.exclusive or other.exclusive:
        wants, has = (_claim(hold.exclusive, hold.access), _claim(other.exclusive, other.access))
        rule = f"an exclusive object belongs to one guest at a time (held {has}, asked for {wants})"
    elif other.realm != realm:
        rule = f"shared holders are of one realm (held in realm {other.realm}, asked for in realm {realm})"
    else:
        return
    gone = other.state in QUARANTINED
    raise Held(
        f"{hold.path} is held by another guest" + (" whose restore is not verified yet" if gone else ""),
        target=hold.path,
        holder=other.name,
        rule=rule,
        remedy="septum reconcile" if gone else "stop that guest first, or give this one an object of its own",
    )


def check_belonging(hold: Hold, realm: str, owner: str, last: str) -> None:
    """Whether a guest of `realm` may hold an object that belongs to `owner`.

    Without this rule an emulator that was taken over could write another owner's image into its own image's header as
    a backing file, and get it at its next start, when nobody holds it.

    Args:
        last: name of the guest that used it last.

    Raises:
        Held: names realm and guest.
    """
    if owner == realm or hold.adopted:
        return
    raise Held(
        f"{hold.path} belongs to another realm",
        target=hold.path,
        holder=f"realm {owner} (last used by {last})",
        rule="an image belongs to the realm whose guest wrote it last",
        remedy=f"if its owner has given it away: --adopt {hold.path}",
    )


def refuse_restoring(hold: Hold) -> Held:
    """For an object whose last shared holder went, and whose original state is not back yet."""
    return Held(
        f"{hold.path} is being restored",
        target=hold.path,
        holder=RESTORING,
        rule="an object can be held again when its original state is back",
        remedy="try again; if it stays so, septum reconcile",
    )


def refuse_claim(kind: str, key: str, holder: str) -> Held:
    """For a claim that another guest or realm has."""
    return Held(
        f"{kind} {key} is taken",
        target=f"{kind} {key}",
        holder=holder,
        rule=f"a {kind} has one holder, until the restore of everything that carried it was verified",
        remedy="septum ps shows the guests, those in quarantine included",
    )


def check_entries(uuid: str, holds: Iterable[Hold], entries: Iterable[Entry]) -> None:
    """Each new entry belongs to the guest, or to an object that it holds shared.

    Raises:
        LedgerError: an entry of anybody else's, or one that is closed already.
    """
    owners = {uuid, *(hold.key for hold in holds if not hold.exclusive)}
    for entry in entries:
        if entry.owner not in owners or entry.outcome:
            raise LedgerError(
                f"journal entry {entry.op} {entry.path} can't be written",
                target=entry.owner,
                rule="an entry is open, and belongs to the guest or to an object that it holds shared",
            )


def _claim(exclusive: bool, access: str) -> str:
    return f"{'exclusive' if exclusive else 'shared'} {access}"
