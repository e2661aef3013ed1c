"""The record of decisions: whole, chained, bounded, and true whatever happens to its writer."""

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.access import Asker, Decision, DecisionLog, Keeper, Limits, Question, chain, record
from septum.errors import DecisionLogCorrupt, DecisionLogError, Held
from septum.host import kernel
from septum.ledger.sqlite import SqliteLedger

ASKER = Asker("u:r:t:s0", 7, 8, 9)
NO = Decision(False, (), "type enforcement", "there is no rule", 3, "fake")


def put(log: DecisionLog, *names: str) -> None:
    """A block of one decision for each name."""
    asker = log.define(record.of_asker(ASKER))
    questions = [Question("u:r:t:s0", f"u:r:{name}:s0", "septum_guest", ("start",)) for name in names]
    log.note(asker, [log.define(record.of_decision(one, one.target, one.tclass, NO)) for one in questions])
    log.commit()


def put_or_why(log: DecisionLog, name: str) -> str:
    """Why it could not be recorded; "" if it was."""
    try:
        put(log, name)
    except DecisionLogError as error:
        return error.what
    return ""


def targets(folder: Path) -> list[str]:
    return [entry.decision["target"].split(":")[2] for entry in chain.read(str(folder))]


def segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.log"


def forked(act: Callable[[], None]) -> int:
    """Runs it in a child; returns how that ended."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def test_what_is_recorded_can_be_read_back(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path / "log"), ledger="id")
    put(log, "a", "b")
    log.event("policy.loaded", {"seqno": 3})
    put(log, "a")
    log.close()
    first, *_ = entries = list(chain.read(str(tmp_path / "log")))
    assert [entry.decision["target"] for entry in entries] == ["u:r:a:s0", "u:r:b:s0", "u:r:a:s0"]
    assert first.asker == {"asker": "u:r:t:s0", "uid": 7, "pid": 8, "started": 9}
    assert first.decision == {
        "subject": "u:r:t:s0", "target": "u:r:a:s0", "class": "septum_guest", "permissions": ["start"],
        "allowed": False, "granted": [], "reason": "type enforcement", "rule": "there is no rule",
        "seqno": 3, "engine": "fake",
    }  # fmt: skip
    report = chain.verify(str(tmp_path / "log"))
    assert (report.segments, report.decisions, report.torn, report.unclosed) == (1, 3, 0, 0)


def test_a_repeated_decision_costs_a_few_bytes(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path))
    asker, one = log.define(record.of_asker(ASKER)), log.define({"decision": 1})
    log.note(asker, [one])
    log.commit()
    before = log.kept
    log.note(asker, [one] * 1000)
    log.commit()
    assert log.kept - before < 3000
    assert chain.verify(str(tmp_path)).decisions == 1001


def test_it_can_be_verified_without_septum(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path))
    put(log, "a")
    put(log, "b", "c")
    log.close()
    previous, count = "0" * 64, 0
    for line in segment(tmp_path, 1).read_text().splitlines():
        digest, body = line.split(" ", 1)
        done = subprocess.run(
            ["b2sum", "--length=256"], input=f"{previous}{body}", capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[0] == digest
        count += sum(len(numbers) for _, numbers in json.loads(body).get("asked", []))
        previous = digest
    assert count == 3


def test_there_is_one_writer(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path))
    with pytest.raises(Held, match="another process records decisions here"):
        DecisionLog(str(tmp_path))
    log.close()
    DecisionLog(str(tmp_path)).close()


# Damage


def damaged(folder: Path) -> str:
    with pytest.raises(DecisionLogCorrupt) as refusal:
        chain.verify(str(folder))
    return refusal.value.what


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two segments, closed."""
    for names in (("a", "b"), ("c",)):
        log = DecisionLog(str(tmp_path))
        put(log, *names)
        put(log, "x")
        log.close()
    return tmp_path


