"""Options that belong to no larger family."""

from __future__ import annotations

from septum.guests.addresses import socket_address, unix_socket
from septum.guests.block import BlockGraph
from septum.guests.found import (
    BLOB,
    CONFIG,
    DEVICE,
    LOG,
    PEER_SOCKET,
    PLUGIN,
    Found,
    Spec,
    looks_like_path,
)
from septum.guests.passthrough import usb_by_address, usb_by_identity
from septum.guests.syntax import Pairs, from_json, is_on, opts, tree

__all__ = [
    "add_fd",
    "file_system",
    "incoming",
    "instruction_count",
    "keyboard",
    "plugin",
    "tpm",
    "trace",
    "usb_device",
]

_FSDEV_PLAIN = frozenset(
    "fsdriver id security_model writeout readonly sock_fd fmode dmode multidevs mount_tag throttling bps iops".split()
)


def file_system(found: Found, pairs: Pairs, option: str) -> None:
    """``-fsdev`` and ``-virtfs``: a tree that the guest sees through 9p."""
    given = dict(pairs)
    for key, value in pairs:
        if key == "path":
            access: Spec = Spec("directory", "ro" if is_on(given.get("readonly")) else "rw")
            found.add(value, access, f"{option} path=")
        elif key == "socket":
            found.add(value, PEER_SOCKET, f"{option} socket=")
            found.opens_connection(f"{option} socket=")
        elif key == "sock_fd":
            found.descriptor(value)
        elif key.partition(".")[0] not in _FSDEV_PLAIN and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of a shared file system is known by this name")


def tpm(found: Found, pairs: Pairs, option: str = "-tpmdev") -> None:
    """A TPM of the host's with the file that cancels its commands, or an emulator behind a chardev.

    Defaults from QEMU's backends/tpm/tpm_passthrough.c.
    """
    given = dict(pairs)
    if given.get("type") != "passthrough":
        for key, value in pairs:
            if key not in ("type", "id", "chardev") and looks_like_path(value):
                found.suspect(f"{option} {key}=", value, "no option of a TPM emulator is known by this name")
        return
    path = given.get("path") or "/dev/tpm0"
    found.add(path, DEVICE, f"{option} passthrough,path=")
    cancel = given.get("cancel-path")
    if not cancel and not path.startswith("/dev/fdset/"):
        node = path.rpartition("/")[2]
        places = [f"/sys/class/tpm/{node}/device/cancel", f"/sys/class/misc/{node}/device/cancel"]
        cancel = next((place for place in places if found.host.exists(place)), places[0])
    found.add(cancel or "", Spec("sysfs", "rw"), f"{option} passthrough,cancel-path=")


def incoming(found: Found, text: str, option: str = "-incoming") -> None:
    """Where a migration comes from: a URI, or the MigrationChannel of QEMU's qapi/migration.json."""
    kind, colon, rest = text.partition(":")
    if text.startswith("{") or "addr.transport=" in text:
        pairs = from_json(text, where=option) if text.startswith("{") else opts(text, "channel-type", where=option)
        _channel(found, tree(pairs, where=option), option)
    elif kind == "exec" and colon:
        found.runs(option, rest)
    elif kind == "unix" and colon:
        unix_socket(found, rest.partition(",")[0], option, server=True)
    elif kind == "file" and colon:
        path, comma, offset = rest.rpartition(",")
        found.add(path if comma and offset.startswith("offset=") else rest, BLOB, option)
    elif kind == "fd" and colon:
        found.descriptor(rest)
    elif kind in ("tcp", "rdma", "vsock") and colon:
        if kind != "vsock":
            found.needs_network(option)
    elif text != "defer" and looks_like_path(text):
        found.suspect(option, text, "no source of a migration is written like this")
    elif text.lstrip(":").isdigit() or (colon and text != "defer"):
        found.needs_network(option)


def _channel(found: Found, channel: dict[str, object], option: str) -> None:
    address = channel.get("addr")
    if not isinstance(address, dict):
        address = channel
    transport = address.get("transport")
    if transport == "exec":
        arguments = address.get("args")
        found.runs(option, str(arguments.get("0", "")) if isinstance(arguments, dict) else "")
    elif transport == "file":
        found.add(str(address.get("filename", "")), BLOB, option)
    elif transport == "rdma":
        found.needs_network(option)
    else:
        socket_address(found, address, option, server=True)


def trace(found: Found, pairs: Pairs, option: str = "-trace") -> None:
    """``-trace events=…,file=…``."""
    for key, value in pairs:
        if key == "events":
            found.add(value, CONFIG, f"{option} events=")
        elif key == "file":
            found.add(value, LOG, f"{option} file=")
        elif key != "enable" and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of tracing is known by this name")


def plugin(found: Found, pairs: Pairs, option: str = "-plugin") -> None:
    """A shared object with arguments of its own, which nobody but the plugin understands."""
    for key, value in pairs:
        if key == "file":
            found.add(value, PLUGIN, f"{option} file=")
        elif looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "arguments of a plugin mean what the plugin makes of them")


def instruction_count(found: Found, pairs: Pairs, option: str = "-icount") -> None:
    """``-icount rr=record,rrfile=…``: a log that is written, or read again."""
    given = dict(pairs)
    for key, value in pairs:
        if key == "rrfile":
            found.add(value, BLOB if given.get("rr") == "replay" else LOG, f"{option} rrfile=")
        elif key not in ("shift", "align", "sleep", "rr", "rrsnapshot") and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of the instruction counter is known by this name")


def add_fd(found: Found, pairs: Pairs) -> None:
    """``-add-fd fd=3,set=1``; ``opaque`` is a note to oneself, even if it reads like a path."""
    for key, value in pairs:
        if key == "fd":
            found.descriptor(value)


def keyboard(found: Found, text: str, option: str = "-k") -> None:
    """A layout's name, or the path of a file with one."""
    if "/" in text:
        found.add(text, CONFIG, option)


def usb_device(found: Found, blocks: BlockGraph, text: str, option: str = "-usbdevice") -> None:
    """The argument of the old ``-usbdevice``."""
    kind, _, rest = text.partition(":")
    if kind == "host":
        if ":" in rest:
            vendor, _, product = rest.partition(":")
            usb_by_identity(found, vendor, product.rstrip("*"), option)
        elif "." in rest:
            bus, _, address = rest.partition(".")
            if bus.isdigit() and address.isdigit():
                usb_by_address(found, bus, address, option)
    elif kind == "serial":
        _, _, line = rest.partition(":")
        if line.startswith("/"):
            found.add(line, DEVICE, option)
        elif looks_like_path(line):
            found.suspect(option, text, "a serial line is written as a path here")
    elif kind == "disk":
        settings, colon, file = rest.rpartition(":")
        image_format = settings.removeprefix("format=") if colon and settings.startswith("format=") else ""
        pairs = [("file", file if image_format else rest)]
        blocks.drive([*pairs, *([("format", image_format)] if image_format else [])], option)
    elif looks_like_path(rest):
        found.suspect(option, text, "no USB device is written like this")
