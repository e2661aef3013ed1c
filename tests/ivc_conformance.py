"""What every carrier must do, whatever memory or transport it is made of: a class of tests over the Protocol alone.

A carrier's own test module derives from `CarrierConformance` and overrides the fixture `carrier`.
"""

import asyncio
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from septum.errors import ChannelBusy, ChannelClosed, ChannelDenied, ChannelLost, ChannelTimeout, Denied
from septum.ivc import Carrier, Kind, Reader, Receiver, Sender, State, Terms, Writer

SIZE = 1 << 14
SOON = 20.0
"""Seconds for what takes none; only so that a broken carrier fails instead of hanging."""


class Channel:
    """Both ends of a channel, in this process."""

    def __init__(self, carrier: Carrier[Any], kind: Kind = Kind.MESSAGES, size: int = SIZE) -> None:
        terms = Terms("test", 41, kind, size)
        self.grants = carrier.create(terms)
        out, come = carrier.sender(self.grants[0]), carrier.receiver(self.grants[1])
        self.half_in = come.half
        self.bells = out.bell, come.bell
        self.sender: Any = Sender(out) if kind is Kind.MESSAGES else Writer(out)
        self.receiver: Any = Receiver(come) if kind is Kind.MESSAGES else Reader(come)

    def close(self) -> None:
        for end in (self.sender, self.receiver):
            with suppress(ChannelBusy):
                end.close()


def messages(count: int) -> list[bytes]:
    """All different, of many lengths."""
    return [bytes([number % 251]) * (number * 37 % 1500) + number.to_bytes(4, "big") for number in range(count)]


