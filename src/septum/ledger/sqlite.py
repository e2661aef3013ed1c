"""The default ledger: one SQLite file, for all guests of one host."""

from __future__ import annotations

import os

from septum.errors import Denied, LedgerError
from septum.labels import CategorySet
from septum.lean import TYPE_CHECKING
from septum.ledger import audit, documents, holding, rows, rules
from septum.ledger import channels as live
from septum.ledger.codec import canonical
from septum.ledger.database import Database
from septum.ledger.records import (
    AuditRecord,
    Bearer,
    Channel,
    Commit,
    Document,
    Entry,
    Event,
    Guest,
    Hold,
    Life,
    Realm,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["SqliteLedger"]

_FACT = "fact "
_GUEST = (
    "SELECT uuid, incarnation, name, realm, state, categories, level, uid, drivers, boot_id, pid, started, since,"
    " argv, details FROM guests "
)
# A claim's holder as a refusal names it: its parts, for one of which the row is NULL.
_CLAIM = (
    "SELECT c.key, c.realm, g.realm, g.name, g.uuid FROM claims AS c LEFT JOIN guests AS g ON g.uuid = c.guest"
    " WHERE c.kind = ?"
)
_BEARER = (
    "SELECT g.uuid, g.incarnation, g.realm, g.name, g.level FROM claims AS c JOIN guests AS g ON g.uuid = c.guest"
    " WHERE c.kind = ? AND c.key = ?"
)


class SqliteLedger:
    """Implements `septum.ledger.protocol.Ledger`; its text has the contract of each method.

    Args:
        directory: the folder; it and its file ``ledger.db`` belong to the caller, and are closed to others.
        create: make them if they are missing.
        read_only: refuse changes.
        timeout: how long a call waits for other processes, in seconds.

    Raises:
        LedgerError, LedgerCorrupt, LedgerTooNew: see `septum.ledger.database.Database`.

    An object belongs to the thread and the process that made it. A process that becomes another program need not close
    it: no change waits for that.
    """

    def __init__(self, directory: str, *, create: bool = True, read_only: bool = False, timeout: float = 10.0) -> None:
        self._db = Database(directory, create=create, read_only=read_only, timeout=timeout, fill=_fill)

    def close(self) -> None:
        self._db.close()

    def identity(self) -> str:
        return self._meta("identity")

    def secret(self) -> bytes:
        return bytes.fromhex(self._meta("secret"))

    def check(self) -> None:
        """Reads and checks the whole file; slow.

        Raises:
            LedgerCorrupt: with the first damage found.
        """
        self._db.check()

    def revision(self) -> tuple[int, ...]:
        return self._db.revision()

    # realms

    def realm(self, name: str) -> Realm | None:
        with self._db.read():
            return self._realm(name)

    def realms(self) -> list[Realm]:
        with self._db.read():
            return [rows.realm(row) for row in self._db.rows("SELECT name, categories, gid FROM realms ORDER BY name")]

    def add_realm(self, realm: Realm) -> Realm:
        with self._db.change():
            return self._enter_realm(realm)

    # counters and claims

    def advance(self, counter: str) -> int:
        with self._db.change(at_once=False):
            row = self._db.row("SELECT value FROM counters WHERE name = ?", counter)
            value = int(row[0]) if row else 0
            self._db.run("INSERT OR REPLACE INTO counters VALUES (?, ?)", counter, value + 1)
        return value

    def taken(self, kind: str, keys: Iterable[str] | None = None) -> dict[str, str]:
        with self._db.read():
            if keys is None:
                return dict(map(rows.claimed, self._db.each(_CLAIM, kind)))
            return self._holders_of(kind, keys)

    def population(self, realm: str) -> int:
        with self._db.read():
            row = self._db.row("SELECT count(*) FROM guests WHERE realm = ?", realm)
        return int(row[0]) if row else 0

    def quarantined(self, kind: str) -> dict[str, str]:
        query = (
            "SELECT c.key, c.realm, g.realm, g.name, g.uuid FROM guests AS g CROSS JOIN claims AS c ON c.guest = g.uuid"
            " WHERE g.state IN ('ending', 'stuck') AND c.kind = ?"
        )
        with self._db.read():
            return dict(map(rows.claimed, self._db.each(query, kind)))

    # guests

    def admit(self, guest: Guest, claims: Sequence[tuple[str, str]]) -> Guest:
        named = [("uuid", guest.uuid), ("name", f"{guest.realm}/{guest.name}")]
        wanted = list(dict.fromkeys([*named, *claims]))
        with self._db.change(at_once=False):
            if self._realm(guest.realm) is None:
                raise LedgerError(
                    f"there is no realm {guest.realm}",
                    target=guest.name,
                    remedy="septum run makes it with its first guest",
                )
            self._refuse_claims(wanted)
            incarnation = self._next_incarnation(guest.uuid)
            entered = guest._replace(incarnation=incarnation, state="admitted")
            self._db.run(f"INSERT INTO guests VALUES ({', '.join('?' * 15)})", *rows.columns(entered))
            for kind, key in wanted:
                self._db.run("INSERT INTO claims VALUES (?, ?, ?, NULL)", kind, key, guest.uuid)
            self._audit_guest("guest.admit", entered, claims=wanted)
        return entered

    def guests(self, states: Sequence[State] | None = None, realm: str | None = None) -> list[Guest]:
        where, values = [], [*(states or ()), *([realm] if realm is not None else [])]
        if states is not None:
            where.append(f"state IN ({', '.join('?' * len(states))})")
        if realm is not None:
            where.append("realm = ?")
        query = f"{_GUEST}{'WHERE ' if where else ''}{' AND '.join(where)} ORDER BY realm, name"
        with self._db.read():
            return [rows.guest(row) for row in self._db.each(query, *values)]

    def lives(self, realm: str) -> list[Life]:
        query = "SELECT uuid, state, incarnation, level, pid FROM guests WHERE realm = ? ORDER BY name"
        with self._db.read():
            return [Life(*row) for row in self._db.rows(query, realm)]

    def guest(self, reference: str) -> Guest | None:
        realm, _, name = reference.partition("/")
        with self._db.read():
            row = self._db.row(_GUEST + "WHERE uuid = ?", reference) or (
                self._db.row(_GUEST + "WHERE name = ? AND realm = ?", name, realm) if name else None
            )
            if row is not None:
                return rows.guest(row)
            named = [rows.guest(row) for row in self._db.rows(_GUEST + "WHERE name = ? ORDER BY realm", reference)]
        if len(named) > 1:
            raise Denied(
                f"{len(named)} guests have the name {reference}",
                target=reference,
                rule="a guest's name is unique in its realm only",
                remedy="say which: " + ", ".join(f"{guest.realm}/{guest.name}" for guest in named),
            )
        return named[0] if named else None

    def bearer(self, kind: str, key: str) -> Bearer | None:
        with self._db.read():
            row = self._db.row(_BEARER, kind, key)
        return None if row is None else Bearer(*row)

    def begin(self, uuid: str, holds: Sequence[Hold], entries: Sequence[Entry]) -> list[Entry]:
        merged = rules.merge_holds(holds)
        rules.check_entries(uuid, merged, entries)
        with self._db.change():
            guest = self._require(uuid, ("admitted",), "start")
            for hold in merged:
                holding.take(self._db, guest, hold)
            written = holding.write_entries(self._db, uuid, entries)
            self._db.run("UPDATE guests SET state = 'starting' WHERE uuid = ?", uuid)
            objects = [[hold.path, hold.access, "exclusive" if hold.exclusive else "shared"] for hold in merged]
            self._audit_guest("guest.begin", guest, objects=objects)
        return written

    def run(self, uuid: str, pid: int, started: int, details: Mapping[str, Any]) -> None:
        with self._db.change(at_once=False):
            guest = self._require(uuid, ("starting",), "enter as running")
            self._db.run(
                "UPDATE guests SET state = 'running', pid = ?, started = ?, details = ? WHERE uuid = ?",
                pid,
                started,
                canonical({**guest.details, **details}),
                uuid,
            )
            self._audit_guest("guest.run", guest, pid=pid, started=started)

    def end(self, uuid: str, state: State = "ending") -> None:
        if state not in rules.QUARANTINED:
            raise LedgerError(f"a guest can't end as {state}", target=uuid, rule="it ends as ending or stuck")
        with self._db.change():
            guest = self._require(uuid, None, "end")
            if guest.state != state:
                self._db.run("UPDATE guests SET state = ? WHERE uuid = ?", state, uuid)
                self._audit_guest("guest.end", guest, before=guest.state, state=state)

    def holds(self, uuid: str) -> list[Hold]:
        with self._db.read():
            return holding.of_guest(self._db, uuid)

    def holders(self, key: str) -> list[str]:
        with self._db.read():
            return [row[0] for row in self._db.rows("SELECT guest FROM holds WHERE key = ? ORDER BY guest", key)]

    def journal(self, owner: str) -> list[Entry]:
        with self._db.read():
            return holding.journal(self._db, owner)

    def orphan(self, uuid: str) -> list[str]:
        with self._db.change():
            self._require(uuid, rules.QUARANTINED, "take shared objects from")
            return holding.drop_shared(self._db, uuid)

    def orphans(self) -> list[str]:
        with self._db.read():
            return holding.orphans(self._db)

    def settle(self, entry: int, outcome: str) -> None:
        if outcome not in (*rules.GONE, "foreign"):
            raise LedgerError(f"{outcome!r} is no outcome of an undo", target=f"journal entry {entry}")
        with self._db.change():
            closed = holding.settle(self._db, entry, outcome)
            if closed is not None and outcome == "foreign":
                fields = {"entry": entry, "owner": closed.owner, "op": closed.op, "path": closed.path}
                audit.append(self._db, "object.foreign", fields)

    def release(self, uuid: str) -> None:
        with self._db.change():
            guest = self._require(uuid, rules.QUARANTINED, "release")
            holding.refuse_unrestored(self._db, guest)
            self._remove(guest)
            self._audit_guest("guest.release", guest)

    def forget(self, uuid: str) -> None:
        with self._db.change():
            guest = self._require(uuid, ("stuck",), "forget")
            left = [[entry.op, entry.path] for entry in holding.journal(self._db, uuid)]
            self._remove(guest)
            self._audit_guest("guest.forget", guest, unrestored=left)

    # channels

    def open_channels(self, channels: Sequence[Channel], most: Mapping[str, int]) -> list[Channel]:
        with self._db.change(at_once=False):
            return live.open_all(self._db, channels, most)

    def channels(self, realm: str | None = None) -> list[Channel]:
        with self._db.read():
            return live.read_all(self._db, realm)

    def move_channels(self, ids: Iterable[int], before: str, after: str) -> int:
        with self._db.change(at_once=False):
            return live.move(self._db, ids, before, after)

    def close_channels(self, ids: Iterable[int]) -> int:
        with self._db.change(at_once=False):
            return live.close(self._db, ids)

    # facts, beside what makes the ledger itself

    def remember(self, key: str, value: str) -> None:
        with self._db.change():
            if value:
                self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", _FACT + key, value)
            else:
                self._db.run("DELETE FROM meta WHERE key = ?", _FACT + key)

    def recall(self, key: str) -> str:
        with self._db.read():
            row = self._db.row("SELECT value FROM meta WHERE key = ?", _FACT + key)
        return str(row[0]) if row else ""

    # audit

    def audit(self, event: str, fields: Mapping[str, Any]) -> None:
        with self._db.change():
            audit.append(self._db, event, fields)

    def audit_records(self, after: int = 0) -> list[AuditRecord]:
        with self._db.read():
            return audit.records(self._db, after)

    def audit_head(self) -> tuple[int, str]:
        with self._db.read():
            row = self._db.row("SELECT seq, digest FROM audit_head")
        if row is None:
            raise self._db.corrupt("the audit chain has lost its head")
        return row[0], row[1]

    def audit_verify(self) -> int:
        with self._db.read():
            return audit.verify(self._db)

    # documents

    def commit(self, commit: Commit) -> list[Document]:
        with self._db.change():
            if commit.realm is not None:
                self._enter_realm(commit.realm)
            made = documents.write(self._db, commit)
            if commit.drop:
                documents.drop_realm(self._db, commit.drop)
            for event, fields in commit.audit:
                audit.append(self._db, event, fields)
        return made

    def document(self, kind: str, realm: str, name: str) -> Document | None:
        with self._db.read():
            return documents.read(self._db, kind, realm, name)

    def documents(self, kind: str, realm: str | None = None) -> list[Document]:
        with self._db.read():
            return documents.read_all(self._db, kind, realm)

    def claimants(self, kind: str, key: str | None = None) -> list[Document]:
        with self._db.read():
            return documents.claimants(self._db, kind, key)

    def spent(self, realm: str) -> dict[str, int]:
        with self._db.read():
            return documents.spent(self._db, realm)

    def events(self, realm: str, after: int = 0, most: int = 1000) -> list[Event]:
        with self._db.read():
            return documents.events(self._db, realm, after, most)

    def last_event(self, realm: str) -> int:
        with self._db.read():
            return documents.last_event(self._db, realm)

    # within a transaction

    def _enter_realm(self, realm: Realm) -> Realm:
        rules.check_realm_name(realm.name)
        code = CategorySet(realm.categories)
        claims = [("realm", realm.name), ("realm-code", str(code))]
        if realm.gid >= 0:
            claims.append(("gid", str(realm.gid)))
        self._refuse_claims(claims)
        self._db.run("INSERT INTO realms VALUES (?, ?, ?)", realm.name, canonical(tuple(code)), realm.gid)
        for kind, key in claims:
            self._db.run("INSERT INTO claims VALUES (?, ?, NULL, ?)", kind, key, realm.name)
        audit.append(self._db, "realm.add", {"realm": realm.name, "code": str(code), "gid": realm.gid})
        return realm._replace(categories=tuple(code))

    def _meta(self, key: str) -> str:
        with self._db.read():
            row = self._db.row("SELECT value FROM meta WHERE key = ?", key)
        if row is None:
            raise self._db.corrupt(f"its {key} is missing")
        return str(row[0])

    def _realm(self, name: str) -> Realm | None:
        row = self._db.row("SELECT name, categories, gid FROM realms WHERE name = ?", name)
        return None if row is None else rows.realm(row)

    def _require(self, uuid: str, states: Sequence[State] | None, doing: str) -> Guest:
        row = self._db.row(_GUEST + "WHERE uuid = ?", uuid)
        if row is None:
            raise LedgerError(
                f"can't {doing} a guest that the ledger does not know", target=uuid, remedy="septum ps shows the guests"
            )
        guest = rows.guest(row)
        if states is not None:
            rules.check_state(guest, states, doing)
        return guest

    def _next_incarnation(self, uuid: str) -> int:
        row = self._db.row("SELECT last FROM incarnations WHERE uuid = ?", uuid)
        incarnation = int(row[0]) + 1 if row else 1
        self._db.run("INSERT OR REPLACE INTO incarnations VALUES (?, ?)", uuid, incarnation)
        return incarnation

    def _holders_of(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        found = (self._db.row(_CLAIM + " AND c.key = ?", kind, key) for key in keys)
        return dict(rows.claimed(row) for row in found if row is not None)

    def _refuse_claims(self, claims: Iterable[tuple[str, str]]) -> None:
        for kind, key in claims:
            for holder in self._holders_of(kind, (key,)).values():
                raise rules.refuse_claim(kind, key, holder)

    def _remove(self, guest: Guest) -> None:
        for table in ("claims", "holds"):
            self._db.run(f"DELETE FROM {table} WHERE guest = ?", guest.uuid)
        self._db.run("DELETE FROM journal WHERE owner = ? AND shared = 0", guest.uuid)
        self._db.run("DELETE FROM guests WHERE uuid = ?", guest.uuid)

    def _audit_guest(self, event: str, guest: Guest, **more: object) -> None:
        named = {"uuid": guest.uuid, "incarnation": guest.incarnation, "realm": guest.realm, "name": guest.name}
        audit.append(self._db, event, {**named, "level": guest.level, **more})


def _fill(database: Database) -> None:
    for key, size in (("identity", 16), ("secret", 32)):
        database.run("INSERT INTO meta VALUES (?, ?)", key, os.urandom(size).hex())
    database.run("INSERT INTO audit_head VALUES (1, 0, ?)", audit.GENESIS)
