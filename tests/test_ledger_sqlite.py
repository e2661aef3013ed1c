"""The SQLite ledger does what every ledger must."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from septum.ledger.protocol import Ledger
from septum.ledger.sqlite import SqliteLedger
from tests.ledger_conformance import LedgerConformance


class TestSqliteLedger(LedgerConformance):
    @pytest.fixture
    def open_ledger(self, tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
        opened: list[SqliteLedger] = []

        def open_again() -> Ledger:
            opened.append(SqliteLedger(str(tmp_path / "ledger")))
            return opened[-1]

        yield open_again
        sound = SqliteLedger(str(tmp_path / "ledger"), create=False, read_only=True)
        sound.check()
        sound.audit_verify()
        for ledger in (*opened, sound):
            ledger.close()
