"""``septum flows``: may one pass information to another, and by which rules."""

from argparse import ArgumentParser, Namespace
from typing import Final

from septum.analysis import way
from septum.analysis.goals import selected
from septum.cli.analysing import add_strength, flows, print_way, way_as_data
from septum.cli.common import add_json, print_json

HELP: Final = "say whether one instance of a snapshot can pass information to another, and by which rules"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="file with the platform, see septum snapshot")
    parser.add_argument("source", metavar="FROM", help="guest:NAME, realm:NAME, process:TYPE, object:NAME, platform, …")
    parser.add_argument("target", metavar="TO", help="the same")
    parser.add_argument("--since", metavar="SNAPSHOT", default="", help="only if there was no way in this older one")
    add_strength(parser)
    add_json(parser)
    parser.epilog = "Exit status: 0 there is a way, 1 there is none, 3 it can't be told."


def run(options: Namespace) -> int:
    with flows(options.snapshot, options) as now:
        path = way(now.out, selected(now, options.source, "FROM"), selected(now, options.target, "TO"))
        hops, unknown = now.hops(path), sorted(now.unknown)
    old = bool(path and options.since) and _was(options)
    verdict = "a way" if path and not old else "no new way" if old else "unknown" if unknown else "no way"
    if options.json:
        print_json({"verdict": verdict, "way": way_as_data(hops), "unknown": unknown})
    else:
        print(verdict)
        print_way(() if old else hops)
        if verdict == "unknown":
            print("  permissions of unknown direction: " + ", ".join(unknown))
    return 0 if verdict == "a way" else 3 if verdict == "unknown" else 1


def _was(options: Namespace) -> bool:
    with flows(options.since, options) as before:
        ends = selected(before, options.source, "FROM"), selected(before, options.target, "TO")
        return bool(way(before.out, *ends))
