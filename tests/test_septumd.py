"""septumd at work: who is served, reloads, stops, what it says to a service manager."""

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from septum.access import Client, ObjectQuestion, Question, chain, wire
from septum.access.client import SOCKET
from septum.cli import main
from septum.daemon.main import arguments
from septum.errors import Denied, HostError, NotFound, SeptumError
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE, build
from tests.accesskit import BLUE, BLUE_UID, PLATFORM, RED, RED_UID, WAIT, Daemon, admit, daemon, ledger

START = Question("", RED, "septum_guest", ("start",))
SEES = Question("", BLUE, "septum_guest", ("getattr",))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder that other users can't enter, in one that they can."""
    with tempfile.TemporaryDirectory(prefix="septumd-") as place:
        os.chmod(place, 0o755)
        state = Path(place) / "state"
        state.mkdir(mode=0o700)
        ledger(state).close()
        yield state


def verified(folder: Path) -> chain.Report:
    with_ledger = SqliteLedger(str(folder))
    try:
        return chain.verify(str(folder / "decisions"), with_ledger.audit_records())
    finally:
        with_ledger.close()


def events(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted((folder / "decisions").iterdir()) for line in path.read_text().splitlines()]
    return [body for body in (json.loads(line[65:]) for line in lines) if "event" in body]


