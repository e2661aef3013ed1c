"""``septum show``: one guest, all that is known of it."""

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli import ps
from septum.cli.common import add_json, add_state, find_guest, print_json, print_table, printable

HELP: Final = "show one guest: its label, what it holds, what will be put back"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("guest", help="name, realm/name or uuid")
    add_json(parser)
    add_state(parser)


def run(options: Namespace) -> int:
    ledger, guest = find_guest(options, options.guest)
    holds = ledger.holds(guest.uuid)
    journal = ledger.journal(guest.uuid)
    for hold in holds:
        if not hold.exclusive:
            journal += ledger.journal(hold.key)
    report: dict[str, Any] = {
        **ps.row(guest),
        "incarnation": guest.incarnation,
        "argv": list(guest.argv),
        "holds": [hold._asdict() for hold in holds],
        "journal": [{"op": e.op, "path": e.path, "set": e.args, "original": e.original} for e in journal],
        "network": guest.details.get("network", []),
        "cgroup": guest.details.get("cgroup", ""),
        "warnings": guest.details.get("warnings", []),
    }
    if options.json:
        print_json(report)
        return 0
    for key in ("realm", "name", "uuid", "incarnation", "state", "pid", "label", "uid", "started", "cgroup"):
        print(f"{key:12} {printable(str(report[key]))}")
    print(f"{'drivers':12} {', '.join(guest.drivers) or 'none'}")
    print(f"{'command':12} {printable(' '.join(guest.argv))}\n")
    print_table(
        ["HOLDS", "ACCESS", "SHARING"],
        [[hold.path, hold.access, "exclusive" if hold.exclusive else "shared"] for hold in holds],
    )
    print()
    print_table(
        ["CHANGED", "BY", "BEFORE"],
        [[e.path, e.op, " ".join(f"{key}={value}" for key, value in e.original.items())] for e in journal],
    )
    for option in report["network"]:
        print(f"keeps the host's network, as {printable(option)} needs it")
    for warning in report["warnings"]:
        print(f"warning: {printable(warning)}")
    return 0
