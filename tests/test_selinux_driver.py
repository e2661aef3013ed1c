"""The SELinux driver: its steps (pure), its operation on files, and on a kernel that enforces, all of it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import selinux_image
from lab.selinux import Avc, Machine
from septum.errors import Held, HostError
from septum.guests.resource import Access, Kind, Resource, Sharing
from septum.host.driver import Confinement, Facts, Item, Step
from septum.host.objects import look
from septum.host.selinux import SelinuxDriver
from septum.host.selinux_types import OWN, SVIRT
from septum.launch.drivers import make
from septum.launch.plan import steps_of
from tests.labkit import (
    BLUE,
    RED,
    SEPTUM,
    ask,
    content_context,
    guest_context,
    image_context,
    inside,
    label_in,
    machine_with_septum,
    wait_for_socket,
)

REALM = "s0:c1"
QEMU = ("qemu-system-x86_64", "-nodefaults", "-machine", "none", "-display", "none", "-S")


def facts(path: str, kind: str = "file", context: str = "") -> Facts:
    return Facts(f"key of {path}", path, kind, 1, 2, 1, 0, 0, 0o644, "", context)


def item(
    path: str,
    kind: Kind,
    access: Access,
    sharing: Sharing = "exclusive",
    *,
    what: str = "file",
    platform: bool = False,
    missing: bool = False,
) -> Item:
    found = None if missing else facts(path, what)
    parent = facts(os.path.dirname(path), "dir")
    return Item(Resource(path, kind, access, sharing, "-x", creates=missing), found, parent, (), platform)


def confinement(*items: Item) -> Confinement:
    return Confinement(
        uuid="u",
        name="red",
        realm="r",
        level=RED,
        realm_level=REALM,
        uid=-1,
        gid=-1,
        realm_gid=-1,
        groups=(),
        binary="/usr/bin/qemu-system-x86_64",
        items=items,
        network=False,
        connects=False,
        executes=False,
        daemonize=False,
        memlock=False,
        run_dir="",
    )


@pytest.mark.parametrize(
    ("given", "context", "scope"),
    [
        (item("/v/disk", "image", "rw"), image_context(RED), ""),
        (item("/v/lv", "image", "rw", what="block"), image_context(RED), ""),
        (item("/v/iso", "image", "ro"), content_context(RED), ""),
        (item("/v/base", "backing", "ro", "shared"), content_context(REALM), "key of /v/base"),
        (item("/v/shared", "image", "rw", "shared"), image_context(REALM), "key of /v/shared"),
        (item("/v/log", "log", "rw"), image_context(RED), ""),
        (item("/dev/vfio/9", "device", "rw", what="char"), f"{OWN.device}:{RED}", ""),
        (item("/v/tree", "directory", "rw", what="dir"), image_context(RED), ""),
    ],
)
def test_each_object_gets_the_label_of_its_use(given: Item, context: str, scope: str) -> None:
    (step,) = SelinuxDriver().steps(confinement(given))
    path = given.resource.path
    assert step == Step("context", f"key of {path}", path, scope, {"context": context})


def test_a_file_that_qemu_would_make_is_made_with_its_label() -> None:
    (step,) = SelinuxDriver().steps(confinement(item("/v/log", "log", "rw", missing=True)))
    assert (step.op, step.key, step.path, step.args["context"]) == ("mkfile", "", "/v/log", image_context(RED))


def test_names_that_qemu_makes_are_removed_after_it() -> None:
    named = [item("/run/vms/qmp", "socket", "rw", missing=True), item("/run/vms/pid", "pidfile", "rw", missing=True)]
    steps = SelinuxDriver().steps(confinement(*named))
    assert [(step.op, step.path) for step in steps] == [
        ("unlink", "/run/vms/qmp"),
        ("mkfile", "/run/vms/pid"),
        ("unlink", "/run/vms/pid"),
    ]


def test_what_two_drivers_want_is_done_once() -> None:
    guest = confinement(item("/v/log", "log", "rw", missing=True), item("/v/qmp", "socket", "rw", missing=True))
    steps = steps_of(make(("selinux", "landlock")), guest)
    made, unlinked = (step for step in steps if step.op in ("mkfile", "unlink"))
    assert (made.op, made.args["context"], made.args["mode"]) == ("mkfile", image_context(RED), 0o600)
    assert unlinked.op == "unlink"


def test_what_belongs_to_all_keeps_its_label() -> None:
    left = [
        item("/usr/share/qemu/bios.bin", "firmware", "ro", platform=True),
        item("/dev/kvm", "shared-device", "rw", "shared", what="char"),
        item("/usr/lib/qemu/qemu-bridge-helper", "helper", "ro"),
        item("/dev/hugepages", "memory", "rw", what="dir"),
        item("/run/other", "peer-socket", "rw", what="socket"),
        item("/sys/bus/pci/devices/x", "sysfs", "rw"),
        item("/tmp", "tmpdir", "rw", what="dir"),
    ]
    assert SelinuxDriver().steps(confinement(*left)) == []


def test_types_are_the_policys_to_choose() -> None:
    (step,) = SelinuxDriver(SVIRT._replace(image="a:b:c_t")).steps(confinement(item("/v/disk", "image", "rw")))
    assert step.args == {"context": f"a:b:c_t:{RED}"}


def test_a_guest_keeps_the_types_that_it_was_started_with() -> None:
    guest = confinement(item("/v/disk", "image", "rw"))._replace(types="svirt")
    (step,) = SelinuxDriver(OWN).steps(guest)
    assert step.args == {"context": f"system_u:object_r:svirt_image_t:{RED}"}
    assert SelinuxDriver(OWN).context(guest) == f"system_u:system_r:svirt_t:{RED}"


OLD = "system_u:object_r:var_t:s0"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_text("x")
    os.setxattr(path, "security.selinux", OLD.encode() + b"\0")
    return path


def step_for(path: Path, context: str) -> Step:
    found = look(str(path)).facts
    assert found is not None
    return Step("context", found.key, found.path, "", {"context": context})


def label_of(path: Path) -> str:
    return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode()


@pytest.mark.root
class TestRelabel:
    """On this machine's own files: without SELinux in the kernel a label is an attribute like any other."""

    relabel = SelinuxDriver().operations()["context"]

    def test_there_and_back(self, labelled: Path) -> None:
        step = step_for(labelled, image_context(RED))
        original = self.relabel.capture(step)
        assert self.relabel.undo(step, original) == "untouched"
        self.relabel.apply(step, original)
        self.relabel.apply(step, original)
        assert label_of(labelled) == image_context(RED)
        assert self.relabel.undo(step, json.loads(json.dumps(original))) == "restored"
        assert self.relabel.undo(step, original) == "untouched"
        assert label_of(labelled) == OLD

    def test_what_had_no_label_has_none_again(self, tmp_path: Path) -> None:
        path = tmp_path / "bare"
        path.write_text("x")
        step = step_for(path, image_context(RED))
        original = self.relabel.capture(step)
        self.relabel.apply(step, original)
        assert self.relabel.undo(step, original) == "restored"
        assert "security.selinux" not in os.listxattr(path)

    def test_a_foreign_change_is_left_alone(self, labelled: Path) -> None:
        step = step_for(labelled, image_context(RED))
        original = self.relabel.capture(step)
        self.relabel.apply(step, original)
        os.setxattr(labelled, "security.selinux", b"system_u:object_r:etc_t:s0\0")
        assert self.relabel.undo(step, original) == "foreign"
        assert label_of(labelled) == "system_u:object_r:etc_t:s0"

    def test_a_change_between_capture_and_apply_is_refused(self, labelled: Path) -> None:
        step = step_for(labelled, image_context(RED))
        original = self.relabel.capture(step)
        os.setxattr(labelled, "security.selinux", b"system_u:object_r:etc_t:s0\0")
        with pytest.raises(HostError, match="meanwhile"):
            self.relabel.apply(step, original)
        assert label_of(labelled) == "system_u:object_r:etc_t:s0"

    def test_another_object_of_that_name_is_not_touched(self, labelled: Path) -> None:
        step = step_for(labelled, image_context(RED))
        original = self.relabel.capture(step)
        self.relabel.apply(step, original)
        moved = labelled.rename(labelled.with_name("moved"))
        labelled.write_text("another")
        os.setxattr(labelled, "security.selinux", image_context(RED).encode())
        with pytest.raises(HostError):
            self.relabel.apply(step, original)
        assert self.relabel.undo(step, original) == "restored", "it is found by its handle"
        assert label_of(moved) == OLD
        assert label_of(labelled) == image_context(RED)
        moved.unlink()
        assert self.relabel.undo(step, original) == "gone"
        assert label_of(labelled) == image_context(RED)

    def test_what_a_guest_made_in_its_folder_loses_its_label(self, tmp_path: Path) -> None:
        folder, outside = tmp_path / "shared", tmp_path / "outside"
        folder.mkdir()
        outside.write_text("x")
        os.setxattr(folder, "security.selinux", OLD.encode() + b"\0")
        step = step_for(folder, image_context(RED))
        original = self.relabel.capture(step)
        self.relabel.apply(step, original)
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").write_text("x")
        (folder / "a" / "link").symlink_to(outside)
        made = [folder / "a", folder / "a" / "b", folder / "a" / "b" / "file", folder / "a" / "link"]
        (folder / "own").write_text("was there before")
        for path, label in [*((path, image_context(RED)) for path in (*made, outside)), (folder / "own", "a:b:c:s0")]:
            os.setxattr(path, "security.selinux", label.encode(), follow_symlinks=False)
        assert self.relabel.undo(step, original) == "restored"
        assert {label_of(path) for path in (folder, *made)} == {OLD}
        assert label_of(folder / "own") == "a:b:c:s0"
        assert label_of(outside) == image_context(RED)

    def test_a_folder_that_is_too_deep_is_a_persons_to_look_at(self, tmp_path: Path) -> None:
        folder = tmp_path / "shared"
        folder.joinpath(*["d"] * 300).mkdir(parents=True)
        step = step_for(folder, image_context(RED))
        original = self.relabel.capture(step)
        self.relabel.apply(step, original)
        with pytest.raises(HostError, match="too deep"):
            self.relabel.undo(step, original)
        assert label_of(folder) == image_context(RED)

    def test_another_guests_object_is_not_taken(self, labelled: Path) -> None:
        os.setxattr(labelled, "security.selinux", image_context(BLUE).encode() + b"\0")
        step = step_for(labelled, image_context(RED))
        original = self.relabel.capture(step)
        with pytest.raises(Held) as caught:
            self.relabel.apply(step, original)
        assert BLUE in caught.value.holder
        assert label_of(labelled) == image_context(BLUE)


