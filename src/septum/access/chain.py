"""Reading the record of decisions: its end, the whole chain, and the decisions in it."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from septum.access import record
from septum.errors import DecisionLogCorrupt, DecisionLogError
from septum.ledger.records import AuditRecord

__all__ = ["ANCHORED", "REMOVED", "End", "Entry", "Report", "end", "last_digest", "read", "segments", "verify"]

ANCHORED: Final = "decisions.head"
"""Event of the ledger's audit chain that holds a copy of a log's head."""

REMOVED: Final = "decisions.removed"
"""Event of the ledger's audit chain that is written before an old segment is removed."""

_MOST_LINE: Final = 64 << 20


class End(NamedTuple):
    """Where a new segment goes on.

    Attributes:
        segment: number of the newest file, 0 if there is none.
        digest: of the last whole line.
        torn: files since that line that end in a part of a line, with the bytes of that part.
    """

    segment: int
    digest: str
    torn: tuple[tuple[int, int], ...]


class Entry(NamedTuple):
    """One decision as it is recorded.

    Attributes:
        segment: number of the file.
        time: when its block was written, in seconds since the epoch.
        asker: the fields of `septum.access.record.of_asker`.
        decision: those of `of_decision`.
    """

    segment: int
    time: float
    asker: Mapping[str, Any]
    decision: Mapping[str, Any]


class Report(NamedTuple):
    """What a whole check found.

    Attributes:
        segments: files.
        lines: in them.
        decisions: in them.
        torn: files that end in a part of a line: their writer was killed in the middle of it.
        unclosed: files whose writer ended without closing them, the one in use included.
        anchors: heads in the ledger's audit chain that were found here.
        removed: segments that were removed for their age.
        digest: of the newest line.
    """

    segments: int
    lines: int
    decisions: int
    torn: int
    unclosed: int
    anchors: int
    removed: int
    digest: str


