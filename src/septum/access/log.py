"""The record of decisions: an append-only, hash-chained log in files of bounded size (the format: `record`).

A row of a database for each decision would cost many times the decision. So decisions are collected and written as one
block, one `write` for all that were made in one round of the daemon's loop, *before* any of them is answered: what was
answered is in the file, whenever the daemon dies. `sync` makes it survive a power cut too; whoever serves decisions
calls it every second, on another thread.

No file is opened for writing a second time. After a crash the next log begins a new segment, whose first line says how
the old one ended: a line that was cut off was never answered, and is left as it is.

When a block can't be written whole (disk full), the file is cut back to its last whole line and `commit` says so: its
caller must refuse what it was about to answer. Writing is tried again with the next block.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from septum.access import chain, record
from septum.errors import DecisionLogError, Held

__all__ = ["DEFAULT_LIMITS", "FOLDER", "DecisionLog", "Head", "Limits", "Log", "MemoryLog", "Notice"]


FOLDER: Final = "decisions"
"""Name of a log's folder in the state folder."""


class Head(NamedTuple):
    """The newest line of a log.

    Attributes:
        segment: number of its file, from 1.
        lines: in that segment so far.
        decisions: in that segment so far.
        digest: of the line; it covers all before it.
    """

    segment: int
    lines: int
    decisions: int
    digest: str


class Limits(NamedTuple):
    """How large a log becomes.

    Attributes:
        segment: bytes of a file, after which the next one begins.
        total: bytes of all files; the oldest are removed beyond it.
    """

    segment: int = 64 << 20
    total: int = 1 << 30


DEFAULT_LIMITS: Final = Limits()


class Notice(NamedTuple):
    """A head of which a copy should be kept where the log can't be changed along with it.

    Attributes:
        head: the last line of a segment.
        why: ``rotated``, or what `close` was told.
    """

    head: Head
    why: str


class Log(Protocol):
    """What an `ObjectManager` writes decisions to."""

    @property
    def epoch(self) -> int:
        """Another number when numbers that `define` gave before must not be used any more."""

    def define(self, fields: Mapping[str, Any]) -> str:
        """A number, as text, for an asker or a decision; good until `epoch` changes."""

    def note(self, asker: str, decisions: Sequence[str]) -> None:
        """Decisions that were made for an asker, all by numbers that `define` gave."""

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """What happened to the service itself; written with the next `commit`."""

    def commit(self) -> None:
        """Writes what was noted.

        Raises:
            DecisionLogError: it is not written, so it must not be answered.
        """


