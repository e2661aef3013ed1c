"""A small initramfs: busybox, an init script and the kernel modules it loads, written as a newc archive."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lab.cache import LabError

BUSYBOX = Path("/bin/busybox")


def module_files(modules: Path, wanted: Iterable[str]) -> list[Path]:
    """The files of `wanted` kernel modules and all they depend on, in an order in which insmod takes them.

    Args:
        modules: a ``lib/modules/VERSION`` folder; depmod need not have run, as each module names its dependencies.
        wanted: names; what is built into the kernel is left out.

    Raises:
        LabError: neither a module nor built in.
    """
    builtin = {_canonical(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    files = {_canonical(path.name): path for path in modules.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        name = _canonical(name)
        if name in order or name in builtin:
            return
        if name not in files:
            raise LabError(f"the kernel in {modules} has no module {name}")
        for needed in _depends(files[name]):
            add(needed)
        order[name] = files[name]

    for name in wanted:
        add(name)
    return list(order.values())


def _canonical(name: str) -> str:
    return os.path.basename(name).removesuffix(".ko").replace("-", "_")


def _depends(module: Path) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return found[1].decode().split(",") if found and found[1] else []


def write(target: Path, init: Path, modules: Iterable[Path] = (), extra: Mapping[str, bytes] | None = None) -> None:
    """Writes the archive, uncompressed: inflating costs more than reading under emulation.

    Args:
        target: the file to write.
        init: becomes ``/init``.
        modules: become ``/m/NAME.ko``, listed in order in ``/modules.list``.
        extra: further files by path, mode 755.

    Raises:
        LabError: busybox is missing or needs shared libraries.
    """
    if not BUSYBOX.exists() or b"ld-linux" in BUSYBOX.read_bytes()[:4096]:
        raise LabError("a static busybox is needed (busybox-static); run tools/packages")
    modules = list(modules)
    files = {"init": init.read_bytes(), "bin/busybox": BUSYBOX.read_bytes()}
    files.update({f"m/{path.name}": path.read_bytes() for path in modules})
    files["modules.list"] = "".join(f"{path.name}\n" for path in modules).encode()
    files.update(extra or {})
    with target.open("wb") as archive:
        for record in _newc(files, ("dev", "proc", "sys", "root")):
            archive.write(record)


def add(archive: Path, files: Mapping[str, bytes]) -> None:
    """Appends files to an archive; the kernel reads one archive after the other.

    Args:
        archive: what `write` wrote.
        files: by path, mode 755.
    """
    with archive.open("ab") as end:
        for record in _newc(files, ()):
            end.write(record)


def _newc(files: Mapping[str, bytes], folders: Iterable[str]) -> Iterator[bytes]:
    """Records of the format in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
    above = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
    for name in [*above, *folders]:
        yield _record(name, 0o040755, b"")
    if "dev" in folders:
        # The kernel opens /dev/console before init mounts anything: without it init has no output.
        yield _record("dev/console", 0o020600, b"", rdev=(5, 1))
    for name, content in files.items():
        yield _record(name, 0o100755, content)
    yield _record("TRAILER!!!", 0, b"")


def _record(name: str, mode: int, content: bytes, rdev: tuple[int, int] = (0, 0)) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *rdev, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
