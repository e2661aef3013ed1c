"""The guest's wheel: whole, the same each time, and in need of nothing but Python."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import guest_wheel

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    wheel = guest_wheel.build(ROOT, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def python(site: Path, code: str) -> str:
    """Runs code by a Python that sees the wheel and the standard library only."""
    text = f"import sys; sys.path.insert(0, {str(site)!r}); {code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True).stdout


def test_it_needs_nothing_but_python(installed: Path) -> None:
    loaded = python(
        installed,
        "import septum.guest; print(*(m for m in sys.modules if m.partition('.')[0] not in sys.stdlib_module_names))",
    ).split()
    assert all(name == "__main__" or name.partition(".")[0] == "septum" for name in loaded)
    parts = {name.split(".")[1] for name in loaded if name.startswith("septum.")}
    assert parts == {"errors", "guest", "ivc", "lean"}


def test_a_channel_works_from_it(installed: Path) -> None:
    code = (
        "from septum.ivc import *; c = MemfdCarrier(); a, b = c.create(Terms('x', 1)); "
        "s, r = Sender(c.sender(a)), Receiver(c.receiver(b)); s.send(b'there'); print(r.recv(60).decode())"
    )
    assert python(installed, code) == "there\n"
    assert python(installed, "import septum.guest; print(septum.guest.channels())") == "[]\n"


def test_the_same_tree_gives_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    one, other = (guest_wheel.build(ROOT, folder) for folder in (tmp_path, tmp_path / "again"))
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_its_record_is_right(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    for line in (info / "RECORD").read_text().splitlines():
        name, digest, size = line.rsplit(",", 2)
        content = (installed / name).read_bytes()
        if name != f"{info.name}/RECORD":
            assert (digest, int(size)) == (f"sha256={guest_wheel._digest(content)}", len(content))
