"""The options that `run` and `plan` share, and the request that they make of them."""

from __future__ import annotations

import os
from types import SimpleNamespace

from septum.errors import UsageError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from typing import Any

    from septum.launch.plan import Request

# Flag; the word's name in the help, "" if it takes none; its default, a list if it may be given several times; help.
_OPTIONS: tuple[tuple[str, str, object, str], ...] = (
    ("--realm", "R", os.environ.get("SEPTUM_REALM") or "default", "the owner (default: %(default)s)"),
    ("--name", "N", "", "name of the guest (default: that of -name)"),
    ("--role", "ROLE", "", "the guest's role in its realm, as it was declared: doors are for roles"),
    (
        "--driver",
        "NAMES",
        os.environ.get("SEPTUM_DRIVER") or "auto",
        "selinux, landlock, both joined by a comma, or auto: all that work (default: %(default)s)",
    ),
    ("--unconfined", "", False, "run even where nothing can enforce"),
    ("--adopt", "PATH", [], "take over an image that belonged to another realm"),
    ("--platform", "PATH", [], "root's own content that guests of all realms read"),
    ("--share", "PATH", [], "several guests of the realm may use it"),
    ("--allow-path", "PATH", [], "use it although a rule forbids it"),
    ("--allow-unknown", "VALUE", [], "an option's part that is no path; * for all"),
    ("--allow-probe", "", False, "images without a declared format are opened as QEMU guesses"),
    ("--state", "DIR", "", "folder of the ledger (default: SEPTUM_STATE, …)"),
)


def add_launch_options(parser: ArgumentParser) -> None:
    for flag, word, default, text in _OPTIONS:
        if not word:
            parser.add_argument(flag, action="store_true", help=text)
        elif isinstance(default, list):
            parser.add_argument(flag, metavar=word, action="append", default=[], help=text)
        else:
            parser.add_argument(flag, metavar=word, default=default, help=text)


def read_plain(words: Sequence[str]) -> Any:
    """The options of `run`, if each is spelled out as ``--option`` or ``--option word``; None if argparse has to look.

    On the way of every start: argparse alone takes a tenth of one (measured: docs/launching.md).
    """
    table = {flag: (word, default) for flag, word, default, _ in _OPTIONS}
    found: dict[str, Any] = {
        flag: list(default) if isinstance(default, list) else default for flag, _, default, _ in _OPTIONS
    }
    rest = iter(words)
    for flag in rest:
        if flag not in table:
            return None
        word, default = table[flag]
        value = next(rest, "-") if word else True
        if isinstance(value, str) and value.startswith("-"):
            return None
        if isinstance(default, list):
            found[flag] = [*found[flag], value]
        else:
            found[flag] = value
    return SimpleNamespace(**{flag[2:].replace("-", "_"): value for flag, value in found.items()})


def request_of(options: Any, *, probe: bool = True, skip: str = "") -> Request:
    """What the options ask for.

    Raises:
        UsageError: no command line of QEMU follows ``--``.
    """
    from septum.launch import state
    from septum.launch.inspect import Allowed
    from septum.launch.plan import Request

    if not options.argv:
        raise UsageError(
            "no command line of QEMU is given", remedy="put it after --: septum run -- qemu-system-x86_64 …"
        )
    return Request(
        argv=tuple(options.argv),
        realm=options.realm,
        name=options.name,
        role=options.role,
        drivers=options.driver,
        unconfined=options.unconfined,
        allowed=Allowed(
            paths=frozenset(os.path.realpath(path) for path in options.allow_path),
            platform=frozenset(os.path.realpath(path) for path in options.platform),
            adopted=frozenset(os.path.realpath(path) for path in options.adopt),
            shared=frozenset(os.path.realpath(path) for path in options.share),
            forbidden=(os.path.realpath(state.folder(options.state, os.environ)),),
        ),
        allow_unknown=frozenset(options.allow_unknown),
        allow_probe=options.allow_probe,
        probe=probe,
        path=os.environ.get("PATH", os.defpath),
        skip=skip,
        tmpdir=os.environ.get("TMPDIR", "/var/tmp"),
    )