PROBE = """
import sys
from septum.host.selinux import SelinuxDriver
from septum.host.selinux_types import OWN, SETS
types = SETS.get(sys.argv[1]) or (None if sys.argv[1] == "auto" else OWN._replace(process=sys.argv[1]))
driver = SelinuxDriver(types, permissive=len(sys.argv) > 2)
found = driver.probe()
print(driver.types.name, found.works, found.reason, *found.weaker, sep="\\n")
"""

# What `septum run` does, for one guest, with the driver alone.
LAUNCH = """
import json, os, sys
from septum.guests.resource import Resource
from septum.host.driver import Confinement, Item
from septum.host.objects import look
from septum.host.ops import OPERATIONS
from septum.host.selinux import SelinuxDriver
order = json.loads(sys.argv[1])
items = []
for path, kind, access, sharing in order["items"]:
    found = look(path)
    items.append(Item(Resource(path, kind, access, sharing, "", found.facts is None), found.facts, found.parent))
binary = os.path.realpath("/usr/bin/" + order["argv"][0])
guest = Confinement("u", "g", "r", order["level"], order["realm"], -1, -1, -1, (), binary, tuple(items), False, False,
                    False, False, False, "")
driver = SelinuxDriver()
operations = {**OPERATIONS, **driver.operations()}
journal = []
for step in driver.steps(guest):
    if step.op == "mkfile":
        step = step._replace(args={"uid": 0, "gid": 0, "mode": 0o600, "back_uid": 0, "back_gid": 0, **step.args})
    original = operations[step.op].capture(step)
    operations[step.op].apply(step, original)
    journal.append([step, original])
with open(order["journal"], "w") as file:
    json.dump(journal, file)
for entry in sorted(driver.entries(guest), key=lambda entry: entry.phase):
    entry.act()
os.execv(binary, order["argv"])
"""
UNDO = """
import json, sys
from septum.host.driver import Step
from septum.host.ops import OPERATIONS
from septum.host.selinux import SelinuxDriver
operations = {**OPERATIONS, **SelinuxDriver().operations()}
with open(sys.argv[1]) as file:
    for step, original in reversed(json.load(file)):
        print(operations[step[0]].undo(Step(*step), original))
"""
EXPLAIN = """
import json, sys
from septum.host.objects import look
from septum.host.selinux import SelinuxDriver
from types import SimpleNamespace
for path, access in json.loads(sys.argv[2]):
    verdict = SelinuxDriver().explain(SimpleNamespace(level=sys.argv[1], types=""), look(path).facts, access)
    print(json.dumps([verdict.allowed, verdict.rule]))
"""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


