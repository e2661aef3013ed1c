"""Proofs over every assignment, and that nothing which opens a path goes unseen."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septum.analysis import Flows, Snapshot, check, parse
from septum.analysis.proof import Proof, position, prove
from septum.labels import CategorySet, CoverFreeCode, Level, Range, RealmScheme, relation_key
from septum.policy import sources
from septum.sepol import Memo, Policy
from tests.analysiskit import SCHEME, TRUSTS, level_of, process, reached, septums, slowly, snapshot_of, thing
from tests.sepolkit import built

GOALS = parse(TRUSTS)
SCHEMES = (SCHEME, RealmScheme(range(256), range(256, 1022), 2, CoverFreeCode(16, 3)))


def proof(snapshot: Snapshot, goals: str = TRUSTS) -> Proof:
    with Policy.open(snapshot.policy_path("selinux")) as policy:
        return prove(snapshot, {"selinux": Memo(policy)}, parse(goals), SCHEME)


# What the argument rests on


def placed(place: str, scheme: RealmScheme, realm: int, guest: int) -> Range:
    code = scheme.realm_code(realm)
    if place == "guest":
        return Range(Level(0, scheme.guest_categories(code, guest)))
    return Range(Level(0, code)) if place == "realm" else scheme.orchestrator_range(code)


FIXED = (Range(Level(0, CategorySet())), Range(Level(0, CategorySet()), Level(0, CategorySet(range(1024)))))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_how_labels_stand_depends_on_what_they_are_for_alone(scheme: RealmScheme, data: st.DataObject) -> None:
    def two(most: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, most - 1), min_size=2, max_size=2, unique=True))

    realms, guests = two(scheme.capacity.realms), two(scheme.capacity.guests)
    places = ("guest", "realm", "orchestrator")
    for one, other in product(places, repeat=2):
        for same_realm, same_guest in ((True, True), (True, False), (False, True), (False, False)):
            drawn = (
                placed(one, scheme, realms[0], guests[0]),
                placed(other, scheme, realms[not same_realm], guests[not same_guest]),
            )
            shown = (placed(one, scheme, 0, 0), placed(other, scheme, int(not same_realm), int(not same_guest)))
            assert relation_key(*drawn) == relation_key(*shown)
            assert position(drawn[0], scheme) == one
    for one, fixed in product(places, FIXED):
        assert position(fixed, scheme) == "fixed"
        for pair in (
            (fixed, placed(one, scheme, realms[0], guests[0])),
            (placed(one, scheme, realms[0], guests[0]), fixed),
        ):
            shown_pair = tuple(part if part is fixed else placed(one, scheme, 0, 0) for part in pair)
            assert relation_key(*pair) == relation_key(*shown_pair)


@pytest.mark.parametrize(
    "text",
    ["s0:c1", "s0:c256,c300", "s0:c1,c300", "s0:c1,c2,c300,c301", "s0:c0.c1023", "s0:c1-s0:c1,c256", "s1", "s0:c1022"],
)
def test_labels_that_are_not_the_schemes(text: str) -> None:
    # One realm's category, and the whole of both blocks, are the scheme's and fixed ones.
    expected = {"s0:c1": "realm", "s0:c0.c1023": "fixed", "s0:c1022": "fixed"}.get(text, "")
    assert position(Range.parse(text), SCHEME) == expected


# Proofs


def test_septums_policy_for_every_assignment(tmp_path: Path) -> None:
    found = proof(snapshot_of(septums(), tmp_path, built("septum")))
    assert [result.verdict for result in found.results] == ["holds"]
    assert found.uncovered == ()
    rows = {(case.source, case.target): case for case in found.cases}
    own = rows[
        "guest septum_vm.process process of one guest of any realm",
        "object septum_vm.image file of one guest of any realm",
    ]
    foreign = rows[
        "guest septum_vm.process process of one guest of any realm",
        "object septum_vm.image file of one guest of another realm",
    ]
    assert (own.stand, bool(own.edges)) == ("equal", True)
    assert (foreign.stand, foreign.edges) == ("incomparable", ())


def test_a_proof_says_more_than_the_labels_that_are_there(tmp_path: Path) -> None:
    """One realm alone has nobody to talk to, and an image without categories harms nobody yet."""
    only = (process("a", "red", level_of(0, 0), "svirt_t"), thing("left", "", "s0", "svirt_image_t"))
    snapshot = snapshot_of(only, tmp_path, built("debian"))
    goals = "never realm:* -> realm:*"
    with Policy.open(snapshot.policy_path("selinux")) as policy:
        assert [one.verdict for one in check(Flows(snapshot, {"selinux": Memo(policy)}), parse(goals))] == ["holds"]
    (result,) = proof(snapshot, goals).results
    assert result.verdict == "violated"
    assert result.witness[0].target.startswith("the platform's object svirt_image_t s0")


def test_what_is_not_the_schemes_is_named_and_nothing_is_proved(tmp_path: Path) -> None:
    more = (*septums(), process("podman", "", "s0:c3,c900", "septum_launcher_t"))
    found = proof(snapshot_of(more, tmp_path, built("septum")))
    assert found.uncovered == ("podman",)
    assert [result.verdict for result in found.results] == ["unknown"]


# Mutants: the policy with one thing wrong. Whether it opens a path is found without the analyser's groups and bits.

_WRONG = """
(allow septum_vm.process septum_vm.process (process (ptrace)))
(allow septum_vm.process septum_vm.process (unix_stream_socket (connectto)))
(allow septum_vm.process septum_orchestrator.process (unix_stream_socket (connectto)))
(allow septum_vm.process septum_vm.process (shm (read write unix_read unix_write)))
(allow septum_vm.process septum_vm.content (file (write)))
(allow septum_vm.process septum_vm.image (lnk_file (write)))
(allow septum_vm.process septum_vm.process (key (read write)))
(allow septum_vm.process septum_vm.process (fifo_file (write)))
(allow septum_vm.process septum_vm.process (msgq (write)))
(allow septum_orchestrator.process septum_vm.image (file (read write)))
(allow septum_orchestrator.process septum_vm.process (process (ptrace)))
(allow septum_vm.process septum_host_t (file (read write)))
(allow septum_vm.process septum_runtime_t (sock_file (write)))
(allow septum_vm.process septum_vm.memory (chr_file (read write)))
"""


def constraints(text: str) -> Iterator[str]:
    """Each constraint of a source, as it stands there."""
    for found in re.finditer(r"^\(mlsconstrain ", text, re.MULTILINE):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield text[found.start() : end]


def mutants() -> Iterator[tuple[str, str, str]]:
    """A name, a statement that is taken out, one that is put in."""
    for source in sources("standalone"):
        for statement in constraints(source.text):
            yield f"without {statement}", statement, ""
    for line in _WRONG.strip().splitlines():
        yield f"with {line}", "", line


def compiled(old: str, new: str) -> bytes:
    """The stand-alone policy with a change; neverallows, which would refuse some of them, are not looked at."""
    whole = "\n".join(source.text for source in sources("standalone"))
    text = (whole.replace(old, "", 1) if old else whole) + new
    assert text != whole
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name, "mutant.cil"), Path(name, "policy")
        source.write_text(text)
        command = ["secilc", "-N", "-M", "true", "-c", "33", "-o", output, "-f", os.devnull, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return output.read_bytes()


EXTRA = (
    thing("host", "", "s0", "septum_host_t"),
    thing("runtime", "", "s0", "septum_runtime_t", "sock_file"),
    thing("loose", "", "s0", "septum_vm.image"),
)


def opens(snapshot: Snapshot, policy: Policy) -> bool:
    """Whether anything passes from one realm to another, by whom nobody trusts."""
    steps = slowly(snapshot, policy)
    trusted = {"launcher", "watcher", "septumd"}
    realm = {one.name: one.realm for one in snapshot.instances}
    for name in set(realm.values()) - {""}:
        begin = {one for one, owner in realm.items() if owner == name}
        if any(realm[one] not in ("", name) for one in reached(steps, begin, trusted)):
            return True
    return False


def test_every_mutant_that_opens_a_path_is_caught(tmp_path: Path) -> None:
    platform = septums(2, 1)
    opened, caught_by_proof, seen = [], [], 0
    for name, old, new in mutants():
        image = compiled(old, new)
        seen += 1
        for extra in ((), EXTRA):
            snapshot = snapshot_of((*platform, *extra), tmp_path, image)
            with Policy.open(image) as policy:
                memos = {"selinux": Memo(policy)}
                really = opens(snapshot, policy)
                (result,) = check(Flows(snapshot, memos), GOALS)
                assert (result.verdict == "violated") == really, name
                (general,) = prove(snapshot, memos, GOALS, SCHEME).results
                assert not really or general.verdict == "violated", name
            if really:
                opened.append(name)
                caught_by_proof.append(general.verdict)
    assert seen >= 35
    assert len(opened) >= 10
    assert set(caught_by_proof) == {"violated"}
