"""septumd under attack: floods, garbage, clients that don't read or don't end. Others are served all the same, and what
it keeps in memory is bounded."""

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.access import Client, Decision, ObjectQuestion, Question, chain, wire
from septum.errors import Denied, MessageError
from tests.accesskit import RED, WAIT, Daemon, daemon, ledger

START = Question("", RED, "septum_guest", ("start",))
HELLO = wire.frame(b"hello\t1")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all attacks: it must survive each."""
    folder = tmp_path_factory.mktemp("state")
    folder.chmod(0o700)
    ledger(folder).close()
    with daemon(folder) as running:
        yield running
        assert running.process.poll() is None, running.said.read_text()
    assert "Traceback" not in running.said.read_text()
    chain.verify(str(folder / "decisions"))


@pytest.fixture(autouse=True)
def others(one: Daemon) -> Iterator[None]:
    yield
    with one.client() as client:
        assert client.decide(START).allowed


def raw(one: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(one.socket))  # waits while the backlog is full
    connection.settimeout(WAIT)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """All that it says before it closes."""
    said = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            said += data
    return said


def memory(one: Daemon) -> int:
    """KiB that are its own."""
    text = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0])


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        struct.pack("!I", 0xFFFFFFFF),
        struct.pack("!I", wire.MOST_FRAME + 1),
        wire.frame(b""),
        wire.frame(b"\0" * 100),
        wire.frame(b"hello\t2"),
        wire.frame(b"hello"),
        wire.frame(b"status"),
        wire.frame(b"ask\n" + wire.question_line(START).encode()),
        HELLO + wire.frame(b"hello\t1"),
        HELLO + wire.frame(b"nonsense"),
        HELLO + wire.frame(b"reload\tother policy"),
        HELLO + wire.frame(b"ask"),
        HELLO + wire.frame(b"ask\n" + b"\n".join([b"x"] * (wire.MOST_QUESTIONS + 1))),
    ],
)
def test_garbage_is_refused_with_a_reason_and_ends_the_connection(one: Daemon, content: bytes) -> None:
    with raw(one) as connection:
        connection.sendall(content)
        said = until_closed(connection)
        assert b"error\n{" in said
        assert said.count(b'"error": "MessageError"') == 1


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=300), greet=st.booleans(), framed=st.booleans())
def test_any_bytes_are_survived(one: Daemon, content: bytes, greet: bool, framed: bool) -> None:
    with raw(one) as connection:
        connection.sendall((HELLO if greet else b"") + (wire.frame(content) if framed else content))
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)
    assert one.process.poll() is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\t",
        b"a\tb",
        b"a\tb\tc\td\te",
        b"\t\t\t",
        b"\xff\xfe\t\t",
        b"\t" + b"x" * 200_000 + b"\tc\tp",
        b"x" * 250_000,
    ],
)
def test_a_bad_line_is_denied_and_the_others_are_answered(one: Daemon, line: bytes) -> None:
    good = wire.question_line(START).encode()
    with raw(one) as connection:
        connection.sendall(HELLO + wire.frame(b"ask\n" + b"\n".join((good, line, good))))
        connection.shutdown(socket.SHUT_WR)
        first, bad, last = until_closed(connection).split(b"\n")[-3:]
    assert first == last == b"allowed\tstart\t\t"
    assert bad.startswith(b"denied\t\tmalformed: ")
    assert len(bad) < 500


def test_contexts_of_a_mebibyte(one: Daemon) -> None:
    huge = "x" * (1 << 20)
    with raw(one) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(HELLO + wire.frame(b"ask\n" + f"{huge}\t{huge}\tc\tp".encode()))
        until_closed(connection)
    with one.client() as client:
        for question in (
            START._replace(target="u:r:t:" + "c" * 5000),
            START._replace(subject="s" * 9000),
            ObjectQuestion("", "guest:" + "x" * 5000, ("start",)),
            START._replace(permissions=("p" * 5000,)),
            START._replace(permissions=("start",) * 33),
        ):
            assert client.decide(question).reason.startswith("malformed: ")
        with pytest.raises(Denied, match="at most 262144"):
            client.decide(START._replace(target=huge))


def test_a_thousand_connections_are_bounded(one: Daemon) -> None:
    before = memory(one)
    with ExitStack() as stack:
        refused = 0
        for _ in range(1000):
            connection = stack.enter_context(raw(one))
            with suppress(BrokenPipeError):
                connection.sendall(HELLO)
            if b"as many connections as it may" in connection.recv(4096):
                refused += 1
        assert refused == 1000 - 256
        with pytest.raises(Denied, match="as many connections as it may"):
            one.client()
        assert memory(one) - before < 30_000
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        with suppress(Denied), one.client() as client:
            assert client.status()["refused"] >= refused
            return
    raise AssertionError("connections that were closed still count")


def test_half_messages_of_many_are_bounded(one: Daemon) -> None:
    before = memory(one)
    start = struct.pack("!I", wire.MOST_FRAME) + b"ask\n" + b"x" * (wire.MOST_FRAME - 100)
    with ExitStack() as stack:
        for _ in range(250):
            connection = stack.enter_context(raw(one))
            connection.setblocking(False)
            with suppress(OSError):
                done = 0
                connection.send(HELLO)
                while done < len(start):
                    done += connection.send(start[done:])
        with one.client() as client:
            assert client.decide(START).allowed
        assert memory(one) - before < 120_000


def test_who_does_not_read_is_not_read_from(one: Daemon) -> None:
    before = memory(one)
    batch = wire.frame(b"ask\n" + b"\n".join([wire.question_line(START).encode()] * 1000))
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(raw(one))
            connection.sendall(HELLO)
            connection.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < 100 * len(batch):
                    sent += connection.send(batch)
            assert sent < 100 * len(batch)
        with one.client() as client:
            assert client.decide(START).allowed
        assert memory(one) - before < 60_000


def test_messages_in_single_bytes(one: Daemon) -> None:
    with raw(one) as connection:
        for byte in HELLO + wire.frame(b"ask\n" + wire.question_line(START).encode()):
            connection.send(bytes((byte,)))
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection).endswith(b"\nallowed\tstart\t\t")


def test_clients_that_go_at_any_moment(one: Daemon) -> None:
    seeded = random.Random(7)
    batch = wire.frame(b"ask\n" + b"\n".join([wire.question_line(START).encode()] * 50))
    whole = HELLO + batch * 3 + wire.frame(b"reload")
    for _ in range(200):
        with raw(one) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(whole[: seeded.randrange(len(whole) + 1)])
            if seeded.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    descriptors = len(os.listdir(f"/proc/{one.process.pid}/fd"))
    until = time.monotonic() + WAIT
    while (descriptors := len(os.listdir(f"/proc/{one.process.pid}/fd"))) > 40 and time.monotonic() < until:
        time.sleep(0.05)
    assert descriptors <= 40


def test_distinct_questions_without_end_take_bounded_memory(one: Daemon) -> None:
    with one.client() as client:
        client.decide_all([START._replace(target=f"u:r:t{n}:s0") for n in range(1000)])
        before = memory(one)
        for part in range(100):
            client.decide_all([START._replace(target=f"u:r:t{part}_{n}:{'x' * 300}") for n in range(1000)])
    assert memory(one) - before < 200_000


def test_a_message_that_is_not_finished_in_time_ends_the_connection(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ledger(tmp_path).close()
    bounds = "import septum.daemon.server as s; s.Bounds.__new__.__defaults__ = (256, 32, 64 << 20, 0.3, 0.6, 5.0)"
    with daemon(tmp_path, prepare=bounds) as short:
        for content in (HELLO[:5], HELLO + b"\0\0", HELLO):
            with raw(short) as connection:
                connection.sendall(content)
                until_closed(connection)
        batch = wire.frame(b"ask\n" + b"\n".join([wire.question_line(START).encode()] * 1000))
        with raw(short) as connection, suppress(BrokenPipeError):
            # Never read from: the daemon stops reading too, and then ends it.
            connection.sendall(HELLO + batch * 500)


@given(
    st.builds(
        Decision,
        st.booleans(),
        st.lists(st.from_regex("[a-z_]+", fullmatch=True)).map(tuple),
        st.text().map(lambda text: " ".join(text.split())),
        st.text().map(lambda text: " ".join(text.split())),
        st.just(3),
        st.just("fake"),
        st.booleans(),
    )
)
def test_decisions_come_back_as_they_were_sent(decision: Decision) -> None:
    line = wire.decision_line(decision).decode()
    assert "\n" not in line
    back = wire.decision(line, 3, "fake")
    assert back[:2] == decision[:2]
    assert back.permissive == decision.permissive


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=9), st.lists(st.text(max_size=9), min_size=1))
def test_questions_come_back_or_are_refused(subject: str, target: str, tclass: str, permissions: list[str]) -> None:
    wanted = tuple(permissions)
    for question in (Question(subject, target, tclass, wanted), ObjectQuestion(subject, target, wanted)):
        try:
            line = wire.question_line(question).encode("utf-8", "strict")
        except (MessageError, UnicodeEncodeError):
            continue
        assert wire.question(line) == question or any("," in one for one in permissions)


def test_a_daemon_that_lies_is_refused(tmp_path: Path) -> None:
    def lie(*bodies: bytes) -> Client:
        path = tmp_path / "s"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        if os.fork() == 0:
            try:
                connection, _ = listener.accept()
                for body in bodies:
                    connection.recv(1 << 16)
                    connection.sendall(body)
                connection.recv(1)
            finally:
                os._exit(0)
        listener.close()
        return Client(str(path), timeout=WAIT)

    greeting = wire.frame(wire.head(1, "fake") + b'{"context": "c"}')
    for body in (wire.frame(b""), wire.frame(b"no"), wire.frame(b"error\nx"), struct.pack("!I", 1 << 31)):
        with pytest.raises(MessageError):
            lie(body)
    yes = b"\nallowed\t\t\t"
    for answer in (b"ok\t1\tfake", b"ok\t1\tfake\nyes", b"ok\t1\tfake" + yes * 2, b"ok\tx\tfake" + yes):
        with pytest.raises(MessageError):
            lie(greeting, wire.frame(answer)).decide(START)
