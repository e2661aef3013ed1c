"""Predicted from a snapshot, tried on a real kernel, compared: what was said to be impossible must not succeed."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.selinux import Machine
from septum.analysis import Flows, check, parse, read
from septum.sepol import Memo, Policy
from tests.labkit import SEPTUM, inside, machine_with_septum, wait_for_socket

pytestmark = pytest.mark.lab

# Acts in a context of its own; says what of each object it could do. Descriptors are opened anew each time.
PROBE = """
import errno, json, os, signal, socket, sys
def tried(act):
    try:
        act()
        return 0
    except OSError as error:
        return error.errno
def opened(path, flags, then):
    fd = os.open(path, flags)
    try:
        then(fd)
    finally:
        os.close(fd)
def connected(path, kind):
    with socket.socket(socket.AF_UNIX, kind) as one:
        one.settimeout(5)
        one.connect("\\0" + path)
        if kind == socket.SOCK_DGRAM:
            one.send(b"x")
acts = {
    "file read": lambda path: opened(path, os.O_RDONLY, lambda fd: os.read(fd, 1)),
    "file write": lambda path: opened(path, os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "file append": lambda path: opened(path, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "file getattr": lambda path: os.stat(path),
    "file setattr": lambda path: os.chmod(path, 0o666),
    "fifo_file write": lambda path: opened(path, os.O_RDWR | os.O_NONBLOCK, lambda fd: os.write(fd, b"x")),
    "dir read": lambda path: os.listdir(path),
    "dir add_name": lambda path: os.mkdir(path + "/new"),
    "process signal": lambda pid: os.kill(int(pid), signal.SIGWINCH),
    "process signull": lambda pid: os.kill(int(pid), 0),
    "process getsched": lambda pid: os.sched_getscheduler(int(pid)),
    "process getpgid": lambda pid: os.getpgid(int(pid)),
    "process ptrace": lambda pid: opened(f"/proc/{pid}/mem", os.O_RDONLY, lambda fd: None),
    "unix_stream_socket connectto": lambda path: connected(path, socket.SOCK_STREAM),
    "unix_dgram_socket sendto": lambda path: connected(path, socket.SOCK_DGRAM),
}
for line in sys.stdin:
    name, target = json.loads(line)
    print(tried(lambda: acts[name](target)), flush=True)
    if name == "dir add_name":
        tried(lambda: os.rmdir(target + "/new"))
"""

# Waits in its context, with two sockets of its own. Their names are abstract, so only whose they are counts.
TARGET = """
import os, signal, socket, sys, time
signal.signal(signal.SIGWINCH, signal.SIG_IGN)
for kind, path in ((socket.SOCK_STREAM, sys.argv[1]), (socket.SOCK_DGRAM, sys.argv[2])):
    one = socket.socket(socket.AF_UNIX, kind)
    one.bind("\\0" + path)
    if kind == socket.SOCK_STREAM:
        one.listen(100)
    globals()[path] = one
print("up", flush=True)
time.sleep(3600)
"""
LEVELS = ("s0", "s0:c1,c2", "s0:c1,c4", "s0:c7,c8", "s0:c1")
SUBJECTS = [f"system_u:system_r:{kind}:{level}" for kind in ("septum_vm.process", "svirt_t") for level in LEVELS[1:4]]
TYPES = (
    "septum_vm.image",
    "septum_vm.content",
    "septum_vm.memory",
    "svirt_image_t",
    "virt_content_t",
    "etc_t",
    "tmp_t",
    "shadow_t",
    "var_lib_t",
    "bin_t",
)
DIRS = ("septum_vm.image", "svirt_image_t", "tmp_t", "etc_t")
WHERE = "/srv/try"
"""All may search it: its type is the one of /srv's children that the policy gives to everybody."""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


class Try(NamedTuple):
    """Who, on what, what, and where that is."""

    source: str
    target: str
    act: str
    at: str


NEEDS = {
    "file read": ("open", "read"),
    "file write": ("open", "write"),
    "file append": ("open", "append"),
    "file getattr": ("getattr",),
    "file setattr": ("setattr",),
    "fifo_file write": ("open", "read", "write"),
    "dir read": ("open", "read"),
    "dir add_name": ("search", "write", "add_name"),
    "process signal": ("signal",),
    "process signull": ("signull",),
    "process getsched": ("getsched",),
    "process getpgid": ("getpgid",),
    "process ptrace": ("ptrace",),
    "unix_stream_socket connectto": ("connectto",),
    "unix_dgram_socket sendto": ("sendto",),
}


def labelled(machine: Machine) -> list[Try]:
    """Makes the objects; what is tried on them."""
    lines, tries = [f"mkdir -p {WHERE}; chcon -t usr_t {WHERE}; chmod 755 {WHERE}"], []
    for number, (kind, level) in enumerate(product(TYPES, LEVELS)):
        path, context = f"{WHERE}/f{number}", f"system_u:object_r:{kind}:{level}"
        lines.append(f"echo content >{path}; chmod 666 {path}; chcon {context} {path}")
        acts = [act for act in NEEDS if act.startswith("file ")]
        tries += [Try(source, context, act, path) for source, act in product(SUBJECTS, acts)]
        if kind in DIRS:
            lines.append(f"mkdir {path}d; chmod 777 {path}d; chcon {context} {path}d")
            lines.append(f"mkfifo {path}p; chmod 666 {path}p; chcon {context} {path}p")
            more = [("dir read", f"{path}d"), ("dir add_name", f"{path}d"), ("fifo_file write", f"{path}p")]
            tries += [Try(source, context, act, at) for source, (act, at) in product(SUBJECTS, more)]
    machine.run("set -e; " + "\n".join(lines), check=True, timeout=240)
    return tries


def running(machine: Machine) -> list[Try]:
    """Starts processes; what is tried on them."""
    tries = []
    of_processes = [act for act in NEEDS if act.startswith("process")]
    for number, target in enumerate(SUBJECTS):
        stream, dgram = f"lab-s{number}", f"lab-d{number}"
        pid = machine.spawn(["python3", "-c", TARGET, stream, dgram], context=target)
        waiting = f"until grep -q @{dgram} /proc/net/unix; do [ -d /proc/{pid}/fd ] || exit 1; sleep 0.1; done"
        assert machine.run(waiting, timeout=60).status == 0, machine.wait(pid, 1)
        acts = [(act, str(pid)) for act in of_processes]
        acts += [("unix_stream_socket connectto", stream), ("unix_dgram_socket sendto", dgram)]
        tries += [Try(source, target, act, at) for source, (act, at) in product(SUBJECTS, acts)]
    return tries


def attempted(machine: Machine, tries: list[Try]) -> list[int]:
    """What the kernel did: 0, or the error."""
    found: dict[int, int] = {}
    for source in SUBJECTS:
        mine = [number for number, one in enumerate(tries) if one.source == source]
        lines = "".join(json.dumps([tries[number].act, tries[number].at]) + "\n" for number in mine)
        done = machine.run(["python3", "-c", PROBE], context=source, stdin=lines.encode(), timeout=240)
        assert done.status == 0, done
        said = [int(line) for line in done.output.split()]
        assert len(said) == len(mine), done
        found.update(zip(mine, said, strict=True))
    return [found[number] for number in range(len(tries))]


def test_what_is_predicted_impossible_does_not_succeed(machine: Machine, tmp_path: Path) -> None:
    tries = labelled(machine) + running(machine)
    assert len(tries) >= 2000
    did = attempted(machine, tries)
    policy_file = tmp_path / "policy"
    policy_file.write_bytes(machine.read("/sys/fs/selinux/policy"))
    differences: Counter[str] = Counter()
    succeeded = 0
    with Policy.open(str(policy_file)) as policy:
        memo = Memo(policy)
        for one, errno in zip(tries, did, strict=True):
            predicted = allowed(memo, one)
            succeeded += errno == 0
            if errno == 0:
                assert predicted, (one.source, one.target, one.act)
            elif predicted:
                differences[f"{one.act}: errno {errno}"] += 1
    assert succeeded >= 200
    # Nothing else than the policy is in the way here: modes are open, and uids are root's.
    assert differences == {}


def allowed(memo: Memo, one: Try) -> bool:
    """What the policy says; of what is made in a folder too, which the kernel checks as well."""
    tclass = one.act.split()[0]
    wanted = [(one.target, NEEDS[one.act])]
    if one.act == "dir add_name":
        wanted.append((memo.policy.transition(one.source, one.target, "dir"), ("create",)))
    return not any(
        memo.policy.mask(tclass, names) & ~memo.allowed(one.source, target, tclass) for target, names in wanted
    )


def test_a_snapshot_of_the_machine(machine: Machine, tmp_path: Path) -> None:
    """Two guests of septum's, and one that it did not start."""
    machine.run("mkdir -p /srv/vms /run/vms; truncate -s 1M /srv/vms/red /srv/vms/blue /srv/vms/other", check=True)
    qemu = "qemu-system-x86_64 -nodefaults -display none -machine none -S"
    for name in ("red", "blue"):
        command = f"python3 -m septum run --driver selinux --realm {name} --name web -- {qemu} "
        command += f"-drive if=none,file=/srv/vms/{name},format=raw -qmp unix:/run/vms/{name},server,nowait"
        pid = machine.spawn(command.split(), environment={"PYTHONPATH": SEPTUM})
        wait_for_socket(machine, f"/run/vms/{name}", pid)
    machine.run(
        "chcon system_u:object_r:svirt_image_t:s0:c900,c901 /srv/vms/other; chmod 666 /srv/vms/other", check=True
    )
    command = f"{qemu} -name guest=other,debug-threads=on -drive if=none,file=/srv/vms/other,format=raw"
    pid = machine.spawn(command.split(), context="system_u:system_r:svirt_t:s0:c900,c901")
    machine.run(
        f"until ls -l /proc/{pid}/fd | grep -q vms/other; do [ -d /proc/{pid} ] || exit 1; sleep 0.1; done", check=True
    )
    said = inside(
        machine, "from septum.cli.entry import septum; septum()", "snapshot", "/root/platform.json", check=True
    ).output
    for name in ("platform.json", "platform.json.policy"):
        (tmp_path / name).write_bytes(machine.read(f"/root/{name}"))
    snapshot = read(str(tmp_path / "platform.json"))
    guests = {one.name: one for one in snapshot.instances if one.kind == "guest"}
    assert {"red/web", "blue/web", f"other ({pid})"} <= set(guests)
    assert guests["red/web"].context.startswith("system_u:system_r:septum_vm.process:s0:c")
    images = {one.name: one for one in snapshot.instances if one.name.startswith("/srv/vms/")}
    assert [images[f"/srv/vms/{name}"].realm for name in ("red", "blue", "other")] == ["red", "blue", "other"]
    assert len(said.strip()) == 64
    apart = snapshot._replace(instances=tuple(one for one in snapshot.instances if one.realm))
    with Policy.open(snapshot.policy_path("selinux")) as policy:
        flows = Flows(apart, {"selinux": Memo(policy)})
        (result,) = check(flows, parse("never realm:* -> realm:*"))
        assert result.verdict == "holds", result
        # What the machine runs beside them are ways, and said to be.
        (whole,) = check(Flows(snapshot, {"selinux": Memo(policy)}), parse("never realm:* -> realm:*"))
    assert whole.verdict == "violated"
