"""The whole of `septum run` on a kernel that enforces: labels in force, and every label back whatever happens."""

import json
from collections.abc import Iterator

import pytest

from lab.selinux import GUEST_INITRD, GUEST_KERNEL, Done, Machine
from septum.host.selinux_types import SVIRT
from tests.labkit import (
    KVM_PATIENCE,
    MAY_HALT,
    SEPTUM,
    ask,
    content_context,
    guest_context,
    image_context,
    label_in,
    machine_with_septum,
    wait_for_socket,
)

pytestmark = pytest.mark.lab

PYTHON = {"PYTHONPATH": SEPTUM}
BASE = "/srv/vms/base"
DRIVERS = ["selinux", "selinux,landlock"]


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    for machine in machine_with_septum(request):
        machine.run(f"mkdir -p /srv/vms /run/vms; truncate -s 1M {BASE}", check=True)
        yield machine


def septum(machine: Machine, *words: str, check: bool = True) -> Done:
    return machine.run(["python3", "-m", "septum", *words], environment=PYTHON, check=check)


class Guest:
    """A guest under `septum run`, with an image, content that its realm shares, and a monitor."""

    def __init__(
        self, machine: Machine, name: str, realm: str = "r", driver: str = "selinux", types: str = "auto"
    ) -> None:
        self.machine = machine
        self.disk, self.monitor = f"/srv/vms/{name}.img", f"/run/vms/{name}.qmp"
        machine.run(["truncate", "-s", "1M", self.disk], check=True)
        self.before = {path: self.state_of(path) for path in (self.disk, BASE)}
        qemu = ["qemu-system-x86_64", "-nodefaults", "-machine", "none", "-display", "none", "-S"]
        qemu += ["-blockdev", f"raw,node-name=disk,file.driver=file,file.filename={self.disk}"]
        qemu += ["-blockdev", f"raw,node-name=base,read-only=on,file.driver=file,file.filename={BASE}"]
        qemu += ["-qmp", f"unix:{self.monitor},server=on,wait=off", "-pidfile", f"/run/vms/{name}.pid"]
        run = ["run", "--driver", driver, "--realm", realm, "--name", name, "--share", BASE, "--", *qemu]
        environment = {**PYTHON, "SEPTUM_SELINUX_TYPES": types}
        self.pid = machine.spawn(["python3", "-m", "septum", *run], environment=environment)

    def up(self) -> "Guest":
        wait_for_socket(self.machine, self.monitor, self.pid)
        return self

    @property
    def context(self) -> str:
        return self.machine.read(f"/proc/{self.pid}/attr/current").rstrip(b"\0").decode()

    @property
    def level(self) -> str:
        return self.context.split(":", 3)[3]

    def state_of(self, path: str) -> str:
        """Label, owner and mode."""
        return self.machine.run(["stat", "-c", "%C %u %g %a", path], check=True).output.strip()

    def wait_until_restored(self) -> None:
        """The watcher works on its own; what it leaves behind is checked once the ledger has let go of the guest."""
        command = "until python3 -m septum ps --json | grep -q '^\\[\\]'; do sleep 0.1; done"
        assert self.machine.run(command, environment=PYTHON, timeout=30).status == 0, self.machine.run(
            "python3 -m septum ps; cat /var/lib/septum/watch.log", environment=PYTHON
        )
        self.check_restored()

    def check_restored(self) -> None:
        assert {path: self.state_of(path) for path in self.before} == self.before
        assert self.machine.run("ls /run/vms").output == ""


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("end", ["quit", "kill -9"])
def test_labels_are_in_force_and_back_afterwards(machine: Machine, driver: str, end: str) -> None:
    guest = Guest(machine, "red", driver=driver).up()
    assert guest.context.startswith(guest_context("s0:c"))
    realm, _, _ = guest.level.partition(",")
    assert label_in(machine, guest.disk) == image_context(guest.level)
    assert label_in(machine, "/run/vms/red.pid") == image_context(guest.level)
    assert label_in(machine, BASE) == content_context(realm)
    if end == "quit":
        ask(machine, guest.monitor, "quit")
        assert machine.wait(guest.pid).status == 0
    else:
        machine.run(["kill", "-9", str(guest.pid)], check=True)
        assert machine.wait(guest.pid).status == -9
    guest.wait_until_restored()
    assert [avc for avc in machine.avcs() if avc.denied and avc.source == guest_context(guest.level)] == []