@contextmanager
def policy(machine: Machine, *modules: Path) -> Iterator[None]:
    """Debian's policy with these modules, and what the lab needs, for a while."""
    machine.load_policy(selinux_image.policy(*modules, *selinux_image.for_tests(modules)))
    try:
        yield
    finally:
        machine.load_policy(selinux_image.image() / "policy")
        # The kernel keeps the values of booleans that the policy before had, too.
        machine.run("setsebool septum_use_execmem on", check=True)


def probe(machine: Machine, *words: str) -> list[str]:
    return inside(machine, PROBE, *words, check=True).output.splitlines()


@pytest.mark.lab
class TestProbe:
    @pytest.mark.parametrize("name", ["septum", "svirt", "auto"])
    def test_works_and_misses_nothing(self, machine: Machine, name: str) -> None:
        assert probe(machine, name) == ["svirt" if name == "svirt" else "septum", "True", ""]

    def test_permissive_does_not_count_unless_told(self, machine: Machine) -> None:
        machine.write("/sys/fs/selinux/enforce", b"0")
        try:
            assert probe(machine, "auto")[:3] == [
                "septum",
                "False",
                "SELinux is permissive: it records what it would refuse",
            ]
            assert probe(machine, "septum", "told")[1:] == ["True", "", "SELinux is permissive: nothing is refused"]
        finally:
            machine.write("/sys/fs/selinux/enforce", b"1")

    def test_a_domain_that_categories_do_not_bind_is_no_guest(self, machine: Machine) -> None:
        _, works, reason = probe(machine, "system_u:system_r:virtd_t")[:3]
        assert works == "False"
        assert "let a guest use its own image" in reason

    def test_a_type_that_the_policy_lacks(self, machine: Machine) -> None:
        _, works, reason = probe(machine, "system_u:system_r:nothing_t")[:3]
        assert works == "False"
        assert "nothing_t" in reason

    def test_debians_policy_alone_does_not_let_septum_start_guests(self, machine: Machine) -> None:
        machine.run("touch /srv/disk", check=True)
        before = label_in(machine, "/srv/disk")
        run = ["run", "--driver", "selinux", "--", *QEMU, "-drive", "file=/srv/disk,format=raw"]
        with policy(machine):
            types, works, reason = probe(machine, "auto")[:3]
            done = machine.run(["python3", "-m", "septum", *run], environment={"PYTHONPATH": SEPTUM})
        assert (types, works) == ("svirt", "False")
        assert "does not let unconfined_u:unconfined_r:unconfined_t:s0 start guests" in reason
        assert done.status == 125
        assert reason in done.errors
        assert label_in(machine, "/srv/disk") == before

    def test_where_septums_policy_is_not_loaded_libvirts_types_do(self, machine: Machine) -> None:
        with policy(machine, *(path for path in selinux_image.shipped_modules() if path.stem == "septum_svirt")):
            types, works, _, weaker = probe(machine, "auto")
        assert (types, works) == ("svirt", "True")
        assert "septum policy load" in weaker

    def test_a_permissive_domain(self, machine: Machine, tmp_path: Path) -> None:
        module = tmp_path / "lab_permissive.cil"
        module.write_text("(typepermissive septum_vm.process)\n(typepermissive svirt_t)\n")
        with policy(machine, *selinux_image.shipped_modules(), module):
            types, works, reason = probe(machine, "auto")[:3]
        assert (types, works) == ("septum", "False")
        assert "is permissive" in reason
        assert probe(machine, "auto") == ["septum", "True", ""]


