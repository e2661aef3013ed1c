"""One SQLite file as a ledger uses it: opened with care, changed in immediate transactions, every failure named.

Durability: write-ahead log with ``synchronous=FULL``, so a commit is synced before it returns, except where a change
says that it may wait for the next one that is (`Database.change`). The log is one sequence and a sync covers all of it,
whichever process wrote it, so no later change outlives an earlier one.

Double claims: a change begins with BEGIN IMMEDIATE, so there is one writer at a time among all processes, and what it
reads is what it changes; the unique keys of `schema` hold even if that is wrong.

`_sqlite3` is the C module below `sqlite3`; the package on top costs another 2 ms of import for date adapters.
"""

from __future__ import annotations

import _sqlite3
import os

from septum.errors import LedgerCorrupt, LedgerError, LedgerTooNew
from septum.lean import TYPE_CHECKING
from septum.ledger import schema
from septum.ledger.codec import stored, text
from septum.ledger.files import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Literal

__all__ = ["Database"]


class Database:
    """An open ledger file; of one thread and one process: close it before a fork.

    Args:
        directory: where ``ledger.db`` is.
        create: make folder and file if they are missing.
        read_only: refuse changes.
        timeout: how long to wait for other processes, in seconds.
        fill: writes the first rows of a new file, in the transaction that makes it.

    Raises:
        LedgerError: missing, not private to the caller, busy for longer than `timeout`, or refused by the system.
        LedgerCorrupt: it is no ledger, or damaged. It is left as it is.
        LedgerTooNew: a later septum wrote it.
    """

    def __init__(
        self, directory: str, *, create: bool, read_only: bool, timeout: float, fill: Callable[[Database], None]
    ) -> None:
        self._timeout = timeout
        self._fill = fill
        self._mode: Literal["IMMEDIATE", "DEFERRED"] = "DEFERRED"
        self._at_once = True
        with Folder(directory, create=create and not read_only) as folder:
            self.path = folder.file
            if not folder.found():
                if read_only or not create:
                    raise LedgerError(f"there is no ledger in {folder.path}", remedy="septum run makes one")
                self._create(folder)
            self._connection = self._connect(self.path, "ro" if read_only else "rw")
            try:
                self._version = self._check_version()
                if self._version < schema.MIGRATIONS[-1].version:
                    self._migrate(folder, read_only)
                self._identity = self._file()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Gives it back; later calls raise LedgerError. Closing twice does no harm."""
        self._connection.close()

    def change(self, *, at_once: bool = True) -> Transaction:
        """A ``with`` block whose statements happen all, durably, or not at all.

        Args:
            at_once: it is on disk when the block ends. Otherwise it is there, at the latest, with the next change that
                is (the WAL is one sequence), and other processes see it in any case: only a power cut can take it away.
        """
        return Transaction(self, "IMMEDIATE", at_once)

    def read(self) -> Transaction:
        """A ``with`` block whose queries see one state."""
        return Transaction(self, "DEFERRED", True)

    def revision(self) -> tuple[int, int]:
        """Another value after each change of the file.

        ``data_version`` counts what other connections committed (sqlite.org/pragma.html#pragma_data_version), and
        `total_changes` the rows that this one changed.

        Raises:
            LedgerError: the file can't be read.
        """
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except _sqlite3.Error as error:
            raise self.explain(error) from error
        return version, self._connection.total_changes

    def run(self, sql: str, *values: object) -> int:
        """Runs a statement; returns how many rows it changed."""
        return self._execute(sql, values).rowcount

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return [text(row) for row in self._execute(sql, values)]

    def row(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of a query."""
        for row in self._execute(sql, values):
            return text(row)
        return None

    def each(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one by one."""
        return map(text, self._execute(sql, values))

    def check(self) -> None:
        """Reads the whole file: pages, indexes, references. Slow; for `septum doctor`.

        Raises:
            LedgerCorrupt: with the first thing found.
        """
        with self.read():
            found = self.row("PRAGMA integrity_check(1)")
            astray = self.row("PRAGMA foreign_key_check")
        if found != ("ok",):
            raise self.corrupt(str(found and found[0]))
        if astray is not None:
            raise self.corrupt(f"a row of {astray[0]} refers to a row of {astray[2]} that is missing")

    def corrupt(self, why: str) -> LedgerCorrupt:
        """The error for a damaged file."""
        return LedgerCorrupt(
            f"the ledger {self.path} is damaged: {why}",
            rule="a damaged ledger is neither used nor overwritten: it may be all that tells what to restore",
            remedy="keep a copy of the folder; put back a backup of it, without -wal and -shm files; septum reconcile",
        )

    # For Transaction

    def begin(self, mode: Literal["IMMEDIATE", "DEFERRED"], at_once: bool) -> None:
        if at_once != self._at_once:
            self._execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}", ())
            self._at_once = at_once
        self._execute(f"BEGIN {mode}", ())
        self._mode = mode
        version = self.row("PRAGMA user_version")
        if version != (self._version,):
            raise LedgerTooNew(
                f"the ledger {self.path} was upgraded while this process had it open", remedy="start it again"
            )

    def commit(self) -> None:
        # A commit to a file that was unlinked or replaced would succeed, and be lost.
        if self._mode == "IMMEDIATE" and self._file() != self._identity:
            raise LedgerError(
                f"{self.path} was replaced while it was in use",
                rule="nothing is written to a ledger that nobody else can see",
                remedy="start again; if it was put back from a backup, septum reconcile first",
            )
        self._execute("COMMIT", ())

    def rollback(self) -> None:
        # After some errors (disk full, I/O) SQLite has rolled back by itself.
        if self._connection.in_transaction:
            self._connection.rollback()

    def explain(self, error: _sqlite3.Error) -> LedgerError:
        """What an error of SQLite means for the ledger (result codes: sqlite.org/rescode.html)."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return self.corrupt(str(error)) if "decode" in str(error) else LedgerError(f"{error}", target=self.path)
        primary = code & 0xFF
        if primary in (_sqlite3.SQLITE_CORRUPT, _sqlite3.SQLITE_NOTADB):
            return self.corrupt(str(error))
        if primary in (_sqlite3.SQLITE_BUSY, _sqlite3.SQLITE_LOCKED):
            return LedgerError(
                f"the ledger {self.path} was busy for more than {self._timeout:g} s",
                rule="one process changes a ledger at a time",
                remedy=f"try again; who has it open: fuser -v {self.path}",
            )
        if primary == _sqlite3.SQLITE_FULL:
            return LedgerError(
                f"there is no room for the ledger {self.path}",
                remedy="nothing was changed; make room on that file system and try again",
            )
        if primary in (_sqlite3.SQLITE_READONLY, _sqlite3.SQLITE_CANTOPEN, _sqlite3.SQLITE_PERM):
            return LedgerError(
                f"the ledger {self.path} can't be {'written' if primary == _sqlite3.SQLITE_READONLY else 'opened'}",
                rule=f"SQLite says: {error}",
                remedy="nothing was changed; the folder must be there, and writable for its owner",
            )
        return LedgerError(
            f"the ledger {self.path} failed: {error} ({error.sqlite_errorname})", remedy="nothing was changed"
        )

    # Opening

    def _connect(self, path: str, mode: Literal["ro", "rw"]) -> _sqlite3.Connection:
        # A URI, as only there a mode can say that a missing file must not be made.
        quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection: _sqlite3.Connection | None = None
        try:
            connection = _sqlite3.connect(
                os.fsencode(f"file:{quoted}?mode={mode}"), timeout=self._timeout, isolation_level=None, uri=True
            )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except _sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self.explain(error) from error
        return connection

    def _check_version(self) -> int:
        try:
            application = self.row("PRAGMA application_id")
            version = self.row("PRAGMA user_version")
        except _sqlite3.Error as error:
            raise self.explain(error) from error
        if application != (schema.APPLICATION_ID,) or version is None or version[0] < 1:
            raise self.corrupt("it is empty, or not a ledger of septum's")
        if version[0] > schema.MIGRATIONS[-1].version:
            raise LedgerTooNew(
                f"the ledger {self.path} has version {version[0]}, "
                f"and this septum knows versions up to {schema.MIGRATIONS[-1].version}",
                rule="a ledger is not used by a septum that can't know all that is in it",
                remedy="use the newer septum; the older version of the file is beside it, as ledger.db.v…",
            )
        return int(version[0])

    def _create(self, folder: Folder) -> None:
        folder.lock(self._timeout)
        if folder.found():
            return
        folder.refuse_remains()
        new = folder.new_file()
        self._connection = self._connect(new, "rw")
        try:
            self._execute("PRAGMA journal_mode = WAL", ())
            self._execute("BEGIN IMMEDIATE", ())
            self._upgrade(0)
            self._execute(f"PRAGMA application_id = {schema.APPLICATION_ID}", ())
            self._fill(self)
            self._execute("COMMIT", ())
        except _sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            self._connection.close()
        folder.publish(new)

    def _migrate(self, folder: Folder, read_only: bool) -> None:
        """Brings an older file up to date: a backup beside it first, then all it lacks in one transaction."""
        if read_only:
            raise LedgerError(
                f"the ledger {self.path} has the older version {self._version}",
                remedy="septum reconcile upgrades it",
            )
        folder.lock(self._timeout)
        try:
            self._execute("BEGIN IMMEDIATE", ())
            self._version = self._check_version()
            if self._version < schema.MIGRATIONS[-1].version:
                self._back_up(folder)
                self._upgrade(self._version)
            self._execute("COMMIT", ())
        except _sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            self.rollback()
        self._version = self._check_version()

    def _back_up(self, folder: Folder) -> None:
        # Through a second connection: it reads what is committed, while the open transaction keeps writers out.
        copy = folder.new_file("ledger.db.backup")
        source = self._connect(self.path, "ro")
        target = self._connect(copy, "rw")
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()
        folder.publish(copy, folder.free_name(f"ledger.db.v{self._version}"))

    def _upgrade(self, version: int) -> None:
        for migration in schema.MIGRATIONS:
            if migration.version > version:
                for statement in migration.statements:
                    self._execute(statement, ())
        self._execute(f"PRAGMA user_version = {schema.MIGRATIONS[-1].version}", ())

    def _execute(self, sql: str, values: tuple[object, ...]) -> _sqlite3.Cursor:
        parameters: Any = tuple(map(stored, values))
        return self._connection.execute(sql, parameters)

    def _file(self) -> tuple[int, int]:
        try:
            facts = os.stat(self.path)
        except OSError as error:
            raise LedgerError(
                f"{self.path} vanished while it was in use: {error.strerror}",
                rule="nothing is written to a ledger that nobody else can see",
                remedy="nothing was changed; put the folder back from a backup, then septum reconcile",
            ) from error
        return facts.st_dev, facts.st_ino


class Transaction:
    """What `Database.change` and `Database.read` return."""

    __slots__ = ("_at_once", "_database", "_mode")

    def __init__(self, database: Database, mode: Literal["IMMEDIATE", "DEFERRED"], at_once: bool) -> None:
        self._database = database
        self._mode = mode
        self._at_once = at_once

    def __enter__(self) -> None:
        try:
            self._database.begin(self._mode, self._at_once)
        except _sqlite3.Error as error:
            raise self._database.explain(error) from error
        except LedgerError:
            self._database.rollback()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._database.commit()
        except _sqlite3.Error as refused:
            raise self._database.explain(refused) from refused
        finally:
            self._database.rollback()
        if isinstance(error, _sqlite3.Error):
            raise self._database.explain(error) from error
