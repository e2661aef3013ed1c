"""``septum run``: confine a guest under a label of its own, become its QEMU, put everything back afterwards."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final, NoReturn

from septum.cli.launching import add_launch_options
from septum.host import joining

HELP: Final = "run a QEMU command line, confined under a label of its own"


def arguments(parser: ArgumentParser) -> None:
    parser.usage = "septum run [--realm R] [--name N] [options] -- qemu-system-x86_64 …"
    add_launch_options(parser)


def run(options: Namespace) -> NoReturn:
    moving = joining.begin() if options.argv else None
    # The kernel takes as long to move the process as Python takes to load all this.
    from septum.cli.launching import request_of
    from septum.launch import state
    from septum.launch.run import run as launch

    launch(request_of(options), state.folder(options.state, os.environ), moving)
