"""Rows of an SQLite ledger as values, and the other way round."""

from __future__ import annotations

from septum.lean import TYPE_CHECKING
from septum.ledger import rules
from septum.ledger.codec import canonical, parse
from septum.ledger.records import Guest, Realm

if TYPE_CHECKING:
    from typing import Any

__all__ = ["claimed", "columns", "guest", "realm"]


def columns(entered: Guest) -> tuple[object, ...]:
    packed = {"categories", "drivers", "argv", "details"}
    return tuple(
        canonical(value) if name in packed else value for name, value in zip(entered._fields, entered, strict=True)
    )


def guest(row: tuple[Any, ...]) -> Guest:
    found = Guest(*row)
    return found._replace(
        categories=tuple(parse(row[5])),
        drivers=tuple(parse(row[8])),
        argv=tuple(parse(row[13])),
        details=parse(row[14]),
    )


def realm(row: tuple[Any, ...]) -> Realm:
    return Realm(row[0], tuple(parse(row[1])), row[2])


def claimed(row: tuple[Any, ...]) -> tuple[str, str]:
    key, owner, *holder = row
    return key, owner if owner is not None else rules.guest_name(*holder)
