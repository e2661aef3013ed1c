"""Builds the Xen machine's parts: dom0's root file system → labelled disk, kernel and initramfs; and the guests' kernel
and initramfs. The hypervisor is `lab.xen_source`'s, and its policy septum's own.
"""

import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab import agent, cache, debian, image, initramfs, selinux_image
from lab.cache import LabError
from septum.xen import xenstore

_HERE = Path(__file__).parent
FOR_TESTS = tuple(sorted((_HERE / "cil" / "xen").glob("*.cil")))

PACKAGES = (
    "linux-image-amd64",
    *image.BASICS,
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "libxenmisc4.17",
    "qemu-system-xen",
)
_DISK_SIZE = "1600M"
GUEST_FOLDER = "usr/share/septum-lab"
"""Of the guests' kernels and initramfs in dom0: ``vmlinux`` for PV and PVH, ``vmlinuz`` for HVM, ``initrd``."""
_DOM0_MODULES = ("xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xen-blkback", "loop")
_GUEST_MODULES = ("xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xen-blkfront")
# The agents' modules, in dom0 and in guests; packages are empty there.
_EMPTY = image.FILES / "empty.py"
_BOTH = {
    "lab/__init__.py": _EMPTY,
    "lab/xen_mailbox.py": _HERE / "xen_mailbox.py",
    "septum/__init__.py": _EMPTY,
    "septum/xen/__init__.py": _EMPTY,
    "septum/xen/xenstore.py": Path(xenstore.__file__),
}
_GUEST_AGENT = _BOTH | {"lab/xen_guest_agent.py": _HERE / "xen_guest_agent.py"}
_DOM0_AGENT = _BOTH | {"lab/agent.py": Path(agent.__file__), "lab/xen_agent.py": _HERE / "xen_agent.py"}
_GUEST_INIT = image.FILES / "xen-guest-init"
_DOM0_INIT = image.FILES / "xen-init"
_LIBRARIES = ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1", "libffi.so.8")
_PYTHON = ("_ctypes", "_json", "mmap", "resource")  # its modules that are shared objects
_PACKAGES = ("", "collections", "ctypes", "encodings", "importlib", "importlib/metadata", "json", "re")
_NEVER = ("pydoc", "_pydecimal", "turtle", "_aix", "_osx", "doctest", "pdb", "tarfile", "this", "antigravity")
_LOADER = "lib64/ld-linux-x86-64.so.2"
_XZ = b"\xfd7zXZ\0"
_UNCHECKED_PYC = (1).to_bytes(4, "little")  # PEP 552: a hash instead of a time stamp, and nobody compares it


def root() -> Path:
    """A folder with ``root``, dom0's file system as the packages leave it."""
    return cache.artifact("xen-root", cache.recipe(PACKAGES, debian.CODENAME), _build_root)


def guest() -> Path:
    """A folder with the guests' ``vmlinux`` and ``vmlinuz``, and ``initrd``, in which an agent with Python runs."""
    parts = (root().name, _GUEST_INIT, *_GUEST_AGENT.values(), Path(initramfs.__file__), Path(__file__))
    return cache.artifact("xen-guest", cache.recipe(*parts), _build_guest)


def dom0() -> Path:
    """A folder with dom0's ``disk`` (raw), ``vmlinuz``, ``initrd`` and ``policy`` (its SELinux policy)."""
    parts = (guest().name, root().name, *image.SOURCES, *policy_modules(), _DOM0_INIT, *_DOM0_AGENT.values())
    return cache.artifact("xen-dom0", cache.recipe(*parts, Path(__file__)), _build_dom0)


def policy_modules() -> tuple[Path, ...]:
    """The modules of SELinux in dom0: those of the SELinux machine, and what Xen's tools lack in Debian's policy."""
    return (*selinux_image.policy_modules(), *FOR_TESTS)


def _build_root(target: Path) -> None:
    cache.say("installing Debian with Xen's tools and SELinux into a folder (about two minutes)")
    debian.bootstrap(target / "root", PACKAGES)


def _build_guest(target: Path) -> None:
    system = root() / "root"
    (modules,) = (system / "usr/lib/modules").iterdir()
    compressed = system / "boot" / f"vmlinuz-{modules.name}"
    shutil.copy(compressed, target / "vmlinuz")
    # libxl would unpack it for each guest, which takes long under emulation.
    (target / "vmlinux").write_bytes(_unpacked(compressed.read_bytes()))
    files = dict(_python(system))
    files.update({f"lab/{name}": path.read_bytes() for name, path in _GUEST_AGENT.items()})
    initramfs.write(target / "initrd", _GUEST_INIT, initramfs.module_files(modules, _GUEST_MODULES), files)


def _unpacked(kernel: bytes) -> bytes:
    """The ELF in a bzImage, see Documentation/arch/x86/boot.rst."""
    at = kernel.find(_XZ)
    if at < 0:
        raise LabError("Debian's kernel is not packed by xz any more")
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(kernel[at:])


def _python(system: Path) -> Iterator[tuple[str, bytes]]:
    """Python and as much of its library as tests use, by path in the initramfs."""
    yield "usr/bin/python3", (system / "usr/bin/python3").read_bytes()
    yield _LOADER, (system / "usr" / _LOADER).read_bytes()
    for name in _LIBRARIES:
        yield f"lib/x86_64-linux-gnu/{name}", (system / "usr/lib/x86_64-linux-gnu" / name).read_bytes()
    (library,) = (system / "usr/lib").glob("python3.*")
    place = library.relative_to(system)
    for name in _PYTHON:
        (path,) = (library / "lib-dynload").glob(f"{name}.cpython-*.so")
        yield f"{place}/lib-dynload/{path.name}", path.read_bytes()
    for package in _PACKAGES:
        for path in sorted((library / package).glob("*.py")):
            if not path.stem.startswith(_NEVER):
                # Only compiled: that takes long there. The time stamps of sources would not survive the archive.
                (compiled,) = (path.parent / "__pycache__").glob(f"{path.stem}.cpython-*[0-9].pyc")
                content = compiled.read_bytes()
                yield f"{place}/{package}/{path.stem}.pyc", content[:4] + _UNCHECKED_PYC + content[8:]


def _build_dom0(target: Path) -> None:
    work = target.with_name("root")
    cache.run(["cp", "-a", root() / "root", work])
    modules = image.kernel(work, target)
    _prune(work, modules)
    files = {f"{GUEST_FOLDER}/{path.name}": path for path in sorted(guest().iterdir())}
    files |= {f"{Path(image.AGENT).parent}/{name}": path for name, path in _DOM0_AGENT.items()}
    image.fill(work, _DOM0_INIT, files)
    cache.say("compiling the policy")
    image.compile_policy(work, target / "policy", policy_modules())
    image.disk(work, target / "disk", _DISK_SIZE)


def _prune(work: Path, modules: Path) -> None:
    """Leaves only the kernel modules that dom0 loads; all of them are half of its disk."""
    kept = set(initramfs.module_files(modules, (*image.MODULES, *_DOM0_MODULES)))
    for path in modules.rglob("*.ko"):
        if path not in kept:
            path.unlink()
    cache.run(["chroot", work, "depmod", modules.name])
