"""What tests in the SELinux machine share."""

import json
from collections.abc import Iterator
from compileall import compile_dir
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lab.cache import LabHalted
from lab.selinux import Done, Machine
from septum.host.selinux_types import OWN

SOURCES = Path(__file__).parent.parent / "src"
SEPTUM = "/opt/septum"
# For tests that run a guest under KVM in the machine. QEMU's emulation of SVM (7.2) now and then, once in a dozen boots
# of a guest, leaves the whole machine halted with its timer's interrupt pending and deliverable (IF=1, HLT=1, IRR set).
# No other interrupt wakes it, so it is tried again with a machine anew. Where a program hangs and the machine lives,
# the agent says so, and that is no such case.
MAY_HALT = pytest.mark.flaky(reruns=3, only_rerun=["LabHalted"])
KVM_PATIENCE = 90  # seconds for what takes 12 to 17 there
RED = "s0:c1,c2"
BLUE = "s0:c1,c4"


def guest_context(level: str) -> str:
    """The context of a guest's QEMU."""
    return f"{OWN.process}:{level}"


def image_context(level: str) -> str:
    """The context of what a guest may write."""
    return f"{OWN.image}:{level}"


def content_context(level: str) -> str:
    """The context of what guests only read."""
    return f"{OWN.content}:{level}"


def machine_with_septum(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with this checkout's sources in `SEPTUM`; its logs are kept if a test fails meanwhile."""
    failed = request.session.testsfailed
    # Compiling takes seconds in an emulated machine. The time stamps travel along, so that a stale file is no danger.
    compile_dir(SOURCES, quiet=2)
    with Machine.restored() as machine:
        machine.push(SOURCES, SEPTUM)
        yield machine
        if request.session.testsfailed > failed:
            machine.keep = True
            with suppress(LabHalted):
                machine.dmesg()


def inside(machine: Machine, program: str, *words: str, **more: Any) -> Done:
    """Runs Python with septum's sources in the machine."""
    return machine.run(["python3", "-c", program, *words], environment={"PYTHONPATH": SEPTUM}, **more)


_QMP = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as monitor:
    monitor.connect(sys.argv[1])
    stream = monitor.makefile("rw")
    stream.readline()
    for command in [{"execute": "qmp_capabilities"}, json.loads(sys.argv[2])]:
        stream.write(json.dumps(command) + "\\n")
        stream.flush()
        while "event" in (answer := json.loads(stream.readline())):
            pass
    print(json.dumps(answer))
"""


def ask(machine: Machine, monitor: str, command: str, **arguments: Any) -> dict[str, Any]:
    """One QMP command to a guest in the machine; its whole answer."""
    order = json.dumps({"execute": command, "arguments": arguments})
    answer: dict[str, Any] = json.loads(inside(machine, _QMP, monitor, order, check=True).output)
    return answer


def label_in(machine: Machine, path: str) -> str:
    """The SELinux context of a file in the machine."""
    return machine.run(["stat", "-c", "%C", path], check=True).output.strip()


def wait_for_socket(machine: Machine, path: str, pid: int) -> None:
    """Until a spawned program has made its socket; fails the test with its output if it ends before."""
    waiting = f"until [ -S {path} ]; do [ -d /proc/{pid} ] || exit 1; sleep 0.05; done"
    if machine.run(waiting, timeout=60).status != 0:
        state = machine.run(f"cat /proc/{pid}/stack /proc/{pid}/status; ps axZf").output
        pytest.fail(f"it made no {path}: {machine.wait(pid, 0)}\n{state}")
