"""Which part of this package reads which option, and the few options that are read right here."""

from __future__ import annotations

from septum.errors import ArgvError
from septum.guests import boot, chardevs, devices, displays, network, objects, others
from septum.guests.block import BlockGraph
from septum.guests.found import LOG, TREE, Found, looks_like_path
from septum.guests.options import DEVICE_STRINGS, DRIVE_SHORTCUTS, PATHS, PLAIN, QUERIES
from septum.guests.passthrough import legacy_pci
from septum.guests.syntax import Pairs, opts, read
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

__all__ = ["GROUPS", "OPTIONS", "SECTIONS", "Reader", "read_option"]


class Reader:
    """What is learnt while the options are read, one after the other.

    Attributes:
        found: the resources and what belongs to them.
        blocks: the block nodes.
        present: the names of all options that are given, wherever they stand.
        monitors: the ids of the chardevs that carry a monitor.
        amended: what ``-set`` has been applied to, by group and id.
    """

    def __init__(self, found: Found) -> None:
        self.found = found
        self.blocks = BlockGraph(found)
        self.present: set[str] = set()
        self.monitors: set[str] = set()
        self.amended: set[tuple[str, str]] = set()
        self.name = ""
        self.uuid = ""
        self.runas = ""
        self.chroot = ""
        self.sandbox = ""
        self.machine = ""
        self.xen_domid = -1


def read_option(
    reader: Reader, name: str, text: str, pairs: Pairs | None, amended: dict[tuple[str, str], Pairs]
) -> None:
    """Read one option.

    Args:
        reader: learns what it says.
        name: of the option, without dashes.
        text: its argument.
        pairs: its argument if that was a section of a configuration file.
        amended: what ``-set`` adds, by group and id.

    Raises:
        ArgvError: its argument is malformed.
    """
    option = f"-{name}"
    found = reader.found
    if by_pairs := _BY_PAIRS.get(name):
        implied, group, handler = by_pairs
        if pairs is None:
            found.query = found.query or _asks_for_help(name, text)
            pairs = read(text, implied, where=option) if name in _CAN_BE_JSON else opts(text, implied, where=option)
        if amended and (whose := (group, dict(pairs).get("id", ""))) in amended:
            pairs = [*pairs, *amended[whose]]
            reader.amended.add(whose)
        handler(reader, pairs, option)
    elif by_text := _BY_TEXT.get(name):
        by_text(reader, text, option)
    elif spec := PATHS.get(name):
        found.add(text, spec, option)
    elif shortcut := DRIVE_SHORTCUTS.get(name):
        reader.blocks.drive([*shortcut, ("file", text)], option, snapshot="snapshot" in reader.present)
    elif name in DEVICE_STRINGS:
        chardevs.device_string(found, text, option)
    elif name in QUERIES or _asks_for_help(name, text):
        found.query = True


def _asks_for_help(name: str, text: str) -> bool:
    """Does QEMU print something and exit? Must not err: a launcher confines nothing for a mere question."""
    if text in ("help", "?"):
        return name in _CAN_HELP
    if name not in _CAN_HELP_ON_ONE or text.startswith("{") or ("help" not in text and "?" not in text):
        return False
    # Whole elements only, as has_help_option of QEMU's util/qemu-option.c has it: ",,?,," is a part of a value.
    return any(element in ("help", "?") for element in text.replace(",,", "\0").split(","))


_CAN_HELP = frozenset(
    """machine cpu accel device object netdev nic chardev audiodev audio display vga soundhw watchdog d trace L
    tpmdev""".split()
)
_CAN_HELP_ON_ONE = frozenset("device object machine chardev".split())

_CAN_BE_JSON = frozenset("blockdev object device netdev chardev display audiodev machine".split())


def _global(reader: Reader, text: str, option: str) -> None:
    """``-global driver.property=value`` or ``-global driver=…,property=…,value=…``."""
    name, equals, value = text.partition("=")
    driver, dot, key = name.partition(".")
    if not dot:
        given = dict(opts(text, where=option))
        driver, key, value = given.get("driver", ""), given.get("property", ""), given.get("value", "")
    if equals and driver and key:
        devices.device_property(reader.found, driver, key, value, option)


