"""What senders of messages and of bytes have in common."""

from __future__ import annotations

from collections.abc import Callable

from septum.errors import ChannelDenied, ChannelTimeout
from septum.ivc.carriers.protocol import Outgoing
from septum.ivc.ends import End
from septum.ivc.states import State, require
from septum.ivc.terms import Kind, Terms


def of_kind(terms: Terms, kind: Kind) -> Terms:
    """The same terms, if the channel is of this kind.

    Raises:
        ChannelDenied: it is of the other.
    """
    if terms.kind is not kind:
        raise ChannelDenied(f"the channel carries {terms.kind.name.lower()}", target=terms.name)
    return terms


class SendingEnd(End):
    """The base of `Sender` and `Writer`."""

    def __init__(self, wire: Outgoing, kind: Kind) -> None:
        super().__init__(of_kind(wire.terms, kind), wire.half, wire.bell)
        self._sink = wire.half

    @require(State.OPEN)
    def drain(self, timeout: float | None = None) -> None:
        """Waits until the receiver has received everything.

        Raises:
            ChannelTimeout: it has not, in that many seconds.
        """
        status = self._sink.drained()
        if status:
            self._wait(self._attempts(self._sink.drained, status, want=self._sink.want_drained), timeout)

    def _send_all(
        self, send: Callable[[int], int], need: Callable[[int], int], whole: int, timeout: float | None
    ) -> int:
        """Sends from the first to the last.

        Args:
            send: sends from a number on, and returns how many were sent or a status.
            need: the room that the one of this number needs.
            whole: how many there are.
            timeout: seconds to wait for room, each time there is none.
        """
        sent = 0
        while sent < whole:
            done = send(sent)
            if done < 0:
                at = sent
                try:
                    done = self._wait(self._attempts(lambda: send(at), done, need(at)), timeout)  # noqa: B023
                except ChannelTimeout:
                    if sent:
                        break
                    raise
            sent += done
        return sent
