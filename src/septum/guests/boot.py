"""What a machine starts from: accelerator, firmware, kernel, and the tables that the guest is shown."""

from __future__ import annotations

from septum.guests.block import BlockGraph
from septum.guests.devices import rom
from septum.guests.found import BLOB, DTB, FIRMWARE, INITRD, KERNEL, LOG, SHARED_DEVICE, Found, Spec, looks_like_path
from septum.guests.syntax import Pairs

__all__ = [
    "MACHINE_PATHS",
    "MACHINE_PLAIN",
    "accelerators",
    "acpi_table",
    "boot_order",
    "firmware_config",
    "initrd",
    "machine",
    "option_rom",
    "smbios",
]

# Properties of machines with a path (hw/core/machine.c).
MACHINE_PATHS: dict[str, Spec] = {
    "kernel": KERNEL,
    "shim": KERNEL,
    "dtb": DTB,
    "dumpdtb": LOG,
    "firmware": FIRMWARE,
}

MACHINE_PLAIN = frozenset(
    """type accel append id memory-backend memory-encryption confidential-guest-support audiodev kernel-irqchip
    kernel_irqchip kvm-shadow-mem dt-compatible vmport dump-guest-core mem-merge usb graphics suppress-vmdesc
    igd-passthru iommu gic-version its virtualization secure highmem hmat aia aia-guests ic-mode host-model
    host-serial resize-hpt kvm-type x-oem-id x-oem-table-id nvdimm-persistence loadparm boot-mode fmc-model
    spi-model bmc-console ospi-flash remap via smm acpi pit pic sata smbus i8042 hpet vsock role gpu
    sgx-epc cxl-fmw smp boot memory hotplug-memory-bus default-bus-bypass-iommu dea-key-wrap aes-key-wrap
    msix-vector-bitmap option-roms cap-cfpc pcspk-audiodev smbios-entry-point-type""".split()
)

_ACCELERATOR_NODES = {
    "kvm": ("/dev/kvm",),
    "nvmm": ("/dev/nvmm",),
    "mshv": ("/dev/mshv",),
    "hax": ("/dev/HAX",),
    "xen": ("/dev/xen/privcmd", "/dev/xen/evtchn", "/dev/xen/gntdev", "/dev/xen/xenbus"),
}


def accelerators(found: Found, names: str, option: str, *, device: str = "") -> None:
    """Record the device nodes behind ``kvm:tcg`` and the like.

    Args:
        found: where to record them.
        names: one accelerator, or several with colons between.
        option: as a person writes it.
        device: the node to use for KVM instead of its own.
    """
    for name in names.split(":"):
        for node in (device,) if device and name == "kvm" else _ACCELERATOR_NODES.get(name, ()):
            found.add(node, SHARED_DEVICE, option)


def machine(found: Found, blocks: BlockGraph, pairs: Pairs, option: str = "-machine") -> None:
    """Record what a ``-machine`` uses."""
    for key, value in pairs:
        where = f"{option} {key}="
        if key == "accel":
            accelerators(found, value, where)
        elif key.startswith("pflash"):
            blocks.flash(value)
        elif key == "initrd":
            initrd(found, value, where)
        elif key == "firmware":
            rom(found, value, where)
        elif spec := MACHINE_PATHS.get(key):
            found.add(value, spec, where)
        elif key.partition(".")[0] not in MACHINE_PLAIN and looks_like_path(value):
            found.suspect(where, value, "no property of a machine is known by this name")


def initrd(found: Found, text: str, option: str) -> None:
    """One file; or, for a multiboot kernel such as Xen, ``module arguments,module arguments``.

    QEMU cuts at commas only if the kernel is a multiboot one (hw/i386/multiboot.c), so a file that has that very
    name is taken as one.
    """
    if ("," not in text and " " not in text) or found.host.exists(found.absolute(text)):
        found.add(text, INITRD, option)
        return
    for module in text.replace(",,", "\0").split(","):
        words = module.replace("\0", ",").lstrip().split(" ", 1) if "," in text else [text]
        found.add(words[0], INITRD, option)


def firmware_config(found: Found, pairs: Pairs, option: str = "-fw_cfg") -> None:
    """``-fw_cfg name=opt/x,file=…``."""
    for key, value in pairs:
        if key == "file":
            found.add(value, BLOB, f"{option} file=")
        elif key not in ("name", "string", "gen_id", "id") and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of fw_cfg is known by this name")


_ACPI_PLAIN = frozenset("sig rev oem_id oem_table_id oem_rev asl_compiler_id asl_compiler_rev id".split())


def acpi_table(found: Found, pairs: Pairs, option: str = "-acpitable") -> None:
    """``-acpitable file=a:b``: several files, with colons between."""
    for key, value in pairs:
        if key in ("file", "data"):
            for path in value.split(":"):
                found.add(path, BLOB, f"{option} {key}=")
        elif key not in _ACPI_PLAIN and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of an ACPI table is known by this name")


def smbios(found: Found, pairs: Pairs, option: str = "-smbios") -> None:
    """``-smbios file=…`` and ``-smbios type=11,path=…``; all else is text for the guest."""
    for key, value in pairs:
        if key in ("file", "path"):
            found.add(value, BLOB, f"{option} {key}=")


def boot_order(found: Found, pairs: Pairs, option: str = "-boot") -> None:
    """``-boot splash=…``: a picture, looked up as firmware is."""
    for key, value in pairs:
        if key == "splash":
            rom(found, value, f"{option} splash=")
        elif key not in ("order", "once") and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of the boot order is known by this name")


def option_rom(found: Found, pairs: Pairs, option: str = "-option-rom") -> None:
    """``-option-rom file[,bootindex=n]``."""
    for key, value in pairs:
        if key == "romfile":
            rom(found, value, option)
        elif key != "bootindex" and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of an option ROM is known by this name")