class DecisionLog:
    """Implements `Log` in a folder of files.

    Args:
        folder: for the segments; made if it is missing.
        ledger: identity of the ledger beside it.
        limits: of size. Beyond `total` and two segments more nothing is written any more: removing old segments is up
            to `septum.access.keeper.Keeper`, which says so in the ledger first.

    Raises:
        Held: another process writes to it.
        DecisionLogError: the folder can't be used.

    Attributes:
        notices: heads to keep copies of; taken out by whoever does.
    """

    def __init__(self, folder: str, *, ledger: str = "", limits: Limits = DEFAULT_LIMITS) -> None:
        self.folder = folder
        self.limits = limits
        self.notices: deque[Notice] = deque()
        self._ledger = ledger
        self._epoch = 0
        self._number = 0
        self._defined: dict[str, Mapping[str, Any]] = {}
        self._asked: list[str] = []
        self._events: list[tuple[str, Mapping[str, Any]]] = []
        self._count = 0
        self._refused = 0
        self._abandoned = ""
        self._fd = -1
        self._size = 0
        self._removed = 0
        # `sync` runs on another thread: it must not meet a descriptor that was closed and given to something else.
        self._lock = threading.Lock()
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise self._failure("opened", error) from error
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._written = sum(
                os.stat(record.NAME.format(number), dir_fd=self._directory).st_size for number in chain.segments(folder)
            )
            self._begin(chain.end(folder))
        except BlockingIOError as error:
            os.close(self._directory)
            raise Held(
                "another process records decisions here", target=folder, rule="a decision log has one writer"
            ) from error
        except OSError as error:
            os.close(self._directory)
            raise self._failure("begun", error) from error
        except DecisionLogError:
            os.close(self._directory)
            raise

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def head(self) -> Head:
        """The newest line."""
        return self._head

    @property
    def kept(self) -> int:
        """Bytes of all segments."""
        return self._written - self._removed

    def removed(self, size: int) -> None:
        """A segment of so many bytes was removed. May be called on another thread, but on one only."""
        self._removed += size

    def define(self, fields: Mapping[str, Any]) -> str:
        self._number += 1
        number = str(self._number)
        self._defined[number] = fields
        return number

    def note(self, asker: str, decisions: Sequence[str]) -> None:
        self._asked.append(f"[{asker},[{','.join(decisions)}]]")
        self._count += len(decisions)

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self._events.append((name, fields))
        del self._events[:-256]  # while nothing can be written

    def commit(self) -> None:
        if not (self._asked or self._events):
            return
        try:
            self._commit(time.time())
        except OSError as error:
            self._refused += self._count
            self._epoch += 1
            raise self._failure("written", error) from error
        finally:
            self._defined = {}
            self._asked = []
            self._count = 0

    def sync(self) -> None:
        """Makes what was committed survive a power cut. The one method that may be called on another thread.

        Raises:
            DecisionLogError: the disk failed; the next `commit` begins another segment.
        """
        with self._lock:
            if self._fd < 0:
                return
            fd = os.dup(self._fd)
        try:
            os.fdatasync(fd)
        except OSError as error:
            # The kernel reports a lost write once and then forgets it: this file can't be trusted to be whole.
            self._abandoned = os.strerror(error.errno or 0)
            raise self._failure("synced", error) from error
        finally:
            os.close(fd)

    def close(self, why: str = "closed") -> None:
        """Writes the closing line and syncs; closing twice does no harm.

        Args:
            why: for the closing line and the notice.

        Raises:
            DecisionLogError: it could not be written; the log is closed all the same.
        """
        if self._directory < 0:
            return
        try:
            self.commit()
            if self._fd >= 0:
                self._end(why)
        except OSError as error:
            raise self._failure("closed", error) from error
        finally:
            with self._lock:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = -1
            os.close(self._directory)
            self._directory = -1

    # Files

    def _commit(self, now: float) -> None:
        if self._abandoned:
            why, self._abandoned = self._abandoned, ""
            self._drop()
            # The numbers that were noted belong to the file that is given up.
            raise OSError(5, f"the file before was lost: {why}")
        if self._fd < 0:
            self._begin(chain.end(self.folder))
        if self.kept > self.limits.total + 2 * self.limits.segment:
            raise OSError(28, "the log is as large as it may be, and no old segment was removed")
        bodies = [record.encode({"time": now, "event": name, **fields}) for name, fields in self._events]
        if self._refused:
            bodies.append(record.encode({"time": now, "event": "unrecorded", "refused": self._refused}))
        if self._asked or self._defined:
            defined = record.encode(self._defined) if self._defined else "{}"
            asked = ",".join(self._asked)
            bodies.append(f'{{"time":{now!r},"define":{defined},"asked":[{asked}]}}')
        self._write(bodies, self._count)
        self._events = []
        self._refused = 0
        if self._size >= self.limits.segment:
            self._rotate()

    def _rotate(self) -> None:
        """The next segment; where it can't be begun, the next `commit` tries again."""
        self._epoch += 1
        self._number = 0
        try:
            self._end("rotated")
            self._drop()
            self._begin(chain.end(self.folder))
        except OSError:
            self._drop()

    def _begin(self, before: chain.End) -> None:
        number = before.segment + 1
        fd = os.open(
            record.NAME.format(number),
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
            dir_fd=self._directory,
        )
        os.fsync(self._directory)
        self._size = 0
        self._head = Head(number, 0, 0, before.digest)
        with self._lock:
            self._fd = fd
        first = {
            "segment": number,
            "version": record.VERSION,
            "time": time.time(),
            "previous": before.digest,
            "torn": before.torn,
            "ledger": self._ledger,
        }
        try:
            self._write([record.encode(first)], 0)
        except OSError:
            # Otherwise each try on a full disk would leave an empty file.
            os.unlink(record.NAME.format(number), dir_fd=self._directory)
            self._drop()
            raise

    def _write(self, bodies: Sequence[str], decisions: int) -> None:
        digest, lines = self._head.digest, []
        for body in bodies:
            digest, line = record.line(digest, body)
            lines.append(line)
        data = b"".join(lines)
        try:
            done = os.write(self._fd, data)
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._drop()
            raise
        self._size += len(data)
        self._written += len(data)
        self._head = Head(self._head.segment, self._head.lines + len(lines), self._head.decisions + decisions, digest)

    def _end(self, why: str) -> None:
        self._write([record.encode({"time": time.time(), "closed": why, "decisions": self._head.decisions})], 0)
        os.fdatasync(self._fd)
        self.notices.append(Notice(self._head, why))

    def _drop(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def _failure(self, what: str, error: OSError) -> DecisionLogError:
        return DecisionLogError(
            f"decisions can't be recorded: the log can't be {what}: {error.strerror}",
            target=self.folder,
            rule="what can't be recorded is not decided",
            remedy="make room on that file system; it is tried again with the next question",
        )


class MemoryLog:
    """A `Log` that keeps everything in memory: for tests of whatever asks septum for decisions.

    Attributes:
        decided: pairs of asker and decision, each as the fields of its definition.
        events: pairs of name and fields.
        full: while it is set, nothing can be committed.
    """

    def __init__(self) -> None:
        self.decided: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.full = False
        self.epoch = 0
        self._defined: list[Mapping[str, Any]] = []
        self._noted: list[tuple[str, str]] = []

    def define(self, fields: Mapping[str, Any]) -> str:
        self._defined.append(fields)
        return str(len(self._defined) - 1)

    def note(self, asker: str, decisions: Sequence[str]) -> None:
        self._noted += [(asker, one) for one in decisions]

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append((name, fields))

    def commit(self) -> None:
        noted, self._noted = self._noted, []
        if self.full:
            self.epoch += 1
            raise DecisionLogError("decisions can't be recorded: the log is full")
        self.decided += [(self._defined[int(asker)], self._defined[int(one)]) for asker, one in noted]
