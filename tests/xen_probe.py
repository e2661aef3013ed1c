"""What a guest may try on another domain, for real: pushed into guests of the Xen machine, where it runs as root.

Each attempt returns "" if it worked, or the name of the error. Hypercalls go through the kernel's ``privcmd``;
structures are those of Xen 4.17's public headers (``xen/include/public``).
"""

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable

from septum.xen.events import EventChannel
from septum.xen.grants import Grant, Mapping
from septum.xen.xenstore import Store

_HYPERCALL = (48 << 16) | (ord("P") << 8) | 0  # IOCTL_PRIVCMD_HYPERCALL
_MMAPBATCH = (32 << 16) | (ord("P") << 8) | 4  # IOCTL_PRIVCMD_MMAPBATCH_V2
_DOMCTL, _ARGO = 36, 39  # __HYPERVISOR_domctl, __HYPERVISOR_argo_op
_DOMCTL_VERSION = 0x15  # XEN_DOMCTL_INTERFACE_VERSION
_PAUSE = 3  # XEN_DOMCTL_pausedomain
_REGISTER, _SEND = 1, 3  # XEN_ARGO_OP_register_ring, XEN_ARGO_OP_sendv
_ANY_DOMAIN = 0x7FF4  # XEN_ARGO_DOMID_ANY
_PORT = 0x5EB
_RING = 1024

_kept: list[object] = []  # grants and channels end with whoever made them


def attempt(act: Callable[[], object]) -> str:
    try:
        _kept.append(act())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def offer_page(domid: int) -> int:
    """A page that FLASK alone keeps from being mapped for writing."""
    grant = Grant.offer(domid, writable=True)
    grant.memory[:6] = b"secret"
    _kept.append(grant)
    return grant.references[0]


def map_page(domid: int, reference: int, writable: bool) -> str:
    return attempt(lambda: Mapping.of(domid, [reference], writable=writable))


def offer_channel(domid: int) -> tuple[str, int]:
    try:
        channel = EventChannel.offer(domid)
    except OSError as error:
        return errno.errorcode[error.errno or 0], 0
    _kept.append(channel)
    return "", channel.port


def bind_channel(domid: int, port: int) -> str:
    return attempt(lambda: EventChannel.bind(domid, port))


def _page() -> mmap.mmap:
    """A page that stays where it is: the hypervisor is given its address."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[:1] = b"\0"
    ctypes.CDLL(None).mlock(ctypes.c_void_p(_address(page)), ctypes.c_size_t(mmap.PAGESIZE))
    _kept.append(page)
    return page


def _address(page: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


def _frame(page: mmap.mmap) -> int:
    with open("/proc/self/pagemap", "rb") as table:
        table.seek(_address(page) // mmap.PAGESIZE * 8)
        entry: int = struct.unpack("<Q", table.read(8))[0]
    return entry & ((1 << 55) - 1)


def _hypercall(number: int, *arguments: int) -> str:
    request = bytearray(struct.pack("<6Q", number, *arguments, *([0] * (5 - len(arguments)))))
    fd = os.open("/dev/xen/privcmd", os.O_RDWR)
    try:
        return attempt(lambda: fcntl.ioctl(fd, _HYPERCALL, request))
    finally:
        os.close(fd)


def pause(domid: int) -> str:
    page = _page()
    page[:16] = struct.pack("<IIHHHH", _PAUSE, _DOMCTL_VERSION, domid, 0, 0, 0)
    return _hypercall(_DOMCTL, _address(page))


def map_foreign(domid: int) -> str:
    fd = os.open("/dev/xen/privcmd", os.O_RDWR)
    window = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    frame, result = ctypes.c_uint64(0x100), ctypes.c_int(0)
    place = (_address(window), ctypes.addressof(frame), ctypes.addressof(result))
    request = bytearray(struct.pack("<IHHQQQ", 1, domid, 0, *place))
    try:
        refused = attempt(lambda: fcntl.ioctl(fd, _MMAPBATCH, request))
        return refused or (errno.errorcode[-result.value] if result.value else "")
    finally:
        os.close(fd)


def argo_register(domid: int) -> str:
    ring, call = _page(), _page()
    call[:12] = struct.pack("<IHHI", _PORT, domid, 0, _RING)
    call[64:72] = struct.pack("<Q", _frame(ring))
    return _hypercall(_ARGO, _REGISTER, _address(call), _address(call) + 64, 1, 0)


def argo_send(domid: int) -> str:
    call = _page()
    text = b"hello"
    call[256 : 256 + len(text)] = text
    call[:16] = struct.pack("<IHHIHH", 0, _ANY_DOMAIN, 0, _PORT, domid, 0)
    call[64:80] = struct.pack("<QII", _address(call) + 256, len(text), 0)
    return _hypercall(_ARGO, _SEND, _address(call), _address(call) + 64, 1, 7)


def offer(domid: int) -> tuple[int, str, int]:
    """A page and an event channel for a domain: the grant's reference, what FLASK said of the channel, and its port."""
    return (offer_page(domid), *offer_channel(domid))


def last_offer() -> tuple[mmap.mmap, EventChannel]:
    """What `offer` made last."""
    grant, channel = _kept[-2:]
    assert isinstance(grant, Grant)
    assert isinstance(channel, EventChannel)
    return grant.memory, channel


def attempts(domid: int, reference: int, port: int) -> dict[str, str]:
    """All of them, on a domain that offered these."""
    return {
        "grant read": map_page(domid, reference, False),
        "grant write": map_page(domid, reference, True),
        "event bind": bind_channel(domid, port) if port else "",
        "argo register": argo_register(domid),
        "argo send": argo_send(domid),
        "pause": pause(domid),
        "map foreign": map_foreign(domid),
    }


def store_read(path: str) -> str:
    with Store.open() as store:
        return attempt(lambda: store.read(path))


def store_write(path: str) -> str:
    with Store.open() as store:
        return attempt(lambda: store.write(path, "intruder"))
