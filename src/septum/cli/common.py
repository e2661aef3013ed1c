"""What verbs share: options, finding a ledger, tables."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace

from septum.cli.main import printable as printable
from septum.errors import NotFound
from septum.launch import state
from septum.lean import TYPE_CHECKING
from septum.ledger.protocol import Ledger
from septum.ledger.records import Guest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def add_state(parser: ArgumentParser) -> None:
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger (default: SEPTUM_STATE, …)")


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def folder(options: Namespace) -> str:
    """The ledger's folder."""
    return state.folder(options.state, os.environ)


def open_ledger(options: Namespace, *, read_only: bool = True) -> Ledger | None:
    """The ledger, or None if there is none yet."""
    from septum.ledger.sqlite import SqliteLedger

    path = folder(options)
    if not os.path.exists(os.path.join(path, "ledger.db")):
        return None
    return SqliteLedger(path, create=False, read_only=read_only)


def find_guest(options: Namespace, reference: str) -> tuple[Ledger, Guest]:
    """A guest by name, ``realm/name`` or uuid.

    Raises:
        NotFound: there is no such guest.
    """
    ledger = open_ledger(options)
    guest = ledger.guest(reference) if ledger else None
    if ledger is None or guest is None:
        raise NotFound(
            f"there is no guest {reference}", target=reference, holder=folder(options), remedy="`septum ps` lists them"
        )
    return ledger, guest


def print_json(value: Any) -> None:
    """ASCII only: a path that is not UTF-8 has no other form that every terminal and parser takes."""
    print(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their content; control characters of names and paths are shown, not sent to the terminal."""
    cells = [list(head)] + [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
