"""septum in its own domain, and no administrator's: it starts guests, and the log shows no refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import selinux_image
from lab.selinux import GUEST_INITRD, GUEST_KERNEL, Avc, Machine
from septum.host.selinux_types import LAUNCHER, WATCHER
from septum.policy import marker, module
from tests.labkit import (
    KVM_PATIENCE,
    MAY_HALT,
    SEPTUM,
    ask,
    guest_context,
    inside,
    label_in,
    machine_with_septum,
    wait_for_socket,
)

pytestmark = pytest.mark.lab

COMMAND = "/usr/bin/septum"
SCRIPT = f"""#!/usr/bin/python3 -S
import sys
sys.path.insert(0, "{SEPTUM}")
from septum.cli.entry import septum
septum()
"""
QEMU = "qemu-system-x86_64 -nodefaults -display none"


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    for machine in machine_with_septum(request):
        machine.write(COMMAND, SCRIPT.encode())
        machine.run(f"chmod 755 {COMMAND}; restorecon -F {COMMAND} 2>&1 | cat; mkdir -p /srv/vms /run/vms", check=True)
        assert label_in(machine, COMMAND) == "system_u:object_r:septum_exec_t:s0"
        machine.dmesg()
        yield machine


def type_of(context: str) -> str:
    return context.split(":")[2]


def refused(machine: Machine) -> list[Avc]:
    """What septum's own domains and guests were refused since the last look. None is foreseen: a rule is missing, or
    septum tries what it should not."""
    return [avc for avc in machine.avcs() if avc.denied and type_of(avc.source).startswith("septum_")]


@MAY_HALT
@pytest.mark.parametrize(("driver", "accel"), [("selinux", "kvm"), ("selinux,landlock", "kvm"), ("selinux", "tcg")])
def test_a_guest_boots_to_its_init_and_nothing_is_refused(machine: Machine, driver: str, accel: str) -> None:
    machine.run(f"cp {GUEST_KERNEL} {GUEST_INITRD} /srv/vms; echo 'line of the disk' >/srv/vms/disk", check=True)
    machine.run("truncate -s 1M /srv/vms/disk", check=True)
    before = machine.run("ls -lZ /srv/vms", check=True).output
    qemu = f"{QEMU} -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=128M -m 128 -accel {accel}"
    qemu += " -no-reboot -serial stdio -D /srv/vms/log -pidfile /run/vms/pid -qmp unix:/run/vms/qmp,server=on,wait=off"
    qemu += " -drive file=/srv/vms/disk,format=raw,if=virtio,aio=io_uring -chardev pty,id=terminal"
    guest = (
        "-kernel /srv/vms/vmlinuz -initrd /srv/vms/initrd -append 'console=ttyS0 quiet marker=up show=vda then=reboot'"
    )
    done = machine.run(
        f"septum run --driver {driver} -- {qemu} {guest} </dev/null | cat",
        timeout=KVM_PATIENCE if accel == "kvm" else 240,
    )
    assert "line of the disk" in done.output, done
    assert "up" in done.output
    machine.run("until septum ps --json | grep -q '^\\[\\]'; do sleep 0.2; done", timeout=60, check=True)
    assert refused(machine) == []
    assert machine.run("rm -f /srv/vms/log; ls -lZ /srv/vms", check=True).output == before


def test_launcher_watcher_and_guest_are_in_three_domains(machine: Machine) -> None:
    machine.run("truncate -s 1M /srv/vms/disk", check=True)
    qemu = f"{QEMU} -machine none -S -drive if=none,file=/srv/vms/disk,format=raw"
    pid = machine.spawn(
        ["septum", "run", "--driver", "selinux", "--", *qemu.split(), "-qmp", "unix:/run/vms/q,server,nowait"]
    )
    wait_for_socket(machine, "/run/vms/q", pid)
    own = machine.run("septum doctor | grep 'own context'", check=True).output.split()[-1]
    watcher = machine.run("cat /proc/$(pgrep -x septum-watcher)/attr/current", check=True).output.strip("\0\n")
    guest = machine.read(f"/proc/{pid}/attr/current").rstrip(b"\0").decode()
    assert (type_of(own), type_of(watcher)) == (LAUNCHER, WATCHER)
    assert guest.startswith(guest_context("s0:c"))
    assert label_in(machine, "/run/vms/q") == f"system_u:object_r:septum_vm.socket:{guest.split(':', 3)[3]}"
    assert label_in(machine, "/var/lib/septum/ledger.db").endswith(":septum_var_lib_t:s0")
    ask(machine, "/run/vms/q", "quit")
    machine.run("until septum ps --json | grep -q '^\\[\\]'; do sleep 0.2; done", timeout=60, check=True)
    assert label_in(machine, "/srv/vms/disk").endswith(":var_t:s0")
    assert refused(machine) == []


def test_the_launcher_takes_nothing_that_keeps_the_host_secure(machine: Machine) -> None:
    done = machine.run(
        f"septum run --driver selinux --allow-path /etc/shadow -- {QEMU} -drive file=/etc/shadow,format=raw"
    )
    assert done.status == 125
    assert label_in(machine, "/etc/shadow").endswith(":shadow_t:s0")


def test_a_guest_gets_no_further_than_its_role(machine: Machine) -> None:
    """The kernel's word on what tests/test_policy_decisions.py asks of libsepol."""
    context = guest_context("s0:c1,c2")
    machine.run("septum reconcile; mkdir -p /var/lib/septum; touch /var/lib/septum/ledger.db", check=True)
    tries = ["cat /var/lib/septum/ledger.db", "ls /var/lib/septum", "cat /proc/1/cmdline", f"{COMMAND} ps"]
    tries += [f"touch {folder}/x" for folder in ("/srv", "/run", "/tmp", "/dev/shm")]
    for one in tries:
        done = machine.run(one, context=context)
        assert "ermission denied" in done.errors, (one, done)
    assert machine.run("ls /srv/x /run/x /tmp/x /dev/shm/x").output == ""


STATES = """
from argparse import Namespace
from septum.cli.policy import states
print(states(Namespace(state=""), None)["module"])
"""


def test_doctor_tells_which_policy_decides(machine: Machine, tmp_path: Path) -> None:
    assert inside(machine, STATES, check=True).output.strip() == "same"
    assert "policy module: in force, of this version" in machine.run("septum doctor", check=True).output
    with other_policy(machine):
        assert inside(machine, STATES, check=True).output.strip() == "none"
    older = tmp_path / "septum.cil"
    older.write_bytes(module().replace(marker("module").text.encode(), b"(block septum_source (type xolder))\n"))
    with other_policy(machine, older):
        assert inside(machine, STATES, check=True).output.strip() == "differs"
        assert "not what this version of septum brings" in machine.run("septum doctor", check=True).output
    assert inside(machine, STATES, check=True).output.strip() == "same"


@contextmanager
def other_policy(machine: Machine, *modules: Path) -> Iterator[None]:
    """Debian's policy with these modules instead of septum's, for a while."""
    machine.load_policy(selinux_image.policy(*modules, *selinux_image.for_tests(modules)))
    try:
        yield
    finally:
        machine.load_policy(selinux_image.image() / "policy")
