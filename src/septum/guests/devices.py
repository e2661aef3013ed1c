"""``-device``: the guest's devices, and what of the host some of them reach."""

from __future__ import annotations

from septum.guests.addresses import socket_address
from septum.guests.block import BlockGraph
from septum.guests.found import (
    BLOB,
    DEVICE,
    FIRMWARE,
    INITRD,
    KERNEL,
    LOG,
    PEER_SOCKET,
    SECRET,
    SHARED_DEVICE,
    TREE,
    Found,
    Spec,
)
from septum.guests.passthrough import (
    legacy_pci,
    usb_by_address,
    usb_by_identity,
    usb_by_port,
    vfio_pci,
    vfio_sysfs,
)
from septum.guests.syntax import Pairs, is_off, is_on, tree

__all__ = ["DEVICE_PATHS", "DEVICE_PLAIN", "device", "device_property", "paths_of", "rom"]

_STORE = Spec("image", "rw", creates=True)

# Properties with a path. "" holds for every device; others for drivers whose names begin with the key, so that
# "vhost-scsi" is also "vhost-scsi-pci". From the properties that QEMU's hw/ declares as strings.
DEVICE_PATHS: dict[str, dict[str, Spec]] = {
    "": {"romfile": FIRMWARE, "pcap": LOG},
    "canokey": {"file": Spec("secret", "rw", creates=True)},
    "ccid-card-emulated": {"db": SECRET},
    "cxl-": {"cdat": BLOB},
    "ds1225y": {"filename": _STORE},
    "guest-loader": {"kernel": KERNEL, "initrd": INITRD},
    "ipmi-bmc-sim": {"frudatafile": BLOB, "sdrfile": BLOB},
    "loader": {"file": BLOB},
    "m48t": {"filename": _STORE},
    "s390-ipl": {"kernel": KERNEL, "initrd": INITRD, "firmware": FIRMWARE, "netboot_fw": FIRMWARE},
    "spapr-tpm-proxy": {"host-path": DEVICE},
    "u2f-emulated": dict.fromkeys(("dir", "cert", "privkey", "priv", "entropy", "counter"), SECRET),
    "u2f-passthru": {"hidraw": DEVICE},
    "uefi-vars": {"jsonfile": _STORE},
    "usb-host": {"hostdevice": DEVICE},
    "usb-mtp": {"rootdir": TREE},
    "vhost-vdpa-device": {"vhostdev": DEVICE},
    "virtio-gpu-rutabaga": {"wayland-socket-path": PEER_SOCKET},
    "virtio-input-host": {"evdev": DEVICE},
    "x-terminal3270": {"devpath": DEVICE},
}

# Longest first, so that the first match is the best; computed once, at the first device that isn't known by its
# full name.
_PREFIXES = tuple(sorted((key for key in DEVICE_PATHS if key), key=len, reverse=True))

# Properties, of any device, that never hold a path of the host.
DEVICE_PLAIN = frozenset(
    """driver id bus addr drive netdev chardev fsdev mount_tag tag audiodev memdev hostmem iothread serial wwn wwpn
    port_wwn mac mac-address macaddr model model-id model_id
    vendor vendor-id vendor_id product product-id device_id device-id
    ver version name description desc display osk filter backend cert1 cert2 cert3 host hostbus hostaddr hostport
    vendorid productid sysfsdev fd vhostfd vhostfds configfd port guid uuid nqn subsys tpmdev tx duplex
    failover_pair_id masterbus hv-vendor-id host_ip hba_serial world ibdev mad-chardev fp_start_macaddr bootargs
    chardev0 chardev1
    chardev2 chardev3 chardev4 chardev5 chardev6 chardev7 acpi-index loadparm cmdline target
    cpu-type part-name soc_name module-id wsi jsonfile-id stage hart-config driveA driveB bmc data
    addr-width shm socket dstport type bios-name bootindex size core-id node
    node-id rombar multifunction canbus canbus0 canbus1 pci-dev iommufd firmware-id label boot-mode
    fdp.ruhs lun scsi-id channel unit if rng cryptodev host-port rerror werror error-policy dtb-id
    ivshmem chnA-sunkbd-layout color command-line vhost-user tls-creds tls-hostname tls-authz property value lsa
    persistent-memdev volatile-memdev volatile-dc-memdev sn switch x-pci-vendor-id busnr bus_nr pxb fw-cfg eth
    wayland hostmem-file capset_names disk-seqno start device-name cluster-id bank manufacturer part asset
    ocp-serial outputs iothread-vq-mapping dimms hotplug-memory sbsa x-config nvdimm memory-region
    subnqn bootfile rate script-id""".split()
)


def paths_of(driver: str) -> dict[str, Spec]:
    paths = DEVICE_PATHS.get(driver)
    if paths is None:
        for prefix in _PREFIXES:
            if driver.startswith(prefix):
                return DEVICE_PATHS[prefix]
        return {}
    return paths


