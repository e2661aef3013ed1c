"""``septum run``: confine a guest under a label of its own, become its QEMU, put everything back afterwards."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final, NoReturn

from septum.cli.launching import add_launch_options, request_of
from septum.launch import state
from septum.launch.run import run as launch

HELP: Final = "run a QEMU command line, confined under a label of its own"


def arguments(parser: ArgumentParser) -> None:
    parser.usage = "septum run [--realm R] [--name N] [options] -- qemu-system-x86_64 …"
    add_launch_options(parser)


def run(options: Namespace) -> NoReturn:
    launch(request_of(options), state.folder(options.state, os.environ))
