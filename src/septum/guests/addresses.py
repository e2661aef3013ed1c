"""Where QEMU listens or connects to: SocketAddress trees, D-Bus addresses, URLs' queries."""

from __future__ import annotations

from septum.guests.found import BOUND_SOCKET, PEER_SOCKET, Found
from septum.guests.syntax import Tree, is_on

__all__ = ["dbus_address", "socket_address", "unix_socket", "url_query"]


def unix_socket(
    found: Found, path: str, option: str, *, server: bool, abstract: bool = False, service: bool = False
) -> None:
    """A unix socket that QEMU binds or connects to.

    Args:
        found: where to record it.
        path: the socket.
        option: where it stands.
        server: QEMU binds it.
        abstract: it has no path on the host.
        service: the other end serves all guests of the host.
    """
    if not server:
        found.opens_connection(option)
    if path and not abstract:
        spec = BOUND_SOCKET if server else PEER_SOCKET
        found.add(path, spec, option, sharing="shared" if service and not server else None)


def socket_address(found: Found, members: Tree, option: str, *, server: bool) -> None:
    """Read a SocketAddress of QEMU's qapi/sockets.json, flat or legacy (with its members below ``data``).

    Args:
        found: where to record it.
        members: ``{"type": "unix", "path": …}``; without a type, the members decide.
        option: where it stands.
        server: QEMU listens on it.
    """
    data = members.get("data")
    if isinstance(data, dict):
        members = {**members, **data}
    kind = members.get("type", "")
    if kind == "unix" or (not kind and "path" in members):
        unix_socket(found, str(members.get("path", "")), option, server=server, abstract=is_on(members.get("abstract")))
    elif kind == "fd" or (not kind and "str" in members):
        found.descriptor(str(members.get("str", "")))
    else:
        if not server:
            found.opens_connection(option)
        if kind != "vsock":
            found.needs_network(option)


def dbus_address(found: Found, address: str, option: str) -> None:
    """``unix:path=/run/x,guid=…`` of the D-Bus specification, several separated by semicolons."""
    found.opens_connection(option)
    for one in address.split(";"):
        transport, _, keys = one.partition(":")
        if transport == "unix":
            for key in keys.split(","):
                name, _, value = key.partition("=")
                if name == "path":
                    unix_socket(found, value, option, server=False, service=True)
        elif transport == "unixexec":
            found.runs(option, keys.partition("path=")[2].partition(",")[0])
        else:
            found.needs_network(option)


def url_query(query: str) -> dict[str, str]:
    """The parameters of a URL; percent signs are decoded."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return {key: unquote(value) for key, _, value in pairs}


def unquote(text: str) -> str:
    """Decode ``%2F``; anything that is no such escape stays. (urllib would cost 5 ms to import.)"""
    if "%" not in text:
        return text
    first, *rest = text.split("%")
    decoded = bytearray(first.encode("utf-8", "surrogateescape"))
    for part in rest:
        try:
            decoded.append(int(part[:2], 16) if len(part[:2]) == 2 else int("", 16))
            part = part[2:]
        except ValueError:
            decoded += b"%"
        decoded += part.encode("utf-8", "surrogateescape")
    return decoded.decode("utf-8", "surrogateescape")
