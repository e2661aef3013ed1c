"""What a decision log needs done beside the answering: syncs, copies of its head in the ledger, and room.

All of it waits for disks, so a daemon runs it on a thread of its own, with a ledger of its own (`Keeper.run`).
"""

import os
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Final

from septum.access import chain, record
from septum.access.log import DecisionLog, Head
from septum.errors import SeptumError
from septum.ledger.protocol import Ledger

__all__ = ["Keeper"]

_SYNC_EVERY: Final = 1.0  # seconds: what a power cut may take
_ANCHOR_EVERY: Final = 300.0  # seconds: the ledger keeps its records for ever


class Keeper:
    """Looks after a decision log.

    Args:
        log: the log.
        open_ledger: opens a ledger for the thread that calls.
        report: is told what failed; it is tried again.
    """

    def __init__(self, log: DecisionLog, open_ledger: Callable[[], Ledger], report: Callable[[str], None]) -> None:
        self._log = log
        self._open = open_ledger
        self._report = report
        self._anchored = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="septum-keeper", daemon=True)

    def start(self) -> None:
        """Begins on a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after a last round, in which also the notice of a closed log is anchored."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        else:
            self.once()

    def run(self) -> None:
        """Until `stop`: a round every second."""
        rounds = 0
        while not self._stop.wait(_SYNC_EVERY):
            rounds += 1
            self._guard(self._log.sync)
            if self._log.notices or rounds % (_ANCHOR_EVERY / _SYNC_EVERY) == 0:
                self.once()
        self.once()

    def once(self) -> None:
        """One whole round: copies into the ledger, then removes what is too old."""
        self._guard(self._anchor)
        self._guard(self._remove)

    def _anchor(self) -> None:
        if not self._log.notices and self._log.head.digest == self._anchored:
            return
        with closing(self._open()) as ledger:
            while self._log.notices:
                notice = self._log.notices[0]
                self._write(ledger, notice.head, notice.why)
                self._log.notices.popleft()
            head = self._log.head
            if head.digest != self._anchored:
                # What the ledger says is on disk: after a power cut a copy of a lost line would look like a forgery.
                self._log.sync()
                self._write(ledger, head, "interval")

    def _write(self, ledger: Ledger, head: Head, why: str) -> None:
        ledger.audit(chain.ANCHORED, {**head._asdict(), "why": why})
        self._anchored = head.digest

    def _remove(self) -> None:
        """The oldest segments, until the rest has room; never the one in use. The ledger is told first."""
        numbers = chain.segments(self._log.folder)
        while len(numbers) > 1 and self._log.kept > self._log.limits.total:
            oldest = os.path.join(self._log.folder, record.NAME.format(numbers.pop(0)))
            size = os.stat(oldest).st_size
            with closing(self._open()) as ledger:
                ledger.audit(chain.REMOVED, {"segment": numbers[0] - 1, "digest": chain.last_digest(oldest)})
            os.unlink(oldest)
            self._log.removed(size)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except SeptumError as error:
            self._report(str(error))
        except OSError as error:
            self._report(f"the decision log can't be looked after: {error}")
