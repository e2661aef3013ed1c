"""The demonstration is the main job on real input: it never stops running."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.root
@pytest.mark.qemu
def test_the_walls_hold_and_everything_is_put_back() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for said in (
        "The walls held.",
        "0 escapes",
        "Permission denied",
        "as they were",
        "nothing to put back",
        "there is no such object",
    ):
        assert said in done.stdout
