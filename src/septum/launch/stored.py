"""A confinement as JSON in a guest's ledger row, and back: what `show`, `explain` and `attack` work on."""

from __future__ import annotations

from septum.guests.resource import Resource
from septum.host.driver import Confinement, Facts, Item
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def pack(guest: Confinement) -> dict[str, Any]:
    """As JSON; only what `unpack` needs."""
    row = guest._asdict()
    row["items"] = [_pack_item(item) for item in guest.items]
    return row


def unpack(row: Mapping[str, Any]) -> Confinement:
    """The confinement that `pack` was given."""
    items = tuple(_unpack_item(item) for item in row["items"])
    return Confinement(**{**row, "items": items, "groups": tuple(row["groups"])})


def _pack_item(item: Item) -> dict[str, Any]:
    return {
        "resource": item.resource._asdict(),
        "facts": item.facts._asdict() if item.facts else None,
        "parent": item.parent._asdict() if item.parent else None,
        "search": [facts._asdict() for facts in item.search],
        "platform": item.platform,
    }


def _unpack_item(row: Mapping[str, Any]) -> Item:
    return Item(
        resource=Resource(**{**row["resource"], "overrides": tuple(row["resource"].get("overrides", ()))}),
        facts=Facts(**row["facts"]) if row["facts"] else None,
        parent=Facts(**row["parent"]) if row["parent"] else None,
        search=tuple(Facts(**facts) for facts in row["search"]),
        platform=row["platform"],
    )
