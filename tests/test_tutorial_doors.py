"""Every command of the tutorial about doors, in order, in one shell."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.test_cli_channel import AS_GUEST

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial-doors.md"
BECOMING = 'setpriv --reuid $uid --regid $uid --clear-groups septum "$@"'


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and QEMU")
def test_each_command_does_what_the_page_says() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    # In bash, set -e does not heed a command that is negated.
    script = re.sub(r"^! (.*)$", r"if \1; then echo UNEXPECTED; exit 3; fi", "\n".join(blocks), flags=re.MULTILINE)
    assert BECOMING in script
    folder = Path(tempfile.mkdtemp(prefix="septum-tutorial-", dir="/var/tmp"))
    folder.chmod(0o711)
    # A clone may lie in a folder that is closed to guests' uids: septum is loaded before the uid is taken.
    helper = folder / "as-guest"
    code = AS_GUEST.format(root=str(ROOT), uid='int(os.environ["GUEST"])')
    helper.write_text(f"#!{sys.executable}\n{code}")
    helper.chmod(0o755)
    script = script.replace(BECOMING, f'GUEST=$uid {helper} "$@"')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SEPTUM_")}
    try:
        done = subprocess.run(
            ["bash", "-euc", f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}\ntrap - EXIT\necho THROUGH"],
            cwd=folder, env={**kept, "PATH": path}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "THROUGH" in done.stdout
        assert "\nselect 1\n" in done.stdout
        assert "UNEXPECTED" not in done.stdout
        assert "select 3" not in (folder / "heard").read_text()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
