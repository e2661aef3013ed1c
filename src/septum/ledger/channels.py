"""Channels in an SQLite ledger: functions within the transaction that is open."""

from __future__ import annotations

from septum.errors import LedgerError, OverQuota
from septum.lean import TYPE_CHECKING
from septum.ledger.database import Database
from septum.ledger.records import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["close", "move", "open_all", "read_all"]

_COUNTER = "channels"
_COLUMNS = ", ".join(Channel._fields)
_LIVES = "SELECT 1 FROM guests WHERE uuid = ? AND incarnation = ? AND state NOT IN ('ending', 'stuck')"
_PLACES = ", ".join("?" * len(Channel._fields))


def open_all(database: Database, channels: Sequence[Channel], most: Mapping[str, int]) -> list[Channel]:
    """See `Ledger.open_channels`."""
    for channel in channels:
        for uuid, incarnation in (channel[4:6], channel[7:9]):
            if uuid and database.row(_LIVES, uuid, incarnation) is None:
                raise LedgerError(
                    "a channel has an end that the ledger does not know as a live guest",
                    target=f"{uuid}, incarnation {incarnation}",
                    rule="both ends of a channel are guests that are there",
                )
    row = database.row("SELECT value FROM counters WHERE name = ?", _COUNTER)
    number = int(row[0]) if row else 0
    made = [channel._replace(id=number + at) for at, channel in enumerate(channels, 1)]
    database.run("INSERT OR REPLACE INTO counters VALUES (?, ?)", _COUNTER, number + len(made))
    for channel in made:
        database.run(f"INSERT INTO channels VALUES ({_PLACES})", *channel)
    for realm, bound in most.items():
        count = _count(database, realm)
        if count > bound:
            raise OverQuota(
                f"realm {realm} has no more channels left",
                target=f"realm {realm}",
                rule=f"{count} would be more than the quota of {bound}",
                remedy="close some first, or have the platform raise the quota",
            )
    return made


def move(database: Database, ids: Iterable[int], before: str, after: str) -> int:
    """See `Ledger.move_channels`."""
    return sum(
        database.run("UPDATE channels SET state = ? WHERE id = ? AND state = ?", after, one, before) for one in ids
    )


def close(database: Database, ids: Iterable[int]) -> int:
    """See `Ledger.close_channels`."""
    return sum(database.run("DELETE FROM channels WHERE id = ?", one) for one in ids)


def read_all(database: Database, realm: str | None) -> list[Channel]:
    """See `Ledger.channels`."""
    where, values = "", tuple[str, ...]()
    if realm is not None:
        where, values = "WHERE source_realm = ? OR target_realm = ? ", (realm, realm)
    return [_channel(row) for row in database.rows(f"SELECT {_COLUMNS} FROM channels {where}ORDER BY id", *values)]


def _count(database: Database, realm: str) -> int:
    row = database.row("SELECT count(*) FROM channels WHERE source_realm = ? OR target_realm = ?", realm, realm)
    return int(row[0]) if row else 0


def _channel(row: tuple[Any, ...]) -> Channel:
    return Channel(*row)
