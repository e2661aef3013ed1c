"""Reading a whole command line: cutting argv into options, and giving each to the module that knows it."""

from __future__ import annotations

from septum.errors import ArgvError
from septum.guests import boot
from septum.guests.found import CONFIG, NOBODY, Found, Host, looks_like_path
from septum.guests.handlers import GROUPS, OPTIONS, SECTIONS, Reader, read_option
from septum.guests.options import FLAGS, QUERIES, SYNONYMS
from septum.guests.resource import CommandLine
from septum.guests.syntax import MAX_DEPTH, Pairs, opts, read_config
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

__all__ = ["ReadFile", "parse"]

ReadFile: TypeAlias = "Callable[[str], str]"

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
    for position, argument in enumerate(argv):
        if "\0" in argument:
            raise ArgvError(f"Argument {position} has a NUL character", target=argument[:400])
    cutter = _Cutter(Reader(Found(cwd.rstrip("/"), host, tmpdir)), read_file)
    cutter.cut(argv)
    return _finish(cutter, tuple(argv))


class _Given(NamedTuple):
    """One option of the command line; `pairs` if it is a section of a configuration file."""

    name: str
    text: str
    pairs: Pairs | None = None


class _Cutter:
    """Cuts a command line into options, before any is read: ``-set`` and ``-snapshot`` also act on earlier ones."""

    def __init__(self, reader: Reader, read_file: ReadFile | None) -> None:
        self.reader = reader
        self.found = reader.found
        self.read_file = read_file
        self.given: list[_Given] = []
        self.amended: dict[tuple[str, str], Pairs] = {}
        self.configs = 0
        self.certain = True

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
                self.certain = False
                self.found.suspect(word, follows, "septum does not know this option of QEMU")

    def _keep(self, name: str, text: str) -> None:
        self.reader.present.add(name)
        if name == "readconfig":
            self._read_config(text, 0)
        elif name == "set":
            path, equals, value = text.partition("=")
            parts = path.split(".", 2)
            if not equals or len(parts) != 3:
                raise ArgvError("-set needs group.id.argument=value", target=text[:400])
            self.amended.setdefault((parts[0], parts[1]), []).append((parts[2], value))
        elif name == "mon":
            self.reader.monitors.add(dict(opts(text, "chardev", where="-mon")).get("chardev", ""))
        else:
            self.given.append(_Given(name, text))

    def _read_config(self, path: str, depth: int) -> None:
        if path.startswith("fdset:") or not path:
            return
        self.found.add(path, CONFIG, "-readconfig")
        if self.read_file is None:
            return
        absolute = self.found.absolute(path)
        self.configs += 1
        if self.configs > MAX_CONFIGS or depth > MAX_DEPTH:
            raise ArgvError("Too many configuration files", target=absolute)
        try:
            text = self.read_file(absolute)
        except (OSError, ValueError) as problem:
            self.found.suspect("-readconfig", path, f"what the file says is not known: {problem}")
            return
        for group, pairs in read_config(text, where=absolute):
            self._keep_section(group, pairs, depth)

    def _keep_section(self, group: str, pairs: Pairs, depth: int) -> None:
        name = GROUPS.get(group, group)
        self.reader.present.add(name)
        if group == "mon":
            self.reader.monitors.add(dict(pairs).get("chardev", ""))
        elif group == "readconfig":
            self._read_config(dict(pairs).get("file", ""), depth + 1)
        elif name in SECTIONS:
            self.given.append(_Given(name, "", pairs))
        else:
            for key, value in pairs:
                if looks_like_path(value):
                    self.found.suspect(f"-readconfig [{group}] {key}", value, "septum does not know this section")


def _finish(cutter: _Cutter, argv: tuple[str, ...]) -> CommandLine:
    """Read every option, and put the result together."""
    reader, found = cutter.reader, cutter.found
    for name, text, pairs in cutter.given:
        read_option(reader, name, text, pairs, cutter.amended)
    for (group, name), pairs in cutter.amended.items():
        if (group, name) not in reader.amended:
            for key, value in pairs:
                if looks_like_path(value):
                    found.suspect(f"-set {group}.{name}.{key}=", value, "nothing on the command line has this id")
    _implied(reader, argv[0])
    reader.blocks.finish()
    return CommandLine(
        argv=argv,
        name=reader.name,
        uuid=reader.uuid,
        resources=tuple(found.by_path.values()),
        unknown=tuple(found.unknown),
        network=tuple(found.network),
        connects=tuple(found.connects),
        executes=tuple(found.executes),
        daemonize="daemonize" in reader.present,
        runas=reader.runas,
        chroot=reader.chroot,
        memlock=found.memlock,
        descriptors=tuple(found.descriptors),
        # After an option of unknown arity, "-version" may be its argument.
        query=found.query and cutter.certain,
        xen_domid=reader.xen_domid,
        sandbox=reader.sandbox,
    )


def _implied(reader: Reader, program: str) -> None:
    """What flags, and the absence of options, bring with them."""
    found, present = reader.found, reader.present
    if "enable-kvm" in present:
        boot.accelerators(found, "kvm", "-enable-kvm")
    if "enable-hax" in present:
        boot.accelerators(found, "hax", "-enable-hax")
    if program.endswith("kvm") and "accel" not in present and "no-kvm" not in present:
        boot.accelerators(found, "kvm", "the program's name")
    if reader.xen_domid >= 0 or "xen-attach" in present:
        boot.accelerators(found, "xen", "-xen-domid" if reader.xen_domid >= 0 else "-xen-attach")
    if "s" in present:
        found.needs_network("-s")
    for flag, folder in (("perfmap", "/tmp"), ("jitdump", found.cwd or "/")):
        if flag in present:
            found.suspect(f"-{flag}", folder, "QEMU writes a file there that is named after its process")
    if present.isdisjoint(("nodefaults", "net", "nic", "netdev")) and reader.machine not in ("none", "x-remote"):
        found.needs_network("the default -nic user")
