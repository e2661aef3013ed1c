"""Remembered decisions are libsepol's own, on every policy; and so are those of Debian's own tool on a sample."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.errors import LabelError, UnknownName
from septum.sepol import Memo, Policy, memo
from tests.sepolkit import Question, Questions, built, image, small

__all__ = ["image"]

QUESTIONS = {"debian": 100_000, "debian with septum": 20_000, "septum": 100_000}
SAMPLE = 300

_AUDIT2WHY = """
import sys
from selinux import audit2why
audit2why.init(sys.argv[1])
for line in sys.stdin:
    source, target, tclass, permission = line.split()
    print(audit2why.analyze(source, target, tclass, [permission])[0] == audit2why.ALLOW)
"""


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_hundred_thousand_random_questions_have_uncached_answers(name: str) -> None:
    count = QUESTIONS[name]
    with Policy.open(built(name)) as policy:
        asked = Questions(policy, 2013)
        remembered = Memo(policy)
        kinds = (asked.any, asked.near, asked.near, asked.same)
        allowed = 0
        for number in range(count):
            question = kinds[number % len(kinds)]()
            mask = policy.compute(*question).allowed
            assert remembered.allowed(*question) == mask == remembered.allowed(*question), question
            allowed += mask != 0
        assert allowed > count // 4


def test_guests_have_uncached_answers_from_a_handful_of_computations(image: bytes) -> None:
    """Same types, every relation of levels: what the relations decide, and all that septum's daemon asks."""
    with Policy.open(image) as policy:
        asked = Questions(policy, 7)
        ends = ("svirt_t", "svirt_image_t") if "svirt_t" in policy.types() else ("septum_vm.process", "septum_vm.image")
        remembered = Memo(policy)
        masks = set()
        for _ in range(5000):
            question = Question(
                f"system_u:system_r:{ends[0]}:{asked.range()}", f"system_u:object_r:{ends[1]}:{asked.range()}", "file"
            )
            mask = policy.compute(*question).allowed
            assert remembered.allowed(*question) == mask, question
            masks.add(mask)
        assert len(masks) > 1
        assert remembered.computed < 1500


def test_debians_own_tool_gives_the_same_answers(image: bytes, tmp_path: Path) -> None:
    """audit2why has a libsepol of its own, linked into it, and its own way to ask it."""
    path = tmp_path / "policy"
    path.write_bytes(image)
    choose = random.Random(1)
    with Policy.open(image) as policy:
        asked = Questions(policy, 11)
        sample = [(asked.near if number % 3 else asked.any)() for number in range(SAMPLE)]
        lines, ours = [], []
        for question in sample:
            permission = choose.choice(policy.classes()[question.tclass])
            lines.append(f"{question.source} {question.target} {question.tclass} {permission}\n")
            ours.append(bool(policy.compute(*question).allowed & policy.mask(question.tclass, [permission])))
    done = subprocess.run(
        ["/usr/bin/python3", "-c", _AUDIT2WHY, str(path)],
        input="".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(zip(lines, [line == "True" for line in done.stdout.splitlines()], strict=True)) == list(
        zip(lines, ours, strict=True)
    )
    assert SAMPLE // 10 < sum(ours) < SAMPLE * 9 // 10


CONSTRAINED = """
(allow t o (file (read write open getattr map)))
(mlsconstrain (file (read)) (dom h1 h2))
(mlsconstrain (file (write)) (or (eq l1 l2) (and (domby l1 h2) (dom h1 l2))))
(mlsconstrain (file (open)) (or (incomp h1 h2) (domby l1 h1)))
(mlsconstrain (file (map)) (or (dom l2 h2) (incomp l1 h2)))
"""
_LEVELS = st.tuples(st.integers(0, 1), st.sets(st.integers(0, 5)))


@st.composite
def ranges(draw: st.DrawFn) -> str:
    sensitivity, low = draw(_LEVELS)
    more, high = draw(_LEVELS)
    ends = [(sensitivity, low), (max(sensitivity, more), low | high)]
    return "-".join(
        f"s{one}" + (f":{','.join(f'c{c}' for c in sorted(names))}" if names else "") for one, names in ends
    )


@pytest.fixture(scope="module")
def constrained() -> bytes:
    return small(CONSTRAINED)


def test_every_way_to_compare_levels_is_told_apart(constrained: bytes) -> None:
    with Policy.open(constrained) as policy:
        remembered = Memo(policy)

        @settings(max_examples=400, deadline=None)
        @given(ranges(), ranges())
        def check(one: str, other: str) -> None:
            question = (f"u:r:t:{one}", f"u:object_r:o:{other}", "file")
            assert remembered.allowed(*question) == policy.compute(*question).allowed

        check()
        assert remembered.computed < 400


def test_names_that_do_not_stand_for_themselves_are_not_compared() -> None:
    """``cx`` is another name of c1: by names the levels would be incomparable, and by the policy they are equal."""
    text = CONSTRAINED + "(categoryalias cx)(categoryaliasactual cx c1)"
    with Policy.open(small(text)) as policy:
        remembered = Memo(policy)
        for question in [
            ("u:r:t:s0:c1", "u:object_r:o:s0:cx", "file"),
            ("u:r:t:s0:c1", "u:object_r:o:s0:c2", "file"),
            ("u:r:t:s0:cx", "u:object_r:o:s0:c1", "file"),
        ]:
            assert remembered.allowed(*question) == policy.compute(*question).allowed
        assert remembered.computed == 3


def test_a_policy_without_levels() -> None:
    with Policy.open(small("(allow t o (file (read)))", mls=False)) as policy:
        assert not policy.mls
        remembered = Memo(policy)
        assert policy.names("file", remembered.allowed("u:r:t", "u:object_r:o", "file")) == ("read",)
        assert remembered.allowed("u:r:t", "u:object_r:t", "file") == 0
        with pytest.raises(LabelError):
            remembered.allowed("u:r:t:s0", "u:object_r:o", "file")


def test_what_it_does_not_know_it_refuses(constrained: bytes) -> None:
    with Policy.open(constrained) as policy:
        remembered = Memo(policy)
        for _ in range(2):
            with pytest.raises(LabelError):
                remembered.allowed("u:r:t:s0:c6", "u:object_r:o:s0", "file")
            with pytest.raises(LabelError):
                remembered.allowed("u:r:t:s0", "u:object_r:o:s0-s0:c1-s0:c2", "file")
            with pytest.raises(UnknownName):
                remembered.allowed("u:r:t:s0", "u:object_r:o:s0", "nothing")


def test_its_tables_are_bounded_and_their_end_changes_no_answer(
    constrained: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memo, "_SEEN_MAX", 8)
    monkeypatch.setattr(memo, "_CONTEXTS_MAX", 4)
    choose = random.Random(3)
    with Policy.open(constrained) as policy:
        remembered = Memo(policy)
        for _ in range(500):
            ends = [f"s0:c{choose.randrange(3)}-s1:c{choose.randrange(3)}.c5" for _ in range(2)]
            question = (f"u:r:t:{ends[0]}", f"u:object_r:o:{ends[1]}", "file")
            try:
                assert remembered.allowed(*question) == policy.compute(*question).allowed
            except LabelError:
                assert not policy.valid(question[0]) or not policy.valid(question[1])
        sizes = [len(table) for table in vars(remembered).values() if isinstance(table, dict)]
        assert max(sizes) <= 8
