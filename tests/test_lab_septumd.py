"""The kernel as the security server, on a kernel that enforces: its engine, and septumd with labels for identities."""

import json
from collections.abc import Iterator

import pytest

from lab.selinux import Machine
from tests.labkit import BLUE, RED, SEPTUM, guest_context, inside, machine_with_septum, wait_for_socket

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
    assert {answer[2] for answer in answers[2:]} == {"the loaded policy"}
    machine.run(["kill", str(pid)], check=True)
    done = machine.wait(pid, timeout=60)
    assert done.status == 0, done
    code = "from septum.daemon.main import main; main(['--state', '/tmp/septumd', '--verify'])"
    assert "are whole" in inside(machine, code, check=True).output
