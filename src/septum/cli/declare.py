"""``septum declare``: check and show a platform's declaration."""

import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.cli.common import add_json, print_json, print_table, printable
from septum.declare import as_json, as_sections, cil, read
from septum.errors import DeclarationError

HELP: Final = "check and show the platform's declaration: realms, their guests, the doors between them"
_FILE: Final = "/etc/septum/platform.toml"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    check = verbs.add_parser("check", help="say all that is wrong with it, as FILE:LINE:COLUMN: …")
    show = verbs.add_parser("show", help="print what it comes to: realms, roles, services, devices, doors")
    for one in (check, show):
        one.add_argument(
            "file", nargs="?", metavar="FILE", default=_FILE, help=f"the platform's file (default: {_FILE})"
        )
        add_json(one)
    show.add_argument("--cil", action="store_true", help="print its policy, to be compiled together with septum's")


def run(options: Namespace) -> int:
    return {"check": _check, "show": _show}[options.what](options)


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
