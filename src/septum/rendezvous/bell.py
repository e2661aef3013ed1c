"""A bell that also hears when the broker is gone: then nobody could cut the channel any more, so it ends."""

import select
import socket

from septum.ivc import Bell

__all__ = ["BrokerBell"]


class BrokerBell:
    """A carrier's bell, and the end of the connection to the broker.

    Args:
        bell: of the carrier; closed with this one.
        broker: the connection, which stays its owner's.
    """

    __slots__ = ("_bell", "_broker", "_epoll", "ring")

    def __init__(self, bell: Bell, broker: socket.socket) -> None:
        self._bell = bell
        self._broker = broker.fileno()
        self._epoll = select.epoll(2)
        self._epoll.register(bell.fileno(), select.EPOLLIN)
        self._epoll.register(self._broker, select.EPOLLRDHUP)
        self.ring = bell.ring

    def fileno(self) -> int:
        """See `Bell.fileno`."""
        return self._epoll.fileno()

    def clear(self) -> int:
        """See `Bell.clear`."""
        rings = self._bell.clear()
        if rings == 0 and any(fd == self._broker for fd, _ in self._epoll.poll(0)):
            return -1
        return rings

    def close(self) -> None:
        """See `Bell.close`."""
        self._epoll.close()
        self._bell.close()
