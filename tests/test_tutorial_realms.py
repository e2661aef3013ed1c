"""Every command of the tutorial about realms, in order, in one shell."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial-realms.md"


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and QEMU")
def test_each_command_does_what_the_page_says() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    # In bash, set -e does not heed a command that is negated.
    script = "\n".join(blocks)
    script = re.sub(r"^! (.*)$", r"if \1; then echo UNEXPECTED; exit 3; fi", script, flags=re.MULTILINE)
    folder = Path(tempfile.mkdtemp(prefix="septum-tutorial-", dir="/var/tmp"))
    folder.chmod(0o711)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SEPTUM_")}
    try:
        done = subprocess.run(
            ["bash", "-euc", f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}\ntrap - EXIT\necho THROUGH"],
            cwd=folder, env={**kept, "PATH": path}, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "THROUGH" in done.stdout
        assert said.count("there is no such object") >= 2
        assert "would be more than the quota" in said
        assert '"today"' in said
    finally:
        shutil.rmtree(folder, ignore_errors=True)