def edit(path: Path, act: Callable[[list[bytes]], Any]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    act(lines)
    path.write_bytes(b"".join(lines))


def test_a_change_removal_or_move_shows(two: Path) -> None:
    whole = segment(two, 1).read_bytes()
    for act, line in (
        (lambda lines: lines.__setitem__(1, lines[1].replace(b":b:", b":z:")), 2),
        (lambda lines: lines.pop(1), 2),
        (lambda lines: lines.insert(1, lines.pop(2)), 2),
        (lambda lines: lines.insert(1, lines[1]), 3),
    ):
        edit(segment(two, 1), act)
        assert f"line {line} was changed, or does not follow" in damaged(two)
        segment(two, 1).write_bytes(whole)
    assert chain.verify(str(two)).decisions == 5


def test_a_missing_segment_shows(two: Path) -> None:
    DecisionLog(str(two)).close()
    segment(two, 2).unlink()
    assert "the file is missing" in damaged(two)


def test_a_missing_first_segment_shows_by_the_ledger(two: Path) -> None:
    segment(two, 1).unlink()
    with pytest.raises(DecisionLogCorrupt, match="the file is missing"):
        chain.verify(str(two), [])


def test_a_segment_cut_at_a_line_shows_in_the_next(two: Path) -> None:
    edit(segment(two, 1), lambda lines: lines.pop())
    assert "does not follow" in damaged(two)


def test_lines_after_the_closing_one_show(two: Path) -> None:
    path = segment(two, 2)
    digest = path.read_text().splitlines()[-1].split(" ")[0]
    path.write_bytes(path.read_bytes() + record.line(digest, '{"time":1,"event":"late"}')[1])
    assert "goes on after it was closed" in damaged(two)


def test_garbage_is_named_not_choked_on(two: Path) -> None:
    for garbage in (b"\xff\n", b"x" * 64 + b" [1]\n", b"\n", b"x" * 64 + b" " + b"[" * 100_000 + b"\n"):
        path = segment(two, 2)
        whole = path.read_bytes()
        path.write_bytes(whole + garbage)
        assert damaged(two)
        path.write_bytes(whole)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1 << 16), flip=st.integers(1, 255))
