"""A real QEMU under the whole confinement, and what it can reach once somebody else speaks for it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from septum.errors import HostError
from septum.host import cgroup, kernel
from septum.host.driver import Confinement, Step
from septum.host.landlock import LandlockDriver
from septum.host.ops import OPERATIONS
from tests.confined import QEMU, Qmp, enter, found, guest, inside, searchable

pytestmark = [pytest.mark.root, pytest.mark.qemu]

UID = 70011


class Machine(NamedTuple):
    folder: Path
    pid: int
    qmp: Qmp
    cgroup: str


def command(folder: Path, *more: str) -> list[str]:
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-display", "none", "-nodefaults"),
        *("-drive", f"file={folder}/disk.qcow2,if=virtio,format=qcow2"),
        *("-qmp", f"unix:{folder}/run/qmp,server=on,wait=off", "-vnc", f"unix:{folder}/sockets/vnc"),
        *("-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r", "-vga", "std"),
        *("-pidfile", f"{folder}/pid", "-D", f"{folder}/log", "-d", "guest_errors", "-daemonize", *more),
    ]


def subject(folder: Path, **given: Any) -> Confinement:
    items = [
        found(folder / "disk.qcow2"),
        found(folder / "pid", "pidfile"),
        found(folder / "log", "log"),
        found(folder / "sockets" / "vnc", "socket"),
    ]
    values = {"uid": UID, "gid": UID, "realm_gid": UID + 1, "run_dir": str(folder / "run"), "daemonize": True}
    return guest(items, **{**values, "uuid": f"test-{os.getpid()}", **given})


@pytest.fixture
def folder() -> Iterator[Path]:
    for path in searchable():
        for name in ("disk", "other"):
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path / f"{name}.qcow2", "16M"], check=True)
        (path / "run").mkdir()
        (path / "sockets").mkdir()
        yield path


def start(folder: Path, driver: LandlockDriver, confined: Confinement, *more: str) -> int:
    """Becomes QEMU as a launch does; its exit status, which is that of -daemonize."""
    argv = [os.fsencode(word) for word in command(folder, *more)]
    child = os.fork()
    if child == 0:
        try:
            enter(driver, confined)
            kernel.execve(os.fsencode(QEMU), argv, [b"PATH=/usr/bin:/bin"])
        finally:
            sys.stderr.write("never became QEMU\n")
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def running(folder: Path, confined: Confinement, *more: str) -> Iterator[Machine]:
    driver = LandlockDriver(no_new_privs=True, group=f"{cgroup.base()}/test-{os.getpid()}")
    operations = {**OPERATIONS, **driver.operations()}
    done: list[tuple[Step, Any]] = []
    if confined.uid >= 0:
        os.chown(folder / "run", confined.uid, confined.gid)
    group = ""
    try:
        for step in driver.steps(confined):
            done.append((step, operations[step.op].capture(step)))
            operations[step.op].apply(*done[-1])
            group = step.path if step.op == "cgroup" else group
        assert start(folder, driver, confined, *more) == 0
        qmp = Qmp(folder / "run" / "qmp")
        yield Machine(folder, int((folder / "pid").read_text()), qmp, group)
        assert "return" in qmp("quit")
        qmp.close()
    finally:
        fd = cgroup.events_fd(group)
        cgroup.kill(group)
        while cgroup.populated(group):
            os.sched_yield()
        os.close(fd)
        outcomes = [operations[step.op].undo(step, original) for step, original in reversed(done)]
    assert set(outcomes) <= {"restored", "gone"}
    assert (folder / "disk.qcow2").stat().st_uid == 0
    assert not (folder / "sockets" / "vnc").exists()


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    yield from running(folder, subject(folder))


def test_it_runs_daemonized_as_its_own_uid_in_its_own_places(machine: Machine) -> None:
    assert machine.qmp("query-status")["return"]["running"] is True
    status = Path(f"/proc/{machine.pid}/status").read_text()
    assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status
    assert f"Groups:\t{UID + 1} \n" in status
    assert "CapEff:\t0000000000000000\n" in status
    assert cgroup.populated(machine.cgroup)
    assert str(machine.pid) in Path(machine.cgroup, "cgroup.procs").read_text().split()
    assert os.stat(f"/proc/{machine.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
    # The kernel shows a process that may not be dumped as root's; exec has to have made it dumpable again.
    assert os.stat(f"/proc/{machine.pid}").st_uid == UID


@pytest.mark.parametrize("how", ["{folder}/other.qcow2", "/proc/self/root{folder}/other.qcow2", "/etc/hostname"])
def test_no_other_file_can_be_attached(machine: Machine, how: str) -> None:
    (machine.folder / "other.qcow2").chmod(0o666)
    filename = how.format(folder=machine.folder)
    answer = machine.qmp("blockdev-add", driver="file", filename=filename, **{"node-name": "x", "read-only": True})
    assert "Permission denied" in answer["error"]["desc"]


def test_its_own_disk_can_be_written_and_its_log_too(machine: Machine) -> None:
    answer = machine.qmp("human-monitor-command", **{"command-line": 'qemu-io virtio0 "write -P 7 0 64k"'})
    assert "error" not in json.dumps(answer)
    machine.qmp("human-monitor-command", **{"command-line": "log guest_errors"})
    assert (machine.folder / "log").exists()


def test_no_socket_or_connection_leads_out(machine: Machine) -> None:
    def chardev(kind: str, **data: Any) -> str:
        answer = machine.qmp("chardev-add", id=kind, backend={"type": kind, "data": data})
        return str(answer.get("error", {}).get("desc", "done"))

    unix = {"type": "unix", "data": {"path": f"{machine.folder}/peer"}}
    inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": "9"}}
    # Operation not permitted, from seccomp: Landlock does not know of unix sockets with a path.
    assert "not permitted" in chardev("socket", addr=unix, server=False)
    assert "not permitted" in chardev("socket", addr=inet, server=False)
    listening = {"type": "unix", "data": {"path": f"{machine.folder}/listening"}}
    assert "Permission denied" in chardev("socket", addr=listening, server=True, wait=False)
    assert "Permission denied" in chardev("file", out=f"{machine.folder}/new")


def test_a_network_guest_boots_and_keeps_the_hosts_network(folder: Path) -> None:
    more = ("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n")
    for machine in running(folder, subject(folder, network=True, connects=True), *more):
        assert machine.qmp("query-status")["return"]["running"] is True
        assert os.stat(f"/proc/{machine.pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino


def test_it_boots_without_a_uid_of_its_own_as_well(folder: Path) -> None:
    for machine in running(folder, subject(folder, uid=-1, gid=-1, realm_gid=-1)):
        answer = machine.qmp(
            "blockdev-add", driver="file", filename=f"{machine.folder}/other.qcow2", **{"node-name": "x"}
        )
        assert "Permission denied" in answer["error"]["desc"]


def test_qemus_own_sandbox_fits_on_top(folder: Path) -> None:
    # elevateprivileges=deny and spawn=deny do not get along with -daemonize, with or without septum (QEMU 7.2).
    for machine in running(folder, subject(folder), "-sandbox", "on,obsolete=deny,resourcecontrol=deny"):
        assert machine.qmp("query-status")["return"]["running"] is True


def test_no_program_but_qemu_runs(folder: Path) -> None:
    confined = subject(folder)._replace(items=())
    driver = LandlockDriver(no_new_privs=True)

    def act() -> list[int]:
        enter(driver, confined)
        said = []
        for program in (b"/bin/sh", b"/usr/bin/env"):
            try:
                kernel.execve(program, [program], [])
            except HostError as error:
                said.append(error.errno)
        return said

    assert inside(act) == [errno.EACCES] * 2


def test_a_terminal_of_its_own_and_no_other(folder: Path) -> None:
    master, slave = os.openpty()
    try:
        confined = subject(folder)
        confined = confined._replace(items=(*confined.items, found("/dev/ptmx", "shared-device", sharing="shared")))
        for machine in running(folder, confined, "-chardev", "pty,id=console"):
            told = machine.qmp("query-chardev")["return"]
            name = next(entry["filename"] for entry in told if entry["label"] == "console").removeprefix("pty:")
            assert os.stat(name).st_uid == UID
            backend = {"type": "serial", "data": {"device": os.ttyname(slave)}}
            assert "Permission denied" in machine.qmp("chardev-add", id="other", backend=backend)["error"]["desc"]
    finally:
        os.close(master)
        os.close(slave)