def test_libvirts_types_do_where_they_are_asked_for(machine: Machine) -> None:
    guest = Guest(machine, "red", types="svirt").up()
    context = f"{SVIRT.process}:{guest.level}"
    assert guest.context == context
    assert label_in(machine, guest.disk) == f"{SVIRT.image}:{guest.level}"
    # Whoever asks later need not know which types it was started with.
    explained = json.loads(septum(machine, "explain", "--json", "red", guest.disk).output)
    (verdict,) = [verdict for verdict in explained["rw"]["by"] if verdict["mechanism"] == "selinux"]
    assert verdict["allowed"]
    assert verdict["rule"].startswith("(allow svirt_t svirt_image_t (file (")
    ask(machine, guest.monitor, "quit")
    guest.wait_until_restored()
    assert [avc for avc in machine.avcs() if avc.denied and avc.source == context] == []


def test_reconcile_puts_back_what_a_killed_watcher_could_not(machine: Machine) -> None:
    guest = Guest(machine, "red").up()
    # The guest does not wait for its watcher to be ready.
    machine.run("until pkill -9 -x septum-watcher; do sleep 0.05; done", timeout=30, check=True)
    machine.run(["kill", "-9", str(guest.pid)], check=True)
    machine.wait(guest.pid)
    assert label_in(machine, guest.disk).startswith(image_context("s0:c"))
    septum(machine, "reconcile")
    guest.check_restored()
    assert json.loads(septum(machine, "ps", "--json").output) == []


@pytest.mark.parametrize(("driver", "sync"), [("selinux", False), ("selinux,landlock", True)])
def test_reconcile_puts_back_what_a_reboot_cut_off(machine: Machine, driver: str, sync: bool) -> None:
    # What was there before the run must outlive a power cut, or there is nothing to compare with.
    guest = Guest(machine, "red", driver=driver)
    machine.run("sync")
    guest.up()
    level = guest.level
    machine.reboot(sync=sync)
    if sync:
        assert label_in(machine, guest.disk).endswith(f":{level}")
    machine.run("mkdir -p /run/vms", check=True)
    septum(machine, "reconcile")
    guest.check_restored()
    assert json.loads(septum(machine, "ps", "--json").output) == []


def test_what_a_realm_shares_is_restored_after_its_last_guest(machine: Machine) -> None:
    red, blue = Guest(machine, "red").up(), Guest(machine, "blue").up()
    assert red.level != blue.level
    shared = label_in(machine, BASE)
    ask(machine, red.monitor, "quit")
    machine.run(
        "until [ $(python3 -m septum ps --json | grep -c '\"red\"') = 0 ]; do sleep 0.1; done", environment=PYTHON
    )
    assert label_in(machine, BASE) == shared
    assert label_in(machine, red.disk) == red.before[red.disk].split()[0]
    ask(machine, blue.monitor, "quit")
    machine.wait(blue.pid)
    blue.before[BASE] = red.before[BASE]
    blue.wait_until_restored()


def test_an_image_has_one_guest_and_the_refusal_names_it(machine: Machine) -> None:
    red = Guest(machine, "red").up()
    label = label_in(machine, red.disk)
    done = septum(machine, "run", "--", "qemu-system-x86_64", "-drive", f"file={red.disk},format=raw", check=False)
    assert done.status == 125
    assert "red" in done.errors
    assert label_in(machine, red.disk) == label


@MAY_HALT
@pytest.mark.parametrize("stream", ["pipe", "terminal"])
def test_a_guest_boots_confined_and_its_console_reaches_the_caller(machine: Machine, stream: str) -> None:
    qemu = "qemu-system-x86_64 -nodefaults -machine q35 -accel kvm -m 128 -display none -no-reboot -serial stdio"
    machine.run(["cp", GUEST_KERNEL, GUEST_INITRD, "/srv/vms"], check=True)
    guest = "-kernel /srv/vms/vmlinuz -initrd /srv/vms/initrd -append 'console=ttyS0 quiet marker=confined then=reboot'"
    command = f"python3 -m septum run --driver selinux -- {qemu} {guest} </dev/null"
    if stream == "pipe":
        done = machine.run(f"{command} | cat; exit ${{PIPESTATUS[0]}}", environment=PYTHON, timeout=KVM_PATIENCE)
    else:
        done = machine.run(["script", "-qec", command, "/dev/null"], environment=PYTHON, timeout=KVM_PATIENCE)
    assert (done.status, "confined" in done.output) == (0, True), done