def kill(pid: int) -> None:
    """Returns when it is dead."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], WAIT)
    os.close(pidfd)


def as_user(uid: int, act: Callable[[], object]) -> str:
    """What it returns, or the error that it raises, in a process of that user."""
    inner, outer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            try:
                said = repr(act())
            except SeptumError as error:
                said = f"{type(error).__name__}: {error}"
            os.write(outer, said.encode())
        finally:
            os._exit(0)
    os.close(outer)
    with open(inner) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


# Who is served


def test_root_is_the_platform(folder: Path) -> None:
    with daemon(folder) as one, one.client() as client:
        assert client.context == PLATFORM
        assert client.decide(START).allowed
        assert client.decide(ObjectQuestion("", "guest:red/web", ("start",))).allowed
        assert client.decide(Question(RED, BLUE, "septum_guest", ("start",))).reason == "type enforcement"
        assert client.status()["engine"] == "fake"
    assert verified(folder).decisions >= 4
    assert [entry.decision["allowed"] for entry in chain.read(str(folder / "decisions"))][-4:] == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.root
def test_others_are_whom_the_ledger_knows_by_their_uid(folder: Path) -> None:
    with daemon(folder, "--open", at=folder.parent / "s") as one:

        def ask(question: Question | ObjectQuestion) -> Callable[[], object]:
            return lambda: tuple(one.client().decide(question))[:3]

        assert as_user(RED_UID, lambda: one.client().context) == repr(RED)
        assert as_user(BLUE_UID, lambda: one.client().context) == repr(BLUE)
        assert as_user(RED_UID, ask(SEES)) == "(True, ('getattr',), '')"
        assert as_user(RED_UID, ask(START)) == "(False, (), 'not allowed')"
        forged = (SEES._replace(subject=PLATFORM), SEES._replace(subject=BLUE))
        for question in (*forged, ObjectQuestion(PLATFORM, "guest:red/web", ("start",))):
            assert as_user(RED_UID, ask(question)) == "(False, (), 'not yours to ask')"
        for act, right in ((Client.status, "introspect"), (Client.reload, "load")):
            assert f"{{ {right} }}" in as_user(RED_UID, lambda act=act: act(one.client()))  # type: ignore[misc]
        said = as_user(12345, one.client)
        assert said.startswith("Denied: this process has no context here")
        assert "uid 12345" in said
    assert {entry.asker["uid"] for entry in chain.read(str(folder / "decisions"))} == {0, RED_UID, BLUE_UID}
    assert any(one["event"] == "clients.refused" for one in events(folder))
    verified(folder)


@pytest.mark.root
def test_the_socket_is_closed_to_others_unless_it_is_opened(folder: Path) -> None:
    with daemon(folder, at=folder.parent / "s") as one:
        assert "Permission denied" in as_user(RED_UID, one.client)


@pytest.mark.root
def test_a_guest_that_ends_is_not_taken_for_the_next_one_of_its_uid(folder: Path) -> None:
    def act(book: SqliteLedger, one: Daemon) -> object:
        client = one.client()
        first = client.decide(SEES).allowed
        os.write(ready, b"x")
        os.read(go, 1)
        try:
            return client.decide(SEES)
        except Denied as error:
            return first, error.what

    with daemon(folder, "--open", at=folder.parent / "s") as one:
        waiting, ready = os.pipe()
        go, tell = os.pipe()
        said: list[str] = []
        book = SqliteLedger(str(folder))
        thread = threading.Thread(target=lambda: said.append(as_user(RED_UID, lambda: act(book, one))))
        thread.start()
        os.read(waiting, 1)
        old = book.guest("red/web")
        assert old is not None
        book.end(old.uuid)
        book.release(old.uuid)
        admit(book, "blue", RED_UID, "s0:c2,c500,c501", 9, "next")
        os.write(tell, b"x")
        thread.join(WAIT)
        book.close()
        assert said == ["(True, 'this process is not any more what it was when it connected')"]


def test_a_connection_ends_with_the_process_that_made_it(folder: Path) -> None:
    with daemon(folder) as one:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = os.fork()
        if child == 0:
            try:
                client = one.client()
                theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [client._socket.fileno()]))])
                theirs.recv(1)
            finally:
                os._exit(0)
        _, ancillary, _, _ = mine.recvmsg(1, socket.CMSG_LEN(4))
        with socket.socket(fileno=array("i", ancillary[0][2])[0]) as handed:
            handed.settimeout(WAIT)
            handed.sendall(wire.frame(b"ask\n" + wire.question_line(START).encode()))
            assert b"allowed" in handed.recv(4096)
            mine.send(b"x")
            os.waitpid(child, 0)
            with suppress(BrokenPipeError, ConnectionResetError):
                while handed.recv(4096):
                    pass
                handed.sendall(wire.frame(b"ask\nx"))
                assert handed.recv(4096) == b""


@pytest.mark.root
def test_a_guest_that_asks_too_fast_is_answered_later(folder: Path) -> None:
    def act() -> object:
        client = one.client()
        client.decide_all([SEES] * 700)
        client.close()
        begun = time.monotonic()
        allowed = one.client().decide(SEES).allowed
        return allowed, time.monotonic() - begun > 0.9

    with daemon(folder, "--open", "--rate", "100", at=folder.parent / "s") as one:
        assert as_user(RED_UID, act) == "(True, True)"


# Reloads


def test_a_reload_decides_by_the_new_policy(folder: Path) -> None:
    with daemon(folder) as one, one.client() as client:
        assert client.decide(START)[0:5] == (True, ("start",), "", "", 1)
        one.policy.write_text("1")
        assert client.decide(START).seqno == 1
        assert client.reload() == {"seqno": 2, "fingerprint": "1"}
        now = client.decide(START)
        assert (now.allowed, now.reason, now.seqno) == (False, "type enforcement", 2)


@pytest.mark.parametrize(
    ("text", "why"), [("garbage", "the policy is damaged"), ("99", "lacks the class septum_realm")]
)
def test_a_failing_reload_keeps_the_old_policy_and_says_why(folder: Path, text: str, why: str) -> None:
    with daemon(folder) as one, one.client() as client:
        assert client.decide(START).allowed
        one.policy.write_text(text)
        with pytest.raises(Denied, match=why):
            client.reload()
        assert client.decide(START)[0:5] == (True, ("start",), "", "", 1)
        assert why in one.said.read_text()
        one.policy.write_text("1")
        assert client.reload()["seqno"] == 2
    refused = [body for body in events(folder) if body["event"] == "policy.refused"]
    assert [why in body["why"] for body in refused] == [True]


def test_sighup_reloads(folder: Path) -> None:
    with daemon(folder) as one, one.client() as client:
        one.policy.write_text("1")
        one.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + WAIT
        while client.decide(START).seqno != 2:
            assert time.monotonic() < until
        assert not client.decide(START).allowed


def test_every_answer_during_reloads_is_the_old_policys_or_the_new_ones(folder: Path) -> None:
    answers: list[tuple[int, bool]] = []
    asked = 0
    stop = threading.Event()
    with daemon(folder) as one:

        def ask() -> None:
            nonlocal asked
            questions = [START, START._replace(target=BLUE)] * 50
            with one.client() as client:
                while not stop.is_set():
                    asked += len(questions)
                    answers.extend((one.seqno, one.allowed) for one in client.decide_all(questions))

        thread = threading.Thread(target=ask)
        thread.start()
        strict = {1: False}
        with one.client() as client:
            for number in range(1, 31):
                one.policy.write_text("garbage" if number % 5 == 0 else str(number))
                try:
                    strict[client.reload()["seqno"]] = number % 2 == 1
                except Denied:
                    assert number % 5 == 0
        stop.set()
        thread.join(WAIT)
    assert len(strict) == 25
    assert len(answers) == asked > 0
    assert [seqno for seqno, _ in answers] == sorted(seqno for seqno, _ in answers)
    assert all(allowed != strict[seqno] for seqno, allowed in answers)
    assert len({seqno for seqno, _ in answers}) > 5
    recorded = [
        entry.decision for entry in chain.read(str(folder / "decisions")) if entry.decision["class"] == "septum_guest"
    ]
    assert [(one["seqno"], one["allowed"]) for one in recorded] == answers
    verified(folder)


# Stops, and two at once


def test_what_was_sent_before_a_stop_is_answered(folder: Path) -> None:
    with daemon(folder) as one, one.client() as client:
        message = wire.frame(("ask\n" + "\n".join([wire.question_line(START)] * 20)).encode())
        one.process.send_signal(signal.SIGSTOP)
        client._socket.sendall(message * 50)
        one.process.send_signal(signal.SIGTERM)
        one.process.send_signal(signal.SIGCONT)
        answers = [client._receive() for _ in range(50)]
        assert all(answer.count("\nallowed") == 20 for answer in answers)
        assert one.process.wait(WAIT) == 0
        assert not one.socket.exists()
    report = verified(folder)
    assert (report.unclosed, report.torn, report.anchors) == (0, 0, 1)
    assert report.decisions >= 1000


def test_there_is_one_for_each_state_folder(folder: Path) -> None:
    with daemon(folder) as one:
        other = Daemon(folder)
        assert other.process.wait(WAIT) == 125
        assert f"pid {one.process.pid}" in one.said.read_text()
        assert one.client().decide(START).allowed


def test_a_killed_one_leaves_nothing_in_the_way(folder: Path) -> None:
    for _ in range(2):
        one = Daemon(folder).up()
        with one.client() as client:
            assert client.decide(START).allowed
        one.stop(signal.SIGKILL)
    with daemon(folder) as again:
        assert again.client().decide(START).seqno == 3
    assert verified(folder).unclosed == 2


def test_only_a_socket_of_its_own_is_replaced(folder: Path) -> None:
    place = folder / SOCKET
    victim = folder / "victim"
    victim.write_text("x")
    for squat in (lambda: place.write_text("x"), lambda: place.symlink_to(victim), lambda: place.mkdir()):
        squat()
        one = Daemon(folder)
        assert one.process.wait(WAIT) == 125
        assert "something else is in the place" in one.said.read_text()
        one.said.unlink()
        place.rmdir() if place.is_dir() else place.unlink()
    assert victim.read_text() == "x"
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(str(place))
        squatter.listen()
        one = Daemon(folder)
        assert one.process.wait(WAIT) == 125
        assert "somebody listens" in one.said.read_text()


def test_a_folder_that_others_may_write_is_no_place_for_a_socket(folder: Path) -> None:
    folder.parent.chmod(0o777)
    one = Daemon(folder, at=folder.parent / "s")
    assert one.process.wait(WAIT) == 125
    assert "not safe to use" in one.said.read_text()


def test_a_client_without_a_daemon_is_told_so(folder: Path) -> None:
    for path in (folder / "none", folder / "no" / "folder"):
        with pytest.raises(NotFound, match="septumd does not run here"):
            Client(str(path))


# The service manager


def test_sockets_and_notices_of_a_service_manager(folder: Path) -> None:
    place = folder.parent / "passed"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder.parent / "notify"))
    notices.settimeout(WAIT)

    def heard(word: bytes) -> bytes:
        while True:
            text = notices.recv(4096)
            if text.startswith(word):
                return text

    # systemd puts LISTEN_PID in after the fork.
    passed = (
        f"import os, socket; os.dup2({listener.fileno()}, 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='x')"
    )
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder.parent / "notify"), "WATCHDOG_USEC": "1000000"}
    one = Daemon(folder, prepare=passed, pass_fds=(listener.fileno(),), env=environment)
    one.socket = place
    try:
        heard(b"READY=1")
        assert one.client().decide(START).allowed
        assert not (folder / SOCKET).exists()
        heard(b"WATCHDOG=1")
        one.process.send_signal(signal.SIGHUP)
        assert b"MONOTONIC_USEC=" in heard(b"RELOADING=1")
        heard(b"READY=1")
        one.process.send_signal(signal.SIGTERM)
        heard(b"STOPPING=1")
        assert one.process.wait(WAIT) == 0
        assert place.exists()
    finally:
        one.stop()
        listener.close()
        notices.close()


def test_what_is_passed_must_be_a_listening_socket(folder: Path) -> None:
    for make in ("socket.socketpair()[0]", "open('/dev/null')", "socket.socket(socket.AF_UNIX)"):
        told = "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')"
        prepare = f"import os, socket; passed = {make}; os.dup2(passed.fileno(), 3); {told}"
        one = Daemon(folder, prepare=prepare)
        assert one.process.wait(WAIT) == 2
        assert "no listening unix stream socket" in one.said.read_text()


# The command, with libsepol in a worker


@pytest.fixture(scope="module")
def image() -> bytes:
    return build("standalone").image


class Real(Daemon):
    """The command as it is installed."""

    def __init__(self, folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> None:
        self.folder, self.socket, self.said, self.policy = folder, folder / SOCKET, folder / "said", folder / FILE
        code = "from septum.daemon.main import main; main()"
        with self.said.open("ab") as said:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-c", code, "--state", str(folder), *options], stderr=said
            )

    def worker(self) -> int:
        """The one child that lives, whichever thread started it; its predecessor may not have been waited for yet."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = map(int, " ".join(path.read_text() for path in tasks).split())
        (worker,) = (one for one in children if "Z (zombie)" not in Path(f"/proc/{one}/status").read_text())
        return worker


