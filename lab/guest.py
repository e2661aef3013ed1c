"""A guest that boots in a second or two: Debian's cloud kernel and a busybox initramfs that prints one line.

Kernel parameters steer its init:

- ``marker="any text"``: the line that it prints on the serial console; ``septum guest is up`` by default.
- ``show=vda``: first loads virtio-blk and prints the first line of that disk.
- ``then=poweroff`` or ``then=reboot``: what follows; without it the guest waits.

Run it on ``-machine q35`` with ``-append "console=ttyS0 quiet …"``; see `append`.
"""

import shutil
from pathlib import Path

from lab import cache, initramfs
from lab.debian import CODENAME, Apt

_INIT = Path(__file__).parent / "files" / "guest-init"
_META = "linux-image-cloud-amd64"
_MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk")


def kernel() -> Path:
    """Path of the kernel (bzImage); fetched into the cache if it isn't there."""
    return _built() / "vmlinuz"


def initrd() -> Path:
    """Path of the initramfs; built into the cache if it isn't there."""
    return _built() / "initrd"


def append(marker: str = "", then: str = "", show: str = "") -> str:
    """The kernel command line that gives the guest its orders."""
    words = ["console=ttyS0", "quiet", "mitigations=off", "random.trust_cpu=on", "tsc=reliable"]
    words += [f'marker="{marker}"'] if marker else []
    words += [f"then={then}"] if then else []
    words += [f"show={show}"] if show else []
    return " ".join(words)


def _built() -> Path:
    key = cache.recipe(_INIT, Path(initramfs.__file__), initramfs.BUSYBOX, _META, _MODULES, CODENAME)
    return cache.artifact("guest", key, _build)


def _build(target: Path) -> None:
    work = target.with_name("work")
    cache.say(f"fetching {_META}")
    apt = Apt(work)
    apt.unpack(apt.newest_dependency(_META, r"linux-image-\d\S+-cloud-amd64"), work / "root")
    (modules,) = (work / "root" / "lib" / "modules").iterdir()
    shutil.copy(work / "root" / "boot" / f"vmlinuz-{modules.name}", target / "vmlinuz")
    initramfs.write(target / "initrd", _INIT, initramfs.module_files(modules, _MODULES))
