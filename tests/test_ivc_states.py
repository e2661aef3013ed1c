"""The public names, and: in every state every call does what its method says."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import septum.ivc
from septum.errors import ChannelClosed, ChannelError, ChannelLost, ChannelPoisoned, SeptumError
from septum.ivc import Kind, MemfdCarrier, Reader, Receiver, Sender, State, Writer
from septum.ivc import carriers as septum_carriers
from tests.ivc_conformance import Channel

ERRORS: dict[State, type[SeptumError]] = {
    State.CLOSED: ChannelClosed,
    State.LOST: ChannelLost,
    State.POISONED: ChannelPoisoned,
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "send": (b"x", 0),
    "try_send": (b"x",),
    "send_async": (b"x",),
    "send_many": ([b"x"], 0),
    "write": (b"x", 0),
    "write_async": (b"x",),
    "drain": (0,),
    "recv": (0,),
    "recv_many": (1, 0),
    "recv_into": (bytearray(9), 0),
    "view": (0,),
    "read": (9, 0),
    "read_into": (bytearray(9), 0),
}
ENDS = {Sender: Kind.MESSAGES, Receiver: Kind.MESSAGES, Writer: Kind.BYTES, Reader: Kind.BYTES}


def legal(kind: type, name: str) -> frozenset[State]:
    found = inspect.getattr_static(kind, name)
    function = found.fget if isinstance(found, property) else found
    return inspect.unwrap(function).__legal__  # type: ignore[no-any-return]


def public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


CALLS = [(kind, name, state) for kind in ENDS for name in public(kind) for state in State]


def reach(kind: type, state: State) -> tuple[Any, Channel]:
    """An end in that state, and what keeps it there."""
    channel = Channel(MemfdCarrier(spin=0), ENDS[kind], size=1 << 12)
    receives = kind in (Receiver, Reader)
    end, other = (channel.receiver, channel.sender) if receives else (channel.sender, channel.receiver)
    if state is State.CLOSED:
        end.close()
    elif state is State.LOST:
        channel.bells[0 if receives else 1].close()
        with pytest.raises(ChannelLost):
            meet_the_end(end)
    elif state is State.POISONED:
        other._half.poison(1)
        with pytest.raises(ChannelPoisoned):
            meet_the_end(end)
    else:  # so that all calls succeed
        with suppress(AttributeError):
            other.send(b"x")
        with suppress(AttributeError):
            other.write(b"x")
    assert end.state is state
    return end, channel


def meet_the_end(end: Any) -> None:
    calls: dict[type, Callable[[], object]] = {
        Sender: lambda: [end.send(bytes(500), 0) for _ in range(20)],
        Writer: lambda: [end.write(bytes(5000), 0) for _ in range(2)],
        Receiver: lambda: end.recv(0),
        Reader: lambda: end.read_into(bytearray(1), 0),
    }
    calls[type(end)]()


def use(end: Any, name: str) -> object:
    value = getattr(end, name)
    if name == "drain" and end.state is State.OPEN:
        return None  # of a channel that nobody reads: see the conformance suite
    if callable(value):
        value = value(*ARGUMENTS.get(name, ()))
    if inspect.iscoroutine(value):
        return asyncio.run(value)
    if hasattr(value, "__enter__") and name == "view":
        with value as view:
            return bytes(view)
    return value


def words(one: Any) -> str:
    return one if isinstance(one, str) else one.name if isinstance(one, State) else one.__name__


@pytest.mark.parametrize(("kind", "name", "state"), CALLS, ids=words)
def test_calls_are_legal_where_they_say(kind: type, name: str, state: State) -> None:
    end, channel = reach(kind, state)
    if state in legal(kind, name):
        use(end, name)
    else:
        with pytest.raises(ERRORS[state]):
            use(end, name)
        assert end.state is state
    channel.close()


def test_errors_name_the_channel_and_what_to_do() -> None:
    for state in (State.LOST, State.POISONED):
        end, channel = reach(Receiver, state)
        with pytest.raises((ChannelError, ChannelPoisoned)) as refused:
            end.recv()
        assert refused.value.target == "test"
        assert refused.value.rule
        assert "set up anew" in refused.value.remedy
        channel.close()


def test_public_names_are_pinned() -> None:
    assert septum.ivc.__all__ == [
        "PATIENCE", "SIZE_MAX", "SIZE_MIN", "Bell", "Carrier", "Half", "Incoming", "Kind", "MemfdCarrier", "MemfdGrant",
        "Outgoing", "Reader", "Receiver", "Role", "Sender", "Sink", "Source", "State", "StreamCarrier", "StreamGrant",
        "Terms", "Writer", "require",
    ]  # fmt: skip
    assert septum_carriers.__all__ == [
        "Bell", "Carrier", "Half", "Incoming", "LineBell", "MemfdCarrier", "MemfdGrant", "Outgoing", "Sink", "Source",
        "StreamCarrier", "StreamGrant",
    ]  # fmt: skip
    assert public(Sender) == [
        "close", "drain", "fileno", "limit", "send", "send_async", "send_many", "state", "terms", "try_send",
    ]  # fmt: skip
    assert public(Receiver) == [
        "close", "fileno", "limit", "recv", "recv_async", "recv_into", "recv_many", "state", "terms", "try_recv",
        "view",
    ]  # fmt: skip
    assert public(Writer) == ["close", "drain", "fileno", "limit", "state", "terms", "write", "write_async"]
    assert public(Reader) == ["close", "fileno", "limit", "read", "read_async", "read_into", "state", "terms"]
