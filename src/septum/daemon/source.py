"""Where the daemon's engines come from; opening one takes its time, so it is done on another thread."""

import os
import threading
from collections import deque
from typing import NamedTuple, Protocol

from septum.access import Engine
from septum.errors import SeptumError

__all__ = ["Loader", "Opened", "Source"]


class Source(Protocol):
    """Opens engines, on any thread."""

    def fresh(self) -> Engine:
        """An engine with the policy as it is now.

        Raises:
            SeptumError: it can't be opened; says why.
        """

    def again(self, engine: Engine) -> Engine:
        """An engine with the same policy as one that is gone.

        Raises:
            SeptumError: it can't be opened; says why.
        """


class Opened(NamedTuple):
    """What came of an opening.

    Attributes:
        engine: None if it failed.
        error: why, then.
        reload: it was a fresh one that was asked for.
    """

    engine: Engine | None
    error: SeptumError | None
    reload: bool


class Loader:
    """Opens engines one at a time on a thread; `fileno` becomes readable when one is done.

    Args:
        source: opens them.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._done: deque[Opened] = deque()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.busy = False

    def fileno(self) -> int:
        """Of the event."""
        return self._event

    def start(self, gone: Engine | None = None) -> None:
        """Begins to open a fresh engine, or one like that which is gone. Only while not `busy`."""
        self.busy = True
        threading.Thread(target=self._open, args=(gone,), name="septum-loader", daemon=True).start()

    def take(self) -> Opened | None:
        """What is done."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return None
        self.busy = False
        return self._done.popleft()

    def close(self) -> None:
        os.close(self._event)

    def _open(self, gone: Engine | None) -> None:
        try:
            engine = self._source.fresh() if gone is None else self._source.again(gone)
            self._done.append(Opened(engine, None, gone is None))
        except SeptumError as error:
            self._done.append(Opened(None, error, gone is None))
        except Exception as error:  # a defect must not leave those who wait for it waiting
            self._done.append(Opened(None, SeptumError(f"the policy can't be opened: {error!r}"), gone is None))
        os.eventfd_write(self._event, 1)
