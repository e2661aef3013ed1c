"""``septum door``: the declared doors of a realm, through the API."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from septum.cli.api import add_api, api, realm_of, table

HELP: Final = "declared ways between realms: which there are, and which are open"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    add_api(verbs.add_parser("list", help="list those of a realm; septum declare opens and closes them"))


def run(options: Namespace) -> int:
    with api(options) as client:
        doors = client.doors(realm_of(options, client))
        return table(options, ["role", "service", "direction", "state", "reason"], doors)
