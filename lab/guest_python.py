"""A guest with Python and the guest's end of channels in its initramfs, driven by an agent over a virtio-serial port.

Two layers: Debian's kernel and Python, which take a minute to fetch, and septum's part above them, built anew whenever
its sources change.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from lab import cache, initramfs
from lab.debian import CODENAME, Apt
from lab.qmp import Qemu
from tools import guest_wheel

_INIT = Path(__file__).parent / "files" / "guest-python-init"
_AGENTS = ("__init__.py", "agent.py", "guest_agent.py")
_META = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_console")
_PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libc6", "libexpat1", "zlib1g", "libffi8"),
)
_LEFT_OUT = ("test", "idlelib", "lib2to3", "ensurepip", "tkinter", "pydoc_data", "unittest", "distutils", "curses")
_LIBRARIES = ("libc.so.6", "libm.so.6", "libexpat.so.1", "libz.so.1", "libffi.so.8")
_TRIPLET = "x86_64-linux-gnu"
_PORTS = 8


class GuestError(Exception):
    """What was raised inside the guest.

    Attributes:
        kind: name of the exception's class.
    """

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(f"{kind}: {text}\n{trace}")
        self.kind = kind
        self.text = text


def kernel() -> Path:
    """Path of the kernel (bzImage); fetched into the cache if it isn't there."""
    return _base() / "vmlinuz"


def initrd() -> Path:
    """Path of the whole initramfs; built into the cache if it isn't there."""
    root = Path(__file__).resolve().parent.parent
    sources = [*guest_wheel.sources(root), *(root / "lab" / name for name in _AGENTS)]
    key = cache.recipe(_base().name, *sources)

    def build(target: Path) -> None:
        files = {f"septum/{path.relative_to(root / 'src')}": path.read_bytes() for path in guest_wheel.sources(root)}
        files.update({f"septum/lab/{name}": (root / "lab" / name).read_bytes() for name in _AGENTS})
        shutil.copy(_base() / "initrd", target / "initrd")
        initramfs.add(target / "initrd", files)

    return cache.artifact("guest-septum", key, build) / "initrd"


def argv(ports: int = _PORTS, own: Path | None = None) -> list[str]:
    """The command line of such a guest, with free root ports and a virtio-serial bus named ``vs``.

    Args:
        ports: how many.
        own: a folder for copies of kernel and initramfs, for a guest that gets them for itself; None: the cache's.
    """
    files = [kernel(), initrd()]
    if own:
        files = [Path(shutil.copy(path, own / path.name)) for path in files]
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
    words += ["-accel", "tcg", "-cpu", "max", "-m", "192", "-kernel", str(files[0]), "-initrd", str(files[1])]
    words += ["-append", "console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable panic=-1"]
    for number in range(ports):
        place = f"id=rp{number},chassis={number + 1},slot={number + 1}"
        words += ["-device", f"pcie-root-port,{place},pref64-reserve=128M"]  # docs/ivshmem.md says what for
    return [*words, "-device", "virtio-serial-pci,id=vs,max_ports=31"]


class PythonGuest:
    """One running guest.

    Args:
        name: of it; its folder's name.
        folder: for its sockets and messages.
        words: more for its command line.
        before: a program and its arguments that become QEMU; the guest then has files of its own.
        ports: free root ports.
    """

    def __init__(
        self, name: str, folder: Path, words: Sequence[str] = (), before: Sequence[str] = (), ports: int = _PORTS
    ) -> None:
        self._number = 0
        self.folder = folder / name
        self.folder.mkdir()
        self.monitor = self.folder / "qmp"
        more = ["-serial", f"file:{self.folder}/serial.log", "-qmp", f"unix:{self.monitor},server=on,wait=off"]
        own = self.folder if before else None
        self.qemu = Qemu([*before, *argv(ports, own), *more, *words], self.folder)

    def up(self, timeout: float = 120) -> float:
        """Waits until its agent is there; the guest's uptime in seconds."""
        header, _ = self.qemu.frames.receive(timeout)
        return float(header["up"])

    def start(self, source: str, payload: bytes = b"", **given: Any) -> None:
        """Sends source text to run, and does not wait for it; `finish` does."""
        self._number += 1
        self.qemu.frames.send({"source": source, "given": given, "number": self._number}, payload)

    def finish(self, timeout: float = 120) -> tuple[Any, bytes]:
        """The result and the payload of what was started last; those before are dropped.

        Raises:
            GuestError: it raised an exception in the guest.
        """
        header, payload = self.qemu.frames.receive(timeout)
        while header.get("number") != self._number:
            header, payload = self.qemu.frames.receive(timeout)
        if "error" in header:
            raise GuestError(header["error"], header["text"], header["trace"])
        return header["result"], payload

    def run(self, source: str, payload: bytes = b"", timeout: float = 120, **given: Any) -> Any:
        """Runs source text in the guest's one namespace, which has ``given`` and ``payload``; returns ``result``."""
        self.start(source, payload, **given)
        return self.finish(timeout)[0]

    def kill(self) -> None:
        """Ends it at once."""
        self.qemu.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _base() -> Path:
    key = cache.recipe(
        _INIT, Path(initramfs.__file__), initramfs.BUSYBOX, _META, _MODULES, _PACKAGES, _LEFT_OUT, _LIBRARIES, CODENAME
    )
    return cache.artifact("guest-python", key, _build)


def _build(target: Path) -> None:
    work = target.with_name("work")
    cache.say(f"fetching {_META} and Python")
    apt = Apt(work)
    root = work / "root"
    apt.unpack(apt.newest_dependency(_META, r"linux-image-\d\S+-cloud-amd64"), root)
    for package in _PACKAGES:
        apt.unpack(package, root)
    (modules,) = (root / "lib" / "modules").iterdir()
    shutil.copy(root / "boot" / f"vmlinuz-{modules.name}", target / "vmlinuz")
    extra = dict(_python(root))
    initramfs.write(target / "initrd", _INIT, initramfs.module_files(modules, _MODULES), extra)


def _python(root: Path) -> Iterator[tuple[str, bytes]]:
    """Python's files, as they lie in the guest."""
    library = root / "usr" / "lib" / "python3.11"
    for name in _LEFT_OUT:
        shutil.rmtree(library / name, ignore_errors=True)
    # Of another version than 3.11 they are only not used, and the guest starts more slowly.
    words = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*words, "-s", root, "-p", "/", library], stdout=subprocess.DEVNULL, check=False)
    for path in sorted(library.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(root)), path.read_bytes()
    yield "usr/bin/python3", (root / "usr/bin/python3.11").read_bytes()
    for name in _LIBRARIES:
        (path, *_) = [*root.glob(f"lib/{_TRIPLET}/{name}"), *root.glob(f"usr/lib/{_TRIPLET}/{name}")]
        yield f"lib/{_TRIPLET}/{name}", path.resolve().read_bytes()
    yield "lib64/ld-linux-x86-64.so.2", next(root.glob(f"lib/{_TRIPLET}/ld-linux-x86-64.so.2")).read_bytes()
