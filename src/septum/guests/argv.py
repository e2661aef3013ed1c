"""Reading a whole command line: cutting argv into options, and giving each to the module that knows it."""

from collections.abc import Callable, Sequence

from septum.errors import ArgvError
from septum.guests import boot, chardevs, devices, displays, network, objects, others
from septum.guests.block import BlockGraph
from septum.guests.found import CONFIG, FIRMWARE, LOG, NOBODY, TMPDIR, Found, Host, looks_like_path
from septum.guests.options import DEVICE_STRINGS, DRIVE_SHORTCUTS, FLAGS, PATHS, PLAIN, QUERIES, SYNONYMS
from septum.guests.passthrough import legacy_pci
from septum.guests.resource import CommandLine
from septum.guests.syntax import MAX_DEPTH, Pairs, opts, read, read_config

__all__ = ["OPTIONS", "parse"]

ReadFile = Callable[[str], str]

MAX_CONFIGS = 64
"""Configuration files that one command line may read, those within others included."""


def parse(
    argv: Sequence[str],
    *,
    cwd: str,
    read_file: ReadFile | None = None,
    host: Host = NOBODY,
    tmpdir: str = "/var/tmp",
) -> CommandLine:
    """Understand a QEMU command line.

    It looks at nothing on the host but through `read_file` and `host`.

    Args:
        argv: the program and its arguments, as QEMU will get them.
        cwd: the folder that QEMU will start in; absolute.
        read_file: gives the text of a file that ``-readconfig`` names; one that it can't read is reported as
            unknown. Without it such files are named, and what is in them is the caller's business.
        host: answers what only the host knows; without it, what a link below /sys would tell is left out.
        tmpdir: where QEMU would put the temporary files of ``snapshot=on``: its TMPDIR.

    Returns:
        Everything it names. Parts that are not understood are in `unknown`, they are no errors.

    Raises:
        ArgvError: an argument is missing, or a value is malformed.
    """
    if not cwd.startswith("/"):
        raise ArgvError("The working directory of a command line must be absolute", target=cwd)
    if not argv:
        raise ArgvError("An empty command line", remedy="begin with the program, as in qemu-system-x86_64 …")
    reader = _Reader(Found(cwd.rstrip("/"), host, tmpdir), read_file)
    for position, argument in enumerate(argv):
        if "\0" in argument:
            raise ArgvError(f"Argument {position} has a NUL character", target=argument[:400])
    reader.cut(argv)
    return reader.finish(tuple(argv))


class _Given:
    """One option of the command line, or one section of a configuration file."""

    __slots__ = ("option", "pairs", "text")

    def __init__(self, option: str, text: str, pairs: Pairs | None = None) -> None:
        self.option = option
        self.text = text
        self.pairs = pairs