def device(found: Found, blocks: BlockGraph, pairs: Pairs, option: str = "-device") -> None:
    """Record what a device uses.

    Args:
        found: where to record it.
        blocks: learns which drive goes into which kind of device.
        pairs: the device's properties, its driver under ``driver``.
        option: as a person writes it.
    """
    given = dict(pairs)
    driver = given.get("driver", "")
    paths = paths_of(driver)
    for key, value in pairs:
        _property(found, paths, given, key, value, f"{option} {driver},{key}=")
    if drive := given.get("drive"):
        blocks.attach(drive, driver, share_rw=is_on(given.get("share-rw")))
    for key in ("fd", "vhostfd", "vhostfds", "configfd"):
        if key in given:
            found.descriptors_of(given[key])
    _by_driver(found, driver, given, pairs, f"{option} {driver}")


def device_property(found: Found, driver: str, key: str, value: str, option: str = "-global") -> None:
    """Record what one property of a driver names, as ``-global`` sets it."""
    _property(found, paths_of(driver), {key: value}, key, value, f"{option} {driver}.{key}=")


def _property(found: Found, paths: dict[str, Spec], given: dict[str, str], key: str, value: str, option: str) -> None:
    spec = paths.get(key) or DEVICE_PATHS[""].get(key)
    if spec is None:
        if "/" in value and key not in DEVICE_PLAIN and key.partition(".")[0] not in DEVICE_PLAIN:
            found.suspect(option, value, "no property of a device is known by this name")
        return
    if key == "romfile":
        rom(found, value, option)
        return
    if key == "rootdir" and is_off(given.get("readonly")):
        spec = Spec("directory", "rw")
    elif key == "db":
        value = value.removeprefix("sql:").removeprefix("dbm:")
    elif spec is PEER_SOCKET:
        found.opens_connection(option)
    found.add(value, spec, option)


def rom(found: Found, name: str, option: str, spec: Spec = FIRMWARE) -> None:
    """A ROM, a firmware or a boot picture: a path, or a name that QEMU looks up in its data directory.

    QEMU takes a file of that name in the working directory first (``qemu_find_file`` in system/datadir.c). Where
    the host isn't asked, the names that QEMU ships decide.
    """
    if "/" not in name and name not in _NO_FIRMWARE and not found.host.exists(found.absolute(name)):
        shipped = f"{_DATA_DIRECTORY}/{name}"
        if found.host.exists(shipped) or name.startswith(_SHIPPED):
            name = shipped
    if name not in _NO_FIRMWARE:
        found.add(name, spec, option)


_DATA_DIRECTORY = "/usr/share/qemu"
# What boards of RISC-V take for "nothing" and "your own" (hw/riscv/boot.c).
_NO_FIRMWARE = frozenset({"", "none", "default"})
_SHIPPED = tuple(
    """bios vgabios pxe- efi- edk2- kvmvapic linuxboot multiboot sgabios qboot pvh slof skiboot opensbi palcode
    hppa-firmware s390-ccw openbios u-boot QEMU, vof npcm ast27x0 vhost-user pegasos2""".split()
)


def _by_driver(found: Found, driver: str, given: dict[str, str], pairs: Pairs, where: str) -> None:
    if driver.startswith("vfio-"):
        _vfio(found, driver, given, pairs, where)
    elif driver.startswith("usb-host"):
        _usb_host(found, given, where)
    elif driver in ("pci-assign", "kvm-pci-assign", "xen-pci-passthrough"):
        key = "hostaddr" if driver.startswith("xen") else "host"
        legacy_pci(found, given.get(key, ""), f"{where},{key}=")
    elif driver.startswith(("vhost-scsi", "vhost-vsock")):
        if "vhostfd" not in given:
            found.add(
                "/dev/vhost-scsi" if driver.startswith("vhost-scsi") else "/dev/vhost-vsock", SHARED_DEVICE, where
            )
    elif driver == "ivshmem" and given.get("shm"):
        found.add(f"/dev/shm/{given['shm']}", Spec("memory", "rw", creates=True), f"{where},shm=")


def _vfio(found: Found, driver: str, given: dict[str, str], pairs: Pairs, where: str) -> None:
    if driver.startswith("vfio-user"):
        if isinstance(address := tree(pairs, where=where).get("socket"), dict):
            socket_address(found, address, f"{where},socket=", server=False)
        elif "socket" in given:
            socket_address(found, {"type": "unix", "path": given["socket"]}, f"{where},socket=", server=False)
        return
    found.memlock = True
    if "fd" in given:
        return
    iommufd = "iommufd" in given
    if "sysfsdev" in given:
        vfio_sysfs(found, given["sysfsdev"], f"{where},sysfsdev=", iommufd=iommufd)
    elif driver in ("vfio-pci", "vfio-pci-nohotplug"):
        vfio_pci(found, given.get("host", ""), f"{where},host=", iommufd=iommufd)
    elif host := given.get("host"):
        vfio_sysfs(found, f"/sys/bus/platform/devices/{host}", f"{where},host=", iommufd=iommufd)


def _usb_host(found: Found, given: dict[str, str], where: str) -> None:
    bus, address, port = given.get("hostbus"), given.get("hostaddr"), given.get("hostport")
    if "hostdevice" in given:
        return
    if bus and address:
        usb_by_address(found, bus, address, f"{where},hostbus=,hostaddr=")
    elif bus and port:
        usb_by_port(found, bus, port, f"{where},hostbus=,hostport=")
    else:
        vendor, product = given.get("vendorid", ""), given.get("productid", "")
        if vendor or product:
            usb_by_identity(found, vendor, product, f"{where},vendorid=,productid=")
