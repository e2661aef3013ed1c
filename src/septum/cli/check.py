"""``septum check``: does a platform hold to its goals, now or for all labels; does a policy add access."""

import json
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.analysis import Flows, Result, check, parse, read
from septum.analysis.declared import deviations
from septum.analysis.hazards import Hazard, hazards
from septum.analysis.proof import Proof, prove
from septum.analysis.sarif import sarif
from septum.cli.analysing import add_strength, opened, print_way, strengths, way_as_data
from septum.cli.common import add_json, print_json, print_table, printable
from septum.cli.diff import compared, is_policy, show_added
from septum.declare import read as read_declaration
from septum.errors import NotFound, UsageError
from septum.labels import RealmScheme
from septum.sepol import Memo, Policy

HELP: Final = "check a snapshot against goals, for the labels that are there or for all; or a policy's change"
_DEFAULT: Final = "never realm:* -> realm:*\n"
_STATUS: Final = {"holds": 0, "unknown": 3, "violated": 1}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs="?", help="file with the platform, see septum snapshot")
    parser.add_argument("goals", metavar="GOALS", nargs="?", help=f"file with goals (default: {_DEFAULT.strip()})")
    parser.add_argument("--proof", action="store_true", help="for every assignment of categories; prints the cases")
    parser.add_argument("--hazards", action="store_true", help="look for labels that invite trouble instead")
    parser.add_argument(
        "--declared",
        metavar="FILE",
        default="",
        help="compare with a declaration: SNAPSHOT, or a compiled policy in its place, allows just what it says",
    )
    parser.add_argument(
        "--no-new-access", nargs=2, metavar=("OLD", "NEW"), help="two policies: does NEW give old types more access"
    )
    parser.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning")
    add_strength(parser)
    add_json(parser)
    parser.epilog = "Exit status: 0 all hold, 1 one is violated, 3 none is violated and one can't be told."


def run(options: Namespace) -> int:
    if options.no_new_access:
        if options.snapshot:
            raise UsageError("--no-new-access compares two policies, and takes no snapshot")
        return show_added(compared(*options.no_new_access), as_json=options.json)
    if not options.snapshot:
        raise UsageError("a snapshot is needed", remedy="septum snapshot takes one of this host")
    if options.declared:
        return _show_deviations(options)
    path = options.goals or "goals"
    goals = parse(_text(options.goals) if options.goals else _DEFAULT, path)
    snapshot = read(options.snapshot)
    with opened(snapshot) as memos:
        if options.hazards:
            return _show_hazards(hazards(snapshot, memos), options)
        if options.proof:
            return _show_proof(prove(snapshot, memos, goals, RealmScheme(), strengths(options)), options)
        results = check(Flows(snapshot, memos, strengths(options)), goals, path)
    if options.sarif:
        print(json.dumps(sarif(results, path), indent=2))
    elif options.json:
        print_json([_as_data(result) for result in results])
    else:
        for result in results:
            _show(result)
    return _status(results)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"the goals can't be read: {error}", target=path) from error


def _status(results: list[Result]) -> int:
    verdicts = {result.verdict for result in results}
    worst = "violated" if "violated" in verdicts else "unknown" if "unknown" in verdicts else "holds"
    return _STATUS[worst]


def _show(result: Result) -> None:
    print(f"{result.verdict}: {result.goal}")
    print_way(result.witness)
    for trust in result.trusts:
        print(f'  relies on {trust.who}, because "{printable(trust.why)}"')
    if result.unknown:
        print("  permissions of unknown direction: " + ", ".join(result.unknown))


def _as_data(result: Result) -> dict[str, object]:
    return {
        "goal": str(result.goal),
        "line": result.goal.line,
        "verdict": result.verdict,
        "way": way_as_data(result.witness),
        "trusts": [trust._asdict() for trust in result.trusts],
        "unknown": list(result.unknown),
    }


def _show_proof(proof: Proof, options: Namespace) -> int:
    results = list(proof.results)
    if options.json:
        cases = [{**case._asdict(), "edges": [edge._asdict() for edge in case.edges]} for case in proof.cases]
        print_json({"results": [_as_data(result) for result in results], "cases": cases, "uncovered": proof.uncovered})
        return _status(results)
    rows = [
        (case.source, case.target, case.stand, "; ".join(edge.operation for edge in case.edges) or "nothing")
        for case in proof.cases
    ]
    print_table(("FROM", "TO", "LEVELS", "WHAT PASSES"), rows)
    print()
    for result in results:
        _show(result)
    for name in proof.uncovered:
        print(f"nothing is proved about {printable(name)}: its label is none of the scheme's")
    return _status(results)


def _show_deviations(options: Namespace) -> int:
    declaration = read_declaration(options.declared)
    if is_policy(options.snapshot):
        with Policy.open(options.snapshot) as policy:
            found = deviations(declaration, Memo(policy))
    else:
        with opened(read(options.snapshot)) as memos:
            found = deviations(declaration, memos["selinux"])
    if options.json:
        print_json([one._asdict() for one in found])
    else:
        for one in found:
            print(f"{one.kind}: {printable(one.what)}\n  {printable(one.rule)}")
        if not found:
            print("the policy allows what is declared, and no more")
    return 1 if found else 0


def _show_hazards(found: list[Hazard], options: Namespace) -> int:
    if options.json:
        print_json([hazard._asdict() for hazard in found])
    else:
        for hazard in found:
            print(f"{hazard.name}: {printable(hazard.what)}")
            print(f"  why:  {hazard.why}\n  next: {hazard.fix}")
        if not found:
            print("no hazards")
    return 1 if found else 0
