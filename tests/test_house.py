"""House rules: lint, format, types, the direction of imports, the public API, nothing that belongs to one machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import septum
import septum.guests.images

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "septum"

# Each package may import from those listed, and from itself. `errors` is open to all.
MAY_IMPORT = {
    "labels": set(),
    "sepol": {"labels"},
    "policy": {"labels"},
    "declare": {"labels"},
    "ledger": {"labels"},
    "guests": set(),
    "host": {"guests", "labels", "sepol"},
    "launch": {"labels", "ledger", "guests", "host"},
    "attack": {"labels", "ledger", "guests", "host", "launch"},
    "access": {"labels", "sepol", "ledger", "host"},
    "daemon": {"labels", "policy", "ledger", "host", "launch", "access"},
    "monitor": set(),
    "ivc": {"labels", "monitor"},
    "guest": {"ivc"},
    "rendezvous": {"labels", "declare", "enact", "ledger", "host", "launch", "access", "daemon", "ivc"},
    "picture": set(),
    "analysis": {"labels", "sepol", "declare", "picture"},
    "xen": set(),
    "realms": {"labels", "ledger", "launch", "access", "monitor", "enact"},
    "api": {"labels", "ledger", "host", "launch", "access", "daemon", "realms"},
    "enact": {"labels", "sepol", "policy", "declare", "ledger", "launch", "access"},
    "client": set(),
    "cli": {"labels", "sepol", "policy", "declare", "ledger", "guests", "host", "launch", "attack", "access", "client"}
    | {"ivc", "rendezvous", "realms", "enact", "analysis", "picture"},
}
# The modules behind `septum run` load nothing that costs a start noticeably (measured: docs/launching.md).
LAUNCH_PATH = ("labels", "ledger", "guests", "host", "launch")
COSTLY = {
    "asyncio",
    "contextlib",
    "dataclasses",
    "datetime",
    "enum",
    "hashlib",
    "importlib",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "random",
    "re",
    "secrets",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "typing",
    "urllib",
    "uuid",
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Names of imported modules, and whether the import is at the top of the module."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
            if node.module == "septum":
                names = [f"septum.{alias.name}" for alias in node.names]
        found += [(name, node in tree.body) for name in names]
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_format_is_ruffs() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".")


def test_types_are_strict() -> None:
    run(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0]
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] != "septum" or len(parts) == 1 or package not in MAY_IMPORT:
            continue
        target = parts[1]
        if target in MAY_IMPORT:
            assert target == package or target in MAY_IMPORT[package], f"{package} must not import {name}"


@pytest.mark.parametrize("package", LAUNCH_PATH)
def test_the_launch_path_loads_nothing_costly(package: str) -> None:
    for path in sorted((SOURCE / package).rglob("*.py")):
        if path.name == "watcher.py":
            continue  # a process of its own
        for name, top in imports(path):
            assert not (top and name.split(".")[0] in COSTLY), f"{path} imports {name} at its top"


def test_a_launch_loads_nothing_costly() -> None:
    # What Python has loaded before any program runs (`site` and the like) is not the launch's doing.
    code = (
        "import sys; before = set(sys.modules); import septum.cli.main, septum.cli.run, septum.launch.run, "
        "septum.host.landlock, septum.host.selinux; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert "septum.ledger.sqlite" in done.stdout.split()
    assert not COSTLY & set(done.stdout.split())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_small(path: Path) -> None:
    assert path.read_text().count("\n") <= 450


def test_nothing_belongs_to_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile(r"/wor[k]/|deb[.]debian[.]org|pypi[.]org|registry[.]npmjs")
    for name in listed:
        if not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_text(errors="replace")
        assert not forbidden.search(text), name


def test_public_names_are_pinned() -> None:
    """What other programs may rely on, beside the pins in the packages' own tests. A change here is one for them."""
    assert septum.__all__ == ["__version__"]
    assert sorted(septum.guests.images.__all__) == [
        "Chain", "Finding", "Limits", "Named", "Opener", "ParseFilename", "chain", "would_probe",
    ]  # fmt: skip
