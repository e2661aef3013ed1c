"""A declaration in the policy of a kernel that enforces: applied in the machine, decided by its kernel."""

import json
from collections.abc import Iterator

import pytest

from lab.selinux import Machine
from septum.declare import End, door_name, process_type, service_type
from tests.labkit import SEPTUM, inside, machine_with_septum, wait_for_socket
from tests.rendezvouskit import BLUE, PLATFORM, RED

pytestmark = pytest.mark.lab

WEB, DB, SQL = End("red", "web"), End("blue", "db"), End("blue", "sql")
RUN = "from septum.cli.entry import septum; septum()"
DECIDE = """
import sys
from septum.host import selinux_kernel
print(*selinux_kernel.decide(*sys.argv[1:4], frozenset(sys.argv[4:])).allowed)
"""
SEMODULE = 400  # seconds that semodule may take in an emulated machine, which needs 45 to 76


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    for machine in machine_with_septum(request):
        machine.run("mkdir -p /etc/septum /run/vms; chmod 755 /etc/septum", check=True)
        yield machine


def declared(machine: Machine, platform: str) -> None:
    for name, text in (("platform", platform), ("red", RED), ("blue", BLUE)):
        machine.write(f"/etc/septum/{name}.toml", text.encode())
    machine.run("chmod 644 /etc/septum/*", check=True)


def loads(machine: Machine) -> int:
    """How often a policy was loaded since the last call: AUDIT_MAC_POLICY_LOAD in include/uapi/linux/audit.h."""
    return machine.dmesg().count("type=1403")


def boolean(machine: Machine, role: End, service: End) -> str:
    return machine.read(f"/sys/fs/selinux/booleans/{door_name(role, service)}.open").decode().strip("\0")


def allowed(machine: Machine, source: str, target: str, tclass: str, permission: str) -> bool:
    return inside(machine, DECIDE, source, target, tclass, permission, check=True).output.strip() == permission


def test_a_declaration_is_put_into_the_kernels_policy(machine: Machine) -> None:
    declared(machine, PLATFORM)
    done = inside(machine, RUN, "declare", "apply", "--yes", "--json", timeout=SEMODULE)
    assert done.status == 0, done.errors
    said = json.loads(done.output)
    assert (said["applied"], said["compiled"], said["new_realms"]) == (True, True, ["blue", "red"])
    web = f"system_u:system_r:{process_type(WEB)}:s0:c1,c300"
    service = f"system_u:object_r:{service_type(SQL)}:s0"
    mail = f"system_u:system_r:{process_type(End('red', 'mail'))}:s0:c1,c301"
    assert boolean(machine, WEB, SQL) == "1 1"
    assert allowed(machine, web, service, "septum_service", "connect")
    assert not allowed(machine, mail, service, "septum_service", "connect")

    # Consent withdrawn: the boolean, and no policy is loaded.
    assert loads(machine) == 1
    declared(machine, PLATFORM + '[[platform.deny]]\nrole = "red/web"\nservice = "blue/sql"\n')
    said = json.loads(inside(machine, RUN, "declare", "apply", "--yes", "--json", check=True).output)
    assert not said["compiled"]
    assert loads(machine) == 0
    assert boolean(machine, WEB, SQL) == "0 0"
    assert not allowed(machine, web, service, "septum_service", "connect")

    # As after a boot, when booleans are what the module says.
    declared(machine, PLATFORM)
    inside(machine, RUN, "declare", "apply", "--yes", check=True)
    path = f"/sys/fs/selinux/booleans/{door_name(WEB, SQL)}.open"
    machine.run(f"echo 0 >{path}; echo 1 >/sys/fs/selinux/commit_pending_bools", check=True)
    inside(machine, RUN, "reconcile", check=True)
    assert boolean(machine, WEB, SQL) == "1 1"
    assert loads(machine) == 0

    # A guest of the role gets the role's type, and its files.
    machine.run("mkdir -p /srv/vms; truncate -s 1M /srv/vms/disk", check=True)
    command = (
        "python3 -m septum run --driver selinux --realm red --role web -- qemu-system-x86_64 -nodefaults -display none"
    )
    command += " -machine none -S -drive if=none,file=/srv/vms/disk,format=raw -qmp unix:/run/vms/q,server,nowait"
    pid = machine.spawn(command.split(), environment={"PYTHONPATH": SEPTUM})
    wait_for_socket(machine, "/run/vms/q", pid)
    label = machine.read(f"/proc/{pid}/attr/current").rstrip(b"\0").decode()
    assert label.startswith(f"system_u:system_r:{process_type(WEB)}:s0:c")
    image = machine.run("stat -c %C /srv/vms/disk", check=True).output
    assert image.startswith(f"system_u:object_r:{process_type(WEB).removesuffix('.process')}.image:s0:c")
    assert allowed(machine, label, service, "septum_service", "connect")
    refused = [avc for avc in machine.avcs() if avc.denied and "septum_realm" in avc.source]
    assert refused == []
