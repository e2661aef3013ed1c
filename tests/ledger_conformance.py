"""What every ledger must do, whatever engine keeps it: a class of tests over the Protocol alone.

A ledger's own test module derives from `LedgerConformance` and overrides the fixture `open_ledger` with a function that
opens the same store each time it is called.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from septum.errors import Changed, Denied, Held, LedgerError, OverQuota
from septum.ledger.protocol import Ledger
from septum.ledger.records import Channel, Commit, Document, Entry, Guest, Happening, Hold, Put, Realm, Spend

ACME = Realm("acme", (3,), 70003)
BOLT = Realm("bolt", (4,), 70004)
RW = Hold("f:1", "/vm/a.img", True, "rw")
BASE = Hold("f:2", "/vm/base.img", False, "ro")


def guest(number: int, realm: str = "acme", **changes: Any) -> Guest:
    """A guest to admit, different from those of other numbers in all that is unique."""
    made = Guest(
        uuid=f"00000000-0000-4000-8000-{number:012d}",
        incarnation=0,
        name=f"g{number}",
        realm=realm,
        state="admitted",
        categories=(3, 300, 301 + number),
        level=f"s0:c3,c300,c{301 + number}",
        uid=200_000 + number,
        drivers=("selinux", "landlock"),
        boot_id="boot",
        pid=17,
        started=99,
        since=1_700_000_000.25,
        argv=("qemu", "-name", "a b", "\udcff"),
        details={"deep": {"list": [1, 2.5, None, True, "ü"]}},
    )
    return made._replace(**changes)


def claims(one: Guest) -> list[tuple[str, str]]:
    return [("code", one.level[3:]), ("uid", str(one.uid))]


def entry(owner: str, path: str = "/vm/a.img", op: str = "own", **args: Any) -> Entry:
    return Entry(0, owner, op, f"key of {path}", path, args or {"uid": 5}, {"uid": 0, "acl": ""}, "")


def named(one: Guest) -> str:
    return f"{one.realm}/{one.name} ({one.uuid})"


class LedgerConformance:
    @pytest.fixture
    def open_ledger(self) -> Callable[[], Ledger]:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, open_ledger: Callable[[], Ledger]) -> Iterator[Ledger]:
        opened = open_ledger()
        opened.add_realm(ACME)
        opened.add_realm(BOLT)
        yield opened
        opened.close()

    def start(self, ledger: Ledger, number: int, *holds: Hold, realm: str = "acme", entries: Any = ()) -> Guest:
        admitted = ledger.admit(guest(number, realm), claims(guest(number)))
        ledger.begin(admitted.uuid, holds, [entry(admitted.uuid, hold.path) for hold in holds if hold.exclusive])
        return admitted

    # identity

    def test_identity_and_secret_are_made_once(self, open_ledger: Callable[[], Ledger]) -> None:
        first, second = open_ledger(), open_ledger()
        assert first.identity() == second.identity() != ""
        assert first.secret() == second.secret()
        assert len(first.secret()) == 32
        assert len(set(first.secret())) > 8

    def test_the_revision_tells_of_every_change(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        other = open_ledger()
        seen = [(ledger.revision(), other.revision())]
        assert (ledger.revision(), other.revision()) == seen[0]
        ledger.admit(guest(1), claims(guest(1)))
        seen.append((ledger.revision(), other.revision()))
        other.end(guest(1).uuid)
        seen.append((ledger.revision(), other.revision()))
        other.release(guest(1).uuid)
        seen.append((ledger.revision(), other.revision()))
        for column in zip(*seen, strict=True):
            assert len(set(column)) == 4
        ledger.guests()
        assert (ledger.revision(), other.revision()) == seen[-1]
        other.close()

    def test_a_bearer_is_found_by_each_of_its_claims(self, ledger: Ledger) -> None:
        one = ledger.admit(guest(1), claims(guest(1)))
        ledger.admit(guest(2), claims(guest(2)))
        keys = [("uid", str(one.uid)), ("uuid", one.uuid), ("name", "acme/g1"), ("code", one.level[3:])]
        for kind, key in keys:
            assert ledger.bearer(kind, key) == (one.uuid, 1, "acme", "g1", one.level)
        for kind, key in [("uid", "1"), ("name", "g1"), ("name", "bolt/g1"), ("realm", "acme"), ("none", "")]:
            assert ledger.bearer(kind, key) is None
        ledger.end(one.uuid)
        ledger.release(one.uuid)
        assert [ledger.bearer(kind, key) for kind, key in keys] == [None] * 4

    # realms

    def test_a_realm_comes_back_as_it_was_added(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        added = ledger.add_realm(Realm("wide", (9, 7, 8), -1))
        assert added == Realm("wide", (7, 8, 9), -1)
        assert open_ledger().realm("wide") == added
        assert open_ledger().realms() == [ACME, BOLT, added]
        assert ledger.realm("none") is None

    @pytest.mark.parametrize(
        ("realm", "target"),
        [
            (Realm("acme", (9,), 9), "realm acme"),
            (Realm("new", (3,), 9), "realm-code c3"),
            (Realm("new", (9,), 70003), "gid 70003"),
        ],
    )
    def test_what_a_realm_has_no_other_gets(self, ledger: Ledger, realm: Realm, target: str) -> None:
        with pytest.raises(Held) as refusal:
            ledger.add_realm(realm)
        assert (refusal.value.target, refusal.value.holder) == (target, "acme")
        assert ledger.realms() == [ACME, BOLT]
        assert ledger.taken("realm-code") == {"c3": "acme", "c4": "bolt"}

    def test_realms_without_a_group_do_not_collide(self, ledger: Ledger) -> None:
        ledger.add_realm(Realm("one", (20,), -1))
        ledger.add_realm(Realm("two", (21,), -1))
        assert ledger.taken("gid") == {"70003": "acme", "70004": "bolt"}

    @pytest.mark.parametrize("name", ["", "a/b"])
    def test_realm_names_have_one_reading(self, ledger: Ledger, name: str) -> None:
        with pytest.raises(Denied):
            ledger.add_realm(Realm(name, (20,), -1))

    # counters and claims

    def test_counters_count_each_for_itself(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        other = open_ledger()
        assert [ledger.advance("a"), other.advance("a"), ledger.advance("b"), ledger.advance("a")] == [0, 1, 0, 2]

    def test_admit_claims_all_or_nothing(self, ledger: Ledger) -> None:
        one = ledger.admit(guest(1), claims(guest(1)))
        before = ledger.audit_verify()
        with pytest.raises(Held) as refusal:
            ledger.admit(guest(2), [("gid", "5"), ("uid", "200001"), ("code", "c9")])
        assert refusal.value.target == "uid 200001"
        assert refusal.value.holder == named(one)
        assert ledger.guests() == [one]
        assert ledger.taken("gid", ["5"]) == ledger.taken("code", ["c9"]) == {}
        assert ledger.audit_verify() == before
        assert ledger.admit(guest(2), claims(guest(2))).incarnation == 1

    @pytest.mark.parametrize(
        ("changes", "target"),
        [
            ({"uuid": guest(1).uuid}, f"uuid {guest(1).uuid}"),
            ({"name": "g1"}, "name acme/g1"),
        ],
    )
    def test_name_and_uuid_are_claimed_unasked(self, ledger: Ledger, changes: dict[str, str], target: str) -> None:
        one = ledger.admit(guest(1), [])
        with pytest.raises(Held) as refusal:
            ledger.admit(guest(2, **changes), [])
        assert (refusal.value.target, refusal.value.holder) == (target, named(one))

    def test_the_same_name_in_two_realms(self, ledger: Ledger) -> None:
        ledger.admit(guest(1, name="web"), [])
        ledger.admit(guest(2, "bolt", name="web"), [])
        assert ledger.guest("acme/web") == guest(1, name="web", incarnation=1)
        assert ledger.guest("bolt/web") == guest(2, "bolt", name="web", incarnation=1)
        with pytest.raises(Denied, match="2 guests have the name web") as refusal:
            ledger.guest("web")
        assert "acme/web, bolt/web" in refusal.value.remedy

    def test_taken_tells_of_the_keys_asked_for(self, ledger: Ledger) -> None:
        one = ledger.admit(guest(1), claims(guest(1)))
        two = ledger.admit(guest(2, "bolt"), claims(guest(2)))
        assert ledger.taken("uid", ["1", "200002", "200001"]) == {"200001": named(one), "200002": named(two)}
        assert ledger.taken("uid", []) == {}
        assert ledger.taken("uid") == {"200001": named(one), "200002": named(two)}
        assert ledger.taken("no-such-kind") == {}

    def test_the_population_counts_all_who_have_a_code(self, ledger: Ledger) -> None:
        assert ledger.population("acme") == ledger.population("no-such-realm") == 0
        for number in range(3):
            ledger.admit(guest(number), claims(guest(number)))
        ledger.admit(guest(3, "bolt"), claims(guest(3, "bolt")))
        ledger.end(guest(1).uuid, "stuck")
        assert (ledger.population("acme"), ledger.population("bolt")) == (3, 1)
        ledger.end(guest(2).uuid)
        ledger.release(guest(2).uuid)
        assert ledger.population("acme") == 2

    def test_a_guest_needs_a_realm(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError, match="no realm none"):
            ledger.admit(guest(1, "none"), [])
        assert ledger.taken("uuid") == {}

    # guests

    def test_a_guest_comes_back_as_it_was_admitted(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        one = ledger.admit(guest(1, incarnation=55), claims(guest(1)))
        assert one == guest(1, incarnation=1)
        for reference in (one.uuid, "acme/g1", "g1"):
            assert open_ledger().guest(reference) == one
        assert ledger.guest("nobody") is ledger.guest("acme/") is ledger.guest("/g1") is None

    def test_names_of_any_bytes(self, ledger: Ledger) -> None:
        odd = ledger.admit(guest(1, name="k\udcff/ü'\0\n"), [("code", "\udcfe")])
        assert ledger.guest("acme/k\udcff/ü'\0\n") == odd
        assert ledger.taken("code") == {"\udcfe": named(odd)}
        with pytest.raises(Held):
            ledger.admit(guest(2, name="k\udcff/ü'\0\n"), [])
        ledger.begin(odd.uuid, [Hold("k\udcfd", "/vm/\udcff", True, "rw")], [entry(odd.uuid, "/vm/\udcff")])
        assert ledger.holds(odd.uuid) == [Hold("k\udcfd", "/vm/\udcff", True, "rw")]
        assert ledger.journal(odd.uuid)[0].path == "/vm/\udcff"
        assert ledger.audit_records()[-1].fields["objects"] == [["/vm/\udcff", "rw", "exclusive"]]
        assert ledger.audit_verify() == 4

    def test_text_that_no_bytes_decode_to_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError):
            ledger.admit(guest(1, name="\ud800"), [])
        assert ledger.guests() == []

    @pytest.mark.parametrize("details", [{"set": {1}}, {"nan": float("nan")}])
    def test_details_without_a_json_form_are_refused(self, ledger: Ledger, details: dict[str, Any]) -> None:
        with pytest.raises(LedgerError, match="JSON"):
            ledger.admit(guest(1, details=details), [])
        assert ledger.taken("uuid") == {}

    def test_the_states_of_a_life(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1, RW)
        assert [g.state for g in ledger.guests()] == ["starting"]
        ledger.run(one.uuid, 4711, 12345, {"cgroup": "/sys/fs/cgroup/x"})
        running = ledger.guest(one.uuid)
        assert running == one._replace(
            state="running", pid=4711, started=12345, details={**one.details, "cgroup": "/sys/fs/cgroup/x"}
        )
        assert ledger.guests(["running"]) == [running]
        assert ledger.guests(["starting", "stuck"]) == ledger.guests([]) == []
        assert ledger.guests(["running"], "acme") == ledger.guests(realm="acme") == ledger.guests()
        assert ledger.lives("acme") == [(one.uuid, "running", 1, one.level, 4711)]
        assert ledger.lives("bolt") == []
        assert ledger.guests(["running"], "bolt") == ledger.guests(realm="bolt") == []
        ledger.end(one.uuid)
        assert [g.state for g in ledger.guests()] == ["ending"]
        ledger.end(one.uuid, "stuck")
        assert [g.state for g in ledger.guests()] == ["stuck"]

    def test_what_is_out_of_order_is_refused(self, ledger: Ledger) -> None:
        one = ledger.admit(guest(1), claims(guest(1)))
        for early in (
            lambda: ledger.run(one.uuid, 1, 1, {}),
            lambda: ledger.orphan(one.uuid),
            lambda: ledger.release(one.uuid),
            lambda: ledger.forget(one.uuid),
            lambda: ledger.end(one.uuid, "running"),
        ):
            with pytest.raises(LedgerError):
                early()
        assert ledger.guests() == [one]
        ledger.begin(one.uuid, [BASE], [])
        with pytest.raises(LedgerError, match="start a guest that is starting"):
            ledger.begin(one.uuid, [RW], [])
        ledger.run(one.uuid, 1, 1, {})
        for late in (
            lambda: ledger.run(one.uuid, 2, 2, {}),
            lambda: ledger.orphan(one.uuid),
            lambda: ledger.release(one.uuid),
            lambda: ledger.forget(one.uuid),
        ):
            with pytest.raises(LedgerError, match="that is running"):
                late()
        assert ledger.holds(one.uuid) == [BASE]
        ledger.end(one.uuid)
        with pytest.raises(LedgerError, match="forget a guest that is ending"):
            ledger.forget(one.uuid)

    def test_calls_for_nobody_are_refused(self, ledger: Ledger) -> None:
        for call in (
            lambda: ledger.begin("x", [], []),
            lambda: ledger.run("x", 1, 1, {}),
            lambda: ledger.end("x"),
            lambda: ledger.orphan("x"),
            lambda: ledger.release("x"),
            lambda: ledger.forget("x"),
        ):
            with pytest.raises(LedgerError, match="does not know"):
                call()

    def test_incarnations_are_never_used_again(self, ledger: Ledger) -> None:
        for incarnation in (1, 2, 3):
            one = ledger.admit(guest(1), claims(guest(1)))
            assert one.incarnation == incarnation
            ledger.end(one.uuid)
            ledger.release(one.uuid)

    # holds

    @pytest.mark.parametrize(
        ("has", "wants", "realm", "rule"),
        [
            ((True, "rw"), (True, "rw"), "acme", "one guest at a time"),
            ((True, "ro"), (True, "ro"), "acme", "one guest at a time"),
            ((True, "rw"), (False, "ro"), "acme", "held exclusive rw, asked for shared ro"),
            ((False, "ro"), (True, "rw"), "acme", "held shared ro, asked for exclusive rw"),
            ((False, "ro"), (False, "ro"), "bolt", "held in realm acme, asked for in realm bolt"),
            ((False, "ro"), (False, "ro"), "acme", ""),
            ((False, "rw"), (False, "rw"), "acme", ""),
        ],
    )
    def test_who_may_hold_beside_whom(
        self, ledger: Ledger, has: tuple[bool, str], wants: tuple[bool, str], realm: str, rule: str
    ) -> None:
        first = self.start(ledger, 1, Hold("k", "/vm/x", *has))
        second = ledger.admit(guest(2, realm), [])
        asked = [Hold("free", "/vm/free", True, "rw"), Hold("k", "/vm/other-path", *wants)]
        if not rule:
            ledger.begin(second.uuid, asked, [])
            assert set(ledger.holders("k")) == {first.uuid, second.uuid}
            return
        with pytest.raises(Held) as refusal:
            ledger.begin(second.uuid, asked, [entry(second.uuid)])
        assert (refusal.value.target, refusal.value.holder) == ("/vm/other-path", named(first))
        assert rule in refusal.value.rule
        assert ledger.holders("free") == ledger.holds(second.uuid) == ledger.journal(second.uuid) == []
        assert ledger.guest(second.uuid) == second

    def test_two_holds_of_one_object_are_one(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1, Hold("k", "/a", False, "rw"), BASE, Hold("k", "/b", True, "ro"))
        assert ledger.holds(one.uuid) == [Hold("k", "/a", True, "rw"), BASE]
        assert ledger.holders("k") == [one.uuid]

    def test_objects_stay_held_until_release(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1, RW)
        ledger.end(one.uuid)
        ledger.orphan(one.uuid)
        two = ledger.admit(guest(2), [])
        with pytest.raises(Held, match="restore is not verified"):
            ledger.begin(two.uuid, [RW], [])
        for step in ledger.journal(one.uuid):
            ledger.settle(step.id, "restored")
        with pytest.raises(Held):
            ledger.begin(two.uuid, [RW], [])
        ledger.release(one.uuid)
        ledger.begin(two.uuid, [RW], [])
        assert ledger.holders(RW.key) == [two.uuid]

    # journal

    def test_an_image_stays_its_realms_when_its_guest_is_gone(self, ledger: Ledger) -> None:
        """Else a header that names another owner's idle image would get it."""
        lasting = RW._replace(lasting=True)

        def use(number: int, hold: Hold, realm: str) -> None:
            one = self.start(ledger, number, hold, realm=realm)
            ledger.end(one.uuid)
            for left in ledger.journal(one.uuid):
                ledger.settle(left.id, "restored")
            ledger.release(one.uuid)

        use(1, lasting, "acme")
        use(2, lasting, "acme")
        for hold in (RW, BASE._replace(key=RW.key, path=RW.path)):
            stranger = ledger.admit(guest(3, "bolt"), claims(guest(3)))
            with pytest.raises(Held) as refused:
                ledger.begin(stranger.uuid, [hold], [])
            assert refused.value.target == RW.path
            assert refused.value.holder == "realm acme (last used by g2)"
            ledger.end(stranger.uuid)
            ledger.release(stranger.uuid)
        use(4, RW._replace(adopted=True), "bolt")
        with pytest.raises(Held, match="belongs to another realm"):
            use(5, RW, "acme")

    def test_the_journal_keeps_order_and_content(self, ledger: Ledger) -> None:
        one = ledger.admit(guest(1), [])
        asked = [entry(one.uuid, "/b"), entry(one.uuid, "/a", op="context", level="s0"), entry(BASE.key, "/base")]
        written = ledger.begin(one.uuid, [RW, BASE], asked)
        assert [e._replace(id=0) for e in written] == asked
        assert [e.id for e in written] == sorted({e.id for e in written})
        assert ledger.journal(one.uuid) == written[:2]
        assert ledger.journal(BASE.key) == written[2:]
        ledger.settle(written[0].id, "restored")
        assert ledger.journal(one.uuid) == written[1:2]

    @pytest.mark.parametrize(
        "bad", [entry("somebody"), entry(RW.key), entry(guest(1).uuid)._replace(outcome="restored")]
    )
    def test_entries_belong_to_the_guest_or_what_it_shares(self, ledger: Ledger, bad: Entry) -> None:
        one = ledger.admit(guest(1), [])
        with pytest.raises(LedgerError):
            ledger.begin(one.uuid, [RW, BASE], [entry(one.uuid), bad])
        assert ledger.journal(one.uuid) == ledger.holds(one.uuid) == []
        assert ledger.guest(one.uuid) == one

    def test_a_shared_original_is_written_by_the_first_holder_only(self, ledger: Ledger) -> None:
        one, two, three = (ledger.admit(guest(n), []) for n in (1, 2, 3))
        step = entry(BASE.key, BASE.path)
        [first] = ledger.begin(one.uuid, [BASE], [step])
        assert ledger.begin(two.uuid, [BASE], [step._replace(original={"uid": "changed by then"})]) == []
        assert ledger.journal(BASE.key) == [first]
        # Another driver's step on the same object: its original nobody knows yet.
        [second] = ledger.begin(three.uuid, [BASE], [step, step._replace(op="context")])
        assert ledger.journal(BASE.key) == [first, second]

    @pytest.mark.parametrize("outcome", ["restored", "untouched", "gone"])
    def test_release_frees_everything_once_all_is_back(self, ledger: Ledger, outcome: str) -> None:
        one = self.start(ledger, 1, RW, BASE)
        ledger.end(one.uuid)
        with pytest.raises(LedgerError, match="not restored yet"):
            ledger.release(one.uuid)
        assert ledger.quarantined("uid") == {"200001": named(one)}
        ledger.settle(ledger.journal(one.uuid)[0].id, outcome)
        ledger.release(one.uuid)
        assert ledger.guests() == ledger.holders(RW.key) == ledger.holders(BASE.key) == ledger.journal(one.uuid) == []
        for kind in ("uuid", "name", "code", "uid"):
            assert ledger.taken(kind) == ledger.quarantined(kind) == {}

    def test_a_foreign_change_keeps_all_in_quarantine(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1, RW, BASE)
        ledger.end(one.uuid)
        [step] = ledger.journal(one.uuid)
        ledger.settle(step.id, "foreign")
        ledger.settle(step.id, "restored")  # of two who undo at once, the first one's word stands
        assert ledger.journal(one.uuid) == []
        with pytest.raises(LedgerError, match="changed by somebody else"):
            ledger.release(one.uuid)
        assert ledger.taken("code") == ledger.quarantined("code") == {one.level[3:]: named(one)}
        with pytest.raises(Held):
            ledger.admit(guest(2), claims(one))
        ledger.end(one.uuid, "stuck")
        assert ledger.quarantined("code") == {one.level[3:]: named(one)}
        ledger.forget(one.uuid)
        assert ledger.taken("code") == {}
        ledger.begin(ledger.admit(guest(2), claims(one)).uuid, [RW], [])

    def test_only_guests_that_end_are_in_quarantine(self, ledger: Ledger) -> None:
        one, two = self.start(ledger, 1), self.start(ledger, 2)
        ledger.end(two.uuid)
        assert ledger.quarantined("uuid") == {two.uuid: named(two)}
        assert ledger.taken("uuid") == {one.uuid: named(one), two.uuid: named(two)}

    @pytest.mark.parametrize("outcome", ["", "failed", "stuck"])
    def test_outcomes_are_those_of_an_undo(self, ledger: Ledger, outcome: str) -> None:
        one = self.start(ledger, 1, RW)
        [step] = ledger.journal(one.uuid)
        with pytest.raises(LedgerError):
            ledger.settle(step.id, outcome)
        assert ledger.journal(one.uuid) == [step]

    @pytest.mark.parametrize("number", [-1, 0, 10**6])
    def test_entries_that_never_were_can_not_be_closed(self, ledger: Ledger, number: int) -> None:
        self.start(ledger, 1, RW)
        with pytest.raises(LedgerError, match="no journal entry"):
            ledger.settle(number, "restored")

    # shared objects

    def test_the_last_holder_leaves_an_orphan(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        one, two, three = (ledger.admit(guest(n), []) for n in (1, 2, 3))
        [step] = ledger.begin(one.uuid, [BASE, RW], [entry(BASE.key, BASE.path)])
        ledger.begin(two.uuid, [BASE], [])
        ledger.end(one.uuid)
        assert ledger.orphan(one.uuid) == ledger.orphans() == []
        assert ledger.holds(one.uuid) == [RW]
        with pytest.raises(LedgerError, match="still in use"):
            ledger.settle(step.id, "restored")
        ledger.end(two.uuid)
        assert ledger.orphan(two.uuid) == [BASE.key]
        assert ledger.orphan(two.uuid) == []
        other = open_ledger()
        assert other.orphans() == [BASE.key]
        for exclusive in (False, True):
            with pytest.raises(Held) as refusal:
                other.begin(three.uuid, [BASE._replace(exclusive=exclusive)], [])
            assert refusal.value.target == BASE.path
            assert refusal.value.holder == "septum: being restored"
        other.settle(step.id, "restored")
        other.settle(step.id, "foreign")
        assert other.orphans() == other.journal(BASE.key) == []
        [again] = other.begin(three.uuid, [BASE], [entry(BASE.key, BASE.path)])
        assert again.id > step.id

    def test_what_was_not_changed_is_no_orphan(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1, BASE)
        ledger.end(one.uuid)
        assert ledger.orphan(one.uuid) == ledger.orphans() == []

    @pytest.mark.parametrize("way", ["release", "forget"])
    def test_shared_objects_outlive_a_guest_that_is_taken_out(self, ledger: Ledger, way: str) -> None:
        one, two = (ledger.admit(guest(n), []) for n in (1, 2))
        ledger.begin(one.uuid, [BASE], [entry(BASE.key, BASE.path)])
        ledger.end(one.uuid, "stuck")
        getattr(ledger, way)(one.uuid)
        assert ledger.orphans() == [BASE.key]
        assert len(ledger.journal(BASE.key)) == 1
        with pytest.raises(Held):
            ledger.begin(two.uuid, [BASE], [])

    # facts

    def test_facts_are_kept_for_later_processes(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        identity, secret = ledger.identity(), ledger.secret()
        assert ledger.recall("policy") == ""
        for key, value in (
            ("policy", "first"),
            ("identity", "no ledger's"),
            ("secret", "no secret"),
            ("policy", "ü\udcff"),
        ):
            ledger.remember(key, value)
        again = open_ledger()
        assert (again.recall("policy"), again.recall("identity")) == ("ü\udcff", "no ledger's")
        assert (again.identity(), again.secret()) == (identity, secret)
        ledger.remember("policy", "")
        assert again.recall("policy") == ""

    # audit

    def test_the_audit_chain_can_be_checked_without_septum(self, ledger: Ledger) -> None:
        ledger.audit("door.open", {"b": [1, "ü", "\udcff"], "a": None})
        previous = "0" * 64
        records = ledger.audit_records()
        for seq, record in enumerate(records, 1):
            message = [record.seq, record.time, record.event, record.fields, record.previous]
            text = json.dumps(message, sort_keys=True, separators=(",", ":"))
            assert record.digest == hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
            assert (record.seq, record.previous) == (seq, previous)
            previous = record.digest
        assert records[-1].event == "door.open"
        assert records[-1].fields == {"b": [1, "ü", "\udcff"], "a": None}
        assert ledger.audit_verify() == len(records)
        assert ledger.audit_records(after=len(records) - 1) == records[-1:]

    def test_a_guests_life_is_in_the_audit(self, ledger: Ledger) -> None:
        start = ledger.audit_verify()
        one = self.start(ledger, 1, RW)
        ledger.run(one.uuid, 4711, 12345, {})
        ledger.end(one.uuid)
        ledger.end(one.uuid)
        ledger.settle(ledger.journal(one.uuid)[0].id, "foreign")
        ledger.end(one.uuid, "stuck")
        ledger.forget(one.uuid)
        two = self.start(ledger, 2)
        ledger.end(two.uuid)
        ledger.release(two.uuid)
        records = ledger.audit_records(after=start)
        assert [record.event for record in records] == [
            "guest.admit", "guest.begin", "guest.run", "guest.end", "object.foreign", "guest.end", "guest.forget",
            "guest.admit", "guest.begin", "guest.end", "guest.release",
        ]  # fmt: skip
        assert {record.fields.get("uuid") for record in records} == {one.uuid, two.uuid, None}
        assert records[2].fields["pid"] == 4711
        assert records[4].fields["path"] == RW.path

    def test_after_close_every_call_is_refused(self, open_ledger: Callable[[], Ledger]) -> None:
        ledger = open_ledger()
        ledger.close()
        ledger.close()
        with pytest.raises(LedgerError):
            ledger.realms()
        with pytest.raises(LedgerError):
            ledger.advance("x")

    # documents

    def test_a_document_comes_back_as_it_was_put(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        body = {"deep": {"list": [1, 2.5, None, True, "ü"]}}
        (made,) = ledger.commit(Commit((Put("image", "acme", "base", 0, body),)))
        assert made[:3] == ("image", "acme", "base")
        assert made.version > 0
        other = open_ledger()
        assert other.document("image", "acme", "base") == made == Document("image", "acme", "base", made.version, body)
        assert other.document("image", "bolt", "base") is other.document("guest", "acme", "base") is None

    def test_documents_are_listed_by_realm_and_id(self, ledger: Ledger) -> None:
        names = [("bolt", "a"), ("acme", "b"), ("acme", "a"), ("", "z")]
        ledger.commit(Commit(tuple(Put("image", realm, name, 0, {}) for realm, name in names)))
        ledger.commit(Commit((Put("guest", "acme", "c", 0, {}),)))
        assert [one[1:3] for one in ledger.documents("image")] == sorted(names)
        assert [one.id for one in ledger.documents("image", "acme")] == ["a", "b"]
        assert ledger.documents("image", "none") == ledger.documents("none") == []

    def test_a_version_is_never_used_again(self, ledger: Ledger) -> None:
        seen = []
        for _ in range(3):
            (made,) = ledger.commit(Commit((Put("image", "acme", "base", 0, {}),)))
            (changed,) = ledger.commit(Commit((Put("image", "acme", "base", made.version, {"a": 1}),)))
            assert ledger.commit(Commit((Put("image", "acme", "base", changed.version, None),))) == []
            assert ledger.document("image", "acme", "base") is None
            seen += [made.version, changed.version]
        assert len(set(seen)) == 6

    def test_a_change_is_made_of_what_was_seen_or_not_at_all(
        self, ledger: Ledger, open_ledger: Callable[[], Ledger]
    ) -> None:
        one, two = ledger.commit(Commit((Put("image", "acme", "1", 0, {}), Put("image", "acme", "2", 0, {}))))
        open_ledger().commit(Commit((Put("image", "acme", "2", two.version, {"other": 1}),)))
        before = ledger.revision(), ledger.audit_verify(), ledger.events("acme"), ledger.spent("acme")
        told = (Happening("acme", "x", {}, 9),)
        stale: list[Commit] = [
            Commit((Put("image", "acme", "1", one.version, None), Put("image", "acme", "2", two.version, {}))),
            Commit((Put("image", "acme", "1", one.version, {}), Put("image", "acme", "2", 0, {}))),
            Commit((Put("image", "acme", "3", 5, {}),)),
            Commit((Put("image", "acme", "1", one.version, {}),), unchanged=(two,)),
        ]
        for commit in stale:
            whole = commit._replace(spends=(Spend("acme", "disk", 1, 9),), happenings=told, audit=(("x", {}),))
            with pytest.raises(Changed):
                ledger.commit(whole)
        assert (ledger.revision()[0], ledger.audit_verify(), ledger.events("acme"), ledger.spent("acme")) == (
            before[0][0], *before[1:],
        )  # fmt: skip
        assert ledger.document("image", "acme", "1") == one

    def test_a_documents_claim_has_one_holder(self, ledger: Ledger) -> None:
        (one,) = ledger.commit(Commit((Put("image", "acme", "1", 0, {}, (("path", "/a"), ("path", "/b"))),)))
        with pytest.raises(Held) as refusal:
            ledger.commit(Commit((Put("image", "bolt", "1", 0, {}, (("path", "/b"),)),)))
        assert (refusal.value.target, refusal.value.holder) == ("path /b", "image acme/1")
        assert ledger.document("image", "bolt", "1") is None
        assert ledger.claimants("path") == ledger.claimants("path", "/b") == [one]
        assert ledger.claimants("path", "/c") == ledger.claimants("none") == []
        # What a change does not name is free; and a claim goes over within one change.
        two = Put("image", "bolt", "1", 0, {}, (("path", "/b"),))
        (one, other) = ledger.commit(Commit((two, Put("image", "acme", "1", one.version, {}, (("path", "/a"),)))))
        assert {one.realm, other.realm} == {"acme", "bolt"}
        ledger.commit(Commit((Put("image", "acme", "1", other.version, None),)))
        ledger.commit(Commit((Put("image", "bolt", "2", 0, {}, (("path", "/a"),)),)))

    def test_sums_stay_within_their_bounds(self, ledger: Ledger) -> None:
        ledger.commit(Commit(spends=(Spend("acme", "disk", 7, 10), Spend("acme", "guests", 1, 1))))
        with pytest.raises(OverQuota, match="no more disk") as refusal:
            ledger.commit(Commit(spends=(Spend("acme", "guests", -1, 0), Spend("acme", "disk", 4, 10))))
        assert "quota of 10" in refusal.value.rule
        assert ledger.spent("acme") == {"disk": 7, "guests": 1}
        # A lower bound takes nothing away, and giving back is always possible.
        ledger.commit(Commit(spends=(Spend("acme", "disk", -1, 0),)))
        assert ledger.spent("acme")["disk"] == 6
        with pytest.raises(LedgerError, match="more disk than it has"):
            ledger.commit(Commit(spends=(Spend("acme", "disk", -7, 10),)))
        assert ledger.spent("bolt") == {}

    def test_events_are_numbered_for_each_realm_and_bounded(self, ledger: Ledger) -> None:
        for number in range(5):
            ledger.commit(Commit(happenings=(Happening("acme", "tick", {"n": number}, 3), Happening("", "x", {}, 3))))
        found = ledger.events("acme")
        assert [(one.seq, one.kind, one.fields) for one in found] == [(n + 1, "tick", {"n": n}) for n in (2, 3, 4)]
        assert [one.seq for one in ledger.events("acme", 4)] == [5]
        assert [one.seq for one in ledger.events("acme", 0, 2)] == [3, 4]
        assert len(ledger.events("")) == 3
        assert (ledger.last_event("acme"), ledger.last_event("bolt")) == (5, 0)
        assert ledger.events("bolt") == []

    def test_a_realm_comes_and_goes_with_its_documents(self, ledger: Ledger) -> None:
        settings = Put("realm", "new", "new", 0, {})
        with pytest.raises(Held):
            ledger.commit(Commit((settings,), realm=Realm("new", (3,), -1)))
        assert (ledger.realm("new"), ledger.document("realm", "new", "new")) == (None, None)
        (made,) = ledger.commit(Commit((settings,), realm=Realm("new", (9,), 70009)))
        assert ledger.realm("new") == Realm("new", (9,), 70009)
        with pytest.raises(LedgerError, match="has documents still"):
            ledger.commit(Commit(drop="new"))
        ledger.admit(guest(9, "new"), claims(guest(9, "new")))
        gone = Put("realm", "new", "new", made.version, None)
        with pytest.raises(LedgerError, match="has guests still"):
            ledger.commit(Commit((gone,), drop="new"))
        assert ledger.document("realm", "new", "new") == made
        ledger.end(guest(9).uuid)
        ledger.release(guest(9).uuid)
        ledger.commit(Commit((gone,), drop="new", spends=(Spend("new", "disk", 5, 9),)))
        assert ledger.realm("new") is None
        assert ledger.spent("new") == {}
        assert ledger.taken("realm-code") == {"c3": "acme", "c4": "bolt"}
        ledger.add_realm(Realm("newer", (9,), 70009))
        with pytest.raises(LedgerError, match="no realm none"):
            ledger.commit(Commit(drop="none"))

    def test_a_commit_is_recorded_with_what_it_did(self, ledger: Ledger) -> None:
        before = ledger.audit_verify()
        ledger.commit(Commit((Put("image", "acme", "1", 0, {}),), audit=(("image.create", {"image": "1"}),)))
        (record,) = ledger.audit_records(before)
        assert ledger.audit_head() == (record.seq, record.digest)
        assert (record.event, record.fields) == ("image.create", {"image": "1"})

    # channels

    def channel(self, source: Guest, target: Guest, **changes: Any) -> Channel:
        made = Channel(
            id=0,
            link="l",
            service="bolt/sql",
            way="to-service",
            source=source.uuid,
            source_incarnation=source.incarnation,
            source_realm=source.realm,
            target=target.uuid,
            target_incarnation=target.incarnation,
            target_realm=target.realm,
            kind="messages",
            size=4096,
            label="u:r:t:s0",
            seqno=7,
            carrier="memfd",
            state="granted",
        )
        return made._replace(**changes)

    def test_channels_are_numbered_and_never_again(self, ledger: Ledger, open_ledger: Callable[[], Ledger]) -> None:
        one, other = self.start(ledger, 1), self.start(ledger, 2, realm="bolt")
        row = self.channel(one, other)
        made = ledger.open_channels([row, row._replace(way="from-service")], {"acme": 2, "bolt": 2})
        assert made == [row._replace(id=1), row._replace(id=2, way="from-service")]
        assert open_ledger().channels() == made
        assert ledger.close_channels([1, 2, 3]) == 2
        assert ledger.close_channels([1, 2]) == 0
        assert [one.id for one in ledger.open_channels([row], {})] == [3]

    def test_channels_of_a_realm_are_those_with_an_end_in_it(self, ledger: Ledger) -> None:
        one, two, far = self.start(ledger, 1), self.start(ledger, 2), self.start(ledger, 3, realm="bolt")
        ledger.open_channels([self.channel(one, far), self.channel(one, two), self.channel(far, far)], {})
        assert [row.id for row in ledger.channels("acme")] == [1, 2]
        assert [row.id for row in ledger.channels("bolt")] == [1, 3]
        assert ledger.channels("nobody") == []

    def test_a_quota_of_channels_counts_both_ends(self, ledger: Ledger) -> None:
        one, far = self.start(ledger, 1), self.start(ledger, 3, realm="bolt")
        row = self.channel(one, far)
        ledger.open_channels([row], {"acme": 1, "bolt": 1})
        for quota in ({"acme": 1}, {"bolt": 1}):
            with pytest.raises(OverQuota) as refused:
                ledger.open_channels([row], quota)
            assert refused.value.target == f"realm {next(iter(quota))}"
        with pytest.raises(OverQuota):
            ledger.open_channels([row, row], {"acme": 2})
        assert [row.id for row in ledger.channels()] == [1]

    def test_a_channels_ends_are_guests_that_live(self, ledger: Ledger) -> None:
        one, far = self.start(ledger, 1), self.start(ledger, 3, realm="bolt")
        gone = far._replace(incarnation=far.incarnation + 1)
        for row in (self.channel(one, gone), self.channel(gone, one)):
            with pytest.raises(LedgerError, match="no"):
                ledger.open_channels([row], {})
        ledger.end(far.uuid)
        with pytest.raises(LedgerError, match="live guest"):
            ledger.open_channels([self.channel(one, far)], {})
        platform = one._replace(uuid="", incarnation=0, realm="platform")
        assert ledger.open_channels([self.channel(platform, one)], {})

    def test_a_channels_state_changes_from_where_it_was(self, ledger: Ledger) -> None:
        one, far = self.start(ledger, 1), self.start(ledger, 3, realm="bolt")
        ledger.open_channels([self.channel(one, far)] * 2, {})
        assert ledger.move_channels([1, 2, 9], "granted", "active") == 2
        assert ledger.move_channels([1], "granted", "draining") == 0
        assert ledger.move_channels([1], "active", "draining") == 1
        assert [row.state for row in ledger.channels()] == ["draining", "active"]

    def test_a_channel_keeps_no_guest_from_being_released(self, ledger: Ledger) -> None:
        one = self.start(ledger, 1)
        ledger.open_channels([self.channel(one, one)], {})
        ledger.end(one.uuid)
        ledger.release(one.uuid)
        assert [row.source for row in ledger.channels()] == [one.uuid]