def segments(folder: str) -> list[int]:
    """Numbers of the files in a log's folder, oldest first.

    Raises:
        DecisionLogError: the folder can't be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DecisionLogError(f"the decision log can't be read: {error.strerror}", target=folder) from error
    return sorted(int(match[1]) for name in names if (match := record.SEGMENT.fullmatch(name)))


def end(folder: str) -> End:
    """The end of a log, without checking what comes before it.

    Raises:
        DecisionLogError: a file can't be read.
        DecisionLogCorrupt: its last line isn't one.
    """
    numbers = segments(folder)
    torn: list[tuple[int, int]] = []
    for number in reversed(numbers):
        whole, rest = _tail(_path(folder, number))
        if rest or not whole:
            torn.insert(0, (number, rest))
        if whole:
            digest = whole[: record.DIGEST_LENGTH].decode("ascii", "replace")
            if not _is_digest(digest):
                _corrupt(folder, number, "its last line has no digest")
            return End(numbers[-1], digest, tuple(torn))
    return End(numbers[-1] if numbers else 0, record.GENESIS, tuple(torn))


def last_digest(path: str) -> str:
    """Digest of the last whole line of a segment; "" if it has none.

    Raises:
        DecisionLogError: the file can't be read.
    """
    return _tail(path)[0][: record.DIGEST_LENGTH].decode("ascii", "replace")


def read(folder: str) -> Iterator[Entry]:
    """All decisions, oldest first. The chain of each line is checked as it is read.

    Raises:
        DecisionLogCorrupt: a line doesn't fit; all before it were given.
    """
    for number in segments(folder):
        defined: dict[str, Mapping[str, Any]] = {}
        for _, body in _Lines(folder, number):
            if "asked" not in body:
                continue
            try:
                defined.update(body["define"])
                for asker, decisions in body["asked"]:
                    for one in decisions:
                        yield Entry(number, body["time"], defined[str(asker)], defined[str(one)])
            except (KeyError, TypeError, ValueError):
                _corrupt(folder, number, "a block refers to what no earlier one defines")


def verify(folder: str, anchors: Iterable[AuditRecord] | None = None) -> Report:
    """Checks every line, every segment's first line against the end of the one before, and the ledger's copies.

    Args:
        folder: of the log.
        anchors: all records of the ledger's audit chain; others than this log's are skipped. Without them it can't be
            told whether lines were cut off at the end, or segments removed at the beginning.

    Raises:
        DecisionLogCorrupt: names the first file that doesn't fit, and how.
        DecisionLogError: a file can't be read.
    """
    copies, removed = _copies(anchors or ())
    numbers = segments(folder)
    before = record.GENESIS
    lines = decisions = torn_files = unclosed = found = 0
    torn: list[list[int]] = []
    for place, number in enumerate(numbers):
        if place and number != numbers[place - 1] + 1:
            _corrupt(folder, number - 1, "the file is missing")
        part = _Lines(folder, number, before if place else None)
        closed = False
        for count, (digest, body) in enumerate(part, 1):
            if count == 1:
                _check_first(folder, number, body)
                if place:
                    _check_follows(folder, number, body, before, torn)
                elif body.get("previous") != (record.GENESIS if number == 1 else removed.get(number - 1)) and (
                    number == 1 or anchors is not None
                ):
                    _corrupt(folder, number - 1, "the file is missing")
                torn = []
            if closed:
                _corrupt(folder, number, "it goes on after it was closed")
            closed = "closed" in body
            lines += 1
            decisions += sum(len(asked) for _, asked in body.get("asked", ()))
            if (number, count) in copies:
                if copies.pop((number, count)) != digest:
                    _corrupt(folder, number, f"line {count} is not the one that the ledger's audit chain names")
                found += 1
        if part.rest or not part.count:
            torn.append([number, part.rest])
            torn_files += 1
        unclosed += not closed
        before = part.digest
    for number, count in sorted(copies):
        if number not in removed:
            _corrupt(folder, number, f"line {count}, which the ledger's audit chain names, is missing")
    return Report(len(numbers), lines, decisions, torn_files, unclosed, found, len(removed), before)


class _Lines:
    """The whole lines of a segment with their digests, chained; `rest` is the number of bytes after the last one."""

    def __init__(self, folder: str, number: int, before: str | None = None) -> None:
        self.folder = folder
        self.number = number
        self.digest = before or record.GENESIS
        self.count = 0
        self.rest = 0
        self._known = before is not None

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with open(_path(self.folder, self.number), "rb") as file:
                while raw := file.readline(_MOST_LINE):
                    if not raw.endswith(b"\n"):
                        self.rest = len(raw) + len(file.read())
                        return
                    yield self._take(raw)
        except OSError as error:
            raise DecisionLogError(
                f"the decision log can't be read: {error.strerror}", target=_path(self.folder, self.number)
            ) from error

    def _take(self, raw: bytes) -> tuple[str, dict[str, Any]]:
        try:
            text = raw.decode("ascii")
            body = json.loads(text[record.DIGEST_LENGTH + 1 :])
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            _corrupt(self.folder, self.number, f"line {self.count + 1} is not one of the log's")
        if self.count == 0 and not self._known:
            # What was before it may be gone for its age: its own word for it is checked against the ledger's.
            self.digest = str(body.get("previous"))
        digest, whole = record.line(self.digest, text[record.DIGEST_LENGTH + 1 : -1])
        if whole != raw:
            _corrupt(self.folder, self.number, f"line {self.count + 1} was changed, or does not follow the one before")
        self.digest = digest
        self.count += 1
        return digest, body


def _check_first(folder: str, number: int, body: dict[str, Any]) -> None:
    if body.get("segment") != number or body.get("version") != record.VERSION:
        _corrupt(folder, number, f"its first line is not that of segment {number}, version {record.VERSION}")


def _check_follows(folder: str, number: int, body: dict[str, Any], before: str, torn: list[list[int]]) -> None:
    if body.get("previous") != before:
        _corrupt(folder, number, "it does not follow the end of the segment before")
    if body.get("torn") != torn:
        _corrupt(folder, number, f"parts of lines at the ends before it are {torn}, and it says {body.get('torn')}")


def _copies(anchors: Iterable[AuditRecord]) -> tuple[dict[tuple[int, int], str], dict[int, str]]:
    """Heads by segment and line; removed segments with the digest of their last line."""
    copies: dict[tuple[int, int], str] = {}
    removed: dict[int, str] = {}
    for one in anchors:
        if one.event == ANCHORED:
            copies[one.fields["segment"], one.fields["lines"]] = one.fields["digest"]
        elif one.event == REMOVED:
            removed[one.fields["segment"]] = one.fields["digest"]
    return copies, removed


def _tail(path: str) -> tuple[bytes, int]:
    """The last whole line, empty if there is none, and the number of bytes after it."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            want = 1 << 16
            while True:
                file.seek(max(0, size - want))
                data = file.read()
                whole, newline, rest = data.rpartition(b"\n")
                start = whole.rfind(b"\n")
                if start >= 0 or want >= size:
                    return (whole[start + 1 :] if newline else b""), len(rest)
                want *= 4
    except OSError as error:
        raise DecisionLogError(f"the decision log can't be read: {error.strerror}", target=path) from error


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, record.NAME.format(number))


def _is_digest(text: str) -> bool:
    return len(text) == record.DIGEST_LENGTH and not set(text) - set("0123456789abcdef")


def _corrupt(folder: str, number: int, how: str) -> NoReturn:
    raise DecisionLogCorrupt(
        f"the decision log is damaged: {how}",
        target=_path(folder, number),
        rule="each line's digest covers the line before it",
        remedy="keep a copy of the folder as evidence before anything else writes to it",
    )