@pytest.mark.lab
def test_the_exec_context_is_never_written_to_a_fake_proc(machine: Machine) -> None:
    program = "from septum.host.selinux_kernel import open_attribute; open_attribute('exec')"
    fake = "mkdir -p /tmp/proc/thread-self/attr /tmp/proc/self; touch /tmp/proc/thread-self/attr/exec"
    done = machine.run(
        f'{fake}; unshare -m bash -c "mount --bind /tmp/proc /proc && python3 -c \\"{program}\\""',
        environment={"PYTHONPATH": SEPTUM},
    )
    assert done.status == 1
    assert "/proc is not the root of procfs" in done.errors


ATTEMPT = """
import json, os, sys
for path, access in json.loads(sys.argv[1]):
    try:
        os.close(os.open(path, os.O_RDWR if access == "rw" else os.O_RDONLY))
        print("true")
    except PermissionError:
        print("false")
"""
SOCKETS = """
import os, sys
folder = f"/proc/{sys.argv[1]}/fd"
for fd in os.listdir(folder):
    if os.readlink(f"{folder}/{fd}").startswith("socket:"):
        print(os.getxattr(f"{folder}/{fd}", "security.selinux").rstrip(b"\\0").decode())
"""
PEER = """
import socket, sys
SO_PEERSEC = 31
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    print(client.getsockopt(socket.SOL_SOCKET, SO_PEERSEC, 256).rstrip(b"\\0").decode())
"""
SOCKCREATE = """
import os, sys
from septum.host import selinux_kernel
selinux_kernel.write_attribute(selinux_kernel.open_attribute("sockcreate"), sys.argv[1])
print(selinux_kernel.read_attribute(selinux_kernel.open_attribute("sockcreate")), flush=True)
os.execvp("python3", ["python3", "-c", "import os, socket; made = socket.socket();"
    "print(os.getxattr(f'/proc/self/fd/{made.fileno()}', 'security.selinux').decode().strip(chr(0)))"])
"""
LEVELS = """
from septum.host.selinux import SelinuxDriver
print(*SelinuxDriver().foreign())
"""