def test_the_command_needs_a_policy(folder: Path) -> None:
    one = Real(folder)
    assert one.process.wait(WAIT) == 125
    assert "there is no policy to decide by" in one.said.read_text()


def test_a_killed_worker_denies_is_recorded_and_comes_back(folder: Path, image: bytes) -> None:
    (folder / FILE).write_bytes(image)
    one = Real(folder)
    try:
        one.up()
        with one.client() as client:
            before = client.decide(START)
            assert before.allowed
            for _ in range(2):
                kill(one.worker())
                seen = [client.decide(START)]
                until = time.monotonic() + WAIT
                while not seen[-1].allowed:
                    assert time.monotonic() < until
                    seen.append(client.decide(START))
                assert {(one.allowed, one.reason) for one in seen[:-1]} == {(False, "engine gone")}
            assert seen[-1].seqno == before.seqno + 2
            status = Path(f"/proc/{one.worker()}/status").read_text()
            assert "\nCapEff:\t0000000000000000\n" in status
            assert "\nNoNewPrivs:\t1\n" in status
            assert os.geteuid() != 0 or "\nUid:\t65534\t65534\t65534\t65534\n" in status
            assert "is gone: everything is denied" in one.said.read_text()
    finally:
        assert one.stop() == 0, one.said.read_text()
    kinds = [body["event"] for body in events(folder)]
    assert kinds.count("engine.gone") == 2
    assert kinds.count("policy.loaded") == 3
    verified(folder)


