"""The ring's protocol, model-checked by spin; and each of its parts is needed: without it spin finds the failure."""

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "data" / "ring.pml"
MUTATIONS = sorted(set(re.findall(r"^#ifn?def (\w+)", MODEL.read_text(), re.MULTILINE)))


def errors(folder: Path, *defines: str) -> tuple[int, str]:
    """Errors that a search of all states found, and what spin said."""
    subprocess.run(["spin", "-a", *(f"-D{name}" for name in defines), str(MODEL)], cwd=folder, check=True, timeout=60)
    compile_it = ["gcc", "-O2", "-w", "-DSAFETY", "-DMEMLIM=2048", "-DVECTORSZ=2048", "-o", "pan", "pan.c"]
    subprocess.run(compile_it, cwd=folder, check=True, timeout=120)
    done = subprocess.run(["./pan", "-m1000000"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert "max search depth too small" not in done.stdout
    assert "out of memory" not in done.stdout
    found = re.search(r"errors: (\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1]), done.stdout


def test_no_wake_up_is_lost_and_nothing_is_read_past_the_index(tmp_path: Path) -> None:
    count, said = errors(tmp_path)
    assert count == 0, said
    assert "unreached in proctype consumer\n\t(0 of" in said  # the search went through all of the model
    assert "unreached in proctype producer\n\t(0 of" in said


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_model_notices_what_is_left_out(tmp_path: Path, mutation: str) -> None:
    count, said = errors(tmp_path, mutation)
    assert count >= 1, said
    assert "invalid end state" in said or "assertion violated" in said


def test_every_part_was_left_out_once() -> None:
    assert len(MUTATIONS) >= 8
