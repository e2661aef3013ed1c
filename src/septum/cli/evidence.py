"""``septum evidence``: what separates a realm from others, said by the platform, checked without it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli.api import add_api, api, realm_of
from septum.cli.common import print_json, print_table
from septum.errors import Denied, NotFound

HELP: Final = "a signed statement of what separates a realm from others: get one, check one"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    get = verbs.add_parser("get", help="have the platform make one; prints JSON, to keep")
    get.add_argument("--nonce", default="", metavar="TEXT", help="of yours, so that it is known to be fresh")
    add_api(get)
    check = verbs.add_parser("verify", help="check one, offline")
    check.add_argument("file", metavar="FILE", help="- for standard input")
    check.add_argument("--key", required=True, metavar="KEY", help="the platform's, from when the realm was made")
    check.add_argument("--nonce", default="", metavar="TEXT", help="that it must have")
    check.add_argument("--realm", default="", metavar="R", help="that it must be about")
    check.add_argument("--since", default="", metavar="FILE", help="an earlier one, which this one must not contradict")
    check.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    if options.what == "get":
        with api(options) as client:
            print_json(client.evidence(realm_of(options, client), options.nonce)._asdict())
        return 0
    found = _checked(options.file, options.key)
    for name, wanted in (("nonce", options.nonce), ("realm", options.realm)):
        if wanted and found[name] != wanted:
            raise Denied(f"this statement has another {name}", target=str(found[name]), rule=f"{name} {wanted}")
    if options.since:
        _compare(_checked(options.since, options.key), found)
    if options.json:
        print_json(found)
    else:
        rows = [[name, json.dumps(part, sort_keys=True)] for name, part in sorted(found.items()) if name != "guests"]
        print_table(["STATED", "IS"], rows)
        print()
        print_table(
            ["GUEST", "LEVEL", "UID", "DRIVERS"],
            [[one["name"], one["level"], one["uid"], "+".join(one["drivers"])] for one in found["guests"]],
        )
    return 0


def _checked(path: str, key: str) -> dict[str, Any]:
    # `cryptography` takes longer to load than all the rest: only who checks pays for it.
    from septum.realms import evidence
    from septum.realms.model import Evidence

    try:
        with open(0 if path == "-" else path, encoding="utf-8") as file:
            given = json.load(file)
        statement = Evidence(**{name: str(given[name]) for name in ("statement", "key", "signature")})
    except OSError as error:
        raise NotFound(f"it can't be read: {error.strerror}", target=path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Denied("this is no evidence", target=path, rule="as septum evidence get prints it") from error
    return evidence.verify(statement, key)


def _compare(before: dict[str, Any], now: dict[str, Any]) -> None:
    """An audit chain only grows, and a platform stays who it is."""
    for name in ("platform", "realm", "categories"):
        if before[name] != now[name]:
            raise Denied(f"the platform states another {name} than before", target=str(now[name]))
    old, new = before["audit"], now["audit"]
    if new["records"] < old["records"] or (new["records"] == old["records"] and new["digest"] != old["digest"]):
        raise Denied(
            "the audit chain has lost records that the platform stated before",
            rule=f"{old['records']} records then, {new['records']} now",
        )
    if now["time"] < before["time"]:
        print("septum: note: the second statement is older than the first", file=sys.stderr)
