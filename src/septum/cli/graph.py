"""``septum graph``: a picture of who can pass information to whom."""

import os
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import Final

from septum.analysis.drawing import graph_of
from septum.cli.analysing import add_strength, flows
from septum.errors import HostError, UsageError
from septum.picture import page, svg

HELP: Final = "draw who can pass information to whom, as SVG or as one page of HTML"
_WAYS: Final = {".svg": svg, ".html": page}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="file with the platform, see septum snapshot")
    parser.add_argument("output", metavar="FILE", help="what to write: NAME.svg or NAME.html")
    parser.add_argument("--since", metavar="SNAPSHOT", default="", help="mark what changed against this older one")
    parser.add_argument("--objects", action="store_true", help="draw objects too, not only what acts")
    add_strength(parser)


def run(options: Namespace) -> int:
    kind = os.path.splitext(options.output)[1]
    if kind not in _WAYS:
        raise UsageError("a picture's name ends in .svg or .html", target=options.output)
    with ExitStack() as stack:
        now = stack.enter_context(flows(options.snapshot, options))
        before = stack.enter_context(flows(options.since, options)) if options.since else None
        text = _WAYS[kind](graph_of(now, before, objects=options.objects))
    part = f"{options.output}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, options.output)
    except OSError as error:
        raise HostError(
            f"the picture can't be written: {error.strerror}", errno=error.errno or 0, target=options.output
        ) from error
    return 0
