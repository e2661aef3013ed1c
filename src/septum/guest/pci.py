"""The devices that a channel's segments are, in /sys/bus/pci.

Facts (QEMU's docs/specs/ivshmem-spec.txt; Linux's Documentation/PCI/sysfs-pci.rst):

- An ``ivshmem-plain`` has vendor 1af4 and device 1110; BAR 2 is the memory. What QEMU holds read-only drops writes.
- A device has a folder before it has addresses. Its resource files come after them (drivers/pci/bus.c).
- Memory decoding is off until ``enable`` says 1.
- ``resource2_wc`` maps write-combining. If ``resource2`` is mapped somewhere else, the kernel maps both uncached.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from septum.errors import HostError
from septum.ivc import _ring

_BUS_0: Final = Path("/sys/devices/pci0000:00")
_MEMORY: Final = "resource2_wc"
_KIND: Final = ("0x1af4", "0x1110")


def device(slot: int, function: int) -> Path | None:
    """The folder of an ivshmem device below a root port.

    Args:
        slot: of the root port on bus 0: device times 8, and function.
        function: of the device.
    """
    for folder in (_BUS_0 / f"0000:00:{slot >> 3:02x}.{slot & 7}").glob(f"0000:*:00.{function}"):
        try:
            kind = tuple((folder / name).read_text().strip() for name in ("vendor", "device"))
            if kind == _KIND and (folder / _MEMORY).exists():
                return folder
        except OSError:  # being unplugged
            continue
    return None


def mapped(folder: Path, length: int, writable: bool, name: str) -> _ring.Mapping:
    """Maps the beginning of a device's memory.

    Args:
        folder: of the device.
        length: in bytes.
        writable: whether it is this guest's own segment.
        name: of the channel, for messages.

    Raises:
        HostError: the kernel refuses.
    """
    try:
        (folder / "enable").write_text("1")
        fd = os.open(folder / _MEMORY, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            return _ring.Mapping(fd, length, writable)
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        raise HostError(
            f"the channel's memory can't be mapped: {os.strerror(number)}",
            errno=number,
            target=name,
            rule=f"it is {folder / _MEMORY}, and takes root",
        ) from error
