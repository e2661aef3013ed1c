"""The audit chain of an SQLite ledger: whatever is done to it behind septum's back shows, and where."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.errors import LedgerCorrupt
from septum.ledger.sqlite import SqliteLedger

RECORDS = 12


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "ledger"
    ledger = SqliteLedger(str(folder))
    for number in range(RECORDS):
        ledger.audit("door.open", {"number": number, "to": "ü"})
    ledger.close()
    return folder


def tampered(intact: Path, *statements: str) -> str:
    """What `audit_verify` finds after the statements; they are undone again."""
    connection = sqlite3.connect(intact / "ledger.db", isolation_level=None)
    connection.create_function("flip", 1, lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"))
    connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM audit")
    connection.execute("CREATE TEMP TABLE kept_head AS SELECT * FROM audit_head")
    try:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        ledger = SqliteLedger(str(intact), read_only=True)
        try:
            return f"all {ledger.audit_verify()} intact"
        except LedgerCorrupt as error:
            return error.what
        finally:
            ledger.close()
    finally:
        for table in ("audit", "audit_head"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT INTO audit SELECT * FROM kept")
        connection.execute("INSERT INTO audit_head SELECT * FROM kept_head")
        connection.close()


def test_nothing_done_nothing_found(intact: Path) -> None:
    assert tampered(intact) == f"all {RECORDS} intact"


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["DELETE FROM audit WHERE seq = 5"], "record 5 is missing"),
        (["DELETE FROM audit WHERE seq = 1"], "record 1 is missing"),
        (["DELETE FROM audit WHERE seq >= 11"], "record 11 is missing: the chain ends early, its head is record 12"),
        (["DELETE FROM audit"], "record 1 is missing: the chain ends early"),
        (
            ["DELETE FROM audit WHERE seq = 5", "UPDATE audit SET seq = seq - 1 WHERE seq > 5"],
            "record 5 does not follow",
        ),
        (
            [
                "UPDATE audit SET seq = 100 WHERE seq = 4",
                "UPDATE audit SET seq = 4 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = 100",
            ],
            "record 4 does not follow",
        ),
        (["INSERT INTO audit SELECT 13, time, event, fields, previous, digest FROM audit WHERE seq = 12"], "record 13"),
        (
            ["UPDATE audit_head SET seq = 11, digest = (SELECT digest FROM audit WHERE seq = 11)"],
            "record 12 is beyond the chain's head",
        ),
        (["UPDATE audit_head SET digest = flip(digest)"], "record 12 is not the one"),
        (["DELETE FROM audit_head"], "record 12 is beyond"),
        (["UPDATE audit SET fields = replace(fields, ':', ': ') WHERE seq = 3"], "record 3 was changed"),
        (["UPDATE audit SET fields = CAST(fields AS BLOB) || x'ff' WHERE seq = 3"], "damaged: Could not decode"),
        (["UPDATE audit SET time = 'noon' WHERE seq = 3"], "record 3 was changed"),
    ],
)
def test_what_was_done_shows(intact: Path, statements: list[str], found: str) -> None:
    assert found in tampered(intact, *statements)


@settings(max_examples=60, deadline=None)
@given(seq=st.integers(1, RECORDS), column=st.sampled_from(["time", "event", "fields", "previous", "digest"]))
def test_any_change_of_any_record_shows(intact: Path, seq: int, column: str) -> None:
    change = "time + 0.001" if column == "time" else f"flip({column})"
    assert f"record {seq} " in tampered(intact, f"UPDATE audit SET {column} = {change} WHERE seq = {seq}")


def test_the_chain_goes_on_over_reopening(tmp_path: Path) -> None:
    for number in range(1, 6):
        ledger = SqliteLedger(str(tmp_path / "ledger"))
        ledger.audit("x", {})
        assert ledger.audit_verify() == number
        ledger.close()
