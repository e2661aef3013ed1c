"""The wheel ``septum-guest``, for guests: the ring, its Python layer and `septum.guest`, and no dependency.

``python tools/guest_wheel.py FOLDER`` writes it there. It is cut from the tree of the one and the same package, so that
both ends of a channel run one core (docs/decisions/0043-one-tree-two-wheels.md).
"""

import base64
import hashlib
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

PARTS = ("__init__.py", "py.typed", "errors.py", "lean.py", "ivc", "guest")
"""What is in it, below ``src/septum``."""

HOST_ONLY = ("ivc/carriers/ivshmem.py",)
"""What speaks with QEMU's monitor, and so has a dependency."""

_SUFFIXES = (".py", ".pyi", ".so", ".typed")


def sources(root: Path) -> list[Path]:
    """The files of the wheel, the compiled core among them.

    Args:
        root: of the project's tree.
    """
    base = root / "src" / "septum"
    left_out = {base / name for name in HOST_ONLY}
    found = []
    for part in PARTS:
        path = base / part
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [path for path in found if path.suffix in _SUFFIXES and path not in left_out]


def build(root: Path, folder: Path) -> Path:
    """Writes the wheel (PEP 427), and returns its path."""
    found = re.search(r'__version__ = "(.+)"', (root / "src/septum/__init__.py").read_text())
    assert found, "the package has a version"
    version = found[1]
    tag = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    info = f"septum_guest-{version}.dist-info"
    files = {str(path.relative_to(root / "src")): path.read_bytes() for path in sources(root)}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: septum-guest\nVersion: {version}\nRequires-Python: >=3.11\n"
        "Summary: The guest's end of septum's channels\nLicense: Apache-2.0\n"
    ).encode()
    files[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: septum\nRoot-Is-Purelib: false\nTag: {tag}\n").encode()
    files[f"{info}/LICENSE"] = (root / "LICENSE").read_bytes()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    target = folder / f"septum_guest-{version}-{tag}.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name), content)  # of no date: the same tree gives the same wheel
    return target


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    print(build(Path(__file__).resolve().parent.parent, Path(sys.argv[1])))
