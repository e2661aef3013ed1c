"""What is remembered for a while only: operations that have ended, and idempotency keys."""

from __future__ import annotations

import time
from typing import Final

from septum.ledger.records import Commit, Document, Put, Spend
from septum.realms.core import Core
from septum.realms.operations import FINAL

__all__ = ["KEPT", "sweep"]

KEPT: Final = 500
"""Operations of a realm that have ended and are kept, the newest ones."""

_LASTS: Final = 24 * 3600.0  # seconds: for so long a key stands for its request
_PORTION: Final = 200  # documents that go in one commit: others wait meanwhile


def sweep(core: Core, realm: str) -> bool:
    """Removes a portion of what is too old or too much; whether there may be more."""
    old = [one for one in core.ledger.documents("operation", realm) if one.body["state"] in FINAL]
    old.sort(key=lambda one: -float(one.body["created"]))
    gone = old[KEPT:]
    until = time.time() - _LASTS
    gone += [one for one in core.ledger.documents("key", realm) if one.body["time"] < until]
    portion = gone[:_PORTION]
    if portion:
        puts = tuple(Put(one.kind, one.realm, one.id, one.version, None) for one in portion)
        core.ledger.commit(Commit(puts, spends=tuple(_back(realm, portion))))
    return len(gone) > len(portion)


def _back(realm: str, documents: list[Document]) -> list[Spend]:
    counts = {"operations": 0, "keys": 0}
    for one in documents:
        counts[f"{one.kind}s"] += 1
    return [Spend(realm, what, -count, 0) for what, count in counts.items() if count]
