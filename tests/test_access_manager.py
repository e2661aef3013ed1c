"""The object manager: what it decides, what it remembers, what it tells, what it records. Engines and logs are fakes,
but where libsepol itself is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import septum.access
from septum.access import (
    CLASSES,
    HIDDEN,
    Asker,
    Contexts,
    FakeEngine,
    MemoryLog,
    ObjectManager,
    ObjectQuestion,
    Question,
    require,
)
from septum.access.libsepol import LibsepolEngine
from septum.access.objects import of_uid
from septum.errors import EngineGone, PolicyError, PolicyLacks
from septum.ledger.sqlite import SqliteLedger
from septum.policy import build
from tests.accesskit import BLUE, BLUE_UID, PLATFORM, RED, RED_UID, admit, ledger, policy, stricter

ROOT = Asker(PLATFORM, 0, 1, 2)
GUEST = Asker(RED, 7, 3, 4)
START = Question("", RED, "septum_guest", ("start",))


class Desk:
    """A manager with all that it needs in hand."""

    def __init__(self, folder: Path, engine: Any = None) -> None:
        self.ledger = ledger(folder)
        self.engine = engine or FakeEngine(policy)
        self.log = MemoryLog()
        self.manager = ObjectManager(self.engine, self.ledger, self.log)

    def ask(self, question: Question | ObjectQuestion, asker: Asker = ROOT) -> Any:
        return self.manager.decide(asker, [question])[0]

    @property
    def last(self) -> Any:
        return self.log.decided[-1][1]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path / "state")
    yield one
    one.ledger.close()


def test_public_names_are_pinned() -> None:
    assert sorted(septum.access.__all__) == [
        "Access", "Asker", "CLASSES", "Client", "Contexts", "Decision", "DecisionLog", "End", "Engine", "Entry",
        "FakeEngine", "HIDDEN", "Head", "Keeper", "Limits", "Log", "MemoryLog", "Notice", "ObjectManager",
        "ObjectQuestion", "Question", "Report", "Settled", "Target", "Triple", "Why", "require",
    ]  # fmt: skip
    assert all(hasattr(septum.access, name) for name in septum.access.__all__)


# Deciding


def test_all_that_is_asked_for_must_be_granted(desk: Desk) -> None:
    assert desk.ask(START)[:3] == (True, ("start",), "")
    one = desk.ask(START._replace(permissions=("start", "delete", "create")))
    assert (one.allowed, one.granted, one.reason) == (False, ("start", "create"), "type enforcement")
    assert (one.rule, one.seqno, one.engine) == ("no rule for septum_guest", 1, "fake")


def test_an_object_bears_what_the_ledger_says(desk: Desk) -> None:
    assert desk.ask(ObjectQuestion("", "guest:red/web", ("start",))).allowed
    assert desk.last["target"] == RED
    assert desk.last["object"] == "guest:red/web"
    desk.ask(ObjectQuestion("", "realm:blue", ("getattr",)))
    assert desk.last["target"] == "system_u:object_r:septum_realm_t:s0:c2"
    for kind in ("policy", "category", "broker", "audit"):
        desk.ask(ObjectQuestion("", f"{kind}:", ("read",)))
        assert (desk.last["class"], desk.last["target"]) == (f"septum_{kind}", f"system_u:object_r:septum_{kind}_t:s0")


def test_a_label_that_changes_hands_is_seen_at_once(desk: Desk, tmp_path: Path) -> None:
    other = SqliteLedger(str(tmp_path / "state"))
    web = ObjectQuestion("", "guest:red/web", ("start",))
    assert desk.ask(web).allowed
    old = other.guest("red/web")
    assert old is not None
    other.end(old.uuid)
    other.release(old.uuid)
    assert desk.ask(web).reason == HIDDEN
    admit(other, "red", 99, "s0:c1,c400,c401", 7)
    assert desk.ask(web).allowed
    assert desk.last["target"].endswith(":s0:c1,c400,c401")
    other.close()


def test_absent_and_forbidden_look_the_same_to_everybody_and_not_in_the_record(desk: Desk) -> None:
    for asker in (ROOT, GUEST):
        names = ("guest:blue/web", "guest:blue/no")
        forbidden, absent = (desk.ask(ObjectQuestion("", name, ("getattr", "delete")), asker) for name in names)
        assert forbidden == absent
        assert (absent.reason, absent.rule, absent.granted) == (HIDDEN, "", ())
        assert [one[1]["reason"] for one in desk.log.decided[-2:]] == ["type enforcement", "no such object"]


def test_what_is_absent_is_computed_about_too(desk: Desk) -> None:
    for name in ("guest:blue/no", "realm:no", "guest:", "guest:no slash"):
        before = len(desk.engine.asked)
        desk.ask(ObjectQuestion("", name, ("getattr",)), GUEST)
        asked = {triple.target.split(":", 3)[3] for triple in desk.engine.asked[before:]}
        assert "s0:c1022,c1023" in asked or name not in ("guest:blue/no", "realm:no")
        assert not desk.ask(ObjectQuestion("", name, ("getattr",)), GUEST).allowed


def test_who_asks_about_others_needs_a_right_to(desk: Desk) -> None:
    mine = desk.ask(Question("", BLUE, "septum_guest", ("getattr",)), GUEST)
    assert mine.allowed
    assert desk.ask(Question(RED, BLUE, "septum_guest", ("getattr",)), GUEST) == mine
    other = desk.ask(Question(BLUE, RED, "septum_guest", ("getattr",)), GUEST)
    assert (other.allowed, other.granted, other.reason) == (False, (), "not yours to ask")
    assert "septum_policy { check }" in other.rule
    assert desk.ask(ObjectQuestion(BLUE, "guest:red/web", ("getattr",)), GUEST).reason == "not yours to ask"
    assert desk.ask(Question(BLUE, RED, "septum_guest", ("getattr",)), ROOT).allowed


def test_reasons_are_for_those_who_may_have_them(desk: Desk) -> None:
    refused = desk.ask(START, GUEST)
    assert (refused.reason, refused.rule) == ("not allowed", "")
    assert (desk.last["reason"], desk.last["rule"]) == ("type enforcement", "no rule for septum_guest")


def test_a_forged_subject_gets_nobody_anywhere(desk: Desk) -> None:
    for forged in (PLATFORM, f"{RED} ", f"{PLATFORM}\0", PLATFORM.replace("s0-s0", "s0")):
        assert not desk.ask(START._replace(subject=forged), GUEST).allowed
        assert desk.log.decided[-1][0]["asker"] == RED


@pytest.mark.parametrize(
    "question",
    [
        Question("", "", "septum_guest", ("start",)),
        Question("", RED, "", ("start",)),
        Question("", RED, "septum_guest", ()),
        Question("", RED, "septum_guest", ("",)),
        Question("", RED, "septum_guest", ("start",) * 33),
        Question("", RED + "\n", "septum_guest", ("start",)),
        Question("", "a b", "septum_guest", ("start",)),
        Question("", "ü:b:c", "septum_guest", ("start",)),
        Question("", "x" * (1 << 20), "septum_guest", ("start",)),
        Question("x" * (1 << 20), RED, "septum_guest", ("start",)),
        ObjectQuestion("", "", ("start",)),
        ObjectQuestion("", "guest", ("start",)),
        ObjectQuestion("", "host:x", ("start",)),
        ObjectQuestion("", "policy:x", ("start",)),
        ObjectQuestion("", "guest:red/web\x1b[0m", ("start",)),
    ],
)
def test_what_is_no_question_is_denied_and_recorded(desk: Desk, question: Question | ObjectQuestion) -> None:
    one = desk.ask(question)
    assert not one.allowed
    assert one.reason.startswith("malformed: ")
    assert desk.last["reason"] == one.reason
    assert len(one.reason) < 300


@pytest.mark.parametrize("question", [Question("", "nonsense", "septum_guest", ("start",)),
                                      Question("", RED, "no_such_class", ("start",)),
                                      Question("", RED, "septum_guest", ("no_such_permission",))])  # fmt: skip
def test_what_the_policy_does_not_know_is_denied(desk: Desk, question: Question) -> None:
    assert not desk.ask(question).allowed


def test_a_permissive_domain_is_refused_and_marked(tmp_path: Path) -> None:
    class Permissive(FakeEngine):
        def compute(self, triples: Any) -> Any:
            return [one._replace(permissive=True) for one in super().compute(triples)]

    one = Desk(tmp_path / "state", Permissive(policy)).ask(START._replace(permissions=("delete",)))
    assert (one.allowed, one.permissive) == (False, True)


def test_without_root_ones_own_uid_says_nothing_while_guests_share_it(desk: Desk) -> None:
    def context(uid: int) -> str:
        return of_uid(desk.ledger, Contexts(), uid, 1000)

    assert (context(0), context(1000), context(1001)) == (PLATFORM, PLATFORM, "")
    assert (context(RED_UID), context(BLUE_UID)) == (RED, BLUE)
    admit(desk.ledger, "red", -1, "s0:c1,c600,c601", 5, "rootless")
    assert (context(0), context(1000), context(RED_UID)) == (PLATFORM, "", RED)


# Remembering


def test_an_engine_is_asked_once(desk: Desk) -> None:
    first = desk.ask(START)
    count = len(desk.engine.asked)
    assert [desk.ask(START) for _ in range(5)] == [first] * 5
    assert desk.manager.decide(ROOT, [START] * 5) == [first] * 5
    assert len(desk.engine.asked) == count
    assert len(desk.log.decided) == 11


def test_a_change_of_the_ledger_does_not_cost_the_vectors(desk: Desk, tmp_path: Path) -> None:
    desk.ask(START)
    count = len(desk.engine.asked)
    other = SqliteLedger(str(tmp_path / "state"))
    other.advance("anything")
    other.close()
    desk.ask(START)
    assert len(desk.engine.asked) == count


def test_a_swapped_policy_decides_from_the_next_question_on(desk: Desk) -> None:
    old = desk.ask(START)
    new = FakeEngine(stricter, fingerprint="new")
    assert desk.manager.swap(new) is desk.engine
    now = desk.ask(START)
    assert (old.allowed, old.seqno, now.allowed, now.seqno) == (True, 1, False, 2)
    assert desk.log.events[-1] == ("policy.loaded", {"fingerprint": "new", "seqno": 2, "engine": "fake"})


def test_a_policy_that_changes_under_the_engine_is_another_one(desk: Desk) -> None:
    old = desk.ask(START)
    desk.engine.change(stricter)
    now = desk.ask(START)
    assert (old.allowed, old.seqno, now.allowed, now.seqno) == (True, 1, False, 2)


def test_a_policy_that_changes_while_it_answers_is_asked_again(tmp_path: Path) -> None:
    class Changing(FakeEngine):
        def compute(self, triples: Any) -> Any:
            answers = super().compute(triples)
            if len(self.asked) == len(triples):
                self.change(stricter)
            return answers

    desk = Desk(tmp_path / "state", Changing(policy))
    one = desk.ask(START)
    assert (one.allowed, one.seqno) == (False, 2)


def test_numbers_of_policies_grow_across_restarts(tmp_path: Path) -> None:
    first = Desk(tmp_path / "state").manager
    again = ObjectManager(FakeEngine(policy), SqliteLedger(str(tmp_path / "state")), MemoryLog())
    assert (first.seqno, again.seqno) == (1, 2)


def test_what_is_remembered_is_bounded(desk: Desk) -> None:
    for part in range(40):
        desk.manager.decide(
            ROOT, [Question("", f"u:r:t{part}_{n}:s0", "septum_guest", ("start",)) for n in range(1000)]
        )
    assert len(desk.manager.token().answers) <= 16384  # type: ignore[attr-defined]
    long = [Question("", f"u:r:{'x' * 3000}{n}:s0", "septum_guest", ("start",)) for n in range(10)]
    before = len(desk.manager.token().answers)  # type: ignore[attr-defined]
    desk.manager.decide(ROOT, long)
    assert len(desk.manager.token().answers) == before  # type: ignore[attr-defined]


# Refusing policies


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_policy_without_a_class_or_permission_is_refused_by_name(name: str) -> None:
    whole = {one: frozenset(permissions) for one, permissions in CLASSES.items()}
    require(whole, "p")
    with pytest.raises(PolicyLacks, match=f"the policy p lacks the class {name}\n"):
        require({one: found for one, found in whole.items() if one != name}, "p")
    lost = CLASSES[name][0]
    with pytest.raises(PolicyLacks, match=f"lacks permissions of the class {name} {{ {lost} }}\n"):
        require({**whole, name: whole[name] - {lost}}, "p")


def test_a_refused_policy_leaves_the_old_one(desk: Desk) -> None:
    lacking = FakeEngine(stricter, classes={"septum_guest": frozenset({"start"})})
    with pytest.raises(PolicyLacks):
        desk.manager.swap(lacking)
    assert desk.ask(START).allowed
    assert desk.log.events[-1][0] == "policy.refused"
    gone = FakeEngine(stricter)
    gone.go()
    with pytest.raises(EngineGone):
        desk.manager.swap(gone)
    assert desk.ask(START).seqno == 1


# Without an engine, a log, a ledger


def test_a_gone_engine_denies_also_what_was_remembered(desk: Desk) -> None:
    assert desk.ask(START).allowed
    desk.engine.go("killed")
    for question in (START, START._replace(permissions=("create",)), ObjectQuestion("", "guest:red/web", ("start",))):
        one = desk.ask(question)
        assert (one.allowed, one.reason) == (False, "engine gone")
        assert desk.last["reason"] == "engine gone"
    desk.manager.swap(FakeEngine(policy))
    assert desk.ask(START).allowed


def test_what_can_not_be_recorded_is_not_decided(desk: Desk) -> None:
    assert desk.ask(START).allowed
    desk.log.full = True
    one = desk.ask(START)
    assert (one.allowed, one.granted, one.reason) == (False, (), "decisions can't be recorded")
    desk.log.full = False
    assert desk.ask(START).allowed
    assert [one["allowed"] for _, one in desk.log.decided] == [True, True]


def test_a_ledger_that_can_not_be_read_denies(desk: Desk) -> None:
    desk.ledger.close()
    assert desk.ask(START)[:3] == (False, (), "nothing can be decided")


def test_each_decision_is_recorded_with_who_asked(desk: Desk) -> None:
    desk.manager.decide(GUEST, [START, START])
    desk.manager.decide(ROOT, [START])
    askers = [asker for asker, _ in desk.log.decided]
    assert [one["uid"] for one in askers] == [7, 7, 0]
    assert askers[0] == {"asker": RED, "uid": 7, "pid": 3, "started": 4}


# By libsepol


@pytest.fixture(scope="module")
def image() -> bytes:
    return build("standalone").image


@pytest.fixture
def real(tmp_path: Path, image: bytes) -> Desk:
    return Desk(tmp_path / "state", LibsepolEngine(image))


def test_septums_own_policy_decides(real: Desk) -> None:
    assert real.ask(START).allowed
    assert not real.ask(START, GUEST).allowed
    assert real.last["rule"] == "there is no (allow septum_vm.process septum_vm.process (septum_guest (start)))"
    boss = Asker("system_u:system_r:septum_orchestrator.process:s0:c1-s0:c1,c256.c1021", 9)
    own, other = (ObjectQuestion("", name, ("start",)) for name in ("guest:red/web", "guest:blue/web"))
    assert real.ask(own, boss).allowed
    assert real.ask(other, boss).reason == HIDDEN
    assert real.last["reason"] == "constraint"
    assert "h1 dom h2 -Fail-" in real.last["rule"]


def test_reasons_are_the_same_remembered_or_not(real: Desk, image: bytes) -> None:
    engine = real.engine
    questions = [
        Question(f"system_u:system_r:septum_{kind}.process:s0:c{own},c300", target, "septum_guest", ("start",))
        for kind in ("vm", "orchestrator")
        for own in (1, 2, 3)
        for target in (RED, BLUE)
    ]
    assert engine.explain(questions) == [LibsepolEngine(image).explain([one])[0] for one in questions]
    assert engine.explain(questions) == engine.explain(questions)


@pytest.mark.parametrize("content", [b"", b"not a policy", b"\x8c\xff\x7c\xf9" + b"\xff" * 4096])
def test_what_is_no_policy_is_refused(content: bytes) -> None:
    with pytest.raises(PolicyError):
        LibsepolEngine(content)


def test_absent_and_forbidden_cost_the_engine_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason takes many times what a decision takes: were it looked up for one of them only, time would tell."""
    explained: list[int] = []
    explain = desk.engine.explain

    def counting(questions: Any) -> Any:
        explained.append(len(questions))
        return explain(questions)

    monkeypatch.setattr(desk.engine, "explain", counting)
    costs = []
    for name in ("guest:blue/web", "guest:blue/no", "realm:blue", "realm:no", "image:blue/no"):
        before = len(desk.engine.asked)
        assert not desk.ask(ObjectQuestion("", name, ("delete",)), GUEST).allowed
        costs.append((len(desk.engine.asked) - before, explained.pop()))
        assert explained == []
    # The first one also computes what the asker may be told.
    assert costs == [(2, 1), *[(1, 1)] * 4]
