"""Memory of channels on a kernel that enforces: it bears the door's label, and who may not have it is refused it by the
kernel, whoever hands it out."""

import json
from collections.abc import Iterator

import pytest

from lab.selinux import Machine
from tests.labkit import BLUE, RED, guest_context, inside, machine_with_septum

pytestmark = pytest.mark.lab

# Both guests are of realm c1; the third one is not.
FOREIGN = "s0:c3,c4"
REALM = "s0:c1"

# A broker's part: memory, labelled once it is mapped, and each descriptor in a packet of its own to each of the guests.
_BROKER = """
import json, os, socket, subprocess, sys
from septum.ivc import MemfdCarrier, Terms
from septum.ivc.carriers.keeping import Kept
from septum.rendezvous import wire
label, guest, *contexts = json.loads(sys.stdin.read())
told = []
for context in contexts:
    grants = MemfdCarrier().create(Terms("lab", 1, size=4096))
    kept = Kept(grants)
    for grant in grants:
        os.setxattr(grant.own, "security.selinux", label.encode() + b"\\0")
    labels = [os.getxattr(fd, "security.selinux").decode().rstrip("\\0") for fd in (grants[0].own, grants[0].peer)]
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = subprocess.Popen(
        ["runcon", context, "python3", "-c", guest, str(there.fileno())], pass_fds=[there.fileno()],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    there.close()
    for part, fd in zip(("own", "peer"), grants[0][2:4]):
        wire.send(here, wire.text(part), fd)
    out, _ = child.communicate()
    told.append([labels, out.decode()])
    kept.cut()
print(json.dumps(told))
"""
# Of septum's it has nothing: its domain may map no library from there.
_GUEST = """
import json, mmap, os, socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
told = {}
for _ in range(2):
    verb, fds, flags, _ = socket.recv_fds(line, 100, 4)
    told[verb.decode()] = ["refused", bool(flags & socket.MSG_CTRUNC)]
    if fds:
        try:
            wanted = mmap.PROT_READ | (mmap.PROT_WRITE if verb == b"own" else 0)
            mmap.mmap(fds[0], 4096, prot=wanted)
            told[verb.decode()] = ["mapped"]
        except OSError as error:
            told[verb.decode()] = [error.strerror]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


def test_a_process_of_the_wrong_category_is_refused_the_memory(machine: Machine) -> None:
    label = f"system_u:object_r:septum_ring_t:{REALM}"
    contexts = [guest_context(level) for level in (RED, BLUE, FOREIGN)]
    machine.dmesg()
    done = inside(machine, _BROKER, stdin=json.dumps([label, _GUEST, *contexts]).encode(), check=True)
    told = json.loads(done.output)
    assert [labels for labels, _ in told] == [[label, label]] * 3
    answers = [json.loads(out) for _, out in told]
    assert answers[0] == answers[1] == {"own": ["mapped"], "peer": ["mapped"]}
    assert answers[2] == {"own": ["refused", True], "peer": ["refused", True]}
    said = [avc for avc in machine.avcs() if avc.denied and avc.target == label]
    assert {avc.source for avc in said} == {contexts[2]}
