"""An orchestrator guest: the tiny guest's kernel, Python, septum's client, and a script that acts for its realm."""

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lab import cache, guest, initramfs
from lab.debian import CODENAME, Apt

_FILES = Path(__file__).parent / "files"
_INIT = _FILES / "orchestrator-init"
_SCRIPT = _FILES / "orchestrator.py"
_SEPTUM = Path(__file__).parent.parent / "src" / "septum"
_OURS = (*(_SEPTUM / name for name in ("__init__.py", "errors.py", "lean.py")), *sorted(_SEPTUM.glob("client/*.py")))
_META = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_console")
_PYTHON = Path("/usr/bin/python3")
# Of the standard library, what no guest of ours needs, and what is large.
_WITHOUT = re.compile(
    r"(test|tests|idlelib|tkinter|ensurepip|lib2to3|turtledemo|distutils|unittest|pydoc_data|config-.*|__pycache__"
    r"|dist-packages|site-packages)/"
)


def kernel() -> Path:
    """Path of the kernel (bzImage)."""
    return guest.kernel()


def initrd() -> Path:
    """Path of the initramfs; built into the cache if it isn't there."""
    parts = (_INIT, _SCRIPT, *_OURS, Path(initramfs.__file__), Path(__file__))
    key = cache.recipe(*parts, initramfs.BUSYBOX, _META, _MODULES, CODENAME, sys.version)
    return cache.artifact("orchestrator", key, _build) / "initrd"


def append(realm: str, own: str, other: str, key: str = "") -> str:
    """The kernel command line that gives the orchestrator its orders.

    Args:
        realm: that it acts for.
        own: a guest of it, to start.
        other: another realm's, as REALM/GUEST.
        key: to enrol with.
    """
    words = (
        f"console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable REALM={realm} OWN={own} OTHER={other}"
    )
    return f"{words} KEY={key}" if key else words


def _build(target: Path) -> None:
    work = target.with_name("work")
    cache.say(f"fetching {_META}")
    apt = Apt(work)
    apt.unpack(apt.newest_dependency(_META, r"linux-image-\d\S+-cloud-amd64"), work / "root")
    (modules,) = (work / "root" / "lib" / "modules").iterdir()
    extra = {"usr/bin/python3": _PYTHON.read_bytes(), "orchestrator.py": _SCRIPT.read_bytes()}
    extra |= {str(path).lstrip("/"): path.read_bytes() for path in _libraries(_PYTHON)}
    major, minor = _version()
    extra[f"usr/lib/python{major}{minor}.zip"] = _archive(Path(f"/usr/lib/python{major}.{minor}"))
    initramfs.write(target / "initrd", _INIT, initramfs.module_files(modules, _MODULES), extra)


def _version() -> tuple[str, str]:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([_PYTHON, "-c", code], capture_output=True, text=True, check=True)
    major, minor = done.stdout.split()
    return major, minor


def _libraries(program: Path) -> Iterator[Path]:
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    for found in re.findall(r"(/\S+) \(0x", done.stdout):
        yield Path(found)


def _archive(library: Path) -> bytes:
    """The standard library and septum as one file that Python imports from."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(library.rglob("*.py")):
            name = str(path.relative_to(library))
            if not _WITHOUT.search(name):
                archive.write(path, name)
        for path in _OURS:
            archive.write(path, path.relative_to(_SEPTUM.parent))
    return into.getvalue()
