"""A hostile guest at the one end, an honest one at the other, both booted: what tests/test_ivc_hostile.py does between
processes, and what only a guest can try."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.guest_python import GuestError
from septum.errors import Held
from septum.ivc import PATIENCE, Kind, Role
from septum.ivc.carriers import ivshmem
from tests.ivshmemkit import Duo
from tests.ringlies import CONSUMER_LIES, LIES, SIZE

pytestmark = pytest.mark.qemu

SOON = 60


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duo]:
    made = Duo(tmp_path_factory.mktemp("hostile"), ("ringkit", "ringlies", "intruder"))
    for machine in (made.one, made.other):
        machine.guest.run(
            "from tests.ringlies import *; from tests.intruder import Intruder; from septum.ivc import *\n"
            "from septum.errors import *; import resource, random"
        )
    yield made
    made.close()


class Attack:
    """A channel whose one end, in the one guest, is an intruder's; the honest `end` is in the other."""

    def __init__(self, duo: Duo, plays: str, kind: Kind) -> None:
        self.hostile, self.honest = duo.one.guest, duo.other.guest
        ends = (duo.one, duo.other) if plays == "producer" else (duo.other, duo.one)
        self._stack = contextlib.ExitStack()
        self.made, self.attached = self._stack.enter_context(duo.channel(duo.terms("x", kind, SIZE), *ends))
        try:
            self.honest.run(f"end = channel('x', {SOON})")
            self.hostile.run("hostile = Intruder('x'); own = hostile.own; plain = PlainProducer(own, SIZE)")
        except BaseException:
            self._stack.close()
            raise

    def error(self, source: str) -> GuestError:
        """What the honest guest's code raises; its rule is in the text."""
        with pytest.raises(GuestError) as raised:
            self.honest.run(source)
        return raised.value

    def close(self) -> None:
        self.hostile.run("hostile.close(); del hostile, own, plain")
        self.honest.run("end.close(); del end")
        self._stack.close()


@pytest.fixture
def producer(duo: Duo) -> Iterator[Attack]:
    attack = Attack(duo, "producer", Kind.MESSAGES)
    yield attack
    attack.close()


@pytest.fixture
def consumer(duo: Duo) -> Iterator[Attack]:
    attack = Attack(duo, "consumer", Kind.MESSAGES)
    yield attack
    attack.close()


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_a_producer_poison_the_channel(producer: Attack, lie: str) -> None:
    producer.hostile.run("LIES[given['lie']][0](own)", lie=lie)
    refused = producer.error("while True: end.recv(5)")
    assert refused.kind == "ChannelPoisoned"
    assert LIES[lie][1] in refused.text
    assert producer.hostile.run("result = hostile.peer.state() == BROKEN and hostile.woken(30)") is True
    assert producer.error("end.recv(5)").kind == "ChannelPoisoned"


@pytest.mark.parametrize("lie", CONSUMER_LIES)
def test_lies_of_a_consumer_poison_the_channel(consumer: Attack, lie: str) -> None:
    consumer.honest.run("while end.try_send(bytes(100)): pass")
    consumer.hostile.run(
        "index = CONSUMER_LIES[given['lie']][0]\n"
        "own.put_u64(INDEX, hostile.peer.u64(INDEX) + 16 if index == SIZE else index)",
        lie=lie,
    )
    refused = consumer.error("end.send(bytes(100), 5)")
    assert refused.kind == "ChannelPoisoned"
    assert CONSUMER_LIES[lie][1] in refused.text


def test_indices_that_go_back(producer: Attack) -> None:
    producer.hostile.run("plain.send(b'one'); plain.send(b'two')")
    assert producer.honest.run("result = [one.decode() for one in end.recv_many(2, 5)]") == ["one", "two"]
    producer.hostile.run("own.put_u64(INDEX, 32)")
    assert "went backwards" in producer.error("end.recv(5)").text


def test_a_consumers_index_that_goes_back(consumer: Attack) -> None:
    for index in (256, 128):
        consumer.honest.run("while end.try_send(bytes(112)): pass")
        consumer.hostile.run(f"own.put_u64(INDEX, {index})")
    assert "went backwards" in consumer.error("end.send(bytes(112), 5)").text


def test_what_came_before_a_lie_is_delivered(producer: Attack) -> None:
    producer.hostile.run("raw(frame(0, b'sound'), frame(1, b'also'), frame(1, b'lie'))(own)")
    assert producer.honest.run("result = [one.decode() for one in end.recv_many(9, 5)]") == ["sound", "also"]
    assert producer.error("end.recv_many(9, 5)").kind == "ChannelPoisoned"