class CarrierConformance:
    """Tests of one carrier; its ends are in one process, as far as the carrier has that."""

    @pytest.fixture
    def carrier(self) -> Carrier[Any]:
        raise NotImplementedError

    @pytest.fixture
    def channel(self, carrier: Carrier[Any]) -> Iterator[Channel]:
        made = Channel(carrier)
        yield made
        made.close()

    @pytest.fixture
    def stream(self, carrier: Carrier[Any]) -> Iterator[Channel]:
        made = Channel(carrier, Kind.BYTES)
        yield made
        made.close()

    # messages

    def test_messages_keep_their_bounds_and_order(self, channel: Channel) -> None:
        sent = [b"", b"a", b"b" * 15, b"c" * 16, b"d" * channel.sender.limit]
        for message in sent:
            channel.sender.send(message)
        assert [channel.receiver.recv(SOON) for _ in sent] == sent
        assert channel.receiver.try_recv() is None

    def test_any_readable_buffer_can_be_sent(self, channel: Channel) -> None:
        for data in (bytearray(b"xyz"), memoryview(b"--xyz")[2:]):
            channel.sender.send(data)
            assert channel.receiver.recv(SOON) == b"xyz"
        with pytest.raises(TypeError):
            channel.sender.send("text")

    def test_many_laps_from_another_thread(self, channel: Channel) -> None:
        sent = messages(3000)
        thread = threading.Thread(target=lambda: [channel.sender.send(one, SOON) for one in sent])
        thread.start()
        assert [channel.receiver.recv(SOON) for _ in sent] == sent
        thread.join()

    def test_batches(self, channel: Channel) -> None:
        sent = messages(3000)
        thread = threading.Thread(target=channel.sender.send_many, args=(sent, SOON))
        thread.start()
        got: list[bytes] = []
        while len(got) < len(sent):
            some = channel.receiver.recv_many(7, SOON)
            assert 1 <= len(some) <= 7
            got += some
        assert got == sent
        thread.join()

    def test_a_bad_message_in_a_batch_stops_it_there(self, channel: Channel) -> None:
        with pytest.raises(TypeError):
            channel.sender.send_many([b"a", b"b", None, b"c"])
        with pytest.raises(ChannelDenied, match="too long"):
            channel.sender.send_many([b"d", bytes(SIZE), b"e"])
        assert channel.receiver.recv_many(timeout=SOON) == [b"a", b"b", b"d"]

    def test_a_message_that_is_too_long_changes_nothing(self, channel: Channel) -> None:
        with pytest.raises(ChannelDenied, match="too long") as refused:
            channel.sender.send(bytes(channel.sender.limit + 1))
        assert str(channel.sender.limit) in refused.value.rule
        assert channel.receiver.try_recv() is None
        channel.sender.send(b"x")
        assert channel.receiver.recv(SOON) == b"x"

    def test_into_a_buffer(self, channel: Channel) -> None:
        channel.sender.send(b"abcdef")
        with pytest.raises(ChannelDenied, match="does not fit"):
            channel.receiver.recv_into(bytearray(5))
        buffer = bytearray(b"........")
        assert channel.receiver.recv_into(buffer, SOON) == 6
        assert buffer == b"abcdef.."
        with pytest.raises((BufferError, TypeError)):
            channel.receiver.recv_into(b"not writable")

    def test_a_full_channel_takes_nothing_until_it_is_read(self, channel: Channel) -> None:
        sent = 0
        while channel.sender.try_send(b"x" * 1000):
            sent += 1
        assert 8 <= sent * 1000 <= SIZE
        with pytest.raises(ChannelTimeout):
            channel.sender.send(b"y", 0.01)
        with pytest.raises(ChannelTimeout):
            channel.sender.send_many([b"y"], 0.01)
        assert channel.receiver.recv(SOON) == b"x" * 1000
        assert channel.sender.try_send(b"x" * 1000)
        got: list[bytes] = []
        while len(got) < sent:
            got += channel.receiver.recv_many(timeout=SOON)
        assert got == [b"x" * 1000] * sent
        assert channel.sender.send_many(got, SOON) == sent

    def test_a_batch_that_runs_out_of_time_says_how_far_it_got(self, channel: Channel) -> None:
        sent = channel.sender.send_many([b"x" * 1000] * 100, 0.01)
        assert 0 < sent < 100
        assert len(channel.receiver.recv_many(timeout=SOON)) == sent

    def test_an_empty_channel_times_out(self, channel: Channel) -> None:
        for call in (channel.receiver.recv, channel.receiver.recv_many):
            with pytest.raises(ChannelTimeout):
                call(timeout=0.01)
        with pytest.raises(ChannelTimeout):
            channel.receiver.recv_into(bytearray(1), 0)
        channel.sender.send(b"x")
        assert channel.receiver.recv(0) == b"x"

    def test_a_view_is_the_message_until_it_is_given_back(self, channel: Channel) -> None:
        channel.sender.send_many([b"one", b"two"])
        with channel.receiver.view(SOON) as view:
            assert bytes(view) == b"one"
            assert view.readonly
            with pytest.raises(ChannelBusy):
                channel.receiver.recv(SOON)
            with pytest.raises(ChannelBusy):
                channel.receiver.close()
        with pytest.raises(ValueError, match="released"):
            view.tobytes()
        with pytest.raises(KeyError), channel.receiver.view(SOON):
            raise KeyError
        assert channel.receiver.try_recv() is None
        with pytest.raises(ChannelTimeout), channel.receiver.view(0.01):
            pass

    def test_draining(self, channel: Channel) -> None:
        channel.sender.drain(0)
        channel.sender.send_many([b"a", b"b"])
        with pytest.raises(ChannelTimeout):
            channel.sender.drain(0.01)
        thread = threading.Thread(target=lambda: [channel.receiver.recv(SOON) for _ in "ab"])
        thread.start()
        channel.sender.drain(SOON)
        thread.join()

    # ends

    def test_what_was_sent_before_closing_is_received(self, channel: Channel) -> None:
        channel.sender.send_many([b"a", b"b"])
        channel.sender.close()
        assert list(channel.receiver) == [b"a", b"b"]
        assert channel.receiver.state is State.CLOSED
        with pytest.raises(ChannelClosed):
            channel.receiver.recv(SOON)

    def test_a_closed_receiver_is_told_to_the_sender(self, channel: Channel) -> None:
        channel.receiver.close()
        with pytest.raises(ChannelClosed):
            channel.sender.send(b"x")
        assert channel.sender.state is State.CLOSED

    @pytest.mark.parametrize("closer", ["sender", "receiver"])
    def test_closing_wakes_who_waits(self, channel: Channel, closer: str) -> None:
        if closer == "sender":
            threading.Timer(0.05, channel.sender.close).start()
            with pytest.raises(ChannelClosed):
                channel.receiver.recv(SOON)
        else:
            while channel.sender.try_send(bytes(1000)):
                pass
            threading.Timer(0.05, channel.receiver.close).start()
            with pytest.raises(ChannelClosed):
                channel.sender.send(bytes(1000), SOON)

    def test_a_cut_line_is_a_loss_but_what_came_before_is_received(self, channel: Channel) -> None:
        channel.sender.send(b"last words")
        channel.bells[0].close()
        assert channel.receiver.recv(SOON) == b"last words"
        with pytest.raises(ChannelLost):
            channel.receiver.recv(SOON)
        assert channel.receiver.state is State.LOST

    def test_a_grant_serves_one_end_once(self, carrier: Carrier[Any]) -> None:
        one, other = carrier.create(Terms("test", 1))
        with pytest.raises(Denied, match="can't be trusted"):
            carrier.receiver(one)
        with pytest.raises(Denied, match="can't be trusted"):
            carrier.sender(other)

    @pytest.mark.parametrize("size", [0, -4096, 4095, 4096 + 16, 3 << 12, 1 << 31])
    def test_a_ring_has_a_sound_size(self, carrier: Carrier[Any], size: int) -> None:
        with pytest.raises(ChannelDenied, match=f"a ring of {size} bytes can't be"):
            carrier.create(Terms("test", 1, size=size))

    @pytest.mark.parametrize("generation", [-1, 1 << 64])
    def test_a_generation_has_64_bits(self, carrier: Carrier[Any], generation: int) -> None:
        with pytest.raises(ChannelDenied, match="no generation"):
            carrier.create(Terms("test", generation))

    def test_kinds_do_not_mix(self, carrier: Carrier[Any]) -> None:
        for kind, sending, receiving in ((Kind.BYTES, Sender, Receiver), (Kind.MESSAGES, Writer, Reader)):
            one, other = carrier.create(Terms("test", 1, kind))
            with pytest.raises(ChannelDenied, match=f"the channel carries {kind.name.lower()}"):
                sending(carrier.sender(one))
            with pytest.raises(ChannelDenied, match=f"the channel carries {kind.name.lower()}"):
                receiving(carrier.receiver(other))

    # bytes

    def test_bytes_arrive_in_order_whatever_the_parts(self, stream: Channel) -> None:
        data = bytes(number * 7 % 256 for number in range(200_001))
        thread = threading.Thread(target=lambda: (stream.sender.write(data, SOON), stream.sender.close()))
        thread.start()
        got = bytearray()
        part = 1
        while some := stream.receiver.read(part, SOON):
            assert len(some) <= part
            got += some
            part = part * 5 % 9973 + 1
        assert got == data
        assert stream.receiver.read(10, SOON) == b""
        thread.join()

    def test_a_stream_that_is_not_read_says_how_far_it_got(self, stream: Channel) -> None:
        sent = stream.sender.write(bytes(100_000), 0.01)
        assert SIZE / 2 < sent < SIZE
        with pytest.raises(ChannelTimeout):
            stream.sender.write(b"x", 0.01)
        assert stream.receiver.read_into(bytearray(100_000), SOON) == sent
        assert stream.sender.write(b"", 0) == 0

    def test_nothing_is_not_the_end(self, stream: Channel) -> None:
        with pytest.raises(ChannelTimeout):
            stream.receiver.read(10, 0.01)
        with pytest.raises(ChannelDenied, match="no room"):
            stream.receiver.read(0)
        stream.sender.close()
        with pytest.raises(ChannelClosed):
            stream.receiver.read_into(bytearray(1), SOON)

    # waiting in other ways

    def test_poll_tells_when_to_try_again(self, channel: Channel) -> None:
        poll = select.poll()
        poll.register(channel.receiver.fileno(), select.POLLIN)
        got: list[bytes] = []
        sent = messages(50)
        for message in sent:
            while (one := channel.receiver.try_recv()) is not None:
                got.append(one)
            assert not poll.poll(0)  # it does not wake for what was received already
            channel.sender.send(message)
            assert poll.poll(SOON * 1000)
        got.append(channel.receiver.try_recv())
        assert got == sent

    def test_poll_tells_of_room(self, channel: Channel) -> None:
        while channel.sender.try_send(bytes(100)):
            pass
        poll = select.poll()
        poll.register(channel.sender.fileno(), select.POLLIN)
        assert not poll.poll(0)
        channel.receiver.recv_many(timeout=SOON)
        assert poll.poll(SOON * 1000)
        assert channel.sender.try_send(bytes(100))

    def test_asyncio(self, channel: Channel) -> None:
        sent = messages(500)

        async def send() -> None:
            for message in sent:
                await channel.sender.send_async(message)
            channel.sender.close()

        async def both() -> list[bytes]:
            task = asyncio.create_task(send())
            got = [message async for message in channel.receiver]
            await task
            return got

        assert asyncio.run(asyncio.wait_for(both(), SOON)) == sent

    def test_asyncio_streams(self, stream: Channel) -> None:
        data = bytes(range(256)) * 500

        async def send() -> None:
            await stream.sender.write_async(data)
            stream.sender.close()

        async def both() -> bytes:
            task = asyncio.create_task(send())
            got = bytearray()
            while some := await stream.receiver.read_async(3000):
                got += some
            await task
            return bytes(got)

        assert asyncio.run(asyncio.wait_for(both(), SOON)) == data

    def test_two_tasks_do_not_wait_for_one_end(self, channel: Channel) -> None:
        async def both() -> bytes:
            first = asyncio.create_task(channel.receiver.recv_async())
            await asyncio.sleep(0)
            with pytest.raises(ChannelBusy):
                await channel.receiver.recv_async()
            channel.sender.send(b"x")
            return await first

        assert asyncio.run(asyncio.wait_for(both(), SOON)) == b"x"

    def test_a_cancelled_task_loses_nothing(self, channel: Channel) -> None:
        async def both() -> bytes:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.receiver.recv_async(), 0.01)
            channel.sender.send(b"x")
            message: bytes = await channel.receiver.recv_async()
            return message

        assert asyncio.run(asyncio.wait_for(both(), SOON)) == b"x"