def _globals(reader: Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    devices.device_property(
        reader.found, given.get("driver", ""), given.get("property", ""), given.get("value", ""), option
    )


def _initrd(reader: Reader, text: str, option: str) -> None:
    boot.initrd(reader.found, text, option)


def _bios(reader: Reader, text: str, option: str) -> None:
    devices.rom(reader.found, text, option)


def _library(reader: Reader, text: str, option: str) -> None:
    if text in ("help", "?"):
        reader.found.query = True
    else:
        reader.found.add(text, TREE, option, sharing="shared")


def _mem_path(reader: Reader, text: str, option: str) -> None:
    objects.memory_file(reader.found, text, option)


def _write_config(reader: Reader, text: str, option: str) -> None:
    if text != "-":
        reader.found.add(text, LOG, option)


def _redirect(reader: Reader, text: str, option: str) -> None:
    reader.found.needs_network(option)


def _uuid(reader: Reader, text: str, option: str) -> None:
    reader.uuid = text


def _runas(reader: Reader, text: str, option: str) -> None:
    reader.runas = text


def _xen_domid(reader: Reader, text: str, option: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise ArgvError(f"{option} needs a number", target=text[:400])
    reader.xen_domid = int(text)


def _display(reader: Reader, pairs: Pairs, option: str) -> None:
    displays.display(reader.found, pairs, option)


def _name(reader: Reader, pairs: Pairs, option: str) -> None:
    reader.name = dict(pairs).get("guest", reader.name)


def _sandbox(reader: Reader, text: str, option: str) -> None:
    reader.sandbox = text


def _machine(reader: Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    reader.machine = given.get("type", reader.machine)
    if "accel" in given:
        reader.present.add("accel")
    boot.machine(reader.found, reader.blocks, pairs, option)


def _accel(reader: Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    boot.accelerators(reader.found, given.get("accel", ""), option, device=given.get("device", ""))


def _chardev(reader: Reader, pairs: Pairs, option: str) -> None:
    chardevs.chardev(reader.found, pairs, option, monitor=dict(pairs).get("id", "") in reader.monitors)


def _chroot(reader: Reader, text: str, option: str) -> None:
    reader.chroot = text
    # An empty folder does for any number of guests.
    reader.found.add(text, TREE, option, sharing="shared")


def _drive(reader: Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    if given.get("format") in ("?", "help"):
        reader.found.query = True
        return
    reader.blocks.drive(pairs, option, snapshot="snapshot" in reader.present)


def _mem_lock(reader: Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key in ("mem-lock", "mlock") and value in ("on", "on-fault", "yes", "true", "y"):
            reader.found.memlock = True


def _run_with(reader: Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key == "chroot":
            _chroot(reader, value, f"{option} chroot=")
        elif key == "user":
            reader.runas = value
        elif key not in ("async-teardown", "exit-with-parent") and looks_like_path(value):
            reader.found.suspect(f"{option} {key}=", value, "no option of -run-with is known by this name")


def _pci_device(reader: Reader, pairs: Pairs, option: str) -> None:
    legacy_pci(reader.found, dict(pairs).get("host", ""), f"{option} host=")


def _memory(reader: Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key == "mem-path":
            objects.memory_file(reader.found, value, f"{option} mem-path=")


def _nothing(reader: Reader, pairs: Pairs, option: str) -> None:
    """A section whose options never name anything on the host."""


_Handler: TypeAlias = "Callable[[Reader, Pairs, str], None]"


def _on(function: Callable[[Found, Pairs, str], None]) -> _Handler:
    return lambda reader, pairs, option: function(reader.found, pairs, option)


# option → the key of a first element without one; the group's name for -set; who reads it.
_BY_PAIRS: dict[str, tuple[str, str, _Handler]] = {
    "accel": ("accel", "accel", _accel),
    "acpitable": ("", "acpi", _on(boot.acpi_table)),
    "add-fd": ("", "add-fd", lambda reader, pairs, option: others.add_fd(reader.found, pairs)),
    "audio": ("driver", "audio", _on(displays.audiodev)),
    "audiodev": ("driver", "audiodev", _on(displays.audiodev)),
    "blockdev": ("driver", "blockdev", lambda reader, pairs, option: reader.blocks.blockdev(pairs, option)),
    "boot": ("order", "boot-opts", _on(boot.boot_order)),
    "chardev": ("backend", "chardev", _chardev),
    "device": (
        "driver",
        "device",
        lambda reader, pairs, option: devices.device(reader.found, reader.blocks, pairs, option),
    ),
    "display": ("type", "display", _display),
    "drive": ("", "drive", _drive),
    "fsdev": ("fsdriver", "fsdev", _on(others.file_system)),
    "fw_cfg": ("name", "fw_cfg", _on(boot.firmware_config)),
    "icount": ("shift", "icount", _on(others.instruction_count)),
    "machine": ("type", "machine", _machine),
    "name": ("guest", "name", _name),
    "net": ("type", "net", _on(network.netdev)),
    "netdev": ("type", "netdev", _on(network.netdev)),
    "nic": ("type", "nic", _on(network.netdev)),
    "object": ("qom-type", "object", _on(objects.qom_object)),
    "option-rom": ("romfile", "option-rom", _on(boot.option_rom)),
    "overcommit": ("", "overcommit", _mem_lock),
    "pcidevice": ("", "pcidevice", _pci_device),
    "plugin": ("file", "plugin", _on(others.plugin)),
    "realtime": ("", "realtime", _mem_lock),
    "run-with": ("", "run-with", _run_with),
    "smbios": ("", "smbios", _on(boot.smbios)),
    "spice": ("", "spice", _on(displays.spice)),
    "tpmdev": ("type", "tpmdev", _on(others.tpm)),
    "trace": ("enable", "trace", _on(others.trace)),
    "virtfs": ("fsdriver", "virtfs", _on(others.file_system)),
    "vnc": ("vnc", "vnc", _on(displays.vnc)),
    # Sections of configuration files; as options they are in other tables.
    "global-section": ("", "global", _globals),
    "memory-section": ("size", "memory", _memory),
    "plain-section": ("", "", _nothing),
}

_BY_TEXT: dict[str, Callable[[Reader, str, str], None]] = {
    "L": _library,
    "bios": _bios,
    "chroot": _chroot,
    "global": _global,
    "incoming": lambda reader, text, option: others.incoming(reader.found, text, option),
    "initrd": _initrd,
    "k": lambda reader, text, option: others.keyboard(reader.found, text, option),
    "mem-path": _mem_path,
    "redir": _redirect,
    "runas": _runas,
    "sandbox": _sandbox,
    "usbdevice": lambda reader, text, option: others.usb_device(reader.found, reader.blocks, text, option),
    "uuid": _uuid,
    "writeconfig": _write_config,
    "xen-domid": _xen_domid,
}

# Sections of a configuration file that are called otherwise than the option.
GROUPS = {
    "acpi": "acpitable",
    "boot-opts": "boot",
    "global": "global-section",
    "memory": "memory-section",
    **dict.fromkeys(
        """smp-opts rtc iscsi mon numa sandbox msg semihosting-config action watchdog cpudef""".split(), "plain-section"
    ),
}

OPTIONS = frozenset(
    {
        *_BY_PAIRS,
        *_BY_TEXT,
        *PATHS,
        *DRIVE_SHORTCUTS,
        *DEVICE_STRINGS,
        *PLAIN,
        "readconfig",
    }
) - {"global-section", "memory-section", "plain-section"}
"""The names of options that take an argument."""

SECTIONS = frozenset(_BY_PAIRS)
"""The sections of a configuration file that can be read, under the names that `GROUPS` gives them."""
