"""``septum snapshot``: writes down what runs on this host with which label, to ask questions of later."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.analysis import dump, read, snapshot_hash
from septum.analysis.collect import Known, collect
from septum.cli.common import add_state, open_ledger
from septum.errors import HostError
from septum.launch import stored

HELP: Final = "take a snapshot of this host's labels and policy, or name one that is there"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("output", metavar="FILE", help="what to write; the policy goes to FILE.policy beside it")
    parser.add_argument("--hash", action="store_true", help="only print the hash of a snapshot that is there")
    parser.add_argument("--title", metavar="TEXT", default="", help="one line about it (default: this host's name)")
    add_state(parser)


def run(options: Namespace) -> int:
    if options.hash:
        print(snapshot_hash(read(options.output)))
        return 0
    try:
        snapshot = collect(_known(options), f"{options.output}.policy", title=options.title)
        part = f"{options.output}.part"
        with open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(dump(snapshot))
        os.replace(part, options.output)
    except OSError as error:
        raise HostError(
            f"the snapshot can't be written: {error.strerror}", errno=error.errno or 0, target=options.output
        ) from error
    print(snapshot_hash(snapshot))
    return 0


def _known(options: Namespace) -> dict[int, Known]:
    ledger = open_ledger(options)
    if ledger is None:
        return {}
    found = {}
    for guest in ledger.guests(("running",)):
        reaches = None
        if "landlock" in guest.drivers:
            items = stored.unpack(guest.details["confinement"]).items
            reaches = {item.resource.path: item.resource.access for item in items}
        found[guest.pid] = Known(guest.name, guest.realm, reaches)
    return found
