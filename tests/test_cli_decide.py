"""``septum decide``: answers, exit statuses, batches with bad lines, and policies that can't be used."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import septum.cli.decide
from septum.errors import PolicyError
from septum.sepol import Policy
from tests.launchkit import SEPTUM, SOURCES
from tests.sepolkit import small

T, OBJECT = "u:r:t:s0", "u:object_r:o:s0"
RULES = """
(allow t o (file (read open)))
(boolean may_write false)(booleanif may_write (true (allow t o (file (write)))))
(mlsconstrain (file (read)) (dom h1 h2))
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy"
    path.write_bytes(small(RULES))
    return path


def septum_decide(
    *words: str | Path, status: int, given: bytes | str = b"", state: str = "/nonexistent"
) -> tuple[str, str]:
    """Runs it; its output and its errors."""
    environment = {"PATH": os.defpath, "SEPTUM_STATE": state, "PYTHONPATH": str(SOURCES)}
    content = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        [*SEPTUM, "decide", *words], env=environment, input=content, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def test_allowed(policy: Path) -> None:
    out, err = septum_decide("--policy", policy, T, OBJECT, "file", "read", "open", status=0)
    assert out.splitlines()[:3] == ["allowed", "  granted: read open", "  rule:    (allow t o (file (read open)))"]
    assert str(policy) in out
    assert err == ""


def test_denied_with_the_rule_that_is_missing_or_fails(policy: Path) -> None:
    out, _ = septum_decide("--policy", policy, T, OBJECT, "file", "read", "write", status=1)
    assert out.startswith("denied\n  granted: read\n  refused: write\n  reason:  type enforcement\n")
    assert "there is no (allow t o (file (write))); switched off: (allow t o (file (write)))" in out
    out, _ = septum_decide("--policy", policy, "--json", T, f"{OBJECT}:c1", "file", "read", status=1)
    said = json.loads(out)
    assert (said["allowed"], said["refused"], said["reasons"]) == (False, ["read"], ["constraint"])
    assert "h1 dom h2" in said["constraint"]
    with Policy.open(str(policy)) as one:
        assert (said["policy"], said["fingerprint"]) == (str(policy), one.fingerprint)


def test_booleans(policy: Path) -> None:
    question = (T, OBJECT, "file", "write")
    septum_decide("--policy", policy, "--boolean", "may_write=on", *question, status=0)
    septum_decide("--policy", policy, "--boolean", "may_write=off", *question, status=1)
    _, err = septum_decide("--policy", policy, "--boolean", "may_write", *question, status=2)
    assert "NAME=on" in err
    _, err = septum_decide("--policy", policy, "--boolean", "nothing=on", *question, status=125)
    assert "no boolean 'nothing'" in err


@pytest.mark.parametrize("words", [[], [T], [T, OBJECT], [T, OBJECT, "file"]], ids=len)
def test_what_is_no_question(policy: Path, words: list[str]) -> None:
    _, err = septum_decide("--policy", policy, *words, status=2)
    assert "SCONTEXT TCONTEXT CLASS PERMISSION" in err


def test_what_has_no_answer(policy: Path) -> None:
    for words, message in [
        (("u:r:t", OBJECT, "file", "read"), "no valid context"),
        ((T, OBJECT, "files", "read"), "no class 'files'"),
        ((T, OBJECT, "file", "reed"), "no permission 'reed'"),
    ]:
        _, err = septum_decide("--policy", policy, *words, status=125)
        assert message in err
    _, err = septum_decide("--policy", policy, "--json", T, OBJECT, "file", "reed", status=125)
    assert json.loads(err)["error"] == "UnknownName"


