"""The kernel as the security server, on a kernel that enforces: its engine, and septumd with labels for identities."""

import json
from collections.abc import Iterator

import pytest

from lab.selinux import Machine
from tests.labkit import BLUE, RED, SEPTUM, guest_context, inside, label_in, machine_with_septum, wait_for_socket

pytestmark = pytest.mark.lab

_ENGINE = """
import json, subprocess, sys
from septum.access import Question, Triple, require
from septum.access.kernel import KernelEngine
from septum.errors import EngineGone
from septum.host import selinux_kernel

def state():
    try:
        return engine.generation()
    except EngineGone as error:
        return error.what

engine = KernelEngine()
require(engine.classes(), engine.name)
sources, classes = json.load(sys.stdin)
triples = [Triple(s, t, c) for s in sources for t in sources for c in classes]
vectors = engine.compute(triples)
wrong = 0
for triple, vector in zip(triples, vectors):
    told = selinux_kernel.decide(*triple, frozenset(engine.classes()[triple.tclass]))
    wrong += told.allowed != vector.allowed
bad = engine.compute([Triple("nonsense", sources[0], "file"), Triple(sources[0], sources[0], "no_such_class")])
first = state()
subprocess.run(["setenforce", "0"], check=True)
permissive = state()
try:
    KernelEngine()
    opened = True
except EngineGone:
    opened = False
subprocess.run(["setenforce", "1"], check=True)
again = state()
policy = open("/sys/fs/selinux/policy", "rb").read()
with open("/sys/fs/selinux/load", "wb", buffering=0) as file:
    file.write(policy)
print(json.dumps({
    "wrong": wrong, "some": sum(bool(vector.allowed) for vector in vectors), "count": len(vectors),
    "flaws": [vector.flaw for vector in bad], "first": first, "permissive": permissive, "opened": opened,
    "again": again, "reloaded": state(), "vectors": len(engine.compute(triples)),
}))
"""

_CLIENT = """
import json
from septum.access import Client, ObjectQuestion, Question
with Client("/tmp/septumd/septumd.sock") as client:
    guests = json.loads(input())
    answers = client.decide_all([Question(s, t, "septum_guest", ("start",)) for s in ("", *guests) for t in guests])
    print(json.dumps([client.context, [answer[:] for answer in answers], client.status()["engine"]]))
"""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


def test_the_engine_says_what_the_kernel_says(machine: Machine) -> None:
    contexts = [
        guest_context(RED),
        guest_context(BLUE),
        "system_u:system_r:septum_orchestrator.process:s0:c1-s0:c1,c256.c1021",
        "system_u:system_r:septum_daemon_t:s0",
        "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
    ]
    given = json.dumps([contexts, ["septum_guest", "process", "unix_stream_socket"]]).encode()
    found = json.loads(inside(machine, _ENGINE, stdin=given, check=True).output)
    assert found["wrong"] == 0
    assert 0 < found["some"] < found["count"] == found["vectors"] == 75
    assert all(found["flaws"])
    assert "SELinux is permissive" in found["permissive"]
    assert not found["opened"]
    assert found["again"] == found["first"] < found["reloaded"]


def test_septumd_knows_its_clients_by_their_labels(machine: Machine) -> None:
    code = "from septum.daemon.main import main; main(['--state', '/tmp/septumd', '--engine', 'kernel'])"
    pid = machine.spawn(["python3", "-c", code], environment={"PYTHONPATH": SEPTUM})
    wait_for_socket(machine, "/tmp/septumd/septumd.sock", pid)
    guests = json.dumps([guest_context(RED), guest_context(BLUE)]).encode() + b"\n"
    context, answers, engine = json.loads(inside(machine, _CLIENT, stdin=guests, check=True).output)
    assert context.startswith("unconfined_u:unconfined_r:unconfined_t:")
    assert engine == "kernel"
    assert [answer[0] for answer in answers] == [True, True, False, False, False, False]
    # To start another's guest no rule is there; the question about one's own is of the same type and fails alike.
    assert {answer[2] for answer in answers[2:]} == {"type enforcement"}
    assert all(answer[3].startswith("there is no (allow septum_vm.process ") for answer in answers[2:])
    machine.run(["kill", str(pid)], check=True)
    done = machine.wait(pid, timeout=60)
    assert done.status == 0, done
    code = "from septum.daemon.main import main; main(['--state', '/tmp/septumd', '--verify'])"
    assert "are whole" in inside(machine, code, check=True).output


_DAEMON = f"""#!/usr/bin/python3 -S
import sys
sys.path.insert(0, "{SEPTUM}")
from septum.daemon.main import main
main()
"""


def test_septumd_in_its_own_domain(machine: Machine) -> None:
    """As an init system starts it: nothing is refused to it, and an administrator is answered."""
    command = "/usr/bin/septumd"
    machine.write(command, _DAEMON.encode())
    machine.run(f"chmod 755 {command}; restorecon -F {command} 2>&1 | cat", check=True)
    machine.run("mkdir -p /var/lib/septum; chmod 700 /var/lib/septum; restorecon -RF /var/lib/septum", check=True)
    assert label_in(machine, command) == "system_u:object_r:septum_daemon_exec_t:s0"
    machine.dmesg()
    pid = machine.spawn([command])
    wait_for_socket(machine, "/var/lib/septum/septumd.sock", pid)
    assert ":septum_daemon_t:s0" in machine.read(f"/proc/{pid}/attr/current").decode()
    guests = json.dumps([guest_context(RED), guest_context(BLUE)]).encode() + b"\n"
    client = _CLIENT.replace("/tmp/septumd/", "/var/lib/septum/")
    _, answers, engine = json.loads(inside(machine, client, stdin=guests, check=True).output)
    assert (engine, answers[0][0], answers[2][0]) == ("kernel", True, False)
    assert answers[2][3].startswith("there is no (allow septum_vm.process ")
    machine.run(["kill", "-HUP", str(pid)], check=True)
    machine.run(["kill", str(pid)], check=True)
    done = machine.wait(pid, timeout=60)
    assert done.status == 0, done
    refused = [avc for avc in machine.avcs() if avc.denied and ":septum_daemon_t:" in avc.source]
    assert refused == []
