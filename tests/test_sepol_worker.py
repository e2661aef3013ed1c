"""A policy in a process of its own: its answers, its end, and what damaged policies do to it."""

import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from septum.errors import Denied, EngineGone, LabelError, PolicyError, SeptumError, UnknownName
from septum.sepol import Policy, worker
from septum.sepol.worker import Worker, vet
from tests.sepolkit import Questions, image, small

__all__ = ["image"]

T, OBJECT = "u:r:t:s0", "u:object_r:o:s0"
RULES = """
(allow t o (file (read open)))
(boolean may_write false)(booleanif may_write (true (allow t o (file (write)))))
(mlsconstrain (file (read)) (dom h1 h2))
"""
READ, WRITE, OPEN = 1, 2, 4


@pytest.fixture
def one() -> Iterator[Worker]:
    with Worker(small(RULES)) as found:
        yield found


def test_public_names_are_pinned() -> None:
    assert worker.__all__ == ["Worker", "vet"]


class TestAnswers:
    def test_they_are_those_of_a_policy_in_this_process(self, image: bytes) -> None:
        with Policy.open(image) as policy, Worker(image) as one:
            assert one.fingerprint == policy.fingerprint
            assert (one.version, one.mls, one.handle_unknown) == (policy.version, policy.mls, policy.handle_unknown)
            assert one.classes() == policy.classes()
            asked = Questions(policy, 3)
            questions = [asked.near() for _ in range(500)]
            assert one.compute_many(questions) == [policy.compute(*question).allowed for question in questions]
            for question in questions[:10]:
                wanted = policy.classes()[question.tclass][:3]
                assert one.explain(*question, wanted) == policy.explain(*question, wanted)

    def test_booleans_and_paths(self, tmp_path: Path) -> None:
        path = tmp_path / "policy"
        path.write_bytes(small(RULES))
        with Worker(str(path), booleans={"may_write": True}) as one:
            assert one.name == str(path)
            assert one.compute_many([(T, OBJECT, "file")]) == [READ | OPEN | WRITE]
        with pytest.raises(UnknownName):
            Worker(str(path), booleans={"nothing": True})

    def test_a_bad_question_spoils_no_other(self, one: Worker) -> None:
        good = (T, OBJECT, "file")
        bad: list[tuple[str, str, str]] = [
            ("", OBJECT, "file"), (T, "x" * (1 << 20), "file"), (T, OBJECT, "nothing"), (T, "\ud800", "file"),
            (T, OBJECT, "file\0"), ("u:r:t:s0\0", OBJECT, "file"), (T, OBJECT, "\n"),
        ]  # fmt: skip
        questions = [question for some in bad for question in (some, good)]
        answers = one.compute_many(questions)
        assert answers[1::2] == [READ | OPEN] * len(bad)
        for answer in answers[::2]:
            assert isinstance(answer, LabelError | UnknownName)
            assert len(str(answer)) < 1000
        assert one.compute_many([]) == []
        with pytest.raises(UnknownName):
            one.explain(T, OBJECT, "file", ["nothing"])
        with pytest.raises(UnknownName):
            one.explain(T, OBJECT, "file", ["nothing" * 100_000] * 100_000)
        (said,) = one.explain_many([(T, OBJECT, "file", ["read"])])
        assert not isinstance(said, Denied)
        assert said.rule == "(allow t o (file (read open)))"

    def test_more_questions_than_a_message_takes(self, one: Worker) -> None:
        count = 3 * (1 << 14) + 1
        answers = one.compute_many([(T, OBJECT, "file"), (T, f"{OBJECT}:c1", "file")] * (count // 2) + [(T, T, "dir")])
        assert answers == [READ | OPEN, OPEN] * (count // 2) + [0]

    def test_threads_get_their_own_answers(self, one: Worker) -> None:
        wrong: list[Any] = []

        def ask(level: str, mask: int) -> None:
            for _ in range(100):
                found = one.compute_many([(T, f"{OBJECT}{level}", "file")] * 20)
                if found != [mask] * 20:
                    wrong.append(found)

        threads = [threading.Thread(target=ask, args=pair) for pair in (("", READ | OPEN), (":c1", OPEN)) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_an_ended_one_is_said_to_be_and_starts_anew(self, one: Worker, number: int) -> None:
        assert one.alive
        os.kill(one.pid, number)
        wait_until(lambda: not one.alive)
        for _ in range(2):
            with pytest.raises(EngineGone, match=signal.Signals(number).name):
                one.compute_many([(T, OBJECT, "file")])
        with pytest.raises(EngineGone):
            one.explain(T, OBJECT, "file", ["read"])
        one.restart()
        assert one.alive
        assert one.compute_many([(T, OBJECT, "file")]) == [READ | OPEN]

    def test_one_that_is_killed_while_it_answers(self, one: Worker) -> None:
        killer = threading.Timer(0.05, os.kill, (one.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(EngineGone, match="SIGKILL"):
            one.compute_many([(T, OBJECT, "file")] * 1_000_000)
        one.restart()
        assert one.compute_many([(T, OBJECT, "file")]) == [READ | OPEN]

    def test_one_that_does_not_answer_is_not_waited_for(self) -> None:
        with Worker(small(RULES), timeout=0.2) as one:
            os.kill(one.pid, signal.SIGSTOP)
            with pytest.raises(EngineGone, match="in time"):
                one.compute_many([(T, OBJECT, "file")])
            wait_until(lambda: not one.alive)

    def test_a_closed_one(self, one: Worker) -> None:
        pid = one.pid
        one.close()
        one.close()
        assert not one.alive
        assert not Path(f"/proc/{pid}").exists()
        with pytest.raises(EngineGone, match="closed"):
            one.compute_many([(T, OBJECT, "file")])
        one.restart()
        assert one.alive

    def test_it_leaves_no_descriptor_and_no_process(self) -> None:
        content = small(RULES)
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            with Worker(content) as one:
                one.restart()
            with pytest.raises(PolicyError):
                Worker(content[:400])
        assert os.listdir("/proc/self/fd") == before

    def test_the_thread_that_started_it_may_end(self) -> None:
        found: list[Worker] = []
        starter = threading.Thread(target=lambda: found.append(Worker(small(RULES))))
        starter.start()
        starter.join()
        time.sleep(0.1)
        with found[0] as one:
            assert one.compute_many([(T, OBJECT, "file")]) == [READ | OPEN]

    def test_it_ends_with_whoever_started_it(self, tmp_path: Path) -> None:
        """Killed, so that nothing is closed in order."""
        path = tmp_path / "policy"
        path.write_bytes(small(RULES))
        program = (
            "import sys, time; from septum.sepol.worker import Worker; one = Worker(sys.argv[1]); "
            "print(one.pid, flush=True); time.sleep(99)"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            parent.kill()
        wait_until(lambda: not alive(pid))

    def test_it_ends_even_if_it_never_looks(self) -> None:
        """As in a call of libsepol's that does not come back."""
        life, end = os.pipe2(os.O_CLOEXEC)
        program = f"from septum.sepol.serve import end_with; end_with({life}); print(1, flush=True)\nwhile True: pass"
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[life]) as child:
            os.close(life)
            assert child.stdout
            assert child.stdout.read(1) == b"1"
            assert child.poll() is None
            os.close(end)
            assert child.wait(20) == -signal.SIGIO

    def test_it_ends_if_whoever_started_it_was_gone_before(self) -> None:
        life, end = os.pipe2(os.O_CLOEXEC)
        os.close(end)
        program = f"from septum.sepol.serve import end_with; end_with({life}); print('on')"
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=subprocess.PIPE, pass_fds=[life], check=False)
        os.close(life)
        assert done.stdout == b""


class TestConfinement:
    def test_what_it_has(self, one: Worker) -> None:
        fds = {os.readlink(f"/proc/{one.pid}/fd/{name}").split(":")[0] for name in os.listdir(f"/proc/{one.pid}/fd")}
        assert fds == {"/dev/null", "socket", "pipe"}
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        assert status["CapEff"].strip("0") == status["CapPrm"].strip("0") == ""
        assert Path(f"/proc/{one.pid}/environ").read_bytes() == b""
        if os.geteuid() == 0:
            assert status["Uid"].split() == ["65534"] * 4
            assert status["Gid"].split() == ["65534"] * 4
            assert status["Groups"].split() == []
        limits = Path(f"/proc/{one.pid}/limits").read_text()
        assert f"Max address space         {1 << 30}" in limits

    @pytest.mark.parametrize(
        "answer",
        [
            b"", b"\0", struct.pack("!I", 1 << 31), struct.pack("!I", 4) + b"\xff\xff\xff\xff",
            *(
                struct.pack("!I", len(text)) + text
                for text in (
                    b"nul", b"null", b"[]", b"[1,2]", b"[null]", b"[true]", b"[-1]", b"[4294967296]", b'["x"]',
                    b"[[1,2]]", b'[{"error":"Boom"}]', b'[{"error":"LabelError","what":1}]', b"[" * 200_000,
                    b"[" + b"9" * 5000 + b"]",
                )
            ),
        ],
        ids=range(18),
    )  # fmt: skip
    def test_nonsense_from_it_is_no_answer(self, one: Worker, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        """In place of the worker something else speaks, which a broken one may be."""
        ours, theirs = socket.socketpair()
        monkeypatch.setattr(one, "_channel", ours)
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(EngineGone):
            one.compute_many([(T, OBJECT, "file")])
        assert not one.alive
        theirs.close()


SEED = 20


def damaged(content: bytes, count: int) -> Iterator[bytes]:
    """Copies that were cut off, or have bits or a number changed; the header stays, so that libsepol reads on."""
    choose = random.Random(SEED)
    for number in range(count):
        copy = bytearray(content)
        if number % 4 == 0:
            del copy[choose.randrange(24, len(copy)) :]
        elif number % 4 == 1:
            struct.pack_into(
                "<I", copy, choose.randrange(24, len(copy) - 4), choose.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            )
        else:
            for _ in range(choose.choice((1, 1, 8))):
                copy[choose.randrange(24, len(copy))] ^= 1 << choose.randrange(8)
        yield bytes(copy)


def test_damaged_policies_harm_only_the_worker() -> None:
    """Whatever libsepol does about one: there are answers within the class's permissions, or an error that says so."""
    content = small(RULES + '(typetransition t o file "n" x)(rangetransition t o file ((s0) (s0 (c0))))')
    outcomes = [outcome(copy) for copy in damaged(content, 150)]
    assert {kind for kind, _ in outcomes} <= {"answers", "PolicyError", "EngineGone"}
    for kind, message in outcomes:
        assert kind == "answers" or "the policy" in message or re.search("ended (by|with)|in time", message)
    kinds = [kind for kind, _ in outcomes]
    assert min(kinds.count("answers"), kinds.count("PolicyError")) > 10


def outcome(copy: bytes) -> tuple[str, str]:
    """What becomes of a policy in a worker that is asked some questions."""
    try:
        with Worker(copy, timeout=5.0) as one:
            answers = one.compute_many([(T, OBJECT, "file"), (T, f"{OBJECT}:c1", "file"), (T, T, "process")])
            said = one.explain_many([(T, OBJECT, "file", ["read", "map"])])
            return "answers", f"{answers} {said}"
    except SeptumError as error:
        return type(error).__name__, str(error)


def test_a_policy_that_breaks_libsepol_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as the fuzzer finds, made certain: the process ends in the midst of opening."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nkill -SEGV $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(PolicyError, match="broke on the policy") as caught:
        vet(small(RULES))
    assert "SIGSEGV" in caught.value.rule
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(EngineGone, match="no process"):
        vet(small(RULES))


def test_what_is_sound_passes(image: bytes) -> None:
    vet(image)
    with pytest.raises(PolicyError):
        vet(image[: len(image) // 2])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
