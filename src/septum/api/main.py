"""The command ``septum-apid``: options, parts put together, signals."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar

from septum.access import Client, Decision, ObjectQuestion
from septum.access.client import SOCKET
from septum.api.answer import Answerer
from septum.api.front import Front
from septum.api.limits import Bounds
from septum.api.listening import Listening
from septum.api.ports import Ports
from septum.daemon.listen import bind
from septum.errors import EngineGone, Held, HostError, SeptumError
from septum.labels import CategorySet
from septum.launch import drivers, state
from septum.ledger.sqlite import SqliteLedger
from septum.realms import Core, Decider, Launcher, Performer, Place, SeptumRun, Turns, evidence, sweep
from septum.realms.host import folder

__all__ = ["LOCK", "PLATFORM", "STORE", "Parts", "arguments", "main", "serve"]

T = TypeVar("T")

HELP: Final = "serves the API of realms on unix sockets"
STORE: Final = "/var/lib/septum-realms"
PLATFORM: Final = "platform.sock"
"""Name of the platform's socket, in the state folder; a realm's is ``realms/NAME.sock`` there."""
LOCK: Final = "septum-apid.lock"
_LOOK: Final = 5.0  # seconds
_TIDY: Final = 60.0  # seconds
_PLATFORM_CALLS: Final = 5000.0  # a second


class Parts:
    """What an API daemon is made of; tests put others in.

    Args:
        state: folder of the ledger.
        store: folder of realms' images.
        program: QEMU.
        drivers: as ``septum run --driver`` takes them.
        septumd: its socket; "" for the one in the state folder.
        sockets: folder of realms' sockets; "" for ``realms`` in the state folder.
    """

    def __init__(
        self,
        state: str,
        store: str,
        program: str = "qemu-system-x86_64",
        drivers: str = "auto",
        septumd: str = "",
        sockets: str = "",
        bounds: Bounds = Bounds(),  # noqa: B008
    ) -> None:
        self.place = Place(state, store, program)
        self.drivers = drivers
        self.septumd = septumd or os.path.join(state, SOCKET)
        self.sockets = sockets or os.path.join(state, "realms")
        self.bounds = bounds

    def decider(self) -> Decider:
        """Who decides."""
        return _Asking(self.septumd)

    def launcher(self) -> Launcher:
        """Who starts guests."""
        return SeptumRun(self.place.state, self.drivers)

    def foreign(self) -> list[CategorySet]:
        """Labels of others on this host."""
        chosen = drivers.choose(self.drivers, unconfined=True)
        return [categories for driver in chosen for categories in driver.foreign()]

    def core(self) -> Core:
        """What verbs work on; made on the thread that works on the ledger."""
        state = self.place.state
        asking = self.decider()
        return Core(
            SqliteLedger(state),
            asking,
            self.foreign,
            groups=os.geteuid() == 0,
            signer=evidence.PlatformKey(state),
            policy=asking.policy if isinstance(asking, _Asking) else dict,
        )

    def checkpoint(self, what: str) -> None:
        """See `septum.realms.perform`."""


class _Asking:
    """Asks septumd; connects again when it was started anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client: Client | None = None

    def decide_all(self, questions: Sequence[ObjectQuestion]) -> list[Decision]:
        return self._ask(lambda client: client.decide_all(questions))

    def policy(self) -> dict[str, Any]:
        """Which policy decides."""
        status = self._ask(lambda client: client.status())
        return {name: status[name] for name in ("engine", "fingerprint", "seqno")}

    def _ask(self, ask: Callable[[Client], T]) -> T:
        for again in (True, False):
            try:
                if self._client is None:
                    self._client = Client(self._path, timeout=10.0)
                return ask(self._client)
            except SeptumError as error:
                if self._client is not None:
                    self._client.close()
                    self._client = None
                if not again:
                    # Whatever it is, it is no answer about the object that was asked for.
                    raise EngineGone(f"septumd does not decide: {error.what}", target=self._path) from error
        raise AssertionError


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--state", metavar="DIR", default="", help="folder of the ledger (default: SEPTUM_STATE, …)")
    parser.add_argument(
        "--store", metavar="DIR", default=STORE, help="folder of realms' images, outside of --state (%(default)s)"
    )
    parser.add_argument("--qemu", metavar="PROGRAM", default="qemu-system-x86_64", help="(default: %(default)s)")
    parser.add_argument("--driver", metavar="NAMES", default="auto", help="as for septum run (default: %(default)s)")
    parser.add_argument("--septumd", metavar="PATH", default="", help=f"its socket (default: {SOCKET} in --state)")
    parser.add_argument(
        "--sockets",
        metavar="DIR",
        default="",
        help="folder of realms' sockets, which users who act for realms may search (default: realms in --state)",
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry of the command."""
    parser = ArgumentParser(prog="septum-apid", description=f"{HELP[0].upper()}{HELP[1:]}.", allow_abbrev=False)
    arguments(parser)
    options: Namespace = parser.parse_args(argv)
    folder = state.folder(options.state, os.environ)
    try:
        store = os.path.abspath(options.store)
        serve(Parts(folder, store, options.qemu, options.driver, options.septumd, options.sockets))
    except SeptumError as error:
        say(str(error))
        sys.exit(error.exit_status)
    sys.exit(0)


def serve(parts: Parts) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        SeptumError: it can't start; says why.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    state.make(parts.place.state)
    parts.place.make()
    try:
        folder(parts.sockets, 0o711)
    except OSError as error:
        raise HostError(f"its folder of sockets can't be made: {error.strerror}", target=parts.sockets) from error
    lock = _lock(parts.place.state)
    try:
        asyncio.run(_serve(parts))
    finally:
        os.close(lock)


def say(text: str) -> None:
    """What an operator should know, to standard error, which a service manager keeps."""
    lines = ("".join(one if one.isprintable() else "?" for one in line) for line in text.split("\n"))
    print("septum-apid: " + "\n".join(lines), file=sys.stderr, flush=True)


class _Poke:
    """Tells the loop when the ledger has changed.

    Attributes:
        told: is called in the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.told: Callable[[], None] = lambda: None
        self._loop = loop
        self._seen: tuple[int, ...] = ()

    def look(self, core: Core) -> None:
        """On the ledger's thread."""
        seen = core.ledger.revision()
        if seen != self._seen:
            self._seen = seen
            self._loop.call_soon_threadsafe(lambda: self.told())


async def _serve(parts: Parts) -> None:
    loop = asyncio.get_running_loop()
    stop, changed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    poke = _Poke(loop)
    turns = Turns(parts.core, lambda core: core.ledger.close(), poke.look)
    performer = Performer(
        turns, parts.place, parts.launcher(), say, parts.checkpoint, lambda *guest: ports.serve(*guest)
    )
    answerer = Answerer(turns, performer, parts.bounds, changed.set, say)
    poke.told = answerer.poke
    front = Front(answerer, parts.bounds, say)
    ports = Ports(front, parts.place, say)
    await performer.resume()
    listening = Listening(front, turns, parts.sockets)
    await listening.follow()
    front.allow("", frozenset(), _PLATFORM_CALLS)
    front.listen("", bind(os.path.join(parts.place.state, PLATFORM), 0o600))
    say(f"serves {parts.place.state}")
    keep = asyncio.create_task(_keep_realms(changed, listening))
    tidy = asyncio.create_task(_tidy(front, turns))
    await stop.wait()
    keep.cancel()
    tidy.cancel()
    await ports.close()
    await front.close()
    await performer.close()
    await asyncio.to_thread(turns.stop)


async def _tidy(front: Front, turns: Turns[Core]) -> None:
    """Removes what is remembered for a while only; a portion at a time, in each realm's own turn."""
    while True:
        for realm in front.realms():
            try:
                while await turns.run(realm, lambda core, one=realm: sweep(core, one)):  # type: ignore[misc]
                    pass
            except SeptumError as error:
                say(str(error))
        await asyncio.sleep(_TIDY)


async def _keep_realms(changed: asyncio.Event, listening: Listening) -> None:
    while True:
        with suppress(TimeoutError):  # a declaration makes realms too, and does not say so here
            async with asyncio.timeout(_LOOK):
                await changed.wait()
        changed.clear()
        try:
            await listening.follow()
        except SeptumError as error:
            say(str(error))


def _lock(folder: str) -> int:
    path = os.path.join(folder, LOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Held(
            "another septum-apid serves this state folder", target=folder, rule="one daemon for each state folder"
        ) from error
    return fd
