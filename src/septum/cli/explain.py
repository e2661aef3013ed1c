"""``septum explain``: may this guest reach that path, and which rule says so."""

import os
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli.common import add_json, add_state, find_guest, print_json, print_table, printable
from septum.errors import NotFound
from septum.host import dac
from septum.host.driver import Confinement, Facts, Verdict
from septum.host.objects import Found, look
from septum.launch import drivers
from septum.launch.stored import unpack

HELP: Final = "say whether a guest can reach a path, and by which rule"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("guest", help="name, realm/name or uuid")
    parser.add_argument("path")
    add_json(parser)
    add_state(parser)


def run(options: Namespace) -> int:
    ledger, guest = find_guest(options, options.guest)
    path = os.path.abspath(options.path)
    found = look(path)
    if found.facts is None:
        raise NotFound(f"there is nothing at {path}", target=path)
    if "confinement" not in guest.details:
        raise NotFound("this guest is not confined yet", target=options.guest, remedy="ask again once it runs")
    confinement = unpack(guest.details["confinement"])
    answer: dict[str, Any] = {"guest": f"{guest.realm}/{guest.name}", "path": found.facts.path}
    for access in ("ro", "rw"):
        verdicts = [_dac(confinement, found, access)]
        verdicts += [d.explain(confinement, found.facts, access) for d in drivers.make(guest.drivers)]
        answer[access] = {"allowed": _all(verdicts), "by": [verdict._asdict() for verdict in verdicts]}
    holders = [ledger.guest(uuid) for uuid in ledger.holders(found.facts.key)]
    answer["holders"] = [f"{holder.realm}/{holder.name}" for holder in holders if holder]
    if options.json:
        print_json(answer)
        return 0
    for access, verb in (("ro", "read"), ("rw", "write")):
        word = {True: "may", False: "may NOT", None: "may perhaps (unknown)"}[answer[access]["allowed"]]
        print(f"{printable(answer['guest'])} {word} {verb} {printable(found.facts.path)}")
        print_table(
            ["", "MECHANISM", "SAYS", "RULE"],
            [
                ["", v["mechanism"], {True: "allowed", False: "denied", None: "unknown"}[v["allowed"]], v["rule"]]
                for v in answer[access]["by"]
            ],
        )
    print(f"held by: {', '.join(answer['holders']) or 'no guest'}")
    return 0


def _all(verdicts: list[Verdict]) -> bool | None:
    """Every mechanism must agree; one that can't tell makes the answer unknown, unless another one denies."""
    said = [verdict.allowed for verdict in verdicts]
    if False in said:
        return False
    return None if None in said else True


def _dac(guest: Confinement, found: Found, access: str) -> Verdict:
    if found.facts is None:
        raise ValueError("nothing to decide about")
    if guest.uid < 0:
        return Verdict(
            "dac", os.access(found.facts.path, os.R_OK if access == "ro" else os.W_OK), "the caller's own uid"
        )
    gids = {guest.gid, guest.realm_gid, *guest.groups}
    for directory in found.way:
        allowed, rule = _decide(guest.uid, gids, dac.EXECUTE, directory)
        if not allowed:
            return Verdict("dac", False, f"may not search {directory.path}: {rule}")
    allowed, rule = _decide(guest.uid, gids, dac.READ if access == "ro" else dac.WRITE, found.facts)
    return Verdict("dac", allowed, rule)


def _decide(uid: int, gids: set[int], want: int, facts: Facts) -> tuple[bool, str]:
    acl = dac.parse(bytes.fromhex(facts.acl))
    return dac.decide(uid, gids, want, owner=facts.uid, group=facts.gid, mode=facts.mode, acl=acl)
