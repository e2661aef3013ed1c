"""``septum channel …``: try a channel as with socat, let other programs use one, see and end those there are."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final

from septum.cli.common import add_json, add_state, folder, print_json, print_table
from septum.cli.main import printable
from septum.errors import UsageError
from septum.ivc import SIZE_MAX, SIZE_MIN, Kind
from septum.rendezvous import SOCKET, Link, Rendezvous
from septum.rendezvous.forward import from_socket, open_address, streams, to_socket

HELP: Final = "offer a service to other guests, or reach one, through a declared door"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    listen = verbs.add_parser("listen", help="offer a service; standard input and output are the first who comes")
    listen.add_argument("service", metavar="SERVICE", help="its name in the own realm")
    _add_kind(listen)
    connect = verbs.add_parser("connect", help="reach a service; standard input and output are the channel")
    connect.add_argument("service", metavar="SERVICE", help="REALM/NAME, or a name in the own realm")
    forward = verbs.add_parser("forward", help="between a socket and a service of bytes, for programs as they are")
    forward.add_argument("service", metavar="SERVICE", help="to reach with --from, to offer with --to")
    way = forward.add_mutually_exclusive_group(required=True)
    address = "unix:PATH or tcp:HOST:PORT"
    way.add_argument("--from", dest="source", metavar="ADDRESS", help=f"take connections there: {address}")
    way.add_argument("--to", dest="target", metavar="ADDRESS", help=f"connect to this for each who comes: {address}")
    ls = verbs.add_parser("ls", help="list the live channels")
    add_json(ls)
    close = verbs.add_parser("close", help="end a channel, for both ends and at once")
    close.add_argument("link", metavar="LINK", help="as `septum channel ls` names it")
    for one in (listen, connect, forward, ls, close):
        add_state(one)
        one.add_argument("--socket", metavar="PATH", default="", help=f"of the broker (default: {SOCKET} in DIR)")


def run(options: Namespace) -> int:
    acts: dict[str, Callable[[Namespace, Rendezvous], int]] = {
        "listen": _listen,
        "connect": _connect,
        "forward": _forward,
        "ls": _ls,
        "close": _close,
    }
    with Rendezvous(options.socket or os.path.join(folder(options), SOCKET)) as broker:
        return acts[options.what](options, broker)


def _add_kind(parser: ArgumentParser) -> None:
    parser.add_argument("--messages", action="store_true", help="carry messages, a line each; default: bytes")
    parser.add_argument("--size", type=int, default=1 << 16, metavar="BYTES", help="of a ring (default: %(default)s)")


def _listen(options: Namespace, broker: Rendezvous) -> int:
    if options.size & (options.size - 1) or not SIZE_MIN <= options.size <= SIZE_MAX:
        raise UsageError(f"--size takes a power of two from {SIZE_MIN} on")
    kind = Kind.MESSAGES if options.messages else Kind.BYTES
    broker.offer(options.service, kind, size=options.size, backlog=1)
    link = broker.accept()
    broker.withdraw(options.service)
    return _streams(link)


def _connect(options: Namespace, broker: Rendezvous) -> int:
    return _streams(broker.connect(options.service))


def _streams(link: Link) -> int:
    return 0 if streams(link, sys.stdin.fileno(), sys.stdout.fileno()) else 1


def _forward(options: Namespace, broker: Rendezvous) -> int:
    if options.source is not None:
        with open_address(options.source, listen=True) as listener:
            from_socket(broker, options.service, listener, _report)
    broker.offer(options.service, Kind.BYTES, backlog=32)
    to_socket(broker, options.target, _report)
    return 0


def _ls(options: Namespace, broker: Rendezvous) -> int:
    found = broker.channels()
    if options.json:
        print_json([one._asdict() for one in found])
        return 0
    rows = [[one.id, one.link, one.source, one.target, one.service, one.way, one.state] for one in found]
    print_table(["ID", "LINK", "FROM", "TO", "SERVICE", "WAY", "STATE"], rows)
    return 0


def _close(options: Namespace, broker: Rendezvous) -> int:
    broker.revoke(options.link)
    return 0


def _report(text: str) -> None:
    print("septum: " + "\n".join(printable(line) for line in text.split("\n")), file=sys.stderr, flush=True)
