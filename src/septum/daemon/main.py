"""The command ``septumd``: options, parts put together, signals."""

import os
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, NoReturn

from septum import __version__
from septum.access import Contexts, DecisionLog, Keeper, Limits, ObjectManager, chain
from septum.access.client import SOCKET
from septum.access.log import FOLDER
from septum.daemon.engines import choose
from septum.daemon.listen import bind, lock
from septum.daemon.notify import Notifier, passed_sockets
from septum.daemon.peer import Peers
from septum.daemon.server import Bounds, Server
from septum.daemon.service import Rates, Service
from septum.daemon.source import Loader, Source
from septum.errors import DecisionLogCorrupt, SeptumError, UsageError
from septum.launch import state
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE

__all__ = ["HELP", "arguments", "main", "run", "serve"]

HELP: Final = "answers who may do what with septum's objects, on a unix socket"
_BUSY: Final = 2.0  # seconds: a ledger that is busy for longer makes a refusal, not a daemon that stands still


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    bounds, rates, limits = Bounds(), Rates(), Limits()
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger (default: SEPTUM_STATE, …)")
    parser.add_argument("--socket", metavar="PATH", default="", help=f"where to listen (default: {SOCKET} in DIR)")
    parser.add_argument("--open", action="store_true", help="let all users connect; who may ask is decided anyhow")
    parser.add_argument(
        "--engine", choices=("auto", "kernel", "libsepol"), default="auto", help="who decides (default: %(default)s)"
    )
    parser.add_argument("--policy", metavar="FILE", default="", help=f"for libsepol (default: {FILE} in DIR)")
    parser.add_argument(
        "--connections", type=int, default=bounds.connections, metavar="N", help="at once (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=rates.second, metavar="N", help="questions/s of a guest (default: %(default)g)"
    )
    parser.add_argument(
        "--log-size",
        type=int,
        default=limits.total >> 20,
        metavar="MIB",
        help="of the record (default: %(default)s)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="check the record of decisions against the ledger, and end"
    )
    parser.add_argument("--version", action="version", version=f"septumd {__version__}")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry of the command."""
    parser = ArgumentParser(prog="septumd", description=f"{HELP[0].upper()}{HELP[1:]}.", allow_abbrev=False)
    arguments(parser)
    options = parser.parse_args(argv)

    def act() -> None:
        if options.connections < 1 or options.rate <= 0 or options.log_size < 1:
            raise UsageError("--connections, --rate and --log-size take numbers above 0")
        folder = state.folder(options.state, os.environ)
        if options.verify:
            verify(folder)
            return
        serve(options, folder, choose(options.engine, options.policy or os.path.join(folder, FILE)))

    run(act)


def run(act: Callable[[], None]) -> NoReturn:
    """Ends the process with the exit status of what happens."""
    try:
        act()
    except SeptumError as error:
        say(str(error))
        sys.exit(error.exit_status)
    sys.exit(0)


def verify(folder: str) -> None:
    """Checks the record of decisions, also while it is written to, and prints what was found.

    Args:
        folder: of the ledger.

    Raises:
        DecisionLogCorrupt: names the first file that doesn't fit.
        SeptumError: it can't be read.
    """
    ledger = SqliteLedger(folder, create=False, read_only=True)
    try:
        while True:
            records = ledger.audit_records()
            try:
                report = chain.verify(os.path.join(folder, FOLDER), records)
                break
            except DecisionLogCorrupt:
                # An old file may just have been removed; that was entered first.
                if len(ledger.audit_records()) == len(records):
                    raise
    finally:
        ledger.close()
    print(
        f"{report.decisions} decisions in {report.segments} files are whole, the newest line is {report.digest}\n"
        f"{report.anchors} copies in the ledger agree; {report.removed} old files were removed; "
        f"{report.unclosed} files were not closed, {report.torn} of them in the middle of a line"
    )


def serve(options: Namespace, folder: str, source: Source, contexts: Contexts = Contexts()) -> None:  # noqa: B008
    """Serves until SIGTERM or SIGINT.

    Args:
        options: as `arguments` gives them.
        folder: of the ledger; made if it is missing.
        source: opens engines.
        contexts: the policy's names for septum's objects.

    Raises:
        SeptumError: it can't start; says why.
    """
    notifier = Notifier(os.environ)
    listeners = passed_sockets(os.environ)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        state.make(folder)
        stack.callback(os.close, lock(folder))
        ledger = SqliteLedger(folder, timeout=_BUSY)
        stack.callback(ledger.close)
        limits = Limits(min(Limits().segment, options.log_size << 17), options.log_size << 20)
        log = DecisionLog(os.path.join(folder, FOLDER), ledger=ledger.identity(), limits=limits)
        keeper = Keeper(log, lambda: SqliteLedger(folder), say)
        keeper.start()
        stack.callback(keeper.stop)
        stack.callback(_close, log)
        manager = ObjectManager(source.fresh(), ledger, log, contexts=contexts)
        stack.callback(lambda: manager.engine.close())
        loader = Loader(source)
        stack.callback(loader.close)
        if not listeners:
            path = os.path.abspath(options.socket or os.path.join(folder, SOCKET))
            listeners = [bind(path, 0o666 if options.open else 0o600)]
            stack.callback(_unlink, path)
        peers = Peers(ledger, contexts)
        service = Service(manager, log, peers, loader, notifier, Rates(options.rate, 5 * options.rate), say)
        server = Server(service, listeners, notifier, Bounds(options.connections), say)
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        signal.signal(signal.SIGINT, lambda *_: server.stop())
        signal.signal(signal.SIGHUP, lambda *_: server.reload())
        say(f"serves {folder} with policy {manager.seqno} of {manager.engine.name}, {manager.engine.fingerprint}")
        server.run()


def say(text: str) -> None:
    """What an operator should know, to standard error, which a service manager keeps."""
    lines = ("".join(one if one.isprintable() else "?" for one in line) for line in text.split("\n"))
    print("septumd: " + "\n".join(lines), file=sys.stderr, flush=True)


def _close(log: DecisionLog) -> None:
    try:
        log.close("stopped")
    except SeptumError as error:
        say(str(error))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        say(f"its socket can't be removed: {path}: {error.strerror}")