@pytest.mark.lab
def test_a_context_for_sockets_does_not_outlive_exec(machine: Machine) -> None:
    """Why the driver leaves ``sockcreate`` alone."""
    before, after = inside(machine, SOCKCREATE, guest_context("s0:c9"), check=True).output.split()
    assert before == guest_context("s0:c9")
    assert after == "unconfined_u:unconfined_r:unconfined_t:s0"


class Guest:
    """A real QEMU that the driver alone has confined, in the machine."""

    def __init__(self, machine: Machine, name: str, level: str) -> None:
        self.machine, self.name, self.level = machine, name, level
        self.disk, self.iso, self.log = (f"/srv/vms/{name}.{kind}" for kind in ("img", "iso", "log"))
        self.monitor = f"/run/vms/{name}.qmp"
        machine.run(["truncate", "-s", "1M", self.disk, self.iso], check=True)
        argv = [*QEMU, "-name", name, "-D", self.log, "-d", "trace:qmp_enter_*"]
        argv += ["-blockdev", f"raw,node-name=disk,file.driver=file,file.filename={self.disk}"]
        argv += ["-blockdev", f"raw,node-name=iso,read-only=on,file.driver=file,file.filename={self.iso}"]
        argv += ["-blockdev", "raw,node-name=base,read-only=on,file.driver=file,file.filename=/srv/vms/base"]
        argv += ["-qmp", f"unix:{self.monitor},server=on,wait=off"]
        argv += ["-chardev", f"socket,id=abstract,abstract=on,path={name},server=on,wait=off"]
        items = [(self.disk, "image", "rw", "exclusive"), (self.iso, "image", "ro", "exclusive")]
        items += [("/srv/vms/base", "backing", "ro", "shared"), (self.log, "log", "rw", "exclusive")]
        items += [(self.monitor, "socket", "rw", "exclusive")]
        self.journal = f"/root/{name}.journal"
        order = {"argv": argv, "items": items, "level": level, "realm": REALM, "journal": self.journal}
        self.pid = machine.spawn(
            ["python3", "-c", LAUNCH, json.dumps(order)], environment={"PYTHONPATH": SEPTUM}, folder="/root"
        )
        wait_for_socket(machine, self.monitor, self.pid)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """One QMP command; its whole answer."""
        return ask(self.machine, self.monitor, command, **arguments)

    def label_of(self, path: str) -> str:
        return label_in(self.machine, path)


