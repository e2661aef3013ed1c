"""Character devices: ``-chardev``, and the one-word form that ``-serial``, ``-monitor`` and their like take."""

from __future__ import annotations

from septum.guests.addresses import socket_address, unix_socket
from septum.guests.found import BLOB, DEVICE, LOG, PIPE, SHARED_DEVICE, Found, Spec, looks_like_path
from septum.guests.syntax import Pairs, is_off, is_on, opts, tree

__all__ = ["CHARDEV_PATHS", "CHARDEV_PLAIN", "chardev", "device_string"]

# Options with a path, for each backend; "logfile" is every backend's. As in -chardev and as in QMP's chardev-add
# (QEMU's qapi/char.json).
CHARDEV_PATHS: dict[str, dict[str, Spec]] = {
    "": {"logfile": LOG},
    "file": {"path": LOG, "out": LOG, "input-path": BLOB, "in": BLOB},
    "pipe": {"path": PIPE, "device": PIPE},
    "serial": {"path": DEVICE, "device": DEVICE},
    "tty": {"path": DEVICE, "device": DEVICE},
    "parallel": {"path": DEVICE, "device": DEVICE},
    "parport": {"path": DEVICE, "device": DEVICE},
    "pty": {"path": Spec("pipe", "rw", creates=True)},
}

CHARDEV_PLAIN = frozenset(
    """backend id mux logappend append input-append host port to ipv4 ipv6 nodelay delay reconnect reconnect-ms
    telnet tn3270 websocket tls-creds tls-authz localaddr localport fd server wait abstract tight width height cols
    rows size name debug signal chardev clipboard mouse encoding keep-alive mptcp numeric cid data fqdn
    chardevs type""".split()
)


def chardev(found: Found, pairs: Pairs, option: str = "-chardev", *, monitor: bool = False) -> None:
    """Record what a ``-chardev`` uses.

    Args:
        found: where to record it.
        pairs: its options, the backend's name under ``backend``.
        option: as a person writes it.
        monitor: it carries a monitor; one that connects somewhere reports to the host's manager of all guests.
    """
    if any(key.startswith("backend.") for key, _ in pairs):  # as QMP writes it
        pairs = [
            (key.removeprefix("backend.").removeprefix("data.") if key != "backend.type" else "backend", value)
            for key, value in pairs
        ]
    given = dict(pairs)
    backend = given.get("backend", "")
    paths = CHARDEV_PATHS.get(backend, {})
    for key, value in pairs:
        spec = paths.get(key) or CHARDEV_PATHS[""].get(key)
        if spec is PIPE:
            _pipe(found, value, f"{option} {key}=")
        elif spec:
            found.add(value, spec, f"{option} {key}=")
        elif backend == "socket" and key == "path":
            pass
        elif key not in CHARDEV_PLAIN and "." not in key and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, f"no option of the {backend} backend is known by this name")
    if backend == "socket":
        _socket(found, given, pairs, option, monitor)
    elif backend == "udp":
        found.needs_network(f"{option} udp")
        found.opens_connection(f"{option} udp")
    elif backend == "pty":
        found.add("/dev/ptmx", SHARED_DEVICE, f"{option} pty")


def _socket(found: Found, given: dict[str, str], pairs: Pairs, option: str, monitor: bool) -> None:
    server = _server_is_a_word(given.get("server"))
    if "path" in given:
        abstract = is_on(given.get("abstract"))
        unix_socket(found, given["path"], f"{option} path=", server=server, abstract=abstract, service=monitor)
    elif "fd" in given:
        found.descriptor(given["fd"])
    elif any(key.startswith("addr.") for key in given):
        address = tree(pairs, where=option)["addr"]
        # QMP's default for chardev-add is a server.
        socket_address(found, address, f"{option} addr=", server=not is_off(given.get("server", "on")))
    else:
        socket_address(found, {"type": "vsock" if "cid" in given else "inet"}, f"{option} socket", server=server)


def _server_is_a_word(value: str | None) -> bool:
    return value is not None and not is_off(value)


def _pipe(found: Found, path: str, option: str) -> None:
    """A pair of FIFOs with ``.in`` and ``.out`` at the end if there is one, else the path (chardev/char-pipe.c)."""
    ends = [path + ".in", path + ".out"]
    if path and any(found.host.exists(found.absolute(end)) for end in ends):
        for end in ends:
            found.add(end, PIPE, option)
    else:
        found.add(path, PIPE, option)


_NETWORK = frozenset({"tcp", "telnet", "tn3270", "websocket", "udp"})
_NOTHING = frozenset("none null stdio vc msmouse wctablet braille testdev ringbuf console spicevmc vdagent".split())


def device_string(found: Found, text: str, option: str) -> None:
    """Record what the argument of ``-serial``, ``-parallel``, ``-monitor``, ``-qmp``, ``-gdb``, … uses.

    The syntax is that of ``qemu_chr_parse_compat`` in QEMU's chardev/char.c.
    """
    while text.startswith("mon:"):
        text = text[4:]
    kind, colon, rest = text.partition(":")
    if text.startswith("/dev/"):
        found.add(text, DEVICE, option)
    elif colon and kind in ("file", "pipe"):
        if kind == "pipe":
            _pipe(found, rest, option)
        else:
            found.add(rest, LOG, option)
    elif colon and kind == "unix":
        given = opts(rest, "path", where=option)
        chardev(found, [("backend", "socket"), *given], option)
    elif colon and kind in _NETWORK:
        found.needs_network(option)
        _, _, settings = rest.partition(",")
        given = opts("," + settings, where=option)
        # "-gdb tcp:" waits for a debugger without being told to (gdbstub/system.c).
        if kind == "udp" or not (option == "-gdb" or _server_is_a_word(dict(given).get("server"))):
            found.opens_connection(option)
        chardev(found, given, option)
    elif kind == "pty":
        chardev(found, [("backend", "pty"), *([("path", rest)] if rest else [])], option)
    elif kind in ("chardev", "con", "vc") or kind in _NOTHING or not looks_like_path(text):
        return
    else:
        found.suspect(option, text, "no character device is written like this")