class _Reader:
    """Goes through a command line twice: to cut it up and collect ``-set``, then to read each option."""

    def __init__(self, found: Found, read_file: ReadFile | None) -> None:
        self.found = found
        self.blocks = BlockGraph(found)
        self.read_file = read_file
        self.given: list[_Given] = []
        self.amended: dict[tuple[str, str], Pairs] = {}
        self.present: set[str] = set()
        self.configs = 0
        self.name = ""
        self.uuid = ""
        self.runas = ""
        self.chroot = ""
        self.sandbox = ""
        self.machine = ""
        self.xen_domid = -1

    def cut(self, argv: Sequence[str]) -> None:
        """Cut argv into options and their arguments."""
        position = 1
        while position < len(argv):
            word = argv[position]
            position += 1
            if not word.startswith("-"):
                self.given.append(_Given("hda", word))
                continue
            name = word[2:] if word.startswith("--") else word[1:]
            name = SYNONYMS.get(name, name)
            if name in FLAGS or name in QUERIES:
                self._keep(name, "")
            elif name in OPTIONS:
                if position == len(argv):
                    raise ArgvError(f"{word} (argument {position - 1}) needs an argument", target=word)
                self._keep(name, argv[position])
                position += 1
            else:
                follows = argv[position] if position < len(argv) and not argv[position].startswith("-") else ""
                position += bool(follows)
                self.found.suspect(word, follows, "septum does not know this option of QEMU")

    def _keep(self, name: str, text: str) -> None:
        self.present.add(name)
        if name == "readconfig":
            self._read_config(text, 0)
        elif name == "set":
            path, equals, value = text.partition("=")
            parts = path.split(".", 2)
            if not equals or len(parts) != 3:
                raise ArgvError("-set needs group.id.argument=value", target=text[:400])
            self.amended.setdefault((parts[0], parts[1]), []).append((parts[2], value))
        else:
            self.given.append(_Given(name, text))

    def _read_config(self, path: str, depth: int) -> None:
        if path.startswith("fdset:") or not path:
            return
        found = self.found
        found.add(path, CONFIG, "-readconfig")
        absolute = found.absolute(path)
        if self.read_file is None:
            return
        self.configs += 1
        if self.configs > MAX_CONFIGS or depth > MAX_DEPTH:
            raise ArgvError("Too many configuration files", target=absolute)
        try:
            text = self.read_file(absolute)
        except (OSError, ValueError) as problem:
            found.suspect("-readconfig", path, f"what the file says is not known: {problem}")
            return
        for group, pairs in read_config(text, where=absolute):
            option = _GROUPS.get(group, group)
            self.present.add(option)
            if option == "readconfig":
                self._read_config(dict(pairs).get("file", ""), depth + 1)
            elif option in _BY_PAIRS:
                self.given.append(_Given(option, "", pairs))
            else:
                for key, value in pairs:
                    if looks_like_path(value):
                        found.suspect(f"-readconfig [{group}] {key}", value, "septum does not know this section")

    def finish(self, argv: tuple[str, ...]) -> CommandLine:
        """Read every option, and put the result together."""
        for given in self.given:
            self._read(given)
        found = self.found
        self._implied(argv[0])
        self.blocks.finish()
        return CommandLine(
            argv=argv,
            name=self.name,
            uuid=self.uuid,
            resources=tuple(found.by_path.values()),
            unknown=tuple(found.unknown),
            network=tuple(found.network),
            connects=tuple(found.connects),
            executes=tuple(found.executes),
            daemonize="daemonize" in self.present,
            runas=self.runas,
            chroot=self.chroot,
            memlock=found.memlock,
            descriptors=tuple(found.descriptors),
            query=found.query,
            xen_domid=self.xen_domid,
            sandbox=self.sandbox,
        )

    def _read(self, given: _Given) -> None:
        name, text = given.option, given.text
        option = f"-{name}"
        if by_pairs := _BY_PAIRS.get(name):
            implied, group, handler = by_pairs
            pairs = given.pairs
            if pairs is None:
                if name in _CAN_HELP and _asks_for_help(text):
                    self.found.query = True
                    return
                pairs = read(text, implied, where=option) if name in _CAN_BE_JSON else opts(text, implied, where=option)
            if self.amended:
                pairs = [*pairs, *self.amended.get((group, dict(pairs).get("id", "")), ())]
            handler(self, pairs, option)
        elif by_text := _BY_TEXT.get(name):
            by_text(self, text, option)
        elif spec := PATHS.get(name):
            self.found.add(text, spec, option)
            if name == "chroot":
                self.chroot = text
        elif shortcut := DRIVE_SHORTCUTS.get(name):
            self.blocks.drive([*shortcut, ("file", text)], option, snapshot="snapshot" in self.present)
        elif name in DEVICE_STRINGS:
            chardevs.device_string(self.found, text, option)
        elif name in QUERIES or (name in _CAN_HELP and text in ("help", "?")):
            self.found.query = True

    def _implied(self, program: str) -> None:
        """What flags and the absence of options bring with them."""
        found, present = self.found, self.present
        if "enable-kvm" in present:
            boot.accelerators(found, "kvm", "-enable-kvm")
        if "enable-hax" in present:
            boot.accelerators(found, "hax", "-enable-hax")
        if program.endswith("kvm") and "accel" not in present and "no-kvm" not in present:
            boot.accelerators(found, "kvm", "the program's name")
        if self.xen_domid >= 0 or "xen-attach" in present:
            boot.accelerators(found, "xen", "-xen-domid" if self.xen_domid >= 0 else "-xen-attach")
        if "s" in present:
            found.needs_network("-s")
        if "perfmap" in present:
            found.add("/tmp", TMPDIR, "-perfmap")
        if "jitdump" in present:
            found.add(found.cwd or "/", TMPDIR, "-jitdump")
        if present.isdisjoint(("nodefaults", "net", "nic", "netdev")) and self.machine not in ("none", "x-remote"):
            found.needs_network("the default -nic user")


