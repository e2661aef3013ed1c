"""`septum attack` on a kernel that enforces SELinux: in the guest's own domain, or by asking where it's shut."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.selinux import Machine
from tests.labkit import SEPTUM, guest_context, machine_with_septum, wait_for_socket

pytestmark = pytest.mark.lab

PYTHON = {"PYTHONPATH": SEPTUM}


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    for machine in machine_with_septum(request):
        machine.run("mkdir -p /srv/vms /run/vms", check=True)
        yield machine


def start(machine: Machine, name: str, realm: str, driver: str) -> None:
    machine.run(["truncate", "-s", "1M", f"/srv/vms/{name}.img"], check=True)
    qemu = ["qemu-system-x86_64", "-nodefaults", "-machine", "none", "-display", "none", "-S"]
    qemu += ["-blockdev", f"raw,node-name=disk,file.driver=file,file.filename=/srv/vms/{name}.img"]
    qemu += ["-qmp", f"unix:/run/vms/{name}.qmp,server=on,wait=off"]
    command = ["python3", "-m", "septum", "run", "--driver", driver, "--realm", realm, "--name", name, "--", *qemu]
    wait_for_socket(machine, f"/run/vms/{name}.qmp", machine.spawn(command, environment=PYTHON))


def attack(machine: Machine, guest: str) -> tuple[int | None, dict[str, Any]]:
    command = ["python3", "-m", "septum", "attack", "--json", guest]
    done = machine.run(command, environment=PYTHON, timeout=120)
    assert done.output, done.errors
    report: dict[str, Any] = json.loads(done.output)[0]
    return done.status, report


def verdicts(report: dict[str, Any], verdict: str) -> list[str]:
    """What has this verdict, one line each."""
    return [
        f"{entry['category']}: {entry['name']} {entry['target']}: {entry['outcome']} {entry['error']}"
        for entry in report["attempts"]
        if entry["verdict"] == verdict
    ]


def by(report: dict[str, Any], category: str) -> dict[str, dict[str, Any]]:
    """The attempts of one category by name; what was asked has the same names with an asterisk."""
    return {
        entry["name"] + "*" * entry["asked"]: entry for entry in report["attempts"] if entry["category"] == category
    }


def test_with_both_drivers_nothing_gets_out(machine: Machine) -> None:
    start(machine, "a", "red", "selinux,landlock")
    start(machine, "b", "blue", "selinux,landlock")
    status, report = attack(machine, "red/a")
    assert verdicts(report, "ESCAPE") + verdicts(report, "BROKEN") + verdicts(report, "inconclusive") == []
    assert (status, report["mode"]) == (0, "attempted without SELinux")
    objects = by(report, "objects of blue/b")
    assert objects["write"]["error"] == "EACCES"
    assert "landlock" in objects["write"]["why"]
    assert objects["write*"]["outcome"] == "refused"
    assert "categories" in objects["write*"]["why"]
    assert by(report, "process of blue/b")["trace, signal, inspect, become*"]["verdict"] == "ok"


def test_selinux_alone_keeps_guests_apart_in_their_own_domain(machine: Machine) -> None:
    start(machine, "a", "red", "selinux")
    start(machine, "b", "blue", "selinux")
    status, report = attack(machine, "red/a")
    assert (status, report["mode"]) == (0, "attempted")
    assert verdicts(report, "BROKEN") + verdicts(report, "inconclusive") == []
    assert verdicts(report, "ESCAPE") == []
    assert by(report, "objects of blue/b")["write"]["error"] == "EACCES"
    assert by(report, "sockets of blue/b")["connect"]["error"] == "EACCES"
    assert by(report, "own confinement")["write its own label"]["error"] == "EACCES"
    context = next(avc.source for avc in machine.avcs() if 'comm="python3"' in avc.details and "_vm" in avc.source)
    assert context.startswith(guest_context("s0:"))
    assert "c" in context.split(":", 3)[3]


def test_where_the_domain_cant_be_entered_the_kernel_is_asked(machine: Machine) -> None:
    start(machine, "a", "red", "selinux")
    start(machine, "b", "blue", "selinux")
    # The lab lets a guest begin with what is in /usr/bin; an ordinary host with QEMU only.
    machine.run("chcon -t usr_t $(readlink -f /usr/bin/python3)", check=True)
    status, report = attack(machine, "red/a")
    assert (status, report["mode"]) == (0, "asked")
    assert "can't be entered" in report["note"]
    assert all(entry["asked"] for entry in report["attempts"] if entry["category"] != "QEMU itself")
    assert by(report, "objects of blue/b")["take its name away, change its owner, label*"]["outcome"] == "refused"
