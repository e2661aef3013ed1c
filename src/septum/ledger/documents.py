"""Documents of an SQLite ledger: functions within the transaction that is open."""

from __future__ import annotations

import time

from septum.errors import Changed, LedgerError, OverQuota
from septum.lean import TYPE_CHECKING
from septum.ledger import rules
from septum.ledger.codec import canonical, parse
from septum.ledger.database import Database
from septum.ledger.records import Commit, Document, Event, Put, Spend

if TYPE_CHECKING:
    from typing import Any

__all__ = ["claimants", "drop_realm", "events", "last_event", "read", "read_all", "spent", "write"]

_DOCUMENT = "SELECT kind, realm, id, version, body FROM documents "
_VERSION = "documents"  # the counter of changes


def read(database: Database, kind: str, realm: str, name: str) -> Document | None:
    """See `Ledger.document`."""
    row = database.row(_DOCUMENT + "WHERE kind = ? AND realm = ? AND id = ?", kind, realm, name)
    return None if row is None else _document(row)


def read_all(database: Database, kind: str, realm: str | None) -> list[Document]:
    """See `Ledger.documents`."""
    where, values = ("", ()) if realm is None else (" AND realm = ?", (realm,))
    rows = database.each(f"{_DOCUMENT}WHERE kind = ?{where} ORDER BY realm, id", kind, *values)
    return [_document(row) for row in rows]


def claimants(database: Database, kind: str, key: str | None) -> list[Document]:
    """See `Ledger.claimants`."""
    where, values = ("", ()) if key is None else (" AND c.key = ?", (key,))
    rows = database.each(
        "SELECT DISTINCT d.kind, d.realm, d.id, d.version, d.body FROM document_claims AS c JOIN documents AS d"
        f" ON d.kind = c.owner AND d.realm = c.realm AND d.id = c.id WHERE c.kind = ?{where} ORDER BY d.realm, d.id",
        kind,
        *values,
    )
    return [_document(row) for row in rows]


def spent(database: Database, realm: str) -> dict[str, int]:
    """See `Ledger.spent`."""
    rows: list[Any] = database.rows("SELECT what, amount FROM spent WHERE realm = ?", realm)
    return dict(rows)


def events(database: Database, realm: str, after: int, most: int) -> list[Event]:
    """See `Ledger.events`."""
    rows = database.each(
        "SELECT realm, seq, time, kind, fields FROM events WHERE realm = ? AND seq > ? ORDER BY seq LIMIT ?",
        realm,
        after,
        most,
    )
    return [Event(realm, seq, when, kind, parse(fields)) for realm, seq, when, kind, fields in rows]


def last_event(database: Database, realm: str) -> int:
    """See `Ledger.last_event`."""
    row = database.row("SELECT value FROM counters WHERE name = ?", f"events {realm}")
    return int(row[0]) if row else 0


def write(database: Database, commit: Commit) -> list[Document]:
    """Everything of a commit but realms and the audit chain.

    Raises:
        Changed, Held, OverQuota: see `Ledger.commit`.
    """
    for seen in commit.unchanged:
        _check_version(database, seen.kind, seen.realm, seen.id, seen.version)
    for put in commit.puts:
        _check_version(database, put.kind, put.realm, put.id, put.expected)
    for put in commit.puts:
        # All of them first: a claim may go from one document to another within a commit.
        database.run("DELETE FROM document_claims WHERE owner = ? AND realm = ? AND id = ?", *put[:3])
    made = [document for put in commit.puts if (document := _put(database, put)) is not None]
    for spend in commit.spends:
        _spend(database, spend)
    for realm, kind, fields, keep in commit.happenings:
        seq = _count(database, f"events {realm}")
        database.run("INSERT INTO events VALUES (?, ?, ?, ?, ?)", realm, seq, time.time(), kind, canonical(fields))
        database.run("DELETE FROM events WHERE realm = ? AND seq <= ?", realm, seq - keep)
    return made


def drop_realm(database: Database, realm: str) -> None:
    """Takes out a realm's row, its claims, and whose its objects on the host were.

    Raises:
        LedgerError: there is no such realm, or it has guests or documents.
    """
    if database.row("SELECT 1 FROM realms WHERE name = ?", realm) is None:
        raise LedgerError(f"there is no realm {realm}", target=realm)
    for table, remedy in (("guests", "stop its guests first"), ("documents", "destroy its guests and images first")):
        if database.row(f"SELECT 1 FROM {table} WHERE realm = ? LIMIT 1", realm) is not None:
            raise LedgerError(f"realm {realm} has {table} still", target=realm, remedy=remedy)
    for table in ("claims", "belongings", "spent", "events"):
        database.run(f"DELETE FROM {table} WHERE realm = ?", realm)
    database.run("DELETE FROM realms WHERE name = ?", realm)


def _check_version(database: Database, kind: str, realm: str, name: str, expected: int) -> None:
    row = database.row("SELECT version FROM documents WHERE kind = ? AND realm = ? AND id = ?", kind, realm, name)
    found = row[0] if row else 0
    if found != expected:
        raise Changed(
            f"the {kind} {name} " + ("is there already" if not expected else "was changed meanwhile"),
            target=f"{realm}/{name}" if realm else name,
            rule=f"it was expected at version {expected}, and is at {found}" if expected else "",
            remedy="choose another name" if not expected else "read it again",
        )


def _put(database: Database, put: Put) -> Document | None:
    kind, realm, name = put[:3]
    if put.body is None:
        database.run("DELETE FROM documents WHERE kind = ? AND realm = ? AND id = ?", kind, realm, name)
        return None
    version = _count(database, _VERSION)
    database.run(
        "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", kind, realm, name, version, canonical(put.body)
    )
    for claim, key in dict.fromkeys(put.claims):
        row = database.row("SELECT owner, realm, id FROM document_claims WHERE kind = ? AND key = ?", claim, key)
        if row is not None:
            raise rules.refuse_claim(claim, key, f"{row[0]} {row[1]}/{row[2]}")
        database.run("INSERT INTO document_claims VALUES (?, ?, ?, ?, ?)", claim, key, kind, realm, name)
    return Document(kind, realm, name, version, put.body)


def _spend(database: Database, spend: Spend) -> None:
    realm, what, amount, most = spend
    row = database.row("SELECT amount FROM spent WHERE realm = ? AND what = ?", realm, what)
    total = (row[0] if row else 0) + amount
    if total > most and amount > 0:
        raise OverQuota(
            f"realm {realm} has no more {what} left",
            target=realm,
            rule=f"{what}: {total} would be more than the quota of {most}",
            remedy="give some back, or have the platform raise the quota",
        )
    if total < 0:
        raise LedgerError(f"realm {realm} would give back more {what} than it has", target=realm)
    database.run("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", realm, what, total)


def _count(database: Database, counter: str) -> int:
    """The next number of a counter, from 1."""
    row = database.row("SELECT value FROM counters WHERE name = ?", counter)
    value = int(row[0]) + 1 if row else 1
    database.run("INSERT OR REPLACE INTO counters VALUES (?, ?)", counter, value)
    return value


def _document(row: tuple[Any, ...]) -> Document:
    kind, realm, name, version, body = row
    return Document(kind, realm, name, version, parse(body))
