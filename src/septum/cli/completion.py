"""``septum completion``: a completion script for a shell."""

from argparse import ArgumentParser, Namespace
from typing import Final

from septum.errors import UsageError

HELP: Final = "print a completion script for bash, zsh or tcsh"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(options: Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UsageError("completion needs the package shtab", remedy="install septum with its dependencies") from error
    from septum.cli.main import whole_parser

    print(shtab.complete(whole_parser(), shell=options.shell))
    return 0
