"""Channels between two booted guests over ivshmem, and between a guest and this host."""

import ctypes
import fcntl
import mmap
import os
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import septum.guest
from lab.guest_python import GuestError
from septum.errors import ChannelDenied, ChannelLost, Exhausted, Held, MonitorRefused
from septum.ivc import Kind, Role, Terms
from septum.ivc.carriers import ivshmem, port
from septum.ivc.carriers.port import Announced
from septum.ivc.carriers.segment import Access, Segment
from tests.ivshmemkit import SIZE, SOON, Duo

TERMS = Terms("test", 3, size=SIZE)


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duo]:
    made = Duo(tmp_path_factory.mktemp("duo"))
    yield made
    made.close()


def until(condition: object) -> None:
    """Waits for what takes no consent, only a moment."""
    limit = time.monotonic() + SOON
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.01)


# the memory, without guests


def test_a_segment_has_one_writer_and_then_none() -> None:
    with Segment(TERMS, Role.PRODUCER) as segment:
        assert segment.size == 2 * SIZE
        with pytest.raises(ChannelDenied, match="memory can't be used") as early:
            segment.readable()
        assert "after its writer" in early.value.rule
        segment.lend(-1)
        written = mmap.mmap(segment.fileno(), segment.size)
        segment.seal()
        segment.seal()
        with pytest.raises(ChannelDenied) as late:
            segment.lend(-1)
        assert "one writer, once" in late.value.rule
        reader = segment.readable()
        for fd in (segment.fileno(), reader, os.open(f"/proc/self/fd/{reader}", os.O_RDONLY)):
            with pytest.raises(PermissionError):
                mmap.mmap(fd, segment.size)
            with pytest.raises(OSError, match=r"not permitted|Bad file"):
                os.write(fd, b"x")
            with pytest.raises(OSError, match=r"not permitted|Invalid"):
                os.ftruncate(fd, 0)
        seen = mmap.mmap(reader, segment.size, prot=mmap.PROT_READ)
        written[100:104] = b"here"
        assert seen[100:104] == b"here"
        segment.scrub()
        assert seen[:] == bytes(segment.size)


