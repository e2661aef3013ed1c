"""``septum diff``: what came and what went: ways between two snapshots, or access between two policies."""

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import Final

from septum.analysis.added import Added, added
from septum.analysis.difference import compare
from septum.cli.analysing import add_strength, flows, print_way, way_as_data
from septum.cli.common import add_json, print_json, printable
from septum.errors import NotFound
from septum.sepol import Policy

HELP: Final = "say what a change adds: ways between two snapshots, or access between two compiled policies"
_BEGINNING: Final = 8
_OWN: Final = b"{"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a snapshot, or a compiled policy")
    parser.add_argument("new", metavar="NEW", help="the same")
    add_strength(parser)
    add_json(parser)
    parser.epilog = "Exit status: 0 nothing was added, 1 something was, 3 it can't be told."


def run(options: Namespace) -> int:
    if is_policy(options.old) and is_policy(options.new):
        return show_added(compared(options.old, options.new), as_json=options.json)
    with ExitStack() as stack:
        old, new = (stack.enter_context(flows(path, options)) for path in (options.old, options.new))
        changes = compare(old, new)
        unknown = sorted(old.unknown | new.unknown)
    more = any(change.kind == "added" for change in changes)
    if options.json:
        print_json(
            {
                "changes": [{**change._asdict(), "witness": way_as_data(change.witness)} for change in changes],
                "unknown": unknown,
            }
        )
    else:
        for change in changes:
            source, target = change.source or "platform", change.target or "platform"
            number = "1 pair" if change.pairs == 1 else f"{change.pairs:,} pairs"
            print(f"{change.kind}: {printable(source)} -> {printable(target)}, {number} of instances")
            print_way(change.witness)
        if not changes:
            print("nothing came, nothing went" if not unknown else "unknown")
        for name in unknown:
            print(f"of unknown direction: {name}")
    return 1 if more else 3 if unknown else 0


def is_policy(path: str) -> bool:
    """Whether a file is none of septum's snapshots, which begin with a brace.

    Raises:
        NotFound: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return not file.read(_BEGINNING).lstrip().startswith(_OWN)
    except OSError as error:
        raise NotFound(f"the file can't be read: {error.strerror}", target=path) from error


def compared(old: str, new: str) -> Added:
    """What a new policy adds."""
    with Policy.open(old) as before, Policy.open(new) as after:
        return added(before, after)


def show_added(found: Added, *, as_json: bool) -> int:
    """Prints it, and says how to end."""
    if as_json:
        print_json({"added": [access._asdict() for access in found.accesses], "unknown": list(found.unknown)})
    else:
        for access in found.accesses:
            print(f"added: {access.source} {access.target} {access.tclass} {{ {' '.join(access.permissions)} }}")
            print(f"  {access.rule}")
        for statement in found.unknown:
            print(f"not followed: {printable(statement)}")
        if not found.accesses and not found.unknown:
            print("no type that was there before has new access to another one")
    return 1 if found.accesses else 3 if found.unknown else 0
