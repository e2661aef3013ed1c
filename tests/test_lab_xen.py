"""The Xen machine is what lab tests take it for: FLASK enforces septum's policy, and SELinux in dom0 Debian's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import xen_source
from lab.cache import LabError
from lab.xen import Machine
from septum.policy import marker_context, numbers_cil, sources

pytestmark = pytest.mark.lab

RED = "system_u:system_r:septum_vm.domain:s0:c1,c300,c301"
BLUE = "system_u:system_r:septum_vm.domain:s0:c2,c300,c301"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine.restored() as made:
        yield made


def test_both_security_servers_enforce(machine: Machine) -> None:
    assert machine.xl("getenforce", check=False).output.strip() == "Enforcing"
    assert machine.read("/sys/fs/selinux/enforce") == b"1"
    assert machine.labels() == {"Domain-0": "system_u:system_r:dom0_t:s0-s0:c0.c1023"}


def test_it_is_this_version_of_the_policy_that_decides(machine: Machine) -> None:
    # A context that only this version's sources make valid, as the label of a domain that no rule lets anybody make.
    for context, told in ((marker_context("xen"), "denied"), ("system_u:object_r:septum_source.x0:s0", "nothing")):
        machine.xen_log()
        with pytest.raises(LabError):
            machine.create("nobody", context, wait=False)
        assert ("denied" if machine.hypervisor_avcs() else "nothing") == told


def test_numbers_are_those_of_the_source_it_was_built_from() -> None:
    files = [
        (xen_source.numbers() / name).read_text() for name in ("security_classes", "access_vectors", "initial_sids")
    ]
    (shipped,) = [source.text for source in sources("xen") if source.name == "xen/numbers.cil"]
    assert shipped == numbers_cil(*files)


def test_guests_start_labelled_and_nothing_they_need_is_refused(machine: Machine) -> None:
    machine.xen_log()
    machine.dmesg()
    red = machine.create("red", RED)
    blue = machine.create("blue", BLUE, "pvh")
    labels = machine.labels()
    assert (labels["red"], labels["blue"]) == (RED, BLUE)
    for guest in (red, blue):
        assert float(guest.python("result = open('/proc/uptime').read()").split()[0]) > 0
        # What a test leaves in a guest stays there for its next question, and an exception comes back.
        guest.python("kept = number + 1", number=41)
        assert guest.python("result = kept") == 42
        with pytest.raises(LabError, match="ZeroDivisionError"):
            guest.python("1 / 0")
        machine.xl("destroy", guest.name)
    assert machine.hypervisor_avcs() == []
    assert machine.avcs() == []


def test_a_guest_without_a_label_is_not_made(machine: Machine) -> None:
    machine.xen_log()
    config = Machine.config("plain", RED)
    machine.write("/tmp/plain.cfg", "\n".join(line for line in config.split("\n") if "seclabel" not in line).encode())
    assert machine.xl("create", "-q", "/tmp/plain.cfg", check=False).status != 0
    (avc,) = machine.hypervisor_avcs()
    assert (avc.cls, avc.permissions) == ("domain", {"create"})
    assert avc.target.split(":")[2] in ("domU_t", "unlabeled_t")
    assert "plain" not in machine.labels()


def test_files_travel(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("kept")
    machine.push(tmp_path / "a", "/var/lib/pushed")
    machine.pull("/var/lib/pushed", tmp_path / "b")
    assert (tmp_path / "b" / "f").read_text() == "kept"