def test_empty_frames_of_a_stream_are_no_end(duo: Duo) -> None:
    attack = Attack(duo, "producer", Kind.BYTES)
    attack.hostile.run("raw(frame(0, b'x'), frame(1, b''))(own)")
    assert attack.honest.run("result = end.read(9, 5).decode()") == "x"
    assert attack.error("end.read(9, 5)").kind == "ChannelPoisoned"
    attack.close()


def test_a_consumer_that_never_reads_costs_no_more_than_the_ring(consumer: Attack) -> None:
    used = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    consumer.honest.run(f"before = {used}")
    for _ in range(3):
        assert consumer.error("while True: end.send(bytes(end.limit), 0.01)").kind == "ChannelTimeout"
    assert consumer.honest.run(f"result = {used} - before") < 4096  # KiB


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("plays", ["producer", "consumer"])
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
def test_a_guest_that_writes_anything_at_any_time(duo: Duo, plays: str, kind: Kind, seed: int) -> None:
    attack = Attack(duo, plays, kind)
    attack.hostile.start("scribble(own, hostile.length, hostile.ring, given['seed'], 2)", seed=seed)
    outcome = attack.honest.run(
        """
until, calls = time.monotonic() + 5, 0
try:
    while time.monotonic() < until and end.state is State.OPEN:
        calls += 1
        try:
            if isinstance(end, Receiver):
                assert all(len(one) <= LIMIT for one in end.recv_many(100, 0.01))
            elif isinstance(end, Reader):
                assert len(end.read(500, 0.01)) <= 500
            elif isinstance(end, Sender):
                end.send(bytes(LIMIT), 0.01)
            else:
                end.write(bytes(9000), 0.01)
        except ChannelTimeout:
            pass
except (ChannelPoisoned, ChannelClosed):
    pass
result = calls, end.state.name
"""
    )
    attack.hostile.finish()
    attack.close()
    assert outcome[0] > 0
    assert outcome[1] in ("POISONED", "CLOSED")


# bells


def test_a_flood_of_rings_poisons_the_channel(producer: Attack) -> None:
    producer.hostile.start(
        "until = time.monotonic() + 100\n"
        "while time.monotonic() < until and hostile.peer.state() != BROKEN: hostile.ring(50)"
    )
    refused = producer.error("end.recv(100)")
    producer.hostile.finish()
    assert refused.kind == "ChannelPoisoned"
    assert "rings without news" in refused.text


def test_rings_with_news_are_no_flood(producer: Attack) -> None:
    producer.hostile.start(
        f"for n in range({3 * PATIENCE}):\n    hostile.ring(2)\n    if n % 50 == 0: plain.send(b'%d' % n)"
    )
    got = producer.honest.run("result = [int(end.recv(60)) for _ in range(60)]")
    producer.hostile.finish()
    assert got == list(range(0, 3000, 50))


def test_a_state_that_flickers_does_not_keep_an_end(producer: Attack) -> None:
    producer.hostile.start(
        "until = time.monotonic() + 2\nwhile time.monotonic() < until: own.put_state(1); own.put_state(0)"
    )
    begun = time.monotonic()
    kind = producer.error("end.recv(1)").kind
    producer.hostile.finish()
    assert kind in ("ChannelTimeout", "ChannelClosed", "ChannelPoisoned")
    assert time.monotonic() - begun < SOON


def test_ringing_never_blocks(consumer: Attack) -> None:
    """The other guest asks for all rings, and takes none: its port, the line and this guest's port fill up."""
    consumer.hostile.start(
        "until, last = time.monotonic() + 60, 0\n"
        "while time.monotonic() < until and hostile.peer.state() != 1:\n"
        "    index = hostile.peer.u64(INDEX); own.put_u64(WANTED, index); own.put_u64(INDEX, index)\n"
        "    if index != last: last = index; hostile.ring()"
    )
    consumer.honest.run("for _ in range(10000): end.send(b'x' * 100, 60)\nend._half.finish()")
    consumer.hostile.finish()


# what only a guest can try


def test_the_other_ends_memory_can_not_be_written(consumer: Attack) -> None:
    consumer.honest.run("end.send(b'sent')")
    seen = consumer.hostile.run(
        "before = bytes(hostile.peer.memory[:])\n"
        "for at in (0, 16, INDEX, WANTED, STATE, 4096, 4112): hostile.peer.put_u64(at, 0x4242424242424242)\n"
        "hostile.peer.memory[:] = bytes([0x41]) * len(before)\n"
        "result = bytes(hostile.peer.memory[:]) == before"
    )
    assert seen is True
    whole = consumer.made.produced._whole
    assert whole[4112:4116] == b"sent"
    assert b"A" * 16 not in whole[:]


