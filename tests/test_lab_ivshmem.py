"""Memory of channels under SELinux: the kernel refuses a guest's QEMU a segment that is not for its label, at the
passing of the descriptor, whatever the broker thought."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import qemu.qmp

from lab.selinux import Machine
from tests.labkit import SEPTUM, content_context, inside, machine_with_septum

pytestmark = pytest.mark.lab

QEMU = "qemu-system-x86_64 -nodefaults -display none -machine none -daemonize"

PLUG = """
import asyncio, sys
from septum.errors import ChannelDenied, MonitorError
from septum.ivc import Role, Terms
from septum.ivc.carriers import ivshmem
from septum.ivc.carriers.segment import Access, Segment
from septum.monitor import Monitor

async def main():
    async with await Monitor.connect("/run/vms/qmp", 60) as monitor:
        with Segment(Terms("x", 1), Role.CONSUMER, sys.argv[1]) as segment:
            if sys.argv[2] == "peer":
                segment.seal()
            try:
                await ivshmem.plug(monitor, segment, Access(sys.argv[2]), ivshmem.RootPort("none", 8))
            except MonitorError as error:
                print(error.what)

asyncio.run(main())
"""


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    for machine in machine_with_septum(request):
        machine.push(Path(qemu.qmp.__file__).parent, f"{SEPTUM}/qemu/qmp")
        machine.run("mkdir -p /run/vms", check=True)
        done = inside(
            machine,
            "import sys; from septum.cli.main import main; sys.exit(main(sys.argv[1:]))",
            *("run", "--driver", "selinux", "--", *QEMU.split()),
            *("-qmp", "unix:/run/vms/qmp,server=on,wait=off", "-pidfile", "/run/vms/pid"),
        )
        assert done.status == 0, done
        machine.dmesg()
        yield machine


def level(machine: Machine) -> str:
    context = machine.run("cat /proc/$(cat /run/vms/pid)/attr/current", check=True).output.strip("\0\n")
    return context.split(":", 3)[3]


def plug(machine: Machine, context: str, access: str = "own") -> str:
    done = inside(machine, PLUG, context, access)
    assert done.status == 0, done
    return done.output


def test_a_segment_goes_to_its_label_and_to_no_other(machine: Machine) -> None:
    own = level(machine)
    ring = "system_u:object_r:septum_ring_t"
    # The machine has no bus: that QEMU gets so far means that it has mapped the memory.
    for access in ("own", "peer"):
        assert "refuses device_add" in plug(machine, f"{ring}:{own}", access)
    assert [avc for avc in machine.avcs() if avc.denied] == []
    for access in ("own", "peer"):
        assert "refuses add-fd" in plug(machine, f"{ring}:s0:c1019,c1021,c1023", access)
    denied = [avc for avc in machine.avcs() if avc.denied]
    assert {avc.target for avc in denied} == {f"{ring}:s0:c1019,c1021,c1023"}
    assert all(avc.enforced and avc.cls == "file" for avc in denied)


def test_a_descriptor_for_writing_goes_to_no_guest_that_may_only_read(machine: Machine) -> None:
    content = content_context(level(machine))
    assert "refuses add-fd" in plug(machine, content, "own")
    assert "refuses device_add" in plug(machine, content, "peer")
