"""All relays of a broker, behind one descriptor."""

import select
from typing import Final

from septum.ivc.carriers.relay import Relay

__all__ = ["Relays"]

_BOTH: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | select.EPOLLRDHUP


class Relays:
    """Moves what can be moved."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, Relay] = {}
        self._again: dict[Relay, float] = {}

    def fileno(self) -> int:
        """Polls readable when `attend` has something to do."""
        return self._epoll.fileno()

    def add(self, relay: Relay) -> None:
        """Takes care of a relay, until it is closed and `forget` was called."""
        for line in (relay.producer, relay.consumer):
            self._by_fd[line.fileno()] = relay
            self._epoll.register(line, _BOTH)

    def forget(self, relay: Relay) -> None:
        """To be called before it is cut or closed."""
        self._again.pop(relay, None)
        for line in (relay.producer, relay.consumer):
            if self._by_fd.pop(line.fileno(), None) is not None:
                self._epoll.unregister(line)

    def due(self) -> float | None:
        """When `attend` has to be called although nothing has come."""
        return min(self._again.values(), default=None)

    def attend(self, now: float) -> list[Relay]:
        """Moves on; returns those an end of which broke the rules."""
        todo = {relay: None for fd, _ in self._epoll.poll(0) if (relay := self._by_fd.get(fd)) is not None}
        todo.update({relay: None for relay, when in self._again.items() if when <= now})
        broken = []
        for relay in todo:
            when = relay.move(now)
            if relay.why:
                broken.append(relay)
            if when is None:
                self._again.pop(relay, None)
            else:
                self._again[relay] = when
        return broken