def test_its_pages_can_not_be_taken_back() -> None:
    """What the quota counts on: the memory is there until the last mapping is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Segment(TERMS, Role.PRODUCER) as segment:
        segment.seal()
        assert libc.fallocate(segment.fileno(), 3, ctypes.c_long(0), ctypes.c_long(SIZE)) == -1
        assert os.fstat(segment.fileno()).st_blocks * 512 >= SIZE


@pytest.mark.parametrize("seals", [fcntl.F_SEAL_SEAL, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SEAL | 0x10])
def test_a_writer_that_seals_first_gains_nothing(seals: int) -> None:
    with Segment(TERMS, Role.CONSUMER) as segment:
        segment._whole.close()  # F_SEAL_WRITE wants no mapping
        fcntl.fcntl(segment.fileno(), fcntl.F_ADD_SEALS, seals)
        if seals & 0x10:
            segment.seal()  # with the very same seals
        else:
            with pytest.raises(ChannelDenied, match="memory can't be used") as refused:
                segment.seal()
            assert "seals on it of its own" in refused.value.rule
        segment._whole = mmap.mmap(-1, 1)


@pytest.mark.root
def test_another_uid_can_not_open_it_for_writing() -> None:
    with Segment(TERMS, Role.PRODUCER) as segment:
        segment.lend(70001)
        child = os.fork()
        if child == 0:
            os.setresuid(70002, 70002, 70002)
            try:
                os.open(f"/proc/self/fd/{segment.fileno()}", os.O_RDWR)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        segment.seal()
        assert os.fstat(segment.fileno()).st_uid == os.geteuid()


def test_holders_are_the_kernels_word() -> None:
    with Segment(TERMS, Role.PRODUCER) as segment, Segment(TERMS, Role.CONSUMER) as other:
        child = os.fork()
        if child == 0:
            os.close(segment.fileno())
            signal.pause()
        try:
            until(lambda: segment.holders([child]) == [child])
            assert other.holders([child, os.getpid(), 1 << 30]) == [child, os.getpid()]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert segment.holders([child]) == []


# what a guest is told


@given(
    st.from_regex(r"[\w.-]{1,64}", fullmatch=True).filter(str.isascii),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from(Kind),
    st.integers(12, 30),
    st.sampled_from(Role),
    st.integers(0, 255),
)
def test_a_ports_name_says_it_all(name: str, generation: int, kind: Kind, power: int, role: Role, slot: int) -> None:
    announced = Announced(Terms(name, generation, kind, 1 << power), role, slot)
    assert port.announced(port.name(announced)) == announced


@given(st.text())
def test_other_names_are_no_channels(text: str) -> None:
    assert port.announced(text) is None or text == port.name(port.announced(text))


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "ä", "x" * 65, "a\n"])
def test_names_that_can_not_be_told(name: str) -> None:
    with pytest.raises(ChannelDenied):
        port.name(Announced(TERMS._replace(name=name), Role.PRODUCER, 8))


@pytest.mark.parametrize("name", ["septum:1:producer:messages:1:1001:8:x", "septum:1:producer:messages:1:800:8:x"])
def test_terms_that_can_not_be_are_not_believed(name: str) -> None:
    assert port.announced(name) is None


# guests


@pytest.mark.qemu
class TestGuests:
    def test_messages_from_guest_to_guest(self, duo: Duo) -> None:
        with duo.channel(duo.terms("logs")):
            sent = "[bytes([n % 251]) * (n * 37 % 3000) + n.to_bytes(4, 'big') for n in range(3000)]"
            duo.one.guest.start(f"end = channel('logs', 60); end.send_many({sent}); end.close()")
            duo.other.guest.start(f"end = channel('logs', 60); result = list(end) == {sent}")
            assert duo.one.guest.finish() == (None, b"")
            assert duo.other.guest.finish()[0] is True

    def test_bytes_the_other_way(self, duo: Duo) -> None:
        with duo.channel(duo.terms("stream", Kind.BYTES, 1 << 18), duo.other, duo.one):
            duo.other.guest.start("end = channel('stream', 60); end.write(payload); end.close()", os.urandom(1 << 20))
            duo.one.guest.start(
                "end = channel('stream', 60); got = 0\nwhile some := end.read(): got += len(some)\nresult = got"
            )
            duo.other.guest.finish()
            assert duo.one.guest.finish()[0] == 1 << 20

    def test_two_that_sleep_wake_each_other(self, duo: Duo) -> None:
        with duo.channel(duo.terms("there")), duo.channel(duo.terms("back"), duo.other, duo.one):
            duo.one.guest.run("out, come = channel('there', 60), channel('back', 60)")
            duo.other.guest.run("come, out = channel('there', 60), channel('back', 60)")
            duo.other.guest.start("for _ in range(200): out.send(come.recv(60) + b'!')")
            assert (
                duo.one.guest.run(
                    "for n in range(200): out.send(b'%d' % n); got = come.recv(60)\nresult = got.decode()"
                )
                == "199!"
            )
            duo.other.guest.finish()

    def test_with_this_host(self, duo: Duo) -> None:
        with duo.from_host(duo.terms("up"), Role.CONSUMER, duo.one) as (receiver, _):
            duo.one.guest.start("end = channel('up', 60); end.send(b'from the guest')")
            assert receiver.recv(SOON) == b"from the guest"  # type: ignore[union-attr]
            duo.one.guest.finish()
        with duo.from_host(duo.terms("down"), Role.PRODUCER, duo.one) as (sender, _):
            sender.send(b"from the host")  # type: ignore[union-attr]
            assert duo.one.guest.run("result = channel('down', 60).recv(60).decode()") == "from the host"

    def test_an_end_opens_once(self, duo: Duo) -> None:
        with duo.channel(duo.terms("once")):
            duo.one.guest.run("end = channel('once', 60); end.send(b'x')")
            for _ in range(2):  # open in another place, then used
                with pytest.raises(GuestError, match=r"open already|used before") as refused:
                    duo.one.guest.run("channel('once', 60)")
                assert refused.value.kind == "ChannelDenied"
                duo.one.guest.run("end.close()")

    def test_a_guest_waits_for_a_channel_and_sees_those_it_has(self, duo: Duo) -> None:
        with pytest.raises(GuestError, match="has not plugged in a channel named none") as missing:
            duo.one.guest.run("channel('none', 0.05)")
        assert missing.value.kind == "ChannelTimeout"
        duo.other.guest.start("result = channel('late', 60).recv(60).decode()")
        with duo.channel(duo.terms("late")):
            assert duo.one.guest.run("result = [one.terms.name for one in channels()]") == ["late"]
            duo.one.guest.run("channel('late', 60).send(b'at last')")
            assert duo.other.guest.finish()[0] == "at last"
        until(lambda: duo.one.guest.run("result = channels()") == [])

    def test_closing_and_cutting_reach_the_other_guest(self, duo: Duo) -> None:
        with duo.channel(duo.terms("shut")):
            duo.one.guest.run("end = channel('shut', 60); end.send(b'x'); end.close()")
            assert duo.other.guest.run("result = [one.decode() for one in channel('shut', 60)]") == ["x"]
        with duo.channel(duo.terms("cut")) as (_, attached):
            duo.one.guest.run("end = channel('cut', 60); end.send(b'last words')")
            duo.other.guest.run("end = channel('cut', 60); result = end.recv(60)[0]")
            duo.other.guest.start("end.recv(60)")
            duo.run(ivshmem.unhang(duo.one.monitor, attached[Role.PRODUCER].bell))
            with pytest.raises(GuestError) as lost:
                duo.other.guest.finish()
            assert lost.value.kind == "ChannelLost"
            with pytest.raises(GuestError) as lost:
                duo.one.guest.run("while True: end.send(b'x' * 1000, 60)")
            assert lost.value.kind == "ChannelLost"

    @pytest.mark.parametrize("size", [1 << 12, 1 << 20, 1 << 25], ids=["4 KiB", "1 MiB", "32 MiB"])
    def test_rings_of_all_sizes(self, duo: Duo, size: int) -> None:
        with duo.channel(duo.terms("sized", size=size)):
            duo.one.guest.run(
                f"end = channel('sized', 60); end.send(b'm' * end.limit); result = end.limit == {size // 4 - 16}"
            )
            assert duo.other.guest.run("end = channel('sized', 60); result = len(end.recv(60))") == size // 4 - 16

    def test_a_process_that_dies_in_a_guest_is_noticed_by_whoever_keeps_the_channel(self, duo: Duo) -> None:
        with duo.channel(duo.terms("dying")) as (_, attached):
            bell = attached[Role.PRODUCER].bell
            noticed = duo.start(ivshmem.abandoned(duo.one.monitor, bell))
            duo.one.guest.run(
                "child = os.fork()\n"
                "if child == 0:\n"
                "    end = channel('dying', 60); end.send(b'last words'); os.kill(os.getpid(), 9)\n"
                "os.waitpid(child, 0)"
            )
            noticed.result(SOON)
            duo.run(ivshmem.unhang(duo.one.monitor, bell))
            duo.other.guest.run("end = channel('dying', 60); result = end.recv(60)[0]")
            with pytest.raises(GuestError) as lost:
                duo.other.guest.run("end.recv(60)")
            assert lost.value.kind == "ChannelLost"

    def test_taking_it_away_leaves_nothing(self, duo: Duo) -> None:
        free = duo.run(ivshmem.free_ports(duo.one.monitor))
        pids = [duo.one.pid, duo.other.pid]
        with duo.channel(duo.terms("gone")) as (made, attached):
            duo.one.guest.run("end = channel('gone', 60); end.send(b'x')")  # a mapping that is in use does not keep it
            assert made.produced.holders(pids) == made.consumed.holders(pids) == pids
            duo.run(ivshmem.detach(duo.one.monitor, attached[Role.PRODUCER]))
            until(lambda: made.produced.holders(pids) == made.consumed.holders(pids) == [duo.other.pid])
            duo.run(ivshmem.detach(duo.other.monitor, attached[Role.CONSUMER]))
            until(lambda: made.produced.holders(pids) == [])
        assert duo.run(ivshmem.free_ports(duo.one.monitor)) == free
        left = [one["label"] for one in duo.run(duo.one.monitor.command("query-chardev"))]
        assert not [label for label in left if label.startswith("septum")]

    def test_one_after_the_other_at_the_same_place(self, duo: Duo) -> None:
        """QEMU 7.2 ends if memory of a name comes back before the last of that name is gone."""
        for number in range(10):
            with duo.channel(duo.terms("again")._replace(generation=77)):
                if number % 3 == 0:
                    duo.one.guest.run("channel('again', 60).send(b'x')")

    def test_a_port_takes_one_end(self, duo: Duo) -> None:
        place = duo.one.place()
        with duo.channel(duo.terms("first")), Segment(duo.terms(), Role.PRODUCER) as segment:
            with pytest.raises(MonitorRefused, match="device_add"):
                duo.run(ivshmem.plug(duo.one.monitor, segment, Access.OWN, place.port))
            assert segment.sealed  # QEMU had it
            until(lambda: segment.holders([duo.one.pid]) == [])

    def test_there_are_as_many_ends_as_ports(self, duo: Duo) -> None:
        ports = duo.run(ivshmem.free_ports(duo.one.monitor))
        plugged, segments = [], []
        for one in ports:
            segments.append(Segment(duo.terms(), Role.CONSUMER))
            plugged.append(duo.run(ivshmem.plug(duo.one.monitor, segments[-1], Access.OWN, one)))
        with pytest.raises(Exhausted, match="no free PCIe root port"):
            duo.one.place()
        for one in plugged:  # never seen by the guest, so gone without it
            duo.run(ivshmem.unplug(duo.one.monitor, [one]))
        assert duo.run(ivshmem.free_ports(duo.one.monitor)) == ports
        for segment in segments:
            segment.close()

    def test_what_fails_half_way_is_taken_back(self, duo: Duo) -> None:
        before = duo.run(ivshmem.free_ports(duo.one.monitor)), duo.run(ivshmem.free_ports(duo.other.monitor))
        for name in ("bad name", "good"):
            made = ivshmem.pair(duo.terms(name))
            places = {Role.PRODUCER: duo.one.place(), Role.CONSUMER: duo.other.place()}
            if name == "good":
                places[Role.CONSUMER] = places[Role.CONSUMER]._replace(bus="none.0")
            with pytest.raises((ChannelDenied, MonitorRefused)):
                duo.run(ivshmem.attach(made, places))
            assert made.produced.sealed
            assert made.consumed.sealed
            after = duo.run(ivshmem.free_ports(duo.one.monitor)), duo.run(ivshmem.free_ports(duo.other.monitor))
            assert after == before
            until(lambda made=made: made.produced.holders([duo.one.pid, duo.other.pid]) == [])
            made.close()

    def test_a_guest_that_does_not_let_go_is_named_and_can_be_forced(self, duo: Duo) -> None:
        """The last one: the guest boots anew."""
        with duo.channel(duo.terms("kept"), duo.other, duo.one) as (made, attached):
            duo.run(duo.one.monitor.command("stop"))
            with pytest.raises(Held, match="keeps the channel's memory") as held:
                duo.run(ivshmem.detach(duo.one.monitor, attached[Role.CONSUMER], 0.3))
            assert held.value.target == str(duo.one.guest.monitor)
            assert made.consumed.holders([duo.one.pid]) == [duo.one.pid]
            duo.run(ivshmem.detach(duo.one.monitor, attached[Role.CONSUMER], 5, force=True))
            duo.run(duo.one.monitor.command("cont"))
            until(lambda: made.consumed.holders([duo.one.pid]) == [])

    def test_a_guest_that_dies_is_a_loss(self, duo: Duo) -> None:
        """The very last one."""
        with duo.from_host(duo.terms("dying"), Role.CONSUMER, duo.other) as (receiver, made):
            duo.other.guest.run("end = channel('dying', 60); end.send(b'last words')")
            duo.other.guest.kill()
            assert receiver.recv(SOON) == b"last words"  # type: ignore[union-attr]
            with pytest.raises(ChannelLost):
                receiver.recv(SOON)  # type: ignore[union-attr]
            assert made.consumed.holders([duo.other.pid]) == []


def test_public_names_are_pinned() -> None:
    assert septum.guest.__all__ == ["Announced", "channel", "channels"]
