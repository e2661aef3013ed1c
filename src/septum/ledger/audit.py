"""The audit chain: each record's digest covers the record before it.

A digest is BLAKE2b-256 over the canonical JSON array ``[seq,time,event,fields,previous]``, so that it can be checked
without septum. Changing, removing, inserting or reordering a record breaks the chain at that place; cutting off its end
is seen by the head, which is kept apart and moves in the same transaction. Whoever may write the file can of course
compute a whole new chain: against that, keep a copy of the head (`septum` prints it) where the host can't write.
"""

from __future__ import annotations

import time
from _blake2 import blake2b

from septum.errors import LedgerCorrupt
from septum.lean import TYPE_CHECKING
from septum.ledger.codec import canonical, parse
from septum.ledger.database import Database
from septum.ledger.records import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["GENESIS", "append", "records", "verify"]

GENESIS = "0" * 64
"""`previous` of the first record."""


def append(database: Database, event: str, fields: Mapping[str, Any]) -> None:
    """Adds a record within the change that is open, so that it is there exactly if the change is.

    Raises:
        LedgerCorrupt: the head is missing.
        LedgerError: `fields` has no JSON form.
    """
    head = database.row("SELECT seq, digest FROM audit_head")
    if head is None:
        raise LedgerCorrupt("the audit chain has lost its head", target=database.path)
    seq, previous, now, written = head[0] + 1, head[1], time.time(), canonical(fields)
    digest = _digest(seq, now, event, written, previous)
    database.run("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", seq, now, event, written, previous, digest)
    database.run("UPDATE audit_head SET seq = ?, digest = ?", seq, digest)


def records(database: Database, after: int) -> list[AuditRecord]:
    """Records with a higher seq than `after`, oldest first; not verified."""
    rows = database.rows(
        "SELECT seq, time, event, fields, previous, digest FROM audit WHERE seq > ? ORDER BY seq", after
    )
    return [AuditRecord(seq, when, event, parse(fields), *link) for seq, when, event, fields, *link in rows]


def verify(database: Database) -> int:
    """The number of records, all of them intact, read in one transaction that the caller has open.

    Raises:
        LedgerCorrupt: names the first record that does not fit.
    """
    count, last = 0, GENESIS
    for seq, when, event, fields, previous, digest in database.each(
        "SELECT seq, time, event, fields, previous, digest FROM audit ORDER BY seq"
    ):
        count += 1
        if seq != count:
            raise _broken(database, count, "is missing")
        if previous != last:
            raise _broken(database, count, "does not follow the record before it")
        if digest != _digest(seq, when, event, fields, previous):
            raise _broken(database, count, "was changed after it was written")
        last = digest
    head = database.row("SELECT seq, digest FROM audit_head")
    if head is None or head[0] < count:
        raise _broken(database, count, "is beyond the chain's head")
    if head[0] > count:
        raise _broken(database, count + 1, f"is missing: the chain ends early, its head is record {head[0]}")
    if head[1] != last:
        raise _broken(database, count, "is not the one that the chain's head names")
    return count


def _digest(seq: int, when: float, event: str, fields: str, previous: str) -> str:
    # `fields` goes in as it is stored, so that even a change of its spelling shows.
    message = f'[{seq},{canonical(when)},{canonical(event)},{fields},"{previous}"]'
    return blake2b(message.encode("utf-8", "surrogateescape"), digest_size=32).hexdigest()


def _broken(database: Database, seq: int, how: str) -> LedgerCorrupt:
    return LedgerCorrupt(
        f"audit record {seq} {how}",
        target=database.path,
        rule="each audit record's digest covers the record before it",
        remedy="keep a copy of the ledger's folder as evidence before anything else writes to it",
    )
