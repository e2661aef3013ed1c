"""Random lives of guests against a model that is small enough to be seen to be right."""

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from septum.errors import Held, LedgerError
from septum.ledger.records import Entry, Guest, Hold
from septum.ledger.sqlite import SqliteLedger
from tests.ledger_conformance import ACME, BOLT, entry, guest

NUMBERS = st.integers(0, 4)
REALMS = st.sampled_from(["acme", "bolt"])
# Thousands of commits: durability has tests of its own.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KEYS = st.sampled_from(["k0", "k1", "k2"])
HOLDS = st.lists(st.builds(Hold, KEYS, KEYS.map("/vm/{}".format), st.booleans(), st.sampled_from(["ro", "rw"])))
OUTCOMES = st.sampled_from(["restored", "untouched", "gone", "foreign"])


class Model:
    """What is true of a ledger, in dicts."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.realms: dict[str, str] = {}
        self.claims: dict[tuple[str, str], str] = {}
        self.holds: dict[str, dict[str, Hold]] = {}
        self.open: dict[int, Entry] = {}
        self.foreign: set[str] = set()
        self.incarnations: dict[str, int] = {}
        self.counter = 0

    def holders(self, key: str) -> set[str]:
        return {uuid for uuid, holds in self.holds.items() if key in holds}

    def shared_entries(self, key: str) -> list[int]:
        return [number for number, step in self.open.items() if step.owner == key]

    def orphans(self) -> list[str]:
        return sorted(
            {step.owner for step in self.open.values() if step.owner[0] == "k"}
            - {key for holds in self.holds.values() for key in holds}
        )

    def may_hold(self, uuid: str, holds: dict[str, Hold]) -> bool:
        for key, hold in holds.items():
            others = self.holders(key)
            for other in others:
                if hold.exclusive or self.holds[other][key].exclusive or self.realms[other] != self.realms[uuid]:
                    return False
            if not others and self.shared_entries(key):
                return False
        return True

    def remove(self, uuid: str) -> None:
        del self.states[uuid], self.realms[uuid], self.holds[uuid]
        self.claims = {claim: holder for claim, holder in self.claims.items() if holder != uuid}
        self.open = {number: step for number, step in self.open.items() if step.owner != uuid}
        self.foreign.discard(uuid)


def merged(holds: list[Hold]) -> dict[str, Hold]:
    result: dict[str, Hold] = {}
    for hold in holds:
        same = [other for other in holds if other.key == hold.key]
        access = "rw" if any(other.access == "rw" for other in same) else "ro"
        result[hold.key] = Hold(hold.key, same[0].path, any(other.exclusive for other in same), access)
    return result


class Lives(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.ledger = SqliteLedger(self.folder)
        self.ledger.add_realm(ACME)
        self.ledger.add_realm(BOLT)
        self.model = Model()

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.check()
            self.ledger.close()
            shutil.rmtree(self.folder)

    def check(self, allowed: bool, error: type[LedgerError] | type[Held], call: Callable[[], Any]) -> Any:
        """The call's result if the model allows it; otherwise the call must be refused."""
        if allowed:
            return call()
        with pytest.raises(error):
            call()
        return None

    @rule(number=NUMBERS, realm=REALMS, code=st.integers(0, 5))
    def admit(self, number: int, realm: str, code: int) -> None:
        one = guest(number, realm)
        wanted = [("uuid", one.uuid), ("name", f"{realm}/{one.name}"), ("code", str(code))]
        free = not any(claim in self.model.claims for claim in wanted)
        admitted: Guest | None = self.check(free, Held, lambda: self.ledger.admit(one, wanted[2:]))
        if admitted is not None:
            self.model.incarnations[one.uuid] = self.model.incarnations.get(one.uuid, 0) + 1
            assert admitted.incarnation == self.model.incarnations[one.uuid]
            self.model.states[one.uuid], self.model.realms[one.uuid] = "admitted", realm
            self.model.holds[one.uuid] = {}
            self.model.claims.update(dict.fromkeys(wanted, one.uuid))

    @rule(number=NUMBERS, holds=HOLDS)
    def begin(self, number: int, holds: list[Hold]) -> None:
        uuid = guest(number).uuid
        wanted = merged(holds)
        steps = [entry(uuid if hold.exclusive else key, hold.path) for key, hold in wanted.items()]
        if self.model.states.get(uuid) != "admitted":
            self.check(False, LedgerError, lambda: self.ledger.begin(uuid, holds, steps))
            return
        may = self.model.may_hold(uuid, wanted)
        written = self.check(may, Held, lambda: self.ledger.begin(uuid, holds, steps))
        if written is not None:
            known = {(step.owner, step.path) for step in self.model.open.values()}
            expected = [step for step in steps if (step.owner, step.path) not in known]
            assert [step._replace(id=0) for step in written] == expected
            self.model.states[uuid], self.model.holds[uuid] = "starting", wanted
            self.model.open.update({step.id: step for step in written})

    @rule(number=NUMBERS)
    def run_it(self, number: int) -> None:
        uuid = guest(number).uuid
        may = self.model.states.get(uuid) == "starting"
        self.check(may, LedgerError, lambda: self.ledger.run(uuid, 7, 8, {}))
        if may:
            self.model.states[uuid] = "running"

    @rule(number=NUMBERS, state=st.sampled_from(["ending", "stuck"]))
    def end(self, number: int, state: Any) -> None:
        uuid = guest(number).uuid
        self.check(uuid in self.model.states, LedgerError, lambda: self.ledger.end(uuid, state))
        if uuid in self.model.states:
            self.model.states[uuid] = state

    @rule(number=NUMBERS)
    def orphan(self, number: int) -> None:
        uuid = guest(number).uuid
        may = self.model.states.get(uuid) in ("ending", "stuck")
        before = self.model.orphans()
        keys = self.check(may, LedgerError, lambda: self.ledger.orphan(uuid))
        if may:
            kept = {key: hold for key, hold in self.model.holds[uuid].items() if hold.exclusive}
            self.model.holds[uuid] = kept
            assert sorted(keys) == sorted(set(self.model.orphans()) - set(before))

    @precondition(lambda self: self.model.open)
    @rule(data=st.data(), outcome=OUTCOMES)
    def settle(self, data: Any, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.open)))
        step = self.model.open[number]
        may = not (step.owner[0] == "k" and self.model.holders(step.owner))
        self.check(may, LedgerError, lambda: self.ledger.settle(number, outcome))
        if may:
            del self.model.open[number]
            if outcome == "foreign" and step.owner in self.model.states:
                self.model.foreign.add(step.owner)

    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        uuid = guest(number).uuid
        may = (
            self.model.states.get(uuid) in ("ending", "stuck")
            and uuid not in self.model.foreign
            and not any(step.owner == uuid for step in self.model.open.values())
        )
        self.check(may, LedgerError, lambda: self.ledger.release(uuid))
        if may:
            self.model.remove(uuid)

    @rule(number=NUMBERS)
    def forget(self, number: int) -> None:
        uuid = guest(number).uuid
        may = self.model.states.get(uuid) == "stuck"
        self.check(may, LedgerError, lambda: self.ledger.forget(uuid))
        if may:
            self.model.remove(uuid)

    @rule()
    def advance(self) -> None:
        assert self.ledger.advance("x") == self.model.counter
        self.model.counter += 1

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = SqliteLedger(self.folder)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {one.uuid: one.state for one in self.ledger.guests()} == self.model.states
        for kind in ("uuid", "name", "code"):
            claimed = {key: uuid for (of, key), uuid in self.model.claims.items() if of == kind}
            taken = self.ledger.taken(kind)
            assert taken.keys() == claimed.keys()
            assert all(uuid in taken[key] for key, uuid in claimed.items())
            gone = {key for key, uuid in claimed.items() if self.model.states[uuid] in ("ending", "stuck")}
            assert self.ledger.quarantined(kind).keys() == gone
        for key in ("k0", "k1", "k2"):
            assert set(self.ledger.holders(key)) == self.model.holders(key)
            assert [step.id for step in self.ledger.journal(key)] == sorted(self.model.shared_entries(key))
        for uuid, holds in self.model.holds.items():
            assert {hold.key: hold for hold in self.ledger.holds(uuid)} == holds
            own = [number for number, step in self.model.open.items() if step.owner == uuid]
            assert [step.id for step in self.ledger.journal(uuid)] == sorted(own)
        assert self.ledger.orphans() == self.model.orphans()
        self.ledger.audit_verify()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