def test_a_worker_that_is_killed_under_load_makes_denials_only(folder: Path, image: bytes) -> None:
    (folder / FILE).write_bytes(image)
    one = Real(folder)
    stop, connected = threading.Event(), threading.Event()
    answers: list[tuple[bool, str]] = []

    def ask() -> None:
        number = 0
        with one.client() as client:
            connected.set()
            while not stop.is_set():
                number += 1
                level = f"s0:c{1 + number % 200},c{300 + number % 600}"
                target = f"system_u:system_r:septum_vm.process:{level}"
                answers.extend((d.allowed, d.reason) for d in client.decide_all([START._replace(target=target)] * 3))

    try:
        one.up()
        thread = threading.Thread(target=ask)
        thread.start()
        assert connected.wait(WAIT)
        for _ in range(3):
            seen, until = len(answers), time.monotonic() + WAIT
            while (True, "") not in answers[seen:]:
                assert time.monotonic() < until
                time.sleep(0.01)
            kill(one.worker())
        stop.set()
        thread.join(WAIT)
    finally:
        one.stop()
    assert set(answers) == {(True, ""), (False, "engine gone")}
    verified(folder)


def test_a_policy_that_is_none_is_refused_at_a_reload(folder: Path, image: bytes) -> None:
    (folder / FILE).write_bytes(image)
    one = Real(folder)
    try:
        one.up()
        with one.client() as client:
            for content in (b"", b"x" * 1000, image[:-2000], b"\x8c\xff\x7c\xf9" + os.urandom(3000)):
                (folder / FILE).write_bytes(content)
                with pytest.raises(Denied):
                    client.reload()
                assert client.decide(START).seqno == 1
            (folder / FILE).unlink()
            with pytest.raises(Denied, match="there is no policy"):
                client.reload()
            assert client.decide(START).allowed
    finally:
        assert one.stop() == 0, one.said.read_text()


