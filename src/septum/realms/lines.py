"""A guest's definition → QEMU's command line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from septum.realms.model import GuestConfig

__all__ = ["BUSES", "CONSOLE", "MONITOR", "PORT", "Ends", "bus", "device_id", "drive_id", "line"]

MONITOR: Final = "septum-monitor"
CONSOLE: Final = "septum-console"
PORT: Final = "org.septum.api"
"""Name of the virtio-serial port of an orchestrator, as the guest finds it below ``/dev/virtio-ports``."""

BUSES: Final = 4
"""How many images may be attached to a guest that runs: PCI Express needs a port for each (docs/pcie.txt of QEMU)."""

_CONSOLE_SIZE: Final = 64 << 10


class Ends(NamedTuple):
    """Listening sockets that QEMU is given, by descriptor.

    Attributes:
        monitor: for QMP.
        port: for the orchestrator's port, -1 for none.
    """

    monitor: int
    port: int


def drive_id(image: str) -> str:
    """QEMU's node for an image, at most 31 characters (BlockDriverState.node_name in QEMU's block_int-common.h)."""
    return "image-" + blake2b(image.encode(), digest_size=12).hexdigest()


def device_id(image: str) -> str:
    """QEMU's device for an image that was attached while the guest ran."""
    return "hot-" + blake2b(image.encode(), digest_size=12).hexdigest()


def bus(number: int) -> str:
    """QEMU's port for the image attached as that one."""
    return f"septum-port{number}"


def line(
    program: str,
    name: str,
    uuid: str,
    config: GuestConfig,
    paths: Mapping[str, str],
    ends: Ends,
    devices: Mapping[str, str],
) -> list[str]:
    """The command line.

    Args:
        program: QEMU.
        name, uuid: of the guest.
        config: what it is made of.
        paths: image → file of the host.
        ends: sockets that QEMU inherits.
        devices: device → its node.

    Commas in paths are doubled, as QEMU's option parser wants it (util/keyval.c, util/qemu-option.c).
    """
    words = [program, "-name", name, "-uuid", uuid, "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-machine", config.machine, "-m", f"{config.memory}M"]
    if config.machine != "none":
        words += ["-smp", str(config.vcpus)]
    words += ["-chardev", f"socket,id={MONITOR},fd={ends.monitor},server=on,wait=off"]
    words += ["-mon", f"chardev={MONITOR},mode=control"]
    words += ["-chardev", f"ringbuf,id={CONSOLE},size={_CONSOLE_SIZE}"]
    if config.machine != "none":
        words += ["-serial", f"chardev:{CONSOLE}"]
    if config.paused:
        words.append("-S")
    if config.kernel:
        words += ["-kernel", paths[config.kernel]]
    if config.initrd:
        words += ["-initrd", paths[config.initrd]]
    if config.append and config.kernel:
        words += ["-append", config.append]
    for place, disk in enumerate(config.disks):
        node = drive_id(disk.image)
        mode = "on" if disk.read_only else "off"
        path = paths[disk.image].replace(",", ",,")
        words += ["-blockdev", f"driver=raw,node-name={node},read-only={mode},file.driver=file,file.filename={path}"]
        if config.machine != "none":
            words += ["-device", f"virtio-blk-pci,drive={node},id=disk{place}"]
    for place, device in enumerate(config.devices):
        node, path = drive_id(f"device {device}"), devices[device].replace(",", ",,")
        words += ["-blockdev", f"driver=raw,node-name={node},file.driver=host_device,file.filename={path}"]
        if config.machine != "none":
            words += ["-device", f"virtio-blk-pci,drive={node},id=device{place}"]
    if config.machine == "q35":
        for number in range(BUSES):
            words += ["-device", f"pcie-root-port,id={bus(number)},chassis={number + 1},slot={number + 1}"]
    if ends.port >= 0:
        words += ["-device", "virtio-serial-pci,id=septum-serial"]
        words += ["-chardev", f"socket,id=septum-port,fd={ends.port},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev=septum-port,name={PORT},id=septum-port"]
    return words
