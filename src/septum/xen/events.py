"""Event channels between guests, through the kernel's ``evtchn`` (``include/uapi/xen/evtchn.h`` in Linux).

One end waits to be bound by one other domain, which is given its port; then each end can signal the other. A signal
carries nothing but that there was one.
"""

import fcntl
import os
import select
import struct
from types import TracebackType
from typing import Final, Self

_PORT: Final = struct.Struct("<I")


def _number(command: int, size: int) -> int:
    return (size << 16) | (ord("E") << 8) | command


_BIND_INTERDOMAIN: Final = _number(1, 8)  # IOCTL_EVTCHN_BIND_INTERDOMAIN
_BIND_UNBOUND: Final = _number(2, 4)  # IOCTL_EVTCHN_BIND_UNBOUND_PORT
_NOTIFY: Final = _number(4, 4)  # IOCTL_EVTCHN_NOTIFY


class EventChannel:
    """One end, until `close`.

    Attributes:
        fd: readable when the other end signalled.
        port: of this end, in this guest.
    """

    def __init__(self, fd: int, port: int) -> None:
        self.fd = fd
        self.port = port

    @classmethod
    def offer(cls, domid: int) -> Self:
        """An end that `domid` may bind.

        Raises:
            OSError: EACCES: FLASK refuses.
        """
        return cls._made(_BIND_UNBOUND, struct.pack("<I", domid))

    @classmethod
    def bind(cls, domid: int, port: int) -> Self:
        """The other end of what `domid` offered.

        Raises:
            OSError: EACCES: FLASK refuses. EINVAL: nothing of the kind was offered to this guest.
        """
        return cls._made(_BIND_INTERDOMAIN, struct.pack("<II", domid, port))

    @classmethod
    def _made(cls, number: int, request: bytes) -> Self:
        fd = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)
        try:
            # The port is what ioctl returns, which Python passes on only for a buffer that can be written.
            return cls(fd, fcntl.ioctl(fd, number, bytearray(request)))
        except BaseException:
            os.close(fd)
            raise

    def notify(self) -> None:
        """Signals the other end."""
        fcntl.ioctl(self.fd, _NOTIFY, bytearray(_PORT.pack(self.port)))

    def wait(self, timeout: float) -> bool:
        """Waits for a signal.

        Args:
            timeout: in seconds.

        Returns:
            Whether there was one.
        """
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        os.write(self.fd, os.read(self.fd, _PORT.size))  # the port, which is masked until it is written back
        return True

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