@pytest.fixture(scope="module")
def guests(machine: Machine) -> Iterator[tuple[Guest, Guest]]:
    machine.run("mkdir -p /srv/vms /run/vms; truncate -s 1M /srv/vms/base", check=True)
    red, blue = Guest(machine, "red", RED), Guest(machine, "blue", BLUE)
    machine.dmesg()
    yield red, blue
    machine.run(["kill", "-9", str(red.pid), str(blue.pid)])


def refusal(machine: Machine, cls: str) -> Avc:
    """The one kind of refusal of that class since the last look, without what differs from run to run."""
    found = {avc._replace(details="") for avc in machine.avcs() if avc.cls == cls and avc.denied}
    assert len(found) == 1, found
    return found.pop()


@pytest.mark.lab
class TestGuests:
    """Two guests of one realm, red and blue."""

    def test_every_label_is_in_force(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        for guest in guests:
            current = machine.read(f"/proc/{guest.pid}/attr/current").rstrip(b"\0").decode()
            assert current == guest_context(guest.level)
            assert guest.label_of(guest.disk) == guest.label_of(guest.log) == image_context(guest.level)
            assert guest.label_of(guest.iso) == content_context(guest.level)
            assert guest.label_of("/srv/vms/base") == content_context(REALM)
            assert guest.label_of(guest.monitor).endswith(f":{guest.level}")
            sockets = inside(machine, SOCKETS, str(guest.pid), check=True).output.split()
            assert set(sockets) == {guest_context(guest.level)}

    def test_what_is_its_own_works(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        for guest in guests:
            machine.dmesg()
            for line in ('qemu-io disk "write -P 7 0 512"', 'qemu-io iso "read 0 512"', 'qemu-io base "read 0 512"'):
                guest.ask("human-monitor-command", **{"command-line": line})
            # These commands report to QEMU's own standard output.
            output = machine.wait(guest.pid, 0).output
            assert (output.count("wrote 512/512 bytes"), output.count("read 512/512 bytes")) == (1, 2)
            assert machine.read(guest.disk)[:512] == b"\7" * 512
            assert b"qmp_enter" in machine.read(guest.log)
            assert [avc for avc in machine.avcs() if avc.denied] == []

    @pytest.mark.parametrize(("what", "read_only"), [("disk", False), ("disk", True), ("iso", True)])
    def test_the_others_image_is_refused(
        self, machine: Machine, guests: tuple[Guest, Guest], what: str, read_only: bool
    ) -> None:
        red, blue = guests
        path = getattr(red, what)
        machine.dmesg()
        answer = blue.ask("blockdev-add", driver="file", filename=path, **{"node-name": "x", "read-only": read_only})
        assert "Permission denied" in answer["error"]["desc"]
        wanted = {"read"} if read_only else {"read", "write"}
        assert refusal(machine, "file") == Avc(
            guest_context(BLUE), red.label_of(path), "file", frozenset(wanted), True, True, ""
        )

    def test_shared_content_is_never_written(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        red, _ = guests
        machine.dmesg()
        answer = red.ask("blockdev-add", driver="file", filename="/srv/vms/base", **{"node-name": "x"})
        assert "Permission denied" in answer["error"]["desc"]
        # Debian's policy has a dontaudit rule for it.
        assert [avc for avc in machine.avcs() if avc.cls == "file"] == []

    def test_the_others_monitor_is_refused(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        red, blue = guests
        machine.dmesg()
        for path, abstract, cls in ((red.monitor, False, "sock_file"), ("red", True, "unix_stream_socket")):
            address = {"type": "unix", "data": {"path": path, "abstract": abstract}}
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            answer = blue.ask("chardev-add", id=f"to-{cls}", backend=backend)
            assert "Permission denied" in answer["error"]["desc"]
            avc = refusal(machine, cls)
            assert (avc.source, avc.target.split(":", 3)[3], avc.permissions) == (
                guest_context(BLUE),
                RED,
                {"write"} if cls == "sock_file" else {"connectto"},
            )

    def test_a_client_does_not_learn_the_level_of_the_server(
        self, machine: Machine, guests: tuple[Guest, Guest]
    ) -> None:
        """A fact about the kernel on which nothing of ours may stumble; see docs/selinux.md."""
        red, _ = guests
        assert inside(machine, PEER, red.monitor, check=True).output.strip() == guest_context("s0")

    def test_the_others_process_is_refused(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        red, _ = guests
        machine.dmesg()
        done = machine.run(f"kill -9 {red.pid}", context=guest_context(BLUE))
        assert done.status != 0
        assert refusal(machine, "process") == Avc(
            guest_context(BLUE), guest_context(RED), "process", frozenset({"sigkill"}), True, True, ""
        )
        assert machine.wait(red.pid, 0).status is None

    def test_what_is_predicted_is_what_happens(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        red, blue = guests
        paths = [red.disk, red.iso, red.log, blue.disk, blue.iso, blue.log, "/srv/vms/base", "/etc/shadow"]
        paths += ["/etc/fstab", "/usr/bin/true", "/dev/null", "/usr/share/seabios/bios.bin"]
        questions = json.dumps([(path, access) for path in paths for access in ("ro", "rw")])
        lines = inside(machine, EXPLAIN, BLUE, questions, check=True).output.splitlines()
        predicted = [json.loads(line) for line in lines]
        attempted = machine.run(["python3", "-c", ATTEMPT, questions], context=guest_context(BLUE), check=True)
        assert [allowed for allowed, _ in predicted] == [json.loads(word) for word in attempted.output.split()]
        rules = dict(zip(paths, [rule for _, rule in predicted[::2]], strict=True))
        assert rules[red.disk] == f"its categories {RED} are not within the guest's {BLUE}"
        assert rules[blue.disk].startswith(f"allow {guest_context(BLUE)} {image_context(BLUE)}:file")
        assert rules["/etc/shadow"].startswith("no rule allows")

    def test_the_labels_of_whoever_runs_are_known(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        assert inside(machine, LEVELS, check=True).output.split() == ["c1,c2", "c1,c4"]

    def test_afterwards_everything_is_as_it_was(self, machine: Machine, guests: tuple[Guest, Guest]) -> None:
        red, blue = guests
        before = red.label_of("/srv/vms")
        for guest, base in ((blue, "untouched"), (red, "restored")):
            guest.ask("quit")
            machine.wait(guest.pid)
            outcomes = inside(machine, UNDO, guest.journal, check=True).output.split()
            assert outcomes == ["gone", "restored", base, "restored", "restored"]
            for path in (guest.disk, guest.iso, guest.log):
                assert guest.label_of(path) == before.replace("s0:c1", "s0")
        assert red.label_of("/srv/vms/base") == before
