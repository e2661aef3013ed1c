"""A client of xenstore: the tree of small texts through which Xen's toolstack and guests find each other.

The protocol is in Xen's ``docs/misc/xenstore.txt`` and ``xen/include/public/io/xs_wire.h``. In dom0 it is spoken over
xenstored's socket, in a guest over the kernel's device. Permissions are by domid, so that a domain that takes over the
domid of one that ended takes over what that one was allowed: use it
for what has to be found before anything else works.

This module needs nothing but the standard library, so that a guest can have it alone.
"""

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

_HEADER: Final = struct.Struct("<IIII")  # struct xsd_sockmsg: type, req_id, tx_id, len
_PAYLOAD_MAX: Final = 4096  # XENSTORE_PAYLOAD_MAX
_DIRECTORY, _READ, _GET_PERMS, _WATCH = 1, 2, 3, 4  # enum xsd_sockmsg_type
_WRITE, _RM, _SET_PERMS, _WATCH_EVENT, _ERROR = 11, 13, 14, 15, 16
_GET_DOMAIN_PATH: Final = 10
_SOCKET: Final = "/run/xenstored/socket"
_DEVICE: Final = "/dev/xen/xenbus"


class StoreError(OSError):
    """xenstored refuses; `errno` says why: EACCES for what another domain has, ENOENT for what isn't there."""


class Permission(NamedTuple):
    """What one domain may do with a node.

    Attributes:
        domid: the domain. In a node's first permission: its owner, who may always do all.
        access: ``n`` nothing, ``r`` read, ``w`` write, ``b`` both. In the first one: what all other domains may.
    """

    domid: int
    access: str


def may(permissions: Sequence[Permission], domid: int, access: str) -> bool:
    """Whether a domain may read (``r``) or write (``w``) a node; dom0 always may.

    Args:
        permissions: the node's.
        domid: whose access it is.
        access: ``r`` or ``w``.
    """
    if domid in (0, permissions[0].domid):
        return True
    granted = next((one.access for one in permissions[1:] if one.domid == domid), permissions[0].access)
    return granted in (access, "b")


class Store:
    """One connection. Not for threads to share.

    Args:
        fd: connected to xenstored; closed with this.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._request = 0
        self._events: deque[tuple[str, str]] = deque()

    @classmethod
    def open(cls, path: str = "") -> Self:
        """Connects.

        Args:
            path: of xenstored's socket, or of the kernel's device; "" takes whichever is there.

        Raises:
            OSError: there is no xenstore here.
        """
        if not path:
            path = _SOCKET if os.path.exists(_SOCKET) else _DEVICE
        if path == _DEVICE:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connected:
            connected.connect(path)
            return cls(connected.detach())

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, path: str) -> bytes:
        """The value of a node; a relative path begins at the domain's own folder.

        Raises:
            StoreError: it isn't there, or is closed to this domain.
        """
        return self._ask(_READ, path)

    def text(self, path: str, default: str = "") -> str:
        """The value of a node as text, or `default` if it isn't there."""
        try:
            return self.read(path).decode(errors="replace")
        except StoreError as error:
            if error.errno == errno.ENOENT:
                return default
            raise

    def names(self, path: str) -> list[str]:
        """The names below a node; none if it isn't there."""
        try:
            return [name.decode(errors="replace") for name in self._ask(_DIRECTORY, path).split(b"\0") if name]
        except StoreError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    def write(self, path: str, value: bytes | str) -> None:
        """Writes a node, and makes it and its parents if they are missing."""
        self._ask(_WRITE, path, value.encode() if isinstance(value, str) else value)

    def remove(self, path: str) -> None:
        """Removes a node and all below it."""
        self._ask(_RM, path, b"")

    def permissions(self, path: str) -> list[Permission]:
        """Who may do what with a node."""
        words = self._ask(_GET_PERMS, path).split(b"\0")
        return [Permission(int(word[1:]), word[:1].decode()) for word in words if word]

    def permit(self, path: str, permissions: Sequence[Permission]) -> None:
        """Sets who may do what with a node; the first names its owner."""
        words = b"".join(f"{one.access}{one.domid}".encode() + b"\0" for one in permissions)
        self._ask(_SET_PERMS, path, words)

    def watch(self, path: str, token: str) -> None:
        """Has `event` tell of each change of a node or below it; it tells once at the beginning too."""
        self._ask(_WATCH, path, token.encode() + b"\0")

    def event(self) -> tuple[str, str]:
        """Waits for the next change. `fd` can be polled only when none of them came in during another request.

        Returns:
            The path that changed, and the token of the watch.
        """
        while not self._events:
            kind, _, payload = self._receive()
            self._take_event(kind, payload)
        return self._events.popleft()

    def domain_path(self, domid: int) -> str:
        """The folder of a domain."""
        return self._ask(_GET_DOMAIN_PATH, str(domid)).rstrip(b"\0").decode()

    def _ask(self, kind: int, path: str, payload: bytes = b"") -> bytes:
        content = path.encode() + b"\0" + payload
        if len(content) > _PAYLOAD_MAX:
            raise StoreError(errno.E2BIG, f"xenstore takes no more than {_PAYLOAD_MAX} bytes", path)
        self._request += 1
        request = memoryview(_HEADER.pack(kind, self._request, 0, len(content)) + content)
        while request:
            request = request[os.write(self.fd, request) :]
        while True:
            answered, number, answer = self._receive()
            if answered == _WATCH_EVENT:
                self._take_event(answered, answer)
            elif number != self._request:
                raise StoreError(errno.EPROTO, "xenstored answers what was not asked", path)
            elif answered == _ERROR:
                name = answer.rstrip(b"\0").decode(errors="replace")
                raise StoreError(getattr(errno, name, errno.EIO), f"xenstored: {name}", path)
            else:
                return answer

    def _take_event(self, kind: int, payload: bytes) -> None:
        if kind != _WATCH_EVENT:
            raise StoreError(errno.EPROTO, "xenstored answers what was not asked")
        path, token = payload.split(b"\0")[:2]
        self._events.append((path.decode(errors="replace"), token.decode(errors="replace")))

    def _receive(self) -> tuple[int, int, bytes]:
        kind, number, _, size = _HEADER.unpack(self._exactly(_HEADER.size))
        if size > _PAYLOAD_MAX:
            raise StoreError(errno.EPROTO, f"xenstored sends {size} bytes")
        return kind, number, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self.fd, size - len(data))
            if not piece:
                raise StoreError(errno.ENOTCONN, "xenstored is gone")
            data += piece
        return data
