"""``septum ps``: who runs, under which label."""

import time
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli.common import add_json, add_state, open_ledger, print_json, print_table
from septum.launch.undo import survivors
from septum.ledger.records import Guest

HELP: Final = "list the guests with their labels"


def arguments(parser: ArgumentParser) -> None:
    add_json(parser)
    add_state(parser)
    parser.add_argument("--all", action="store_true", help="also guests that are gone and not put back yet")


def run(options: Namespace) -> int:
    ledger = open_ledger(options)
    found = [row(guest) for guest in ledger.guests()] if ledger else []
    rows = [entry for entry in found if options.all or entry["state"] in ("starting", "running")]
    if options.json:
        print_json(rows)
        return 0
    print_table(
        ["REALM", "NAME", "STATE", "PID", "LABEL", "UID", "DRIVERS", "STARTED"],
        [
            [r["realm"], r["name"], r["state"], r["pid"] or "-", r["label"], "-" if r["uid"] < 0 else r["uid"],
             "+".join(r["drivers"]) or "none", r["started"]]
            for r in rows
        ],
    )  # fmt: skip
    left = len(found) - len(rows)
    if left:
        print(f"\n{left} more are gone and not put back yet: `septum ps --all` lists, `septum reconcile` clears them")
    return 0


def row(guest: Guest) -> dict[str, Any]:
    """A guest as `ps --json` shows it."""
    state = guest.state
    if state in ("admitted", "starting", "running") and not survivors(guest):
        state = "ending"
    return {
        "name": guest.name,
        "realm": guest.realm,
        "uuid": guest.uuid,
        "pid": guest.pid,
        "label": guest.level,
        "uid": guest.uid,
        "drivers": list(guest.drivers),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(guest.since)),
        "state": state,
    }
