"""What the verbs of the API share: finding it, and the realm that is meant."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Any

from septum.cli.common import folder, print_json, print_table
from septum.client import Client, Operation
from septum.errors import UsageError

__all__ = ["add_api", "api", "realm_of", "show", "table", "wait"]


def add_api(parser: ArgumentParser, *, realm: bool = True) -> None:
    """The options that all have."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--api", metavar="PATH", default="", help="socket of the API (default: SEPTUM_API, …)")
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger, where the socket is")
    if realm:
        parser.add_argument("--realm", metavar="R", default="", help="the owner (default: SEPTUM_REALM, or one's own)")


def api(options: Namespace) -> Client:
    """A client of the API."""
    address = options.api or os.environ.get("SEPTUM_API", "")
    if not address and not options.state:
        from septum.client.transport import PORT

        address = PORT if os.path.exists(PORT) else ""
    return Client(address or os.path.join(folder(options), "platform.sock"))


def realm_of(options: Namespace, client: Client) -> str:
    """The realm that is meant.

    Raises:
        UsageError: the caller is the platform, and has not said.
    """
    realm = options.realm or os.environ.get("SEPTUM_REALM", "") or client.me().realm
    if not realm:
        raise UsageError("which realm?", remedy="--realm R, or SEPTUM_REALM")
    return str(realm)


def wait(options: Namespace, client: Client, operation: Operation) -> int:
    """Waits for an operation, unless it is only to be accepted."""
    done = operation if getattr(options, "no_wait", False) else client.wait(operation)
    if options.json:
        print_json(done._asdict())
    else:
        print(f"{done.verb} {done.target}: {done.state}")
    return 0


def show(options: Namespace, one: Any) -> int:
    """One object: JSON, or a line for each of its parts."""
    if options.json:
        print_json(one._asdict())
        return 0
    print_table(["WHAT", "IS"], [[name, _flat(part)] for name, part in one._asdict().items() if part not in ("", [])])
    return 0


def table(options: Namespace, head: list[str], found: list[Any]) -> int:
    """Many objects."""
    if options.json:
        print_json([one._asdict() for one in found])
    else:
        print_table([name.upper() for name in head], [[getattr(one, name) for name in head] for one in found])
    return 0


def _flat(part: Any) -> str:
    if isinstance(part, dict):
        return " ".join(f"{name}={value}" for name, value in part.items() if value not in ("", [], False))
    return " ".join(map(str, part)) if isinstance(part, list) else str(part)
