"""The ring core without Python, built with each of the compiler's sanitizers: honest ends and a hostile one."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "septum" / "ivc"
STRESS = ROOT / "tests" / "data" / "ring_stress.c"
WARNINGS = "-Wall -Wextra -Wconversion -Wcast-qual -Wshadow -Werror"
# ThreadSanitizer does not know of fences, and says so. No data depends on one, only who is woken.
SANITIZERS = {
    "address": "-fsanitize=address",
    "undefined": "-fsanitize=undefined -fno-sanitize-recover=all",
    "thread": "-fsanitize=thread -Wno-tsan",
}


def build(folder: Path, sanitizer: str) -> Path:
    program = folder / "ring_stress"
    flags = f"-std=c11 -O1 -g {WARNINGS} {SANITIZERS[sanitizer]} -pthread -I{CORE}".split()
    subprocess.run(["gcc", *flags, str(CORE / "ring.c"), str(STRESS), "-o", str(program)], check=True, timeout=120)
    return program


def run(program: Path, way: str) -> str:
    settings = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}  # no leaks: they need ptrace
    # ThreadSanitizer of gcc 12 can't place its shadow where addresses are drawn from a wide range.
    words = ["setarch", "-R", str(program), way, "2"]
    done = subprocess.run(
        words, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Sanitizer" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("sanitizer", sorted(SANITIZERS))
def test_honest_ends_understand_each_other(tmp_path: Path, sanitizer: str) -> None:
    said = run(build(tmp_path, sanitizer), "honest")
    assert said.startswith("messages: ")
    assert "bytes: " in said


@pytest.mark.parametrize("sanitizer", ["address", "undefined"])  # a hostile end is a data race, by its nature
def test_nothing_that_a_hostile_end_writes_does_harm(tmp_path: Path, sanitizer: str) -> None:
    said = run(build(tmp_path, sanitizer), "hostile")
    assert said.count("channels poisoned") == 4


def test_the_harness_sees_a_core_that_trusts_lengths(tmp_path: Path) -> None:
    core = (CORE / "ring.c").read_text()
    checks = (
        "if (whole > end->theirs - end->mine || whole > end->size - at)",
        "if (length > ring_limit(end))\n            return ring_poison",
    )
    for check in checks:
        assert core.count(check) == 1
        core = core.replace(check, "if (length > (1u << 20)) return ring_poison" if "poison" in check else "if (0)")
    (tmp_path / "ring.c").write_text(core)
    program = tmp_path / "ring_stress"
    flags = f"-std=c11 -O1 -g {SANITIZERS['address']} -pthread -I{CORE}".split()
    subprocess.run(["gcc", *flags, str(tmp_path / "ring.c"), str(STRESS), "-o", str(program)], check=True, timeout=120)
    done = subprocess.run(
        ["setarch", "-R", str(program), "hostile", "8"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    # The sanitizer, or one of the harness's own checks of lengths and indices: which strikes first depends on what the
    # hostile end wrote when. The harness's last check, that anything was poisoned at all, would be the wrong reason.
    seen = ("heap-buffer-overflow", "length <= ring_limit(", "end.mine >= before", "end.theirs - end.mine <= SIZE")
    assert any(one in done.stderr for one in seen), done.stderr
