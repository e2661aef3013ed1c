"""One of the processes that `test_ledger_processes` sets on a ledger.

``python -m tests.ledger_racer race FOLDER NUMBER ROUNDS`` or ``… live FOLDER NUMBER``
"""

import json
import sys
from contextlib import suppress
from itertools import count

from septum.errors import Held
from septum.ledger.records import Hold, Realm
from septum.ledger.sqlite import SqliteLedger
from tests.ledger_conformance import ACME, BASE, claims, entry, guest


def meet() -> None:
    """Waits for the others: who waits for a lock sleeps, and one racer could be through before the others wake."""
    print("here", flush=True)
    sys.stdin.readline()


def race(ledger: SqliteLedger, racer: int, rounds: int) -> dict[str, list[int]]:
    """Claims what all others claim too; says what it got."""
    won: dict[str, list[int]] = {"realm": [], "name": [], "code": [], "image": [], "counter": []}
    for number in range(rounds):
        meet()
        if number % 100 == 0:
            with suppress(Held):
                ledger.add_realm(Realm(f"r{number}", (10 + number // 100,), -1))
                won["realm"].append(number)
        won["counter"].append(ledger.advance("counter"))
        one = guest(rounds * racer + number, name=f"of racer {racer}, {number}")
        for kind, changes, contested in (
            ("name", {"name": f"contested {number}"}, []),
            ("code", {}, [("code", f"c{number}")]),
            ("nothing", {}, []),
        ):
            try:
                ledger.admit(one._replace(**changes), contested)
            except Held:
                continue
            if kind in won:
                won[kind].append(number)
            break
        with suppress(Held):
            ledger.begin(one.uuid, [Hold(f"image {number}", "/vm/x", True, "rw"), BASE], [entry(one.uuid)])
            won["image"].append(number)
    return won


def live(ledger: SqliteLedger, racer: int) -> None:
    """Takes guests through their lives for ever; prints each step that the ledger has acknowledged."""
    for number in count():
        one = guest(1_000_000 * racer + number)
        ledger.admit(one, claims(one))
        print("admit", one.uuid, flush=True)
        ledger.begin(
            one.uuid,
            [Hold(one.name, "/vm/x", True, "rw"), BASE],
            [entry(one.uuid), entry(one.uuid, op="context"), entry(BASE.key, BASE.path)],
        )
        print("begin", one.uuid, flush=True)
        ledger.run(one.uuid, 1, 2, {})
        print("run", one.uuid, flush=True)
        ledger.end(one.uuid)
        for step in ledger.journal(one.uuid):
            ledger.settle(step.id, "restored")
        if number % 2:
            ledger.release(one.uuid)
            print("release", one.uuid, flush=True)


def with_realm(ledger: SqliteLedger) -> None:
    if ledger.realm(ACME.name) is None:
        with suppress(Held):
            ledger.add_realm(ACME)


def main() -> None:
    role, folder, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    ledger = SqliteLedger(folder, timeout=60)
    with_realm(ledger)
    if role == "race":
        print(json.dumps(race(ledger, number, int(sys.argv[4]))))
    else:
        live(ledger, number)


if __name__ == "__main__":
    main()
