"""The carrier memfd: the conformance suite, and what it must refuse and make impossible."""

import array
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from septum.errors import ChannelBusy, ChannelDenied, ChannelLost, HostError
from septum.ivc import MemfdCarrier, MemfdGrant, Receiver, Role, Sender, Terms
from tests.ivc_conformance import SOON, CarrierConformance, Channel

TERMS = Terms("test", 41, size=1 << 14)


class TestMemfd(CarrierConformance):
    @pytest.fixture(params=[0, 50_000], ids=["sleeping", "spinning"])
    def carrier(self, request: pytest.FixtureRequest) -> MemfdCarrier:
        return MemfdCarrier(spin=request.param)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:septum:")


def test_nothing_stays_open_or_mapped() -> None:
    before = descriptors(), mappings()
    carrier = MemfdCarrier()
    for _ in range(3):
        channel = Channel(carrier)
        assert descriptors() == before[0] + 2  # one a bell
        channel.close()
        one, other = carrier.create(TERMS)
        carrier.discard(one)
        with pytest.raises(ChannelDenied):
            carrier.sender(other)
    del channel
    assert (descriptors(), mappings()) == before


def test_the_reader_can_not_write_by_any_way() -> None:
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    held = os.dup(other.own), os.dup(one.peer)
    end = carrier.receiver(other)
    writer, reader = held
    for fd, error in ((reader, PermissionError), (writer, PermissionError)):
        with pytest.raises(error):
            mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_READ)
        with pytest.raises(OSError, match=r"not permitted|Bad file"):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(OSError, match=r"not permitted|Bad file|Invalid"):
            os.truncate(fd, 0)
    assert os.fstat(reader).st_mode & 0o777 == 0
    with pytest.raises(OSError, match="not permitted"):
        fcntl.fcntl(writer, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    del end
    carrier.discard(one)
    for fd in held:
        os.close(fd)


def test_a_segment_that_was_joined_can_not_be_joined_again() -> None:
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    again = MemfdGrant(one.terms, one.role, *(os.dup(fd) for fd in one[2:]))
    carrier.sender(one)
    with pytest.raises(ChannelDenied) as refused:
        carrier.sender(again)
    assert refused.value.rule == "this end was joined before"
    carrier.discard(other)


def forged(way: str) -> tuple[int, str]:
    """A descriptor that is offered as the producer's segment, and why it is refused."""
    size = 4096 + TERMS.size
    if way == "pipe":
        reader, writer = os.pipe()
        os.close(writer)
        return reader, "no memory that can be sealed"
    if way == "file":
        return os.open(__file__, os.O_RDONLY), "no memory that can be sealed"
    fd = os.memfd_create("forged", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size + 4096 if way == "long" else size - 1 if way == "short" else size)
    if way != "unsealed":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | (0 if way == "growing" else fcntl.F_SEAL_GROW))
    if way == "writable":
        return fd, "not the access that was agreed"
    readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    why = {
        "unsealed": "could change its size",
        "growing": "could change its size",
        "long": f"has {size + 4096} bytes, not {size}",
        "short": f"has {size - 1} bytes, not {size}",
        "empty": "it is no ring's memory",
    }
    return readable, why[way]


@pytest.mark.parametrize("way", ["pipe", "file", "unsealed", "growing", "long", "short", "writable", "empty"])
def test_forged_memory_is_refused(way: str) -> None:
    before = descriptors()
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    os.close(other.peer)
    fd, why = forged(way)
    with pytest.raises(ChannelDenied) as refused:
        carrier.receiver(other._replace(peer=fd))
    assert why in refused.value.rule
    carrier.discard(one)
    assert descriptors() == before


@pytest.mark.parametrize("line", ["pipe", "datagram"])
def test_a_forged_bell_is_refused(line: str) -> None:
    before = descriptors()
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    os.close(other.line)
    if line == "pipe":
        fd, more = os.pipe()
    else:
        fd, more = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    with pytest.raises((ChannelDenied, HostError), match=r"can't be (trusted|joined)"):
        carrier.receiver(other._replace(line=fd))
    os.close(more)
    carrier.discard(one)
    assert descriptors() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"generation": 40}, "it is of another generation"),
        ({"size": 1 << 13}, "a segment has"),
        ({"kind": 2}, "it is of the other kind"),
    ],
)
def test_terms_come_from_who_set_the_channel_up(change: dict[str, int], why: str) -> None:
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    with pytest.raises(ChannelDenied) as refused:
        carrier.receiver(other._replace(terms=TERMS._replace(**change)))
    assert refused.value.rule.startswith(why)
    carrier.discard(one)


def test_too_little_memory_is_learnt_when_the_channel_is_made() -> None:
    code = (
        "import resource; from septum.ivc import *; from septum.errors import HostError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "import os, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); before = os.listdir('/proc/self/fd')\n"
        "try: MemfdCarrier().create(Terms('t', 1, size=1 << 20))\n"
        "except HostError as error: print(error.what, len(os.listdir('/proc/self/fd')) - len(before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the channel's memory can't be made: File too large 0\n"


def test_grants_travel_and_death_is_noticed() -> None:
    """Descriptors go over a unix socket to another process, which is killed."""
    code = (
        "import array, os, socket, sys; from septum.ivc import *\n"
        "line = socket.socket(fileno=int(sys.argv[1])); text, aux, *_ = line.recvmsg(9, 100)\n"
        "fds = array.array('i', aux[0][2])\n"
        "grant = MemfdGrant(Terms('test', 41, size=1 << 14), Role.PRODUCER, *fds)\n"
        "end = Sender(MemfdCarrier().sender(grant)); end.send(b'x' * 3000); line.recv(1)\n"
    )
    here, there = socket.socketpair()
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    child = subprocess.Popen([sys.executable, "-c", code, str(there.fileno())], pass_fds=[there.fileno()])
    there.close()
    here.sendmsg([b"grant"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", one[2:]))])
    carrier.discard(one)
    receiver = Receiver(carrier.receiver(other))
    assert receiver.recv(SOON) == b"x" * 3000
    threading.Timer(0.1, child.send_signal, (signal.SIGKILL,)).start()
    with pytest.raises(ChannelLost):
        receiver.recv(SOON)
    assert child.wait(SOON) == -signal.SIGKILL
    here.close()


def test_who_keeps_the_line_can_cut_it() -> None:
    """A broker that has kept a copy of a descriptor ends the channel for both."""
    carrier = MemfdCarrier()
    one, other = carrier.create(TERMS)
    kept = socket.socket(fileno=os.dup(one.line))
    sender, receiver = Sender(carrier.sender(one)), Receiver(carrier.receiver(other))
    kept.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ChannelLost):
        receiver.recv(SOON)
    with pytest.raises(ChannelLost):
        sender.send_many([bytes(1000)] * 100, SOON)
    kept.close()


def test_a_thread_in_a_long_copy_keeps_the_others_out() -> None:
    channel = Channel(MemfdCarrier(spin=1 << 30), size=1 << 14)
    thread = threading.Thread(target=lambda: channel.receiver.recv(SOON))
    thread.start()
    with pytest.raises(ChannelBusy):  # as soon as the thread is in it
        all(channel.receiver.try_recv() is None for _ in iter(int, 1))
    with pytest.raises(ChannelBusy):
        channel.receiver.close()
    channel.sender.send(b"x")
    thread.join()
    channel.close()


def test_roles_are_those_of_the_grants() -> None:
    carrier = MemfdCarrier()
    grants = carrier.create(TERMS)
    assert [grant.role for grant in grants] == [Role.PRODUCER, Role.CONSUMER]
    for grant in grants:
        carrier.discard(grant)
