"""``septum run``: confine a guest under a label of its own, become its QEMU, put everything back afterwards."""

from __future__ import annotations

import os

from septum.cli.launching import add_launch_options
from septum.host import joining
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any, Final, NoReturn

HELP: Final = "run a QEMU command line, confined under a label of its own"


def arguments(parser: ArgumentParser) -> None:
    parser.usage = "septum run [--realm R] [--name N] [options] -- qemu-system-x86_64 …"
    add_launch_options(parser)


def run(options: Any) -> NoReturn:
    moving = joining.begin() if options.argv else None
    # The kernel takes as long to move the process as Python takes to load all this.
    from septum.cli.launching import request_of
    from septum.launch import state
    from septum.launch.run import run as launch

    launch(request_of(options), state.folder(options.state, os.environ), moving)