def _asks_for_help(text: str) -> bool:
    return ("help" in text or "?" in text) and any(part in ("help", "?") for part in text.split(","))


_CAN_HELP = frozenset(
    """machine cpu accel device object netdev nic chardev audiodev audio drive blockdev display vga soundhw watchdog d
    trace k L tpmdev clock""".split()
)

_CAN_BE_JSON = frozenset("blockdev object device netdev chardev display audiodev machine".split())


def _global(reader: _Reader, text: str, option: str) -> None:
    """``-global driver.property=value`` or ``-global driver=…,property=…,value=…``."""
    name, equals, value = text.partition("=")
    driver, dot, key = name.partition(".")
    if not dot:
        given = dict(opts(text, where=option))
        driver, key, value = given.get("driver", ""), given.get("property", ""), given.get("value", "")
    if equals and driver and key:
        devices.device_property(reader.found, driver, key, value, option)


def _globals(reader: _Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    devices.device_property(
        reader.found, given.get("driver", ""), given.get("property", ""), given.get("value", ""), option
    )


def _initrd(reader: _Reader, text: str, option: str) -> None:
    boot.initrd(reader.found, text, option)


def _bios(reader: _Reader, text: str, option: str) -> None:
    devices.rom(reader.found, text, option)


def _library(reader: _Reader, text: str, option: str) -> None:
    if text in ("help", "?"):
        reader.found.query = True
    else:
        reader.found.add(text, FIRMWARE, option)


def _mem_path(reader: _Reader, text: str, option: str) -> None:
    objects.memory_file(reader.found, text, option)


def _write_config(reader: _Reader, text: str, option: str) -> None:
    if text != "-":
        reader.found.add(text, LOG, option)


def _redirect(reader: _Reader, text: str, option: str) -> None:
    reader.found.needs_network(option)


def _uuid(reader: _Reader, text: str, option: str) -> None:
    reader.uuid = text


def _runas(reader: _Reader, text: str, option: str) -> None:
    reader.runas = text


def _xen_domid(reader: _Reader, text: str, option: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise ArgvError(f"{option} needs a number", target=text[:400])
    reader.xen_domid = int(text)


def _display(reader: _Reader, pairs: Pairs, option: str) -> None:
    displays.display(reader.found, pairs, option)


def _name(reader: _Reader, pairs: Pairs, option: str) -> None:
    reader.name = dict(pairs).get("guest", reader.name)


def _sandbox(reader: _Reader, text: str, option: str) -> None:
    reader.sandbox = text


def _machine(reader: _Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    reader.machine = given.get("type", reader.machine)
    if "accel" in given:
        reader.present.add("accel")
    boot.machine(reader.found, reader.blocks, pairs, option)


def _accel(reader: _Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    boot.accelerators(reader.found, given.get("accel", ""), option, device=given.get("device", ""))


def _drive(reader: _Reader, pairs: Pairs, option: str) -> None:
    given = dict(pairs)
    if given.get("format") in ("?", "help"):
        reader.found.query = True
        return
    reader.blocks.drive(pairs, option, snapshot="snapshot" in reader.present)


def _mem_lock(reader: _Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key in ("mem-lock", "mlock") and value in ("on", "on-fault", "yes", "true", "y"):
            reader.found.memlock = True


def _run_with(reader: _Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key == "chroot":
            reader.chroot = value
            reader.found.add(value, PATHS["chroot"], f"{option} chroot=")
        elif key == "user":
            reader.runas = value
        elif key not in ("async-teardown", "exit-with-parent") and looks_like_path(value):
            reader.found.suspect(f"{option} {key}=", value, "no option of -run-with is known by this name")


def _pci_device(reader: _Reader, pairs: Pairs, option: str) -> None:
    legacy_pci(reader.found, dict(pairs).get("host", ""), f"{option} host=")


def _memory(reader: _Reader, pairs: Pairs, option: str) -> None:
    for key, value in pairs:
        if key == "mem-path":
            objects.memory_file(reader.found, value, f"{option} mem-path=")


def _nothing(reader: _Reader, pairs: Pairs, option: str) -> None:
    """A section whose options never name anything on the host."""


_Handler = Callable[[_Reader, Pairs, str], None]


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
    "chardev": ("backend", "chardev", _on(chardevs.chardev)),
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

_BY_TEXT: dict[str, Callable[[_Reader, str, str], None]] = {
    "L": _library,
    "bios": _bios,
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
_GROUPS = {
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