def test_an_old_generation_is_refused(duo: Duo) -> None:
    """It keeps the memory of the session before, and writes that session's header into the new one."""
    duo.one.guest.run("old = None")
    with duo.channel(duo.terms("x", size=SIZE)):
        duo.one.guest.run("hostile = Intruder('x'); old = hostile.own; header = bytes(old.memory[:32])")
        duo.one.guest.run("hostile.close()")
    with duo.channel(duo.terms("x", size=SIZE)):
        duo.one.guest.run("hostile = Intruder('x'); hostile.own.memory[:32] = header")
        with pytest.raises(GuestError, match="another generation") as refused:
            duo.other.guest.run(f"channel('x', {SOON})")
        assert refused.value.kind == "ChannelDenied"
        duo.one.guest.run("hostile.close()")
    with duo.channel(duo.terms("x", size=SIZE)):
        duo.other.guest.run(f"end = channel('x', {SOON})")
        # Where the old memory was is none, or the new one, by the guest's own kernel; the other guest sees no old data.
        duo.one.guest.run("hostile = Intruder('x'); PlainProducer(hostile.own, SIZE).send(b'new'); hostile.ring()")
        assert duo.other.guest.run("result = end.recv(60).decode()") == "new"
        duo.one.guest.run("hostile.close()")


def test_a_segment_does_not_pass_for_another_channels(duo: Duo) -> None:
    """One guest is at the other end of two channels, and gives the one the other's header and contents."""
    with duo.channel(duo.terms("secret", size=SIZE)), duo.channel(duo.terms("public", size=SIZE)):
        duo.one.guest.run(
            "secret, public = Intruder('secret'), Intruder('public')\n"
            "PlainProducer(secret.own, SIZE).send(b'secret'); public.own.memory[:] = secret.own.memory[:]"
        )
        assert duo.other.guest.run("result = channel('secret', 60).recv(60).decode()") == "secret"
        with pytest.raises(GuestError, match="another generation"):
            duo.other.guest.run("channel('public', 60)")
        duo.one.guest.run("secret.close(); public.close()")


def test_memory_behind_the_segment_is_nobodys(producer: Attack) -> None:
    """A BAR is longer than what it holds; filling it changes nothing, and stays within what is counted."""
    producer.hostile.run(
        "from septum.guest import pci\nimport mmap\n"
        "device = next(d for d in (pci.device(one.slot, 1) for one in channels()) if d)\n"
        "fd = os.open(device / 'resource2_wc', os.O_RDWR); bar = mmap.mmap(fd, 2 * SIZE)\n"
        "bar[4096 + SIZE:] = b'z' * (SIZE - 4096); plain.send(b'sound'); hostile.ring(); bar.close(); os.close(fd)"
    )
    assert producer.honest.run("result = end.recv(60).decode()") == "sound"


def test_two_that_pass_memory_on_are_still_only_two(duo: Duo) -> None:
    """A guest's QEMU may send its descriptors on to another: what arrives there can't be mapped for writing."""
    with duo.channel(duo.terms("x", size=SIZE)) as (made, _):
        reader = made.produced.readable()
        added = duo.run(duo.other.monitor.add_fd(reader))
        backend: dict[str, Any] = {"qom-type": "memory-backend-file", "id": "stolen", "size": made.produced.size}
        backend |= {"mem-path": f"/proc/self/fd/{added.fd}", "share": True}
        with pytest.raises(Exception, match=r"Operation not permitted|Permission denied"):
            duo.run(duo.other.monitor.command("object-add", **backend))
        duo.run(duo.other.monitor.remove_fd(added))


def test_a_guest_that_answers_no_unplugging_is_forced(duo: Duo) -> None:
    """It does nothing any more, for ever. The last test but one: it boots anew."""
    with duo.channel(duo.terms("x", size=SIZE)) as (made, attached):
        duo.one.guest.run(
            "open('/proc/sys/kernel/panic', 'w').write('0'); open('/proc/sys/kernel/sysrq', 'w').write('1')"
        )
        duo.one.guest.start("open('/proc/sysrq-trigger', 'w').write('c')")
        until = time.monotonic() + SOON
        while "sysrq triggered crash" not in duo.one.guest.qemu.logs(100_000):
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(Held):
            duo.run(ivshmem.detach(duo.one.monitor, attached[Role.PRODUCER], 1))
        assert made.produced.holders([duo.one.pid]) == [duo.one.pid]
        duo.run(ivshmem.unplug(duo.one.monitor, list(attached[Role.PRODUCER][1:3]), 10, force=True))
        until = time.monotonic() + SOON
        while made.produced.holders([duo.one.pid]):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_guest_that_is_killed_is_a_loss(duo: Duo) -> None:
    with duo.channel(duo.terms("x", size=SIZE), duo.other, duo.one):
        duo.other.guest.run(f"end = channel('x', {SOON})")
        duo.one.guest.kill()
        with pytest.raises(GuestError) as lost:
            duo.other.guest.run("while True: end.send(bytes(500), 60)")
        assert lost.value.kind == "ChannelLost"