def test_after_a_crash_of_the_daemon_no_worker_is_left(folder: Path, image: bytes) -> None:
    (folder / FILE).write_bytes(image)
    one = Real(folder)
    one.up()
    worker = one.worker()
    pidfd = os.pidfd_open(worker)
    one.stop(signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(WAIT * 1000)
    os.close(pidfd)


# A disk that is full


def test_a_full_disk_denies_and_says_so_until_there_is_room(folder: Path) -> None:
    with daemon(folder) as one, one.client() as client:
        assert client.decide(START).allowed
        size = sum(path.stat().st_size for path in (folder / "decisions").iterdir())
        infinity = resource.RLIM_INFINITY
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (size + 10, infinity))
        for question in (START, SEES):
            refused = client.decide(question)
            assert (refused.allowed, refused.granted, refused.reason) == (False, (), "decisions can't be recorded")
        with pytest.raises(Denied, match="decisions can't be recorded"):
            client.reload()
        assert "decisions can't be recorded" in one.said.read_text()
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (infinity, infinity))
        assert client.decide(START).allowed
        assert client.decide(START).seqno == 1
    assert [body["refused"] for body in events(folder) if body["event"] == "unrecorded"] == [3]
    verified(folder)


def test_killed_in_the_middle_of_batches_all_that_was_answered_is_recorded(folder: Path) -> None:
    answered = 0
    one = Daemon(folder).up()
    killer = threading.Timer(0.5, lambda: one.process.kill())
    killer.start()
    with one.client() as client, suppress(HostError):
        while True:
            answered += len(client.decide_all([START] * 500))
    one.stop()
    killer.join()
    report = verified(folder)
    assert report.decisions >= answered > 0
    with daemon(folder) as again:
        assert again.client().decide(START).allowed
    assert verified(folder).segments == 2


# Beside serving


def test_the_record_can_be_verified_by_the_command(folder: Path) -> None:
    def command() -> "subprocess.CompletedProcess[str]":
        code = "from septum.daemon.main import main; main()"
        words = [sys.executable, "-c", code, "--state", str(folder), "--verify"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    with daemon(folder) as one, one.client() as client:
        client.decide_all([START] * 10)
        done = command()
        assert done.returncode == 0, done.stderr
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    assert "decisions in 1 files are whole" in done.stdout
    path = folder / "decisions" / "00000001.log"
    path.write_bytes(path.read_bytes().replace(b'"septum_guest"', b'"septum_realm"'))
    done = command()
    assert done.returncode == 125
    assert "the decision log is damaged" in done.stderr


def test_doctor_tells_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def doctor() -> Any:
        with pytest.raises(SystemExit):
            main.main(["doctor", "--json", "--state", str(folder)])
        return json.loads(capsys.readouterr().out)["septumd"]

    assert doctor() == {"runs": False, "bytes": 0}
    with daemon(folder):
        assert doctor()["runs"] is True
    assert doctor()["runs"] is False
    assert doctor()["bytes"] > 0


def test_the_unit_files_say_what_the_command_takes() -> None:
    text = (Path(__file__).parent.parent / "systemd" / "septumd.service").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    words = line.removeprefix("ExecStart=").split()
    parser = ArgumentParser()
    arguments(parser)
    assert words[0] == "septumd"
    assert parser.parse_args(words[1:]).state == "/var/lib/septum"


@pytest.mark.root
def test_it_needs_no_more_capabilities_than_its_unit_gives(folder: Path, image: bytes) -> None:
    text = (Path(__file__).parent.parent / "systemd" / "septumd.service").read_text()
    (given,) = [line for line in text.splitlines() if line.startswith("CapabilityBoundingSet=")]
    names = [f"+{name.removeprefix('CAP_').lower()}" for name in given.partition("=")[2].split()]
    (folder / FILE).write_bytes(image)
    one = Real(folder, prefix=("setpriv", f"--bounding-set=-all,{','.join(names)}", "--no-new-privs"))
    try:
        one.up()
        assert one.client().decide(START).allowed
        assert "\nUid:\t65534\t" in Path(f"/proc/{one.worker()}/status").read_text()
    finally:
        assert one.stop() == 0, one.said.read_text()
