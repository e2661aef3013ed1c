"""Two booted guests, and channels between them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from lab.guest_python import PythonGuest
from septum.errors import SeptumError
from septum.ivc import Kind, MemfdCarrier, Receiver, Role, Sender, Terms
from septum.ivc.carriers import ivshmem
from septum.ivc.carriers.ivshmem import Access, Attached, Pair, Place
from septum.ivc.carriers.port import Announced
from septum.monitor import Monitor

T = TypeVar("T")

SIZE = 1 << 14
SOON = 60.0
_HERE = Path(__file__).parent


class Machine:
    """One guest and its monitor.

    Args:
        modules: of this folder, for the guest to import as ``tests.NAME``.
        before: a program and its arguments that become QEMU.
    """

    def __init__(
        self, duo: Duo, name: str, folder: Path, modules: tuple[str, ...] = (), before: tuple[str, ...] = ()
    ) -> None:
        self._duo = duo
        self._modules = modules
        self.guest = PythonGuest(name, folder, before=before)
        self.pid = self.guest.qemu.process.pid
        self.uid = -1

    def meet(self) -> None:
        """Waits for the agent, and gives it what it needs."""
        self.guest.up()
        self.equip()
        self.monitor = self._duo.run(Monitor.connect(self.guest.monitor, SOON))

    def equip(self) -> None:
        """Loads the modules into the guest's Python."""
        self.guest.run("import os, sys, time, types, threading; from septum.guest import channel, channels")
        for name in self._modules:
            self.guest.run(
                "module = types.ModuleType(given['name']); sys.modules[given['name']] = module\n"
                "exec(compile(payload, given['name'], 'exec'), module.__dict__)",
                (_HERE / f"{name}.py").read_bytes(),
                name=f"tests.{name}",
            )

    def place(self) -> Place:
        """A free place in it."""
        return Place(self.monitor, self._duo.run(ivshmem.free_port(self.monitor)), self.uid)


class Duo:
    """Two guests, and an event loop for their monitors.

    Args:
        folder: for their files.
        modules: of this folder, for the guests to import.
        before: for each guest, a program and its arguments that become its QEMU.
    """

    def __init__(
        self, folder: Path, modules: tuple[str, ...] = (), before: tuple[tuple[str, ...], ...] = ((), ())
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._generations = itertools.count(1)
        self.one = Machine(self, "one", folder, modules, before[0])
        self.other = Machine(self, "other", folder, modules, before[1])
        self.machines = [self.one, self.other]
        for machine in self.machines:
            machine.meet()

    def third(self, folder: Path) -> Machine:
        """One more guest."""
        machine = Machine(self, "third", folder)
        self.machines.append(machine)
        machine.meet()
        return machine

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine, for any thread, whether or not it has a loop of its own."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def terms(self, name: str = "test", kind: Kind = Kind.MESSAGES, size: int = SIZE) -> Terms:
        """Those of a new channel."""
        return Terms(name, next(self._generations), kind, size)

    @contextmanager
    def channel(
        self, terms: Terms, producer: Machine | None = None, consumer: Machine | None = None
    ) -> Iterator[tuple[Pair, dict[Role, Attached]]]:
        """A channel from the one to the other guest, taken away in the end."""
        made = ivshmem.pair(terms)
        ends = {Role.PRODUCER: producer or self.one, Role.CONSUMER: consumer or self.other}
        attached = self.run(ivshmem.attach(made, {role: machine.place() for role, machine in ends.items()}))
        for line in made.lines:
            line.close()
        try:
            yield made, attached
        finally:
            for role, machine in ends.items():
                with suppress(SeptumError):
                    self.run(ivshmem.detach(machine.monitor, attached[role]))
            made.close()

    @contextmanager
    def from_host(self, terms: Terms, role: Role, machine: Machine) -> Iterator[tuple[Sender | Receiver, Pair]]:
        """A channel with this process at one end and a guest at the other.

        Args:
            role: this process's.
        """
        theirs = Role.CONSUMER if role is Role.PRODUCER else Role.PRODUCER
        made, place = ivshmem.pair(terms), machine.place()
        own = self.run(ivshmem.plug(machine.monitor, made.own(theirs), Access.OWN, place.port))
        carrier, granted = MemfdCarrier(spin=0), ivshmem.grant(made, role)
        end = Sender(carrier.sender(granted)) if role is Role.PRODUCER else Receiver(carrier.receiver(granted))
        made.own(role).seal()
        peer = self.run(ivshmem.plug(machine.monitor, made.own(role), Access.PEER, place.port))
        announced = Announced(terms, theirs, place.port.slot)
        bell = self.run(ivshmem.hang(machine.monitor, announced, made.line(theirs).fileno()))
        for line in made.lines:
            line.close()
        try:
            yield end, made
        finally:
            end.close()
            with suppress(SeptumError):
                self.run(ivshmem.detach(machine.monitor, Attached(announced, own, peer, bell)))
            made.close()

    def close(self) -> None:
        """Ends all."""
        for machine in self.machines:
            machine.guest.kill()
            self.run(machine.monitor.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