def test_any_flipped_byte_shows(place: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("flip")
    log = DecisionLog(str(folder))
    put(log, "a", "b")
    log.close()
    log = DecisionLog(str(folder))
    log.close()
    path = segment(folder, 1)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    with pytest.raises(DecisionLogCorrupt):
        chain.verify(str(folder))


# Copies in the ledger


@pytest.fixture
def book(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(str(tmp_path / "ledger"))


def keep(log: DecisionLog, tmp_path: Path) -> list[str]:
    said: list[str] = []
    Keeper(log, lambda: SqliteLedger(str(tmp_path / "ledger")), said.append).once()
    return said


def test_lines_cut_off_at_the_end_show_by_the_ledger(tmp_path: Path, book: SqliteLedger) -> None:
    log = DecisionLog(str(tmp_path / "log"))
    put(log, "a")
    put(log, "b")
    assert keep(log, tmp_path) == []
    records = book.audit_records()
    assert chain.verify(str(tmp_path / "log"), records).anchors == 1
    edit(segment(tmp_path / "log", 1), lambda lines: lines.pop())
    assert chain.verify(str(tmp_path / "log")).decisions == 1
    with pytest.raises(DecisionLogCorrupt, match="line 3, which the ledger's audit chain names, is missing"):
        chain.verify(str(tmp_path / "log"), records)


def test_a_log_made_anew_shows_by_the_ledger(tmp_path: Path, book: SqliteLedger) -> None:
    for name in ("a", "forged"):
        log = DecisionLog(str(tmp_path / "log"))
        put(log, name)
        if name == "a":
            keep(log, tmp_path)
        log.close()
        if name == "a":
            shutil.rmtree(tmp_path / "log")
    with pytest.raises(DecisionLogCorrupt, match="not the one that the ledger's audit chain names"):
        chain.verify(str(tmp_path / "log"), book.audit_records())


def test_the_ledger_is_told_of_each_end_once(tmp_path: Path, book: SqliteLedger) -> None:
    log = DecisionLog(str(tmp_path / "log"), limits=Limits(500, 1 << 20))
    put(log, "a")
    put(log, "b")
    log.close("stopped")
    keeper = Keeper(log, lambda: SqliteLedger(str(tmp_path / "ledger")), print)
    keeper.once()
    keeper.once()
    heads = [(one.fields["segment"], one.fields["why"]) for one in book.audit_records() if one.event == chain.ANCHORED]
    assert heads == [(1, "rotated"), (2, "rotated"), (3, "stopped")]
    assert chain.verify(str(tmp_path / "log"), book.audit_records()).anchors == 3


# Size


def test_the_oldest_segments_go_and_the_ledger_says_so(tmp_path: Path, book: SqliteLedger) -> None:
    log = DecisionLog(str(tmp_path / "log"), limits=Limits(2000, 8000))
    for number in range(100):
        put(log, f"t{number}")
        keep(log, tmp_path)
    assert log.kept <= 8000 + 2000
    assert log.kept == sum(path.stat().st_size for path in (tmp_path / "log").iterdir())
    report = chain.verify(str(tmp_path / "log"), book.audit_records())
    assert report.removed == log.head.segment - report.segments > 5
    kept = targets(tmp_path / "log")
    assert kept == [f"t{number}" for number in range(100)][-len(kept) :]


def test_it_stays_bounded_when_nobody_removes(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path), limits=Limits(2000, 8000))
    refused = [put_or_why(log, f"t{number}") for number in range(100)]
    assert refused[0] == ""
    assert "as large as it may be" in refused[-1]
    assert log.kept <= 8000 + 3 * 2000 + 1000


def test_after_a_rotation_numbers_are_defined_anew(tmp_path: Path) -> None:
    log = DecisionLog(str(tmp_path), limits=Limits(400, 1 << 20))
    epochs = set()
    for number in range(10):
        epochs.add(log.epoch)
        put(log, f"t{number}")
    assert len(epochs) > 2
    log.close()
    assert targets(tmp_path) == [f"t{number}" for number in range(10)]


# A writer that dies, a disk that is full


@pytest.mark.parametrize("cut", [1, 40, 64, 65, 66, 90])
def test_a_torn_line_is_closed_not_an_error(tmp_path: Path, cut: int) -> None:
    log = DecisionLog(str(tmp_path))
    put(log, "a")
    put(log, "b")
    log.close()
    whole = segment(tmp_path, 1).read_bytes().splitlines(keepends=True)
    torn = b"".join(whole[:-2]) + whole[-2][:cut]
    segment(tmp_path, 1).write_bytes(torn)
    report = chain.verify(str(tmp_path))
    assert (report.torn, report.unclosed, report.decisions) == (1, 1, 1)
    log = DecisionLog(str(tmp_path))
    put(log, "c")
    log.close()
    report = chain.verify(str(tmp_path))
    assert (report.segments, report.torn, report.unclosed, report.decisions) == (2, 1, 1, 2)
    assert segment(tmp_path, 1).read_bytes() == torn
    # It can't be torn further, or mended, unnoticed.
    for other in (torn[:-1], torn + b"x", torn[: torn.rindex(b"\n") + 1]):
        segment(tmp_path, 1).write_bytes(other)
        assert "parts of lines" in damaged(tmp_path)


@pytest.mark.parametrize("start", [b"", b"0123"])
def test_a_segment_that_was_just_begun_is_passed_over(tmp_path: Path, start: bytes) -> None:
    log = DecisionLog(str(tmp_path))
    put(log, "a")
    log.close()
    segment(tmp_path, 2).write_bytes(start)
    log = DecisionLog(str(tmp_path))
    put(log, "b")
    log.close()
    assert log.head.segment == 3
    report = chain.verify(str(tmp_path))
    assert (report.torn, report.decisions) == (1, 2)


def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    for _ in range(3):

        def act() -> None:
            log = DecisionLog(str(tmp_path))
            put(log, "a")
            put(log, "b")
            os.kill(os.getpid(), signal.SIGKILL)

        assert os.WTERMSIG(forked(act)) == signal.SIGKILL
    assert targets(tmp_path) == ["a", "b"] * 3
    assert chain.verify(str(tmp_path)).unclosed == 3


def test_a_clock_that_jumps_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DecisionLog(str(tmp_path))
    for now in (2e9, 1e9, 0.0, -5.0, 4e10):
        monkeypatch.setattr("time.time", lambda now=now: now)
        put(log, "a")
    log.close()
    assert [entry.time for entry in chain.read(str(tmp_path))] == [2e9, 1e9, 0.0, -5.0, 4e10]
    assert chain.verify(str(tmp_path)).decisions == 5


def test_a_disk_that_loses_writes_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    log = DecisionLog(str(tmp_path))
    put(log, "a")
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", failing)
        with pytest.raises(DecisionLogError, match="can't be synced"):
            log.sync()
    assert "the file before was lost" in put_or_why(log, "refused")
    assert put_or_why(log, "b") == ""
    log.close()
    assert log.head.segment == 2
    assert targets(tmp_path) == ["a", "b"]
    assert chain.verify(str(tmp_path)).unclosed == 1


def test_a_full_disk_refuses_and_leaves_whole_lines(tmp_path: Path) -> None:
    def act() -> None:
        log = DecisionLog(str(tmp_path))
        put(log, "a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.kept + 100, resource.RLIM_INFINITY))
        epoch = log.epoch
        for _ in range(3):
            assert "File too large" in put_or_why(log, "lost")
        assert log.epoch == epoch + 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        put(log, "b")
        log.close()
        os._exit(0)

    assert forked(act) == 0
    assert targets(tmp_path) == ["a", "b"]
    assert chain.verify(str(tmp_path)).torn == 0
    bodies = [json.loads(line[65:]) for line in segment(tmp_path, 1).read_text().splitlines()]
    assert [body["refused"] for body in bodies if body.get("event") == "unrecorded"] == [3]


@pytest.mark.root
def test_a_disk_without_any_room_refuses(tmp_path: Path) -> None:
    def act() -> None:
        kernel.unshare(kernel.CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], check=True)
        log = DecisionLog(str(tmp_path / "log"), limits=Limits(20_000, 1 << 30))
        done = 0
        while not (why := put_or_why(log, f"t{done}")):
            done += 1
        assert "No space left" in why
        assert targets(tmp_path / "log") == [f"t{number}" for number in range(done)]
        os.unlink(segment(tmp_path / "log", 1))
        put(log, "again")
        assert targets(tmp_path / "log")[-1] == "again"
        assert chain.verify(str(tmp_path / "log")).torn == 0
        os._exit(0)

    assert forked(act) == 0
