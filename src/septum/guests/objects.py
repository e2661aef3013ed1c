"""``-object``: back ends of all kinds that are QOM objects."""

from __future__ import annotations

from septum.guests.addresses import dbus_address, socket_address, unix_socket
from septum.guests.found import (
    BLOB,
    CONFIG,
    DEVICE,
    FIRMWARE,
    LOG,
    MEMORY,
    PEER_SOCKET,
    SECRET,
    SHARED_DEVICE,
    Found,
    Spec,
    looks_like_path,
)
from septum.guests.syntax import Pairs, is_on, tree

__all__ = ["OBJECT_PATHS", "OBJECT_PLAIN", "memory_file", "qom_object"]

# Options with a path, for each type (QEMU's qapi/qom.json, crypto.json, authz.json).
OBJECT_PATHS: dict[str, dict[str, Spec]] = {
    "authz-list-file": {"filename": CONFIG},
    "authz-listfile": {"filename": CONFIG},
    "authz-simple": {"filename": CONFIG},
    "filter-dump": {"file": LOG},
    "igvm-cfg": {"file": FIRMWARE},
    "input-linux": {"evdev": DEVICE},
    "memory-backend-file": {"mem-path": MEMORY},
    "pr-manager-helper": {"path": PEER_SOCKET},
    "qtest": {"log": LOG},
    "rng-random": {"filename": SHARED_DEVICE},
    "secret": {"file": SECRET},
    "sev-guest": {"dh-cert-file": BLOB, "session-file": BLOB, "sev-device": SHARED_DEVICE},
    "sev-snp-guest": {"sev-device": SHARED_DEVICE},
    "tls-cipher-suites": {"dir": SECRET},
    "tls-creds-anon": {"dir": SECRET},
    "tls-creds-psk": {"dir": SECRET},
    "tls-creds-x509": {"dir": SECRET},
}

OBJECT_PLAIN = frozenset(
    """qom-type id addr data format keyid iv serial chardev indev outdev netdev queue insert status position
    vnet_hdr_support primary_in secondary_in notify_dev iothread compare_timeout expired_scan_cycle max_queue_size
    maxlen
    policy share prealloc prealloc-threads prealloc-context host-nodes merge dump reserve size align pmem readonly
    rom offset discard-data x-use-canonical-path-for-ramblock-id hugetlb hugetlbsize seal shm
    endpoint verify-peer priority passwordid username loaded sanity-check identity rules refresh service
    grab_all repeat grab-toggle name server port x-origin y-origin width height if canbus fd devid device id-list
    audiodev gl-mode cbitpos reduced-phys-bits kernel-hashes guest-visible-workarounds id-block id-auth host-data
    author-key-enabled
    auth-key-enabled vcek-disabled legacy-vm-type handle mrconfigid mrowner mrownerconfig attributes
    sept-ve-disable cpuid-bits poll-max-ns poll-grow poll-shrink poll-weight aio-max-batch thread-pool-min
    thread-pool-max bps iops limits node-affinity cpu-affinity queues throttle-bps throttle-ops pci-dev pci-bus node
    interval mode x-iops p2p default socket type igvm canfd domain-id""".split()
)

_SEV = frozenset({"sev-guest", "sev-snp-guest"})
_PLAIN_FAMILIES = frozenset({"socket", "rules", "host-nodes", "limits", "quote-generation-socket", "cpu-affinity"})


def qom_object(found: Found, pairs: Pairs, option: str = "-object") -> None:
    """Record what an object uses; its type is under ``qom-type``."""
    given = dict(pairs)
    kind = given.get("qom-type", "")
    paths = OBJECT_PATHS.get(kind, {})
    for key, value in pairs:
        if spec := paths.get(key):
            if spec is MEMORY:
                memory_file(found, value, f"{option} {kind},{key}=", read_only=is_on(given.get("readonly")))
            elif spec is PEER_SOCKET:
                unix_socket(found, value, f"{option} {kind},{key}=", server=False, service=True)
            else:
                found.add(value, spec, f"{option} {kind},{key}=")
        elif key == "fd":
            found.descriptor(value)
        elif key not in OBJECT_PLAIN and key.partition(".")[0] not in _PLAIN_FAMILIES and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, f"no option of a {kind} is known by this name")
    _by_type(found, kind, given, pairs, option)


def memory_file(found: Found, path: str, option: str, *, read_only: bool = False) -> None:
    """Guest memory in a file, or in unnamed files of a directory.

    Where a mount of huge pages or of tmpfs is itself named, QEMU only makes unnamed files in it, and so do its
    neighbours: such a directory is shared.
    """
    import re

    spec = Spec("memory", "ro") if read_only else MEMORY
    found.add(path, spec, option, sharing="shared" if re.fullmatch(_MEMORY_MOUNT, path) else None)


_MEMORY_MOUNT = (
    r"(/dev/shm|/dev/hugepages[^/]*|/run/hugepages/kvm/[^/]+|/hugepages[^/]*|/hugetlbfs[^/]*|/mnt/huge[^/]*)/*"
)


def _by_type(found: Found, kind: str, given: dict[str, str], pairs: Pairs, option: str) -> None:
    where = f"{option} {kind}"
    if kind == "rng-random" and "filename" not in given:
        found.add("/dev/urandom", SHARED_DEVICE, where)
    elif kind in _SEV and "sev-device" not in given:
        found.add("/dev/sev", SHARED_DEVICE, where)
    elif kind == "memory-backend-epc":
        found.add("/dev/sgx_vepc", SHARED_DEVICE, where)
    elif kind == "memory-backend-shm":
        found.add("/dev/shm", MEMORY, where, sharing="shared")
    elif kind == "iommufd" and "fd" not in given:
        found.add("/dev/iommu", SHARED_DEVICE, where)
    elif kind in ("dbus-vmstate", "dbus-display") and given.get("addr"):
        dbus_address(found, given["addr"], f"{where},addr=")
    elif kind in ("x-vfio-user-server", "vfio-user-server", "tdx-guest"):
        key = "quote-generation-socket" if kind == "tdx-guest" else "socket"
        if isinstance(address := tree(pairs, where=option).get(key), dict):
            socket_address(found, address, f"{where},{key}=", server=kind != "tdx-guest")
    elif kind == "can-host-socketcan":
        found.needs_network(where)
    elif kind == "input-barrier":
        found.needs_network(where)
        found.opens_connection(where)
