"""Network backends: ``-netdev``, ``-nic``, and the old ``-net``."""

from __future__ import annotations

from septum.guests.addresses import socket_address
from septum.guests.chardevs import device_string
from septum.guests.found import DEVICE, HELPER, LOG, PEER_SOCKET, SHARED_DEVICE, TREE, Found, Spec, looks_like_path
from septum.guests.syntax import Pairs, is_off, is_on, tree

__all__ = ["NETDEV_PATHS", "NETDEV_PLAIN", "netdev"]

# Options with a path, for each backend (QEMU's qapi/net.json).
NETDEV_PATHS: dict[str, dict[str, Spec]] = {
    "user": {"tftp": TREE, "smb": Spec("directory", "rw")},
    "vde": {"sock": Spec("directory", "rw")},  # where the switch has its sockets
    "vhost-vdpa": {"vhostdev": DEVICE},
    "netmap": {"devname": DEVICE},
    "dump": {"file": LOG},
    "af-xdp": {"map-path": Spec("blob", "rw")},
    "passt": {"path": HELPER, "pcap": LOG, "pid": LOG, "log-file": LOG, "socket-path": PEER_SOCKET},
}

NETDEV_PLAIN = frozenset(
    """type id netdev vlan name model macaddr mac addr vectors hostname restrict ipv4 ipv6 ip net host bootfile bootp
    dhcpstart dns dnssearch domainname ipv6-net ipv6-prefix ipv6-prefixlen ipv6-host ipv6-dns smbserver
    tftp-server-name hostfwd guestfwd ifname fd fds script downscript br helper sndbuf vnet_hdr vhost vhostfd
    vhostfds vhostforce queues poll-us listen connect mcast localaddr udp src dst udp-src srcport dstport rxcookie
    txcookie cookie64 counter pincounter txsession rxsession offset port group mode chardev hubid x-svq server
    reconnect reconnect-ms start-address end-address subnet-mask isolated net-uuid nat66-prefix start-queue inhibit
    force-copy sock-fds startaddr len busid search address gateway interface outbound outbound-if4 outbound-if6
    dns-forward domain mtu quiet tcp-ports udp-ports mptcp keep-alive vhost-user param bridge map-start-index""".split()
)

_DEFAULT_UP = "/etc/qemu-ifup"
_DEFAULT_DOWN = "/etc/qemu-ifdown"
_BRIDGE_HELPER = "/usr/lib/qemu/qemu-bridge-helper"

_ADDRESSES = ("addr", "local", "remote")


def netdev(found: Found, pairs: Pairs, option: str = "-netdev") -> None:
    """Record what a network backend uses.

    Args:
        found: where to record it.
        pairs: its options, the backend's name under ``type``.
        option: as a person writes it.
    """
    given = dict(pairs)
    backend = given.get("type", "")
    paths = NETDEV_PATHS.get(backend, {})
    for key, value in pairs:
        if spec := paths.get(key):
            found.add(value, spec, f"{option} {key}=")
        elif key in ("fd", "vhostfd"):
            found.descriptor(value)
        elif key in ("fds", "vhostfds", "sock-fds"):
            found.descriptors_of(value)
        elif key in ("hostfwd", "guestfwd"):
            _forward(found, key, value, f"{option} {key}=")
        elif (
            key not in NETDEV_PLAIN
            and not key.startswith(("addr.", "local.", "remote.", "hostfwd.", "guestfwd.", "dnssearch."))
            and looks_like_path(value)
        ):
            found.suspect(f"{option} {key}=", value, f"no option of the {backend} backend is known by this name")
    _by_backend(found, backend, given, pairs, option)


def _by_backend(found: Found, backend: str, given: dict[str, str], pairs: Pairs, option: str) -> None:
    where = f"{option} {backend}"
    if backend == "tap":
        _tap(found, given, where)
    elif backend == "bridge":
        found.needs_network(where)
        found.runs(f"{where},helper=", given.get("helper") or _BRIDGE_HELPER)
    elif backend in ("stream", "dgram"):
        members = tree(pairs, where=option)
        for key in _ADDRESSES:
            if isinstance(address := members.get(key), dict):
                listens = key == "local" or (key == "addr" and is_on(given.get("server")))
                socket_address(found, address, f"{option} {key}=", server=listens)
    elif backend in ("user", "socket", "l2tpv3", "netmap", "af-xdp") or backend.startswith("vmnet"):
        if not (backend == "socket" and "fd" in given):
            found.needs_network(where)
        if "connect" in given or backend == "l2tpv3":
            found.opens_connection(where)
        if backend == "netmap" and "devname" not in given:
            found.add("/dev/netmap", DEVICE, where)
        if given.get("smb"):
            found.runs(f"{option} smb=", "/usr/sbin/smbd")
    elif backend == "vde":
        found.opens_connection(where)
    elif backend == "passt":
        found.needs_network(where)
        found.runs(where, given.get("path") or "passt")


def _tap(found: Found, given: dict[str, str], where: str) -> None:
    if (is_on(given.get("vhost")) or is_on(given.get("vhostforce"))) and not {"vhostfd", "vhostfds"} & given.keys():
        found.add("/dev/vhost-net", SHARED_DEVICE, f"{where},vhost=on")
    if "fd" in given or "fds" in given:
        return
    found.needs_network(where)
    if helper := given.get("helper"):
        found.runs(f"{where},helper=", helper)
        return
    found.add("/dev/net/tun", SHARED_DEVICE, where)
    for key, default in (("script", _DEFAULT_UP), ("downscript", _DEFAULT_DOWN)):
        script = given.get(key, default)
        if script and not is_off(script):
            found.runs(f"{where},{key}=", script if "/" in script else f"./{script}")


def _forward(found: Found, key: str, value: str, option: str) -> None:
    """``hostfwd=unix:/run/x-10.0.2.15:22`` and ``guestfwd=tcp:10.0.2.1:80-cmd:/bin/x`` or ``-chardev:id``."""
    if key == "hostfwd":
        if value.startswith("unix:"):
            path, dash, _ = value[5:].rpartition("-")
            found.add(path if dash else value[5:], Spec("socket", "rw", creates=True), option)
        return
    target = value.partition("-")[2]
    if target.startswith("cmd:"):
        found.runs(option, target[4:])
    else:
        device_string(found, target, option)
