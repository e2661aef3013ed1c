"""Realms on a kernel that enforces: the labels of the scheme on processes, and the kernel refuses what the API does."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.selinux import Machine
from septum.host.selinux_types import ORCHESTRATOR, OWN
from tests.labkit import SEPTUM, inside, machine_with_septum, wait_for_socket

pytestmark = pytest.mark.lab

PACKAGES = (
    "aiohappyeyeballs aiohttp aiosignal attr cryptography _cffi_backend frozenlist idna msgspec multidict propcache"
    " qemu typing_extensions yarl"
).split()
STATE = "/var/lib/septum"
PATH = {"PYTHONPATH": f"{SEPTUM}:/opt/site"}

SCRIPT = """
import json, sys
from septum.client import Client
from septum.errors import SeptumError
with Client("/var/lib/septum/platform.sock") as api:
    levels = {}
    for realm in ("red", "blue"):
        levels[realm] = api.create_realm(realm).level
        api.wait(api.create_image(realm, "disk", size=8192))
        disks = {"disks": [{"image": "disk"}]}
        api.create_guest(realm, "web", {"machine": "none", "memory": 16, **disks})
        api.wait(api.start_guest(realm, "web"))
    api.create_guest("red", "boss", {"machine": "q35", "memory": 32, "paused": True, "orchestrator": True})
    api.wait(api.start_guest("red", "boss"))
    found = {f"{realm}/{one.name}": one._asdict() for realm in ("red", "blue") for one in api.guests(realm)}
with Client("/var/lib/septum/realms/red.sock") as api:
    context = api.me().context
    try:
        api.stop_guest("blue", "web")
        refused = ""
    except SeptumError as error:
        refused = error.what
print(json.dumps([levels, found, context, refused]))
"""

# What the kernel says to a process in a domain, past the API.
PAST = """
import json, sys
from septum.host import selinux_kernel as se
context, *paths = sys.argv[1:]
def may(target, cls, permissions):
    return sorted(se.decide(context, target, cls, frozenset(permissions)).allowed)
print(json.dumps([may(*json.loads(one)) for one in paths]))
"""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    site = Path(msgspec.__file__).parent.parent
    for machine in machine_with_septum(request):
        chosen = tmp_path_factory.mktemp("site")
        for name in PACKAGES:
            for path in [*site.glob(name), *site.glob(f"{name}.*")]:
                (chosen / path.name).symlink_to(path)
        packed = chosen.with_suffix(".tar")
        with tarfile.open(packed, "w", dereference=True) as archive:
            archive.add(chosen, arcname=".", filter=lambda one: None if "__pycache__" in one.name else one)
        machine.run(["mkdir", "-p", "/opt/site"], check=True)
        machine.write("/opt/site.tar", packed.read_bytes())
        machine.run("tar -C /opt/site -xf /opt/site.tar; rm /opt/site.tar", check=True)
        yield machine


def test_processes_have_the_labels_of_the_scheme(machine: Machine) -> None:
    septumd = "from septum.daemon.main import main; main(['--engine', 'kernel'])"
    one = machine.spawn(["python3", "-c", septumd], environment=PATH)
    wait_for_socket(machine, f"{STATE}/septumd.sock", one)
    apid = "from septum.api.main import main; main(['--driver', 'selinux,landlock'])"
    two = machine.spawn(["python3", "-c", apid], environment=PATH)
    wait_for_socket(machine, f"{STATE}/platform.sock", two)
    levels, guests, context, refused = json.loads(inside(machine, SCRIPT, check=True, timeout=120).output)
    red, boss, blue = guests["red/web"], guests["red/boss"], guests["blue/web"]
    assert [one["state"] for one in (red, boss, blue)] == ["running", "paused", "running"]
    labels = {
        name: machine.read(f"/proc/{one['pid']}/attr/current").rstrip(b"\0").decode() for name, one in guests.items()
    }
    assert labels["red/web"] == f"{OWN.process}:{red['level']}"
    assert labels["blue/web"] == f"{OWN.process}:{blue['level']}"
    assert labels["red/boss"] == f"{ORCHESTRATOR.process}:{levels['red']}-{levels['red']},c256.c1021"
    # To the API the realm's callers are what the orchestrator's emulator is to the kernel.
    assert labels["red/boss"] == context
    assert refused == "there is no such object"
    images = [
        machine.run(["stat", "-c", "%C", f"/var/lib/septum-realms/{realm}/disk.img"], check=True).output.strip()
        for realm in ("red", "blue")
    ]
    assert images == [f"{OWN.image}:{one['level']}" for one in (red, blue)]
    # Past the API: what the kernel says of the orchestrator's own process, about guests as septum's objects, and as
    # processes and files.
    asked = [
        (labels["red/web"], "septum_guest", ["stop", "start"]),
        (labels["blue/web"], "septum_guest", ["stop", "start"]),
        (labels["blue/web"], "process", ["sigkill", "ptrace"]),
        (labels["red/web"], "process", ["sigkill", "ptrace"]),
        (images[1], "file", ["read", "write", "open"]),
    ]
    told = json.loads(inside(machine, PAST, labels["red/boss"], *map(json.dumps, asked), check=True).output)
    assert told == [["start", "stop"], [], [], [], []]
    # And what a compromised emulator gets that tries for real, from inside each one's confinement.
    for name in ("red/web", "red/boss"):
        done = machine.run(["python3", "-m", "septum", "attack", name], environment=PATH, timeout=180)
        assert done.status == 0, done.output
