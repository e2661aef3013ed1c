"""The monitor of one guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPError, Runstate

from septum.errors import MonitorBroken, MonitorError, MonitorGone, MonitorRefused, MonitorTimeout
from septum.monitor.client import LINE, Client
from septum.monitor.events import Event, Events

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

_UNANSWERED: Final = 64
"""Commands whose callers went away before the answer came, and that are still borne."""

_AGAIN: Final = 0.02
_SHOWN: Final = 300


class Added(NamedTuple):
    """A descriptor that QEMU has got.

    Attributes:
        fdset: number of the set it is in, for `Monitor.remove_fd`.
        fd: its number in QEMU's process.
    """

    fdset: int
    fd: int


class Monitor:
    """A connection to a guest's QMP monitor, for one event loop; made by `connect`.

    QEMU is not trusted. Memory is bounded, and each call by time; when QEMU breaks the protocol, or does not answer
    in time, the monitor is given up, and every call raises the reason again. Connect anew for another try.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._listening: list[Events] = []
        self._client = Client(self._hear)
        self._turn = asyncio.Lock()
        self._over: MonitorError | None = None
        self._line: socket.socket | None = None
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, path: str | os.PathLike[str], timeout: float = 10.0) -> Self:
        """Connects, and waits until QEMU takes commands.

        Args:
            path: of the monitor's socket (``-qmp unix:PATH,server=on,wait=off``).
            timeout: seconds for this, and later for each command.

        Raises:
            MonitorGone: nobody listens there.
            MonitorTimeout: no greeting came in time. QEMU serves one client at a time.
            MonitorBroken: it is no monitor.
            MonitorError: the kernel refused to connect.
        """
        self = cls(os.fspath(path), timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._open()
        except TimeoutError:
            raise MonitorTimeout(
                f"the guest's monitor does not greet within {timeout:g} s",
                target=self._path,
                rule="QEMU serves one client of a monitor at a time",
                remedy="see who else is connected, and whether the guest's QEMU still runs",
            ) from None
        except ConnectError as error:
            raise self._worded(error.exc, "connecting") from error
        return self

    @property
    def path(self) -> str:
        """The socket it is connected to."""
        return self._path

    async def command(self, name: str, /, **arguments: object) -> Any:
        """Executes a command. Commands go one after the other.

        Args:
            name: of the command, as in QEMU's QMP reference.
            arguments: its own; names with a hyphen in a ``**{"qom-type": …}``.

        Returns:
            What QEMU returns: as hostile as QEMU is, up to 1 MiB of JSON.

        Raises:
            MonitorRefused: QEMU refuses it.
            MonitorTimeout: no answer in time. It is unknown whether it was done.
            MonitorBroken: QEMU broke the protocol.
            MonitorGone: QEMU is gone, or the monitor was closed.
        """
        return await self._in_turn(name, self._execute(name, arguments))

    async def add_fd(self, fd: int, opaque: str = "") -> Added:
        """Gives QEMU a copy of a descriptor, in a set of its own; the caller's stays open.

        Args:
            fd: the descriptor.
            opaque: text by which ``query-fdsets`` tells the set from others.

        Raises:
            MonitorError: as `command`, and if the descriptor can't be sent.
        """
        answer = await self._in_turn("add-fd", self._send(fd, "add-fd", {"opaque": opaque} if opaque else {}))
        if isinstance(answer, dict):
            added = answer.get("fdset-id"), answer.get("fd")
            if all(type(number) is int and 0 <= number < 1 << 31 for number in added):
                return Added(*added)  # type: ignore[arg-type] # checked, but not so that mypy sees it
        raise self._give_up(self._broken("it names no set that the descriptor is in", "add-fd"))

    async def remove_fd(self, added: Added) -> None:
        """Takes a descriptor out of its set. QEMU closes it when it holds it by no other name.

        Raises:
            MonitorError: as `command`.
        """
        await self.command("remove-fd", **{"fdset-id": added.fdset, "fd": added.fd})

    async def name_fd(self, fd: int, name: str) -> None:
        """Gives QEMU a copy of a descriptor under a name (``getfd``), for options that want one: a chardev's.

        Raises:
            MonitorError: as `add_fd`.
        """
        await self._in_turn("getfd", self._send(fd, "getfd", {"fdname": name}))

    def events(self, *names: str) -> Events:
        """Listens from now on.

        Args:
            names: of events; none: all.
        """
        events = Events(names, self._path, self._forget)
        if self._over:
            events.end(self._over)
        else:
            self._listening.append(events)
        return events

    async def close(self) -> None:
        """Closes the connection; QEMU goes on. Iterations over events end. A second call does nothing."""
        self._give_up(MonitorGone("the monitor was closed", target=self._path))
        if self._watching:
            await asyncio.wait([self._watching])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> None:
        line = await self._connected()
        self._line = line
        try:
            await self._client.connect(line)
        except BaseException:
            line.close()
            raise
        self._watching = asyncio.create_task(self._watch())

    async def _connected(self) -> socket.socket:
        """A connected socket. Asyncio's own `connect` takes EAGAIN, a full backlog, for one under way (unix(7))."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            while True:
                try:
                    line.connect(self._path)
                    return line
                except BlockingIOError:
                    await asyncio.sleep(_AGAIN)
        except OSError as error:
            line.close()
            raise self._worded(error, "connecting") from error
        except BaseException:
            line.close()
            raise

    async def _in_turn(self, name: str, work: Coroutine[None, None, T]) -> T:
        """Runs one command, when those before it are done, and words what goes wrong."""
        try:
            async with asyncio.timeout(self._timeout):
                async with self._turn:
                    return await work
        except TimeoutError:
            raise self._give_up(
                MonitorTimeout(
                    f"QEMU does not answer {name} within {self._timeout:g} s",
                    target=self._path,
                    rule="whether it was done is unknown",
                    remedy="see whether the guest's QEMU still runs, and connect anew",
                )
            ) from None
        except ExecuteError as error:
            raise MonitorRefused(
                f"QEMU refuses {name}: {_shown(str(error))}", kind=_shown(error.error_class), target=self._path
            ) from None
        except ExecInterruptedError:
            # The reason is the reader's, and comes out when the connection is taken down.
            if self._watching:
                await asyncio.wait([self._watching])
            raise self._reason(name) from None
        except OSError as error:  # of the caller's descriptor
            raise self._worded(error, name) from error
        except QMPError as error:
            raise self._give_up(self._worded(error, name)) from error
        finally:
            work.close()

    async def _execute(self, name: str, arguments: dict[str, object]) -> object:
        if self._over or self._client.runstate is not Runstate.RUNNING:
            raise self._reason(name)
        if self._client.asked - self._client.answered >= _UNANSWERED:
            raise self._give_up(self._broken(f"{_UNANSWERED} commands were not answered", name))
        self._client.asked += 1
        return await self._client.execute(name, arguments)

    async def _send(self, fd: int, name: str, arguments: dict[str, object]) -> object:
        if not self._over and self._client.runstate is Runstate.RUNNING:
            self._client.send_fd_scm(fd)
        return await self._execute(name, arguments)

    async def _watch(self) -> None:
        """Takes the connection down when it is over, whoever ended it."""
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        self._hang_up()
        try:
            await self._client.disconnect()
        except Exception as error:  # whatever broke the library's reader
            self._give_up(self._worded(error, ""))
        else:
            self._give_up(MonitorGone("the monitor was closed", target=self._path))

    def _hear(self, event: Event, size: int) -> None:
        for events in self._listening:
            events.put(event, size)

    def _forget(self, events: Events) -> None:
        if events in self._listening:
            self._listening.remove(events)

    def _give_up(self, error: MonitorError) -> MonitorError:
        """Ends it for this reason, unless there was one before."""
        if self._over is None:
            self._over = error
            self._hang_up()
            for events in self._listening:
                events.end(error)
            self._listening.clear()
        return error

    def _hang_up(self) -> None:
        """What was written and not read would else keep the transport from closing, and what was read the reader."""
        self._client.give_up()
        if self._line:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def _reason(self, name: str) -> MonitorError:
        """Why `name` could not be done: the same as before, in an error of its own."""
        if self._over is None:
            return MonitorGone(f"QEMU has gone before it answered {name}", target=self._path)
        what = self._over.what if name in self._over.what else f"{name} was not done: {self._over.what}"
        return type(self._over)(what, target=self._path, rule=self._over.rule, remedy=self._over.remedy)

    def _worded(self, error: BaseException, name: str) -> MonitorError:
        doing = f" ({name})" if name else ""
        if isinstance(error, EOFError | ConnectionError | FileNotFoundError):
            return MonitorGone(
                f"the guest's monitor is gone{doing}",
                target=self._path,
                rule="its QEMU has ended, or closed the connection",
                remedy="`septum ps` says which guests run",
            )
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
            return MonitorError(f"the guest's monitor can't be used{doing}: {reason}", target=self._path)
        return self._broken(_shown(str(error).splitlines()[0] if str(error) else type(error).__name__), name)

    def _broken(self, rule: str, name: str) -> MonitorBroken:
        doing = f" ({name})" if name else ""
        return MonitorBroken(
            f"what the guest's QEMU says on its monitor can't be understood{doing}",
            target=self._path,
            rule=f"{rule}; a line has up to {LINE} bytes of JSON",
            remedy="take the guest's QEMU for compromised, and end it",
        )


def _shown(text: str) -> str:
    """What QEMU said, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_SHOWN])
