"""The SELinux machine is what the other lab tests take it for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import LabError
from lab.selinux import GUEST_INITRD, GUEST_KERNEL, Avc, Done, Machine, parse_avcs
from tests.labkit import BLUE, KVM_PATIENCE, MAY_HALT, RED, guest_context, image_context, machine_with_septum

LOG = """\
[  1.1] audit: type=1400 audit(1.5:9): avc:  denied  { read write } for  pid=9 comm="cat" name="a b" dev="vda" ino=3 \
scontext=system_u:system_r:septum_vm.process:s0:c1,c2 tcontext=system_u:object_r:septum_vm.image:s0:c1,c4 \
tclass=file permissive=0
[  1.2] audit: type=1403 audit(1.5:10): policy loaded
[  1.3] audit: type=1400 audit(1.5:11): avc:  granted  { setenforce } for  pid=9 comm="x" scontext=a:b:c:s0 \
tcontext=d:e:f:s0 tclass=security
"""


def test_audit_records_are_parsed() -> None:
    first, second = parse_avcs(LOG)
    assert first == Avc(
        guest_context(RED),
        image_context(BLUE),
        "file",
        frozenset({"read", "write"}),
        True,
        True,
        'pid=9 comm="cat" name="a b" dev="vda" ino=3',
    )
    assert (second.denied, second.cls, second.source) == (False, "security", "a:b:c:s0")


pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


def test_programs_run_as_told(machine: Machine) -> None:
    command = "cat; pwd; echo $X; echo oops >&2; id -Z; exit 3"
    done = machine.run(command, stdin=b"in\n", folder="/tmp", environment={"X": "y"})
    assert done.status == 3
    assert done.output.splitlines() == ["in", "/tmp", "y", "unconfined_u:unconfined_r:unconfined_t:s0"]
    assert done.errors == "oops\n"
    current = machine.run(["cat", "/proc/self/attr/current"], context=guest_context(RED)).output
    assert current.strip("\0\n") == guest_context(RED)
    assert machine.run("sleep 100", timeout=0.5).status is None
    with pytest.raises(LabError, match="status 1"):
        machine.run("false", check=True)


def test_spawned_programs_are_waited_for(machine: Machine) -> None:
    pid = machine.spawn("until [ -e /tmp/go ]; do sleep 0.01; done; echo went; echo so >&2; exit 4")
    assert machine.wait(pid, timeout=0).status is None
    machine.write("/tmp/go", b"")
    assert machine.wait(pid) == Done(4, "went\nso\n", "")


def test_the_kernel_keeps_labels_apart_and_says_so(machine: Machine) -> None:
    machine.run(f"mkdir /srv/d; echo secret >/srv/d/disk; chcon {image_context(BLUE)} /srv/d/disk", check=True)
    machine.dmesg()

    def about_the_disk() -> list[Avc]:
        # The shell looks for translations, which QEMU has no need of.
        return [avc for avc in machine.avcs() if avc.target == image_context(BLUE)]

    assert machine.run("cat /srv/d/disk", context=guest_context(BLUE)).output == "secret\n"
    assert about_the_disk() == []
    assert machine.run("cat /srv/d/disk", context=guest_context(RED)).status == 1
    (avc,) = about_the_disk()
    assert avc._replace(details="") == Avc(
        guest_context(RED), image_context(BLUE), "file", frozenset({"read"}), True, True, ""
    )


def test_files_go_in_and_out(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(range(256)) * 5000)
    machine.push(tmp_path / "a", "/tmp/pushed")
    machine.write("/tmp/pushed/one", b"1\0")
    assert machine.read("/tmp/pushed/one") == b"1\0"
    machine.pull("/tmp/pushed", tmp_path / "back")
    assert (tmp_path / "back/b/file").read_bytes() == (tmp_path / "a/b/file").read_bytes()
    with pytest.raises(LabError, match="FileNotFoundError"):
        machine.read("/nowhere")


@MAY_HALT
def test_a_guest_boots_inside() -> None:
    argv = ["qemu-system-x86_64", "-nodefaults", "-machine", "q35", "-accel", "kvm", "-m", "128", "-display", "none"]
    argv += ["-no-reboot", "-serial", "stdio", "-kernel", GUEST_KERNEL, "-initrd", GUEST_INITRD]
    with Machine.restored() as machine:
        done = machine.run([*argv, "-append", "console=ttyS0 quiet marker=inside then=reboot"], timeout=KVM_PATIENCE)
    assert "inside" in done.output


@pytest.mark.parametrize("sync", [True, False])
def test_the_disk_outlives_a_reboot_and_memory_does_not(sync: bool) -> None:
    with Machine.restored() as machine:
        machine.run("echo kept >/root/kept; sync /root/kept; echo lost >/run/lost", check=True)
        machine.reboot(sync=sync)
        assert machine.run("cat /root/kept; ls /run/lost").output == "kept\n"
        assert machine.read("/sys/fs/selinux/enforce") == b"1"
