"""Who holds which object, and what has to be put back on it: the part of a change that is about objects.

Every function works within the transaction that its caller has open.
"""

from __future__ import annotations

from septum.errors import LedgerError
from septum.lean import TYPE_CHECKING
from septum.ledger import rules
from septum.ledger.codec import canonical, parse
from septum.ledger.database import Database
from septum.ledger.records import Entry, Guest, Hold

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["drop_shared", "journal", "of_guest", "orphans", "refuse_unrestored", "settle", "take", "write_entries"]

_ENTRY = "SELECT id, owner, op, key, path, args, original, outcome FROM journal "


def take(database: Database, guest: Guest, hold: Hold) -> None:
    """Adds a hold.

    Raises:
        Held: another guest's hold stands against it, or the object is being restored.
    """
    # One holder tells all: an object has a single exclusive one, or shared ones of a single realm.
    row = database.row(
        "SELECT g.realm, g.name, g.uuid, g.state, h.exclusive, h.access"
        " FROM holds AS h JOIN guests AS g ON g.uuid = h.guest WHERE h.key = ? LIMIT 1",
        hold.key,
    )
    if row is not None:
        realm, name, uuid, state, exclusive, access = row
        holder = rules.Holder(rules.guest_name(realm, name, uuid), realm, state, bool(exclusive), access)
        rules.check_hold(hold, guest.realm, holder)
    elif database.row("SELECT 1 FROM journal WHERE owner = ? AND shared = 1", hold.key):
        raise rules.refuse_restoring(hold)
    belongs = database.row("SELECT realm, guest FROM belongings WHERE key = ?", hold.key)
    if belongs is not None:
        rules.check_belonging(hold, guest.realm, *belongs)
    if hold.lasting or (belongs is not None and belongs[0] != guest.realm):
        database.run(
            "INSERT OR REPLACE INTO belongings VALUES (?, ?, ?, ?)", hold.key, guest.realm, guest.name, hold.path
        )
    database.run(
        "INSERT INTO holds VALUES (?, ?, ?, ?, ?)", hold.key, guest.uuid, hold.path, int(hold.exclusive), hold.access
    )


def write_entries(database: Database, uuid: str, entries: Sequence[Entry]) -> list[Entry]:
    """Writes the journal, without steps that are in force on a shared object. Returns what it wrote, with ids.

    Only the very same step is left out. Another one on the same object stacks: undone first, it gives back what the
    earlier one had made, and that one gives back the original.
    """
    written: list[Entry] = []
    for entry in entries:
        shared, args = entry.owner != uuid, canonical(entry.args)
        if shared and database.row(
            "SELECT 1 FROM journal WHERE owner = ? AND shared = 1 AND op = ? AND key = ? AND path = ? AND args = ?",
            entry.owner,
            entry.op,
            entry.key,
            entry.path,
            args,
        ):
            continue
        database.run(
            "INSERT INTO journal (owner, shared, op, key, path, args, original, outcome)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, '')",
            entry.owner,
            int(shared),
            entry.op,
            entry.key,
            entry.path,
            args,
            canonical(entry.original),
        )
        row = database.row("SELECT last_insert_rowid()")
        written.append(entry._replace(id=row[0] if row else 0))
    return written


def of_guest(database: Database, uuid: str) -> list[Hold]:
    """The guest's holds, by path."""
    rows = database.rows("SELECT key, path, exclusive, access FROM holds WHERE guest = ? ORDER BY path, key", uuid)
    return [Hold(key, path, bool(exclusive), access) for key, path, exclusive, access in rows]


def journal(database: Database, owner: str) -> list[Entry]:
    """Entries in force, oldest first."""
    rows = database.rows(_ENTRY + "WHERE owner = ? AND outcome = '' ORDER BY id", owner)
    return [
        Entry(number, owner, op, key, path, parse(args), parse(original), outcome)
        for number, owner, op, key, path, args, original, outcome in rows
    ]


def drop_shared(database: Database, uuid: str) -> list[str]:
    """Drops the guest's shared holds; returns the keys that nobody holds any more and that are to be restored."""
    keys = [row[0] for row in database.rows("SELECT key FROM holds WHERE guest = ? AND exclusive = 0", uuid)]
    database.run("DELETE FROM holds WHERE guest = ? AND exclusive = 0", uuid)
    return [
        key
        for key in keys
        if database.row("SELECT 1 FROM journal WHERE owner = ? AND shared = 1", key)
        and not database.row("SELECT 1 FROM holds WHERE key = ?", key)
    ]


def orphans(database: Database) -> list[str]:
    """All objects that nobody holds and that are to be restored."""
    rows = database.rows(
        "SELECT DISTINCT owner FROM journal WHERE shared = 1"
        " AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.key = journal.owner) ORDER BY owner"
    )
    return [row[0] for row in rows]


def settle(database: Database, entry: int, outcome: str) -> Entry | None:
    """Closes an entry; returns it as it was, or None if it is closed already: the first outcome stands.

    A shared object's entry goes when it is closed, so what is there of them is in force.

    Raises:
        LedgerError: there never was such an entry, or guests still hold its shared object.
    """
    row = database.row(_ENTRY + "WHERE id = ?", entry)
    if row is None:
        issued = database.row("SELECT seq FROM sqlite_sequence WHERE name = 'journal'")
        if issued is None or not 0 < entry <= issued[0]:
            raise LedgerError(f"there is no journal entry {entry}")
        return None
    number, owner, op, key, path, args, original, before = row
    if before:
        return None
    shared = database.row("SELECT shared FROM journal WHERE id = ?", entry) == (1,)
    if shared and database.row("SELECT 1 FROM holds WHERE key = ?", owner):
        raise LedgerError(
            f"journal entry {entry} can't be closed: {path} is still in use",
            target=path,
            rule="a shared object is restored when its last holder is gone",
        )
    if shared:
        database.run("DELETE FROM journal WHERE id = ?", entry)
    else:
        database.run("UPDATE journal SET outcome = ? WHERE id = ?", outcome, entry)
    return Entry(number, owner, op, key, path, parse(args), parse(original), before)


def refuse_unrestored(database: Database, guest: Guest) -> None:
    """
    Raises:
        LedgerError: one of the guest's own entries is open, or was closed as foreign.
    """
    row = database.row(
        "SELECT path, op, outcome, count(*) FROM journal"
        " WHERE owner = ? AND shared = 0 AND outcome NOT IN ('restored', 'untouched', 'gone')",
        guest.uuid,
    )
    if row is None or row[3] == 0:
        return
    path, op, outcome, count = row
    why = "was changed by somebody else" if outcome == "foreign" else "is not restored yet"
    raise LedgerError(
        f"{path} {why} ({op}; {count} such steps in all): what {guest.name} claimed stays in quarantine",
        target=path,
        holder=rules.guest_name(guest.realm, guest.name, guest.uuid),
        rule="codes, uids and objects are freed when the restore of all that carried them was verified",
        remedy=f"look at the object; then septum reconcile --forget {guest.realm}/{guest.name}"
        if outcome
        else "septum reconcile",
    )
