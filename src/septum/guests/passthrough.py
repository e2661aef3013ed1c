"""Host devices that a guest gets for itself: PCI functions, mediated devices, USB devices.

Which node of /dev they come to only the host can say, through links below /sys.
"""

from __future__ import annotations

from septum.guests.found import DEVICE, SHARED_DEVICE, SYSFS, Found, Spec

__all__ = ["legacy_pci", "usb_by_address", "usb_by_identity", "usb_by_port", "vfio_pci", "vfio_sysfs"]

_SYSFS_RW = Spec("sysfs", "rw")


def pci_address(text: str) -> str:
    """``01:00.0`` as ``0000:01:00.0``, the name of its folder below /sys."""
    text = text.strip()
    return f"0000:{text}" if text.count(":") == 1 else text


def vfio_pci(found: Found, address: str, option: str, *, iommufd: bool = False) -> None:
    """A PCI function given through VFIO."""
    if address:
        vfio_sysfs(found, f"/sys/bus/pci/devices/{pci_address(address)}", option, iommufd=iommufd)


def vfio_sysfs(found: Found, folder: str, option: str, *, iommufd: bool = False) -> None:
    """A device given through VFIO, known by its folder below /sys.

    The group's node is named after the target of ``iommu_group``, the device's own node (for iommufd) after the
    one entry of ``vfio-dev``; QEMU's hw/vfio/helpers.c and hw/vfio/iommufd.c find them like this.
    """
    if not folder:
        return
    found.memlock = True
    found.add(folder, SYSFS, option)
    if iommufd:
        for name in found.host.listdir(f"{folder}/vfio-dev"):
            found.add(f"/dev/vfio/devices/{name}", DEVICE, option)
        return
    found.add("/dev/vfio/vfio", SHARED_DEVICE, option)
    if group := found.host.readlink(f"{folder}/iommu_group").rpartition("/")[2]:
        node = f"/dev/vfio/{group}"
        found.add(f"/dev/vfio/noiommu-{group}" if _without_iommu(found, node, group) else node, DEVICE, option)


def _without_iommu(found: Found, node: str, group: str) -> bool:
    return not found.host.exists(node) and found.host.exists(f"/dev/vfio/noiommu-{group}")


def legacy_pci(found: Found, address: str, option: str) -> None:
    """A PCI function given through KVM's old device assignment or through Xen, which use files below /sys."""
    if address:
        found.memlock = True
        found.add(f"/sys/bus/pci/devices/{pci_address(address)}", _SYSFS_RW, option)


def usb_by_address(found: Found, bus: str, address: str, option: str) -> None:
    """The device with that number on that bus, both in decimal (or with 0x)."""
    try:
        found.add(f"/dev/bus/usb/{_decimal(bus):03}/{_decimal(address):03}", DEVICE, option)
    except ValueError:
        found.suspect(option, f"{bus}.{address}", "a USB bus and address are numbers")


def usb_by_port(found: Found, bus: str, port: str, option: str) -> None:
    """The device that is plugged into that port now, if the host knows."""
    _usb_of_folder(found, f"/sys/bus/usb/devices/{bus}-{port}", option)


def usb_by_identity(found: Found, vendor: str, product: str, option: str) -> None:
    """All devices of that vendor and product that are plugged in now; either may be empty."""
    for name in sorted(found.host.listdir("/sys/bus/usb/devices")):
        folder = f"/sys/bus/usb/devices/{name}"
        if all(
            _number(found.host.read(f"{folder}/{file}")) == _number(wanted)
            for file, wanted in (("idVendor", vendor), ("idProduct", product))
            if wanted
        ):
            _usb_of_folder(found, folder, option)


def _decimal(text: str) -> int:
    """``14``, ``0x0e`` or, with the zeros of lsusb, ``014``, which means fourteen there."""
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text, 10)


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1


def _usb_of_folder(found: Found, folder: str, option: str) -> None:
    bus, address = found.host.read(f"{folder}/busnum"), found.host.read(f"{folder}/devnum")
    if bus.isdigit() and address.isdigit():
        usb_by_address(found, bus, address, option)
