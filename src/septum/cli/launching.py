"""The options that `run` and `plan` share, and the request that they make of them."""

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from septum.errors import UsageError

if TYPE_CHECKING:
    from septum.launch.plan import Request


def add_launch_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--realm", default=os.environ.get("SEPTUM_REALM") or "default", help="the owner (default: %(default)s)"
    )
    parser.add_argument("--name", default="", help="name of the guest (default: that of -name)")
    parser.add_argument(
        "--driver",
        default=os.environ.get("SEPTUM_DRIVER") or "auto",
        metavar="NAMES",
        help="selinux, landlock, both joined by a comma, or auto: all that work (default: %(default)s)",
    )
    parser.add_argument("--unconfined", action="store_true", help="run even where nothing can enforce")
    parser.add_argument(
        "--adopt", metavar="PATH", action="append", default=[], help="take over an image that belonged to another realm"
    )
    parser.add_argument(
        "--platform",
        metavar="PATH",
        action="append",
        default=[],
        help="root's own content that guests of all realms read",
    )
    parser.add_argument(
        "--share", metavar="PATH", action="append", default=[], help="several guests of the realm may use it"
    )
    parser.add_argument(
        "--allow-path", metavar="PATH", action="append", default=[], help="use it although a rule forbids it"
    )
    parser.add_argument(
        "--allow-unknown",
        metavar="VALUE",
        action="append",
        default=[],
        help="an option's part that is no path; * for all",
    )
    parser.add_argument(
        "--allow-probe", action="store_true", help="images without a declared format are opened as QEMU guesses"
    )
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger (default: SEPTUM_STATE, …)")


def request_of(options: Namespace, *, probe: bool = True, skip: str = "") -> "Request":
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
