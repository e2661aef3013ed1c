"""Channels between guests that `septum run` keeps apart: each QEMU under a uid and a Landlock ruleset of its own."""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.errors import MonitorRefused
from septum.ivc import Role
from septum.ivc.carriers import ivshmem
from septum.ivc.carriers.segment import Access, Segment
from tests.ivshmemkit import Duo, Machine
from tests.launchkit import SOURCES, World, world

pytestmark = [pytest.mark.root, pytest.mark.qemu]


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    yield from world()


@pytest.fixture(scope="module")
def duo(place: World) -> Iterator[Duo]:
    def run(realm: str, name: str) -> tuple[str, ...]:
        settings = (f"SEPTUM_STATE={place.state}", f"PYTHONPATH={SOURCES}")
        return ("env", *settings, sys.executable, "-m", "septum", "run", "--realm", realm, "--name", name, "--")

    made = Duo(place.folder, before=(run("red", "one"), run("blue", "other")))
    for machine, name in ((made.one, "red/one"), (made.other, "blue/other")):
        guest = place.guest(name)
        assert guest is not None
        machine.uid = guest.uid
    yield made
    made.close()


def status(machine: Machine) -> str:
    return Path(f"/proc/{machine.pid}/status").read_text()


def test_they_are_confined(duo: Duo) -> None:
    for machine in (duo.one, duo.other):
        assert f"Uid:\t{machine.uid}\t{machine.uid}\t{machine.uid}\t{machine.uid}\n" in status(machine)
        assert "CapEff:\t0000000000000000\n" in status(machine)
    assert duo.one.uid != duo.other.uid


def test_messages_pass(duo: Duo) -> None:
    with duo.channel(duo.terms("logs")) as (made, attached):
        duo.one.guest.run("end = channel('logs', 60); end.send(b'hello')")
        assert duo.other.guest.run("result = channel('logs', 60).recv(60).decode()") == "hello"
        assert os.fstat(made.produced.fileno()).st_uid == os.geteuid()
        duo.run(ivshmem.detach(duo.one.monitor, attached[Role.PRODUCER]))


def test_the_memory_is_opened_by_the_guest_that_it_was_lent_to_and_no_other(duo: Duo) -> None:
    """Even if a descriptor gets to the wrong QEMU: that one runs as another uid."""
    place = duo.other.place()
    with Segment(duo.terms(), Role.PRODUCER) as segment:
        with pytest.raises(MonitorRefused, match="Permission denied"):
            duo.run(ivshmem.plug(duo.other.monitor, segment, Access.OWN, place.port, duo.one.uid))
        assert segment.sealed


def test_a_reader_that_was_taken_over_can_not_open_it_for_writing(duo: Duo) -> None:
    """Its QEMU is asked to map the other end's segment without `readonly`."""
    with duo.channel(duo.terms("x")) as (made, _):
        reader = made.produced.readable()
        added = duo.run(duo.other.monitor.add_fd(reader))
        os.close(reader)
        backend: dict[str, object] = {"qom-type": "memory-backend-file", "id": "stolen", "size": made.produced.size}
        backend |= {"mem-path": f"/proc/self/fd/{added.fd}", "share": True}
        with pytest.raises(MonitorRefused, match="Permission denied"):
            duo.run(duo.other.monitor.command("object-add", **backend))
        duo.run(duo.other.monitor.remove_fd(added))


def test_one_guests_emulator_can_not_reach_the_others_memory(duo: Duo) -> None:
    """Through /proc of the other, where its descriptors would be."""
    libc = ctypes.CDLL(None, use_errno=True)
    with duo.channel(duo.terms("x")):
        path = f"/proc/{duo.one.pid}/mem"
        child = os.fork()
        if child == 0:
            libc.setresgid(duo.other.uid, duo.other.uid, duo.other.uid)
            libc.setresuid(duo.other.uid, duo.other.uid, duo.other.uid)
            try:
                os.open(path, os.O_RDONLY)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
