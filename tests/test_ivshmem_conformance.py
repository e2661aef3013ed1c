"""The carriers' suite over ivshmem, between two booted guests.

Both halves of a channel are in guests, a half's calls go there by its agent, and what is above a half runs here. A bell
is the other guest's port, whose line ends in this process.
"""

import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from lab.guest_python import GuestError, PythonGuest
from septum.errors import ChannelDenied, SeptumError
from septum.ivc import Incoming, Outgoing, Role, Terms
from septum.ivc.carriers import LineBell, ivshmem
from septum.ivc.carriers.ivshmem import Access, Attached, Pair
from septum.ivc.carriers.port import Announced
from tests.ivc_conformance import CarrierConformance
from tests.ivshmemkit import Duo, Machine

pytestmark = pytest.mark.qemu

SERVE = """
import pickle
from septum.guest.channels import wire
halves = {}
def serve(key, name, args):
    half = halves[key]
    try:
        if name in ("fault", "limit", "seen"):
            return True, getattr(half, name)
        if name in ("get_into", "read_into"):
            buffer = bytearray(args[0])
            return True, (getattr(half, name)(buffer, args[1]), bytes(buffer))
        if name == "peek":
            got = half.peek(*args)
            return True, got if isinstance(got, int) else bytes(got)
        return True, getattr(half, name)(*args)
    except Exception as error:
        return False, error
"""


class FarHalf:
    """A half in a guest: what `Sink` and `Source` ask for."""

    def __init__(self, guest: PythonGuest, lock: threading.Lock, key: str) -> None:
        self._guest, self._lock, self._key = guest, lock, key

    def _ask(self, name: str, *args: Any) -> Any:
        with self._lock:
            self._guest.start(
                "payload = pickle.dumps(serve(*pickle.loads(payload)))", pickle.dumps((self._key, name, args))
            )
            done, answer = pickle.loads(self._guest.finish()[1])
        if not done:
            raise answer
        return answer

    def __getattr__(self, name: str) -> Any:
        if name in ("fault", "limit", "seen"):
            return self._ask(name)
        return lambda *args: self._ask(name, *(_plain(one) for one in args))

    def get_into(self, buffer: Any, spin: bool) -> Any:
        return self._into("get_into", buffer, spin)

    def read_into(self, buffer: Any, spin: bool) -> Any:
        return self._into("read_into", buffer, spin)

    def _into(self, name: str, buffer: Any, spin: bool) -> Any:
        view = memoryview(buffer)
        if view.readonly:
            raise BufferError("it is read-only")
        status, got = self._ask(name, bytes(view), spin)
        if status >= 0:
            view[:] = got
        return status

    def peek(self, spin: bool) -> Any:
        got = self._ask("peek", spin)
        return memoryview(got) if isinstance(got, bytes) else got


def _plain(one: Any) -> Any:
    if isinstance(one, list):
        return [_plain(part) for part in one]
    return bytes(one) if isinstance(one, memoryview | bytearray) else one


class FarBell(LineBell):
    """This end's rings are the guest's port's; those that come are the other guest's."""

    def __init__(self, line: socket.socket, close: Any) -> None:
        super().__init__(line)
        self._hang_up = close

    def close(self) -> None:
        super().close()
        self._hang_up()


class Grant(NamedTuple):
    terms: Terms
    name: str
    role: Role
    machine: Machine
    attached: Attached
    line: socket.socket


class GuestCarrier:
    """Puts the producer's end into one guest and the consumer's into the other."""

    name = "ivshmem"

    def __init__(self, duo: Duo) -> None:
        self._duo = duo
        self._made: list[Pair] = []
        self._grants: list[Grant] = []
        self._locks = {Role.PRODUCER: threading.Lock(), Role.CONSUMER: threading.Lock()}
        self._count = 0

    def create(self, terms: Terms) -> tuple[Grant, Grant]:
        self._count += 1
        made = ivshmem.pair(terms._replace(name=f"t{self._count}"))
        self._made.append(made)
        ends = {Role.PRODUCER: self._duo.one, Role.CONSUMER: self._duo.other}
        places = {role: machine.place() for role, machine in ends.items()}
        plugged: dict[Role, list[ivshmem.Plugged]] = {role: [] for role in ends}
        for access in Access:
            for role, place in places.items():
                segment = made.own(role) if access is Access.OWN else made.peer(role)
                plugged[role].append(self._duo.run(ivshmem.plug(place.monitor, segment, access, place.port)))
        grants = []
        mine = {role: socket.socketpair() for role in ends}
        for role, place in places.items():
            told = Announced(made.produced.terms, role, place.port.slot)
            bell = self._duo.run(ivshmem.hang(place.monitor, told, mine[role][0].fileno()))
            mine[role][0].close()
            other = Role.CONSUMER if role is Role.PRODUCER else Role.PRODUCER
            attached = Attached(told, *plugged[role], bell)
            grants.append(Grant(terms, made.produced.terms.name, role, ends[role], attached, mine[other][1]))
        self._grants += grants
        return grants[0], grants[1]

    def sender(self, grant: Grant) -> Outgoing:
        return Outgoing(*self._join(grant, Role.PRODUCER))

    def receiver(self, grant: Grant) -> Incoming:
        return Incoming(*self._join(grant, Role.CONSUMER))

    def _join(self, grant: Grant, role: Role) -> Any:
        guest, lock = grant.machine.guest, self._locks[grant.role]
        try:
            with lock:
                guest.run(
                    "halves[given['name']] = wire(given['name'], 0.5, Role(given['role'])).half",
                    name=grant.name,
                    role=role,
                )
        except GuestError as error:
            raise ChannelDenied("the channel can't be trusted", rule=error.text) from error
        return grant.terms, FarHalf(guest, lock, grant.name), FarBell(grant.line, lambda: self._unhang(grant))

    def _unhang(self, grant: Grant) -> None:
        self._duo.run(ivshmem.unhang(grant.machine.monitor, grant.attached.bell))

    def discard(self, grant: Grant) -> None:
        self._unhang(grant)

    def clear(self) -> None:
        """Takes all away."""
        for machine in (self._duo.one, self._duo.other):
            machine.guest.run("halves.clear()")
        for grant in self._grants:
            with suppress(SeptumError):
                self._duo.run(ivshmem.detach(grant.machine.monitor, grant.attached))
            grant.line.close()
        for made in self._made:
            made.close()


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duo]:
    made = Duo(tmp_path_factory.mktemp("conformance"))
    for machine in (made.one, made.other):
        machine.guest.run("from septum.ivc import Role\n" + SERVE)
    yield made
    made.close()


class TestIvshmem(CarrierConformance):
    @pytest.fixture
    def carrier(self, duo: Duo) -> Iterator[GuestCarrier]:  # type: ignore[override]
        made = GuestCarrier(duo)
        yield made
        made.clear()
