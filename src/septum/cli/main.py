"""``septum VERB …``: finds the verb, loads only its module, turns errors into messages and exit statuses.

Exit statuses: 125 a failure of septum itself, 126 it can't be executed, 127 not found, 2 usage; `run` otherwise ends
with the guest's own. They follow env(1), nohup(1) and timeout(1).
"""

from __future__ import annotations

import gc
import sys

from septum.cli.launching import read_plain
from septum.errors import SeptumError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final, NoReturn

VERBS: Final = (
    "run",
    "plan",
    "ps",
    "show",
    "explain",
    "decide",
    "reconcile",
    "doctor",
    "policy",
    "declare",
    "channel",
    "realm",
    "guest",
    "door",
    "snapshot",
    "flows",
    "diff",
    "check",
    "graph",
    "evidence",
    "attack",
    "completion",
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry of the command ``septum``."""
    words = list(sys.argv[1:] if argv is None else argv)
    guarded(lambda: sys.exit(_dispatch(words)), words)


def guarded(act: Callable[[], NoReturn], words: Sequence[str] = ()) -> NoReturn:
    """Runs what a command does; failures become messages and the exit statuses above.

    Args:
        act: ends by `sys.exit`, by raising, or by becoming another program.
        words: septum's own words of the command line.
    """
    try:
        act()
    except SeptumError as error:
        report(error, words)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing is left to flush for the interpreter.
        sys.stdout = None
        sys.exit(141)
    except Exception:  # a defect of septum: its exit status must not look like the guest's
        import traceback

        traceback.print_exc()
        sys.exit(SeptumError.exit_status)


def report(error: SeptumError, words: Sequence[str] = ()) -> None:
    """Prints an error: for people, or as JSON where JSON was asked for."""
    own = words[: words.index("--")] if "--" in words else words
    if "--json" in own:
        import json

        print(json.dumps(error.as_dict()), file=sys.stderr)
    else:
        # Names come from command lines and image headers; none of them may speak to the terminal.
        lines = [printable(line) for line in str(error).split("\n")]
        print("septum: " + "\n".join(lines), file=sys.stderr)


def printable(text: str) -> str:
    """Text from outside, safe on a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def verb(name: str) -> Any:
    """The module of a verb: `HELP`, `arguments(parser)` and `run(options) -> int`."""
    # Not by importlib, whose warnings module a start does without.
    return __import__(f"septum.cli.{name}", fromlist=["run"])


def _dispatch(words: list[str]) -> int:
    if words[:1] != ["run"]:
        gc.enable()
    if not words or words[0] not in VERBS:
        whole_parser().parse_args(words or ["--help"])
        return 2
    module = verb(words[0])
    rest = words[1:]
    guest: list[str] | None = None
    if "--" in rest:
        at = rest.index("--")
        rest, guest = rest[:at], rest[at + 1 :]
    options = read_plain(rest) if words[0] == "run" else None
    if options is None:
        from argparse import ArgumentParser

        parser = ArgumentParser(prog=f"septum {words[0]}", description=module.HELP, allow_abbrev=False)
        module.arguments(parser)
        options = parser.parse_args(rest)
    options.argv = guest
    return int(module.run(options))


def whole_parser() -> Any:
    """A parser of all verbs, for help and completion."""
    from argparse import ArgumentParser

    from septum import __version__

    parser = ArgumentParser(
        prog="septum",
        description="Keeps guests of mutually distrusting owners apart, and opens only the doors that were declared.",
        epilog="Exit status: 125 septum failed, 126 can't execute, 127 not found, 2 usage; else the guest's own.",
    )
    parser.add_argument("--version", action="version", version=f"septum {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")
    for name in VERBS:
        module = verb(name)
        module.arguments(verbs.add_parser(name, help=module.HELP, description=module.HELP))
    return parser


if __name__ == "__main__":
    main()
