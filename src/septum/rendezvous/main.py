"""The command ``septum-broker``: options, parts put together, signals."""

import os
import resource
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NoReturn

from septum import __version__
from septum.access.client import SOCKET as SEPTUMD
from septum.access.objects import DEFAULT_CONTEXTS
from septum.daemon.listen import bind, lock
from septum.daemon.main import run
from septum.daemon.notify import Notifier
from septum.declare import read
from septum.enact import in_force
from septum.errors import SeptumError
from septum.host import selinux_kernel
from septum.ivc import MemfdCarrier
from septum.launch import state
from septum.ledger.protocol import Ledger
from septum.ledger.sqlite import SqliteLedger
from septum.rendezvous.broker import Broker, Rules
from septum.rendezvous.decider import Decider, Septumd
from septum.rendezvous.doors import Doors
from septum.rendezvous.parties import Parties
from septum.rendezvous.server import Bounds, Server
from septum.rendezvous.wire import SOCKET

__all__ = ["HELP", "arguments", "main", "serve"]

HELP: Final = "brings guests together that a door lets talk, and hands them a channel"
_LOCK: Final = "channels.lock"
_BUSY: Final = 2.0


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    bounds = Bounds()
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger (default: SEPTUM_STATE, …)")
    parser.add_argument("--socket", metavar="PATH", default="", help=f"where to listen (default: {SOCKET} in DIR)")
    parser.add_argument("--open", action="store_true", help="let all users connect; who may do what is decided anyhow")
    parser.add_argument("--septumd", metavar="PATH", default="", help=f"who decides (default: {SEPTUMD} in DIR)")
    parser.add_argument(
        "--declaration", metavar="FILE", default="", help="for doors and quotas (default: the one applied)"
    )
    parser.add_argument(
        "--connections", type=int, default=bounds.connections, metavar="N", help="at once (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=bounds.second, metavar="N", help="requests/s of a guest (default: %(default)g)"
    )
    parser.add_argument(
        "--metered",
        action="store_true",
        help="hold declared doors to their limits on size, rate and bandwidth, at the price of speed",
    )
    parser.add_argument("--version", action="version", version=f"septum-broker {__version__}")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry of the command."""
    parser = ArgumentParser(prog="septum-broker", description=f"{HELP[0].upper()}{HELP[1:]}.", allow_abbrev=False)
    arguments(parser)
    options = parser.parse_args(argv)

    def act() -> None:
        folder = state.folder(options.state, os.environ)
        serve(options, folder, Septumd(options.septumd or os.path.join(folder, SEPTUMD)))

    run(act)


def serve(options: Namespace, folder: str, decider: Decider) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP reads the declaration anew.

    Args:
        options: as `arguments` gives them.
        folder: of the ledger; made if it is missing.
        decider: who decides.

    Raises:
        SeptumError: it can't start; says why.
    """
    notifier = Notifier(os.environ)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        state.make(folder)
        stack.callback(os.close, lock(folder, _LOCK, "septum-broker"))
        ledger = SqliteLedger(folder, timeout=_BUSY)
        stack.callback(ledger.close)
        stack.callback(decider.close)
        doors = declared(options.declaration, ledger)
        path = os.path.abspath(options.socket or os.path.join(folder, SOCKET))
        listener = bind(path, 0o666 if options.open else 0o600, socket.SOCK_SEQPACKET)
        stack.callback(os.unlink, path)
        rate = options.rate
        server = Server(
            lambda drop: Broker(
                ledger,
                decider,
                doors,
                MemfdCarrier(),
                label=selinux_kernel.mounted(),
                rules=Rules(metered=options.metered),
                report=say,
                drop=drop,
            ),
            [listener],
            Parties(ledger, DEFAULT_CONTEXTS),
            ledger,
            notifier,
            Bounds(connections=options.connections, second=rate, burst=2 * rate),
            say,
        )
        left = server.broker.sweep()
        if left:
            say(f"{left} channels of a broker that was killed are taken out of the ledger")

        def reload() -> None:
            try:
                server.broker.doors = declared(options.declaration, ledger)
            except SeptumError as error:
                say(f"the declaration stays as it was: {error}")
            server.decide_again()

        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        signal.signal(signal.SIGINT, lambda *_: server.stop())
        signal.signal(signal.SIGHUP, lambda *_: reload())
        say(f"serves {folder}")
        server.run()


def declared(path: str, ledger: Ledger) -> Doors:
    """What a declaration says about doors: the one in a file, else the one that was applied.

    Raises:
        DeclarationError, NotFound: it can't be read.
        LedgerError: the ledger can't be read.
    """
    return Doors(read(path) if path else in_force(ledger).declaration)


def say(text: str) -> None:
    """What an operator should know, to standard error, which a service manager keeps."""
    lines = ("".join(one if one.isprintable() else "?" for one in line) for line in text.split("\n"))
    print("septum-broker: " + "\n".join(lines), file=sys.stderr, flush=True)
