"""``septum declare``: check, show and apply a platform's declaration."""

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.cli.common import add_json, add_state, folder, print_json, print_table, printable
from septum.declare import as_json, as_sections, cil, read, take
from septum.errors import DeclarationError, UsageError

HELP: Final = "check, show or apply the platform's declaration: realms, their guests, the doors between them"
_FILE: Final = "/etc/septum/platform.toml"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    check = verbs.add_parser("check", help="say all that is wrong with it, as FILE:LINE:COLUMN: …")
    show = verbs.add_parser("show", help="print what it comes to: realms, roles, services, devices, doors")
    put = verbs.add_parser("apply", help="show what changes, and put it in force: realms, policy, doors")
    for one in (check, show, put):
        one.add_argument(
            "file", nargs="?", metavar="FILE", default=_FILE, help=f"the platform's file (default: {_FILE})"
        )
        add_json(one)
    put.add_argument("--dry-run", action="store_true", help="only show what would change")
    put.add_argument("--yes", action="store_true", help="do not ask")
    add_state(put)
    show.add_argument("--cil", action="store_true", help="print its policy, to be compiled together with septum's")


def run(options: Namespace) -> int:
    return {"check": _check, "show": _show, "apply": _apply}[options.what](options)


def _check(options: Namespace) -> int:
    try:
        declaration = read(options.file)
    except DeclarationError as error:
        if options.json:
            print_json({"file": options.file, "faults": [fault._asdict() for fault in error.faults]})
        else:
            for fault in error.faults:
                print(printable(str(fault)), file=sys.stderr)
        return error.exit_status
    if options.json:
        print_json({"file": options.file, "faults": []})
        return 0
    doors = declaration.doors
    shut = sum(door.state != "open" for door in doors)
    print(
        f"{printable(options.file)}: {len(declaration.realms)} realms, {len(declaration.roles)} roles, "
        f"{len(doors)} doors, {shut} of them closed"
    )
    return 0


def _show(options: Namespace) -> int:
    declaration = read(options.file)
    if options.cil:
        print(cil(declaration), end="")
        return 0
    if options.json:
        print_json(as_json(declaration))
        return 0
    shown = [section for section in as_sections(declaration) if section.rows]
    for number, section in enumerate(shown):
        if number:
            print()
        print_table(section.head, section.rows)
    return 0


def _apply(options: Namespace) -> int:
    from septum.enact import Enacted, Enactor, Kernel
    from septum.host import selinux_kernel
    from septum.labels import CategorySet
    from septum.launch import drivers, state
    from septum.ledger.sqlite import SqliteLedger

    def foreign() -> list[CategorySet]:
        return [one for driver in drivers.choose("auto", unconfined=True) for one in driver.foreign()]

    new = take(options.file)
    path = folder(options)
    state.make(path)
    ledger = SqliteLedger(path)
    try:
        place = Kernel() if selinux_kernel.mounted() and selinux_kernel.enforcing() else None
        enactor = Enactor(ledger, path, place, foreign=foreign, groups=os.geteuid() == 0)
        changes = enactor.changes(new)
        if not options.json:
            for change in changes:
                print(printable(change.text))
            if not changes:
                print("nothing changes")
        if options.dry_run or not _wanted(options, bool(changes)):
            if options.json:
                print_json({"changes": [change._asdict() for change in changes], "applied": False})
            return 0
        done: Enacted = enactor.apply(new)
    finally:
        ledger.close()
    if options.json:
        facts = {name: value for name, value in done._asdict().items() if name != "changes"}
        print_json({"changes": [change._asdict() for change in changes], "applied": True, **facts})
        return 0
    print("in force" if done.asked else "in force, as soon as septumd runs")
    for name in done.retired:
        print(f"realm {name} is not declared any more: septum realm destroy {name}, once its guests are gone")
    return 0


def _wanted(options: Namespace, any_change: bool) -> bool:
    """Asks whoever sits at the terminal.

    Raises:
        UsageError: nobody does.
    """
    if options.yes or not any_change:
        return True
    if options.json or not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked whether to apply this", remedy="--yes, or --dry-run")
    return input("Apply this? [y/N] ").strip().lower() in ("y", "yes")