class TestBatch:
    LINES = (
        f"{T} {OBJECT} file read\n"
        "\n"
        "nonsense\n"
        f"  {T}\t{OBJECT}   file  read write \n"
        f"{T} {OBJECT} file nope\n"
        f"{T} {OBJECT}:c1 file open read\n"
        f"{T} {OBJECT} file open"
    )

    def test_a_bad_line_stops_nothing(self, policy: Path) -> None:
        out, err = septum_decide("--policy", policy, "--batch", "--json", given=self.LINES, status=125)
        found = [json.loads(line) for line in out.splitlines()]
        assert [answer["line"] for answer in found] == [1, 3, 4, 5, 6, 7]
        assert [answer.get("allowed") for answer in found] == [True, None, False, None, False, True]
        assert [answer.get("error") for answer in found] == [None, "UsageError", None, "UnknownName", None, None]
        assert err == ""

    def test_for_people(self, policy: Path) -> None:
        out, _ = septum_decide("--policy", policy, "--batch", given=self.LINES, status=125)
        lines = out.splitlines()
        assert lines[0] == "1 allowed (allow t o (file (read open)))"
        assert lines[1].startswith("3 error a question is")
        assert lines[2].startswith("4 denied type enforcement: there is no (allow t o (file (write)))")
        assert lines[4].startswith("6 denied constraint: ")

    def test_its_exit_status_is_the_worst_of_the_lines(self, policy: Path) -> None:
        allowed, denied = f"{T} {OBJECT} file read\n", f"{T} {OBJECT} dir search\n"
        septum_decide("--policy", policy, "--batch", given="", status=0)
        septum_decide("--policy", policy, "--batch", given=allowed, status=0)
        septum_decide("--policy", policy, "--batch", given=allowed + denied + allowed, status=1)

    def test_hostile_lines(self, policy: Path) -> None:
        good = f"{T} {OBJECT} file read\n".encode()
        bad = [
            b"\0\n", b"\xff\xfe a b c\n", b"u:r:t:s0\0 b c d\n", b"x" * (1 << 20) + b"\n", b"x " * 5000 + b"\n",
            b"\x1b[2J a b c\n", "\u00fc:r:t:s0 b c d\n".encode(), b"x" * (1 << 16) + b"\n",
            b"x" * ((1 << 16) - 1) + b"\n",
        ]  # fmt: skip
        for flags in ((), ("--json",)):
            given = b"".join(line + good for line in bad) + b"z" * 70_000
            out, err = septum_decide("--policy", policy, "--batch", *flags, given=given, status=125)
            answers = out.splitlines()
            assert len(answers) == 2 * len(bad) + 1
            assert sum("error" in answer for answer in answers) == len(bad) + 1
            assert all(answer.isprintable() for answer in answers)
            assert err == ""

    def test_each_answer_comes_before_the_next_question(self, policy: Path) -> None:
        environment = {"PATH": os.defpath, "PYTHONPATH": str(SOURCES)}
        with subprocess.Popen(
            [*SEPTUM, "decide", "--batch", "--policy", policy],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        ) as child:  # fmt: skip
            assert child.stdin
            assert child.stdout
            for number in range(1, 4):
                child.stdin.write(f"{T} {OBJECT} file read\n")
                child.stdin.flush()
                assert child.stdout.readline().startswith(f"{number} allowed")
            child.stdin.close()
            assert child.wait(20) == 0

    def test_it_takes_no_question_beside(self, policy: Path) -> None:
        _, err = septum_decide("--policy", policy, "--batch", T, status=2)
        assert "--batch" in err


class TestPolicies:
    def test_none(self) -> None:
        if os.path.exists("/sys/fs/selinux/policy"):
            pytest.skip("here the kernel has one")
        _, err = septum_decide(T, OBJECT, "file", "read", status=125)
        assert "--policy" in err

    def test_the_one_that_is_in_force(self, tmp_path: Path) -> None:
        if os.path.exists("/sys/fs/selinux/policy"):
            pytest.skip("here the kernel's comes first")
        environment = {"PATH": os.environ["PATH"], "SEPTUM_STATE": str(tmp_path), "PYTHONPATH": str(SOURCES)}
        subprocess.run(
            [*SEPTUM, "policy", "load", "--target", "standalone"], env=environment, check=True, capture_output=True
        )
        guest, own = "system_u:system_r:septum_vm.process:s0:c1,c2", "system_u:object_r:septum_vm.image:s0:c1,c2"
        septum_decide(guest, own, "file", "read", status=0, state=str(tmp_path))
        septum_decide(guest, own + "0", "file", "read", status=1, state=str(tmp_path))

    def test_what_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"(allow t o (file (read)))" * 9)
        _, err = septum_decide("--policy", path, T, OBJECT, "file", "read", status=125)
        assert "no compiled policy" in err
        _, err = septum_decide("--policy", tmp_path / "missing", "--batch", given="x\n", status=125)
        assert "can't be read" in err

    def test_one_that_breaks_libsepol(self, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(Policy, "open", broken)
        parser = septum.cli.decide.ArgumentParser()
        septum.cli.decide.arguments(parser)
        options = parser.parse_args(["--policy", str(policy), T, OBJECT, "file", "read"])
        with pytest.raises(PolicyError, match="broke") as caught:
            septum.cli.decide.run(options)
        assert "SIGKILL" in caught.value.rule


def test_it_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; before = set(sys.modules); import septum.cli.main, septum.cli.decide; "
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "septum.sepol.policy" in loaded
    assert not {"septum.policy", "subprocess", "asyncio", "tempfile", "septum.sepol.worker", "inspect"} & loaded
