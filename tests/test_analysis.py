"""What flows: by bits and groups as by asking for each pair; and the cases that are known of Debian's policy."""

import json
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import septum.analysis
from septum.analysis import (
    Channel,
    Flows,
    Instance,
    Snapshot,
    check,
    closure,
    directions,
    dump,
    load,
    parse,
    read,
    snapshot_hash,
    way,
    ways,
)  # fmt: skip
from septum.analysis.levels import Levels, bits
from septum.errors import NotFound, SnapshotError, UnknownName
from septum.labels import Level, Range, relation_key
from septum.sepol import Memo, Policy
from tests.analysiskit import TRUSTS, level, process, septums, slowly, snapshot_of, thing
from tests.sepolkit import POLICIES, built, small

ANY_PAIR = parse("never realm:* -> realm:*")


@pytest.mark.parametrize("name", POLICIES)
def test_every_permission_of_every_policy_has_a_direction(name: str) -> None:
    with Policy.open(built(name)) as policy:
        known = ways()
        missing = [
            f"{one}:{one_of}"
            for one, names in policy.classes().items()
            for one_of in names
            if (one, one_of) not in known
        ]
    assert missing == []


def test_a_permission_that_the_table_does_not_have_makes_the_answer_unknown(tmp_path: Path) -> None:
    image = small("(allow t o (septum_thing (use)))")
    instances = (
        Instance("one", "red", "guest", "process", "u:r:t:s0"),
        Instance("other", "blue", "guest", "process", "u:r:x:s0"),
        Instance("thing", "", "object", "septum_thing", "u:object_r:o:s0"),
    )
    with Policy.open(image) as policy:
        flows = Flows(snapshot_of(instances, tmp_path, image), {"selinux": Memo(policy)})
        (result,) = check(flows, ANY_PAIR)
    assert (result.verdict, result.unknown) == ("unknown", ("septum_thing:use",))
    assert directions("septum_thing", ("use",)).unknown == ("use",)


# Bits


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    low = draw(st.frozensets(st.integers(0, 5), max_size=4))
    more = draw(st.frozensets(st.integers(0, 12), max_size=12))
    high = low | more if draw(st.booleans()) else low
    bottom = draw(st.integers(0, 1))
    return Range(Level(bottom, level(*low).categories), Level(draw(st.integers(bottom, 1)), level(*high).categories))


@settings(deadline=None, max_examples=200)
@given(st.lists(ranges(), min_size=1, max_size=12))
def test_cells_are_the_relations(many: list[Range]) -> None:
    levels = Levels(many)
    for one in many:
        found = {node: key for key, nodes in levels.cells(one) for node in bits(nodes)}
        assert found == {node: relation_key(one, other) & 0xFF for node, other in enumerate(many)}


@st.composite
def edges(draw: st.DrawFn) -> list[set[int]]:
    size = draw(st.integers(1, 9))
    return [draw(st.sets(st.integers(0, size - 1))) - {node} for node in range(size)]


@settings(deadline=None, max_examples=300)
@given(edges())
def test_reach_and_the_shortest_way(out: list[set[int]]) -> None:
    size = len(out)
    rows = [sum(1 << far for far in some) for some in out]
    back = [sum(1 << near for near in range(size) if node in out[near]) for node in range(size)]
    distance = [[0 if a == b else 1 if b in out[a] else size + 1 for b in range(size)] for a in range(size)]
    for by, one, other in product(range(size), repeat=3):
        distance[one][other] = min(distance[one][other], distance[one][by] + distance[by][other])
    reach = closure(rows, back)
    for one in range(size):
        assert set(bits(reach.of(one))) == {other for other in range(size) if distance[one][other] <= size}
        for other in set(range(size)) - {one}:
            path = way(rows, 1 << one, 1 << other)
            assert len(path) == (distance[one][other] + 1 if distance[one][other] <= size else 0)
            assert all(far in out[near] for near, far in pairwise(path))


@pytest.mark.parametrize("strengths", [frozenset({"data"}), frozenset({"data", "signal", "metadata"})])
def test_rows_are_what_libsepol_says_of_each_pair(tmp_path: Path, strengths: frozenset[str]) -> None:
    image = built("septum")
    more = (
        process("wide", "", "s0-s0:c0.c1023", "septum_launcher_t"),
        thing("conduit", "", "s0"),
        thing("half", "r0", "s0:c0"),
        thing("spread", "", "s0-s0:c0,c256"),
    )
    snapshot = snapshot_of(septums() + more, tmp_path, image)
    with Policy.open(image) as policy:
        flows = Flows(snapshot, {"selinux": Memo(policy)}, strengths)
        found = {(flows.names[one], flows.names[other]) for one, row in enumerate(flows.out) for other in bits(row)}
        assert found == slowly(snapshot, policy, strengths)
        assert found == {
            (flows.names[near], flows.names[one]) for one, row in enumerate(flows.back) for near in bits(row)
        }
        assert all(flows.edges(*pair) for pair in found)
        assert all(edge.rule for pair in found for edge in flows.edges(*pair))
        others = set(product(flows.names, repeat=2)) - found
        assert not any(flows.edges(*pair) for pair in others if pair[0] != pair[1])


# Debian's policy

RED, BLUE = "s0:c5,c77", "s0:c6,c78"
TWO = (
    process("red", "red", RED, "svirt_t"),
    process("blue", "blue", BLUE, "svirt_t"),
    thing("red.img", "red", RED, "svirt_image_t"),
    thing("blue.img", "blue", BLUE, "svirt_image_t"),
)


def verdict(
    instances: tuple[Instance, ...], folder: Path, goals: str = "never realm:* -> realm:*"
) -> septum.analysis.Result:
    image = built("debian")
    with Policy.open(image) as policy:
        (result,) = check(Flows(snapshot_of(instances, folder, image), {"selinux": Memo(policy)}), parse(goals))
        return result


def test_svirt_keeps_two_guests_apart(tmp_path: Path) -> None:
    assert verdict(TWO, tmp_path).verdict == "holds"


@pytest.mark.parametrize("categories", ["s0", "s0:c5"])
def test_a_writable_object_without_categories_is_a_conduit(tmp_path: Path, categories: str) -> None:
    other = process("green", "green", "s0:c5,c9", "svirt_t")
    result = verdict((TWO[0], other, thing("left", "", categories, "svirt_image_t")), tmp_path)
    assert result.verdict == "violated"
    assert [(hop.source, hop.target) for hop in result.witness] in (
        [("red", "left"), ("left", "green")],
        [("green", "left"), ("left", "red")],
    )
    assert result.witness[0].edges[0].operation.startswith("file write")
    assert "(allow svirt_t svirt_image_t (file (" in result.witness[0].edges[0].rule


def test_virtd_is_a_conduit_unless_it_is_trusted(tmp_path: Path) -> None:
    virtd = process("virtd", "", "s0", "virtd_t")
    result = verdict((*TWO, virtd), tmp_path)
    assert result.verdict == "violated"
    assert result.witness[0].target == "virtd"
    trusted = verdict(
        (*TWO, virtd), tmp_path, 'never realm:* -> realm:*\ntrust process:virtd_t because "mediates; 2026-11"'
    )
    assert trusted.verdict == "holds"
    assert [(trust.who, trust.why) for trust in trusted.trusts] == [("process:virtd_t", "mediates; 2026-11")]


def test_a_trust_that_is_not_needed_is_not_named(tmp_path: Path) -> None:
    goals = 'never realm:* -> realm:*\ntrust process:svirt_t because "no reason"'
    assert verdict(TWO, tmp_path, goals).trusts == ()


# septum's policy, channels, Landlock


@pytest.fixture
def ours(tmp_path: Path) -> Snapshot:
    return snapshot_of(septums(3, 2), tmp_path, built("septum"))


def results(snapshot: Snapshot, goals: str) -> list[str]:
    with Policy.open(snapshot.policy_path("selinux")) as policy:
        return [result.verdict for result in check(Flows(snapshot, {"selinux": Memo(policy)}), parse(goals))]


def test_septums_own_policy_keeps_realms_apart(ours: Snapshot) -> None:
    assert results(ours, TRUSTS) == ["holds"]
    assert results(ours, "never guest:r0/g0 -> guest:r0/g1\n" + TRUSTS.replace("never realm:* -> realm:*\n", "")) == [
        "holds"
    ]


def test_a_door_and_its_channel(ours: Snapshot) -> None:
    opened = ours._replace(channels=(Channel("mail", "r0/g0", "r1/g1", "to"),))
    goals = "{}\n" + TRUSTS.replace("never realm:* -> realm:*\n", "")
    assert results(opened, goals.format("never realm:r0 -> realm:r1")) == ["violated"]
    assert results(opened, goals.format("only realm:r0 -> realm:r1 via door:mail")) == ["holds"]
    assert results(opened, goals.format("never realm:r1 -> realm:r0")) == ["holds"]
    assert results(opened, goals.format("only realm:r0 -> realm:r1 via guest:r1/g1")) == ["violated"]
    assert results(opened, goals.format("only realm:r0 -> guest:r1/boss via guest:r1/g1")) == ["holds"]


def test_landlock_takes_away_what_selinux_allows(tmp_path: Path) -> None:
    conduit = thing("left", "", "s0", "svirt_image_t")
    image = built("debian")
    ruled = tuple(one._replace(ruled=True) if one.tclass == "process" else one for one in TWO)
    snapshot = snapshot_of((*ruled, conduit), tmp_path, image)
    own = {"red": {"red.img": "rw"}, "blue": {"blue.img": "rw"}}
    assert results(snapshot._replace(reaches=own), "never realm:* -> realm:*") == ["holds"]
    both = {name: {**those, "left": "ro"} for name, those in own.items()}
    assert results(snapshot._replace(reaches=both), "never realm:* -> realm:*") == ["holds"]
    both["red"]["left"] = "rw"
    assert results(snapshot._replace(reaches=both), "never realm:red -> realm:blue") == ["violated"]
    assert results(snapshot._replace(reaches=both), "never realm:blue -> realm:red") == ["holds"]


# Files


def test_a_snapshot_is_the_same_after_writing_and_reading(ours: Snapshot, tmp_path: Path) -> None:
    full = ours._replace(
        channels=(Channel("mail", "r0/g0", "r1/g1"),),
        reaches={"r0/g0": {"r0/g0/image": "rw"}},
        instances=tuple(one._replace(ruled=one.name == "r0/g0") for one in ours.instances),
    )
    path = tmp_path / "platform.json"
    path.write_text(dump(full))
    again = read(str(path))
    assert dump(again) == dump(full)
    assert snapshot_hash(again) == snapshot_hash(full)
    assert snapshot_hash(again._replace(channels=())) != snapshot_hash(full)


GOOD = {
    "septum-snapshot": 1,
    "title": "x",
    "policies": {"selinux": {"file": "policy"}},
    "instances": [{"name": "a", "kind": "guest", "class": "process", "context": "u:r:t:s0"}],
}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"septum-snapshot": 2}, "/septum-snapshot: expected format 1"),
        ({"title": 3}, "/title: expected text"),
        ({"more": 1}, "at /: expected no key 'more'"),
        ({"policies": {"apparmor": {"file": "x"}}}, "/policies/apparmor: expected one of selinux, flask"),
        ({"policies": {}}, "/instances/0/mechanism: expected one that has a policy"),
        ({"instances": {}}, "/instances: expected a list"),
        ({"instances": GOOD["instances"] * 2}, "/instances/1/name: expected another name"),  # type: ignore[operator]
        ({"instances": [{"name": "a"}]}, "/instances/0: expected the key 'kind'"),
        (
            {"instances": [{**GOOD["instances"][0], "context": "u:r:t:s0:c9999"}]},
            "/instances/0/context: expected a context",
        ),  # type: ignore[index]
        (
            {"channels": [{"door": "d", "source": "a", "target": "b"}]},
            "/channels/0/target: expected the name of an instance",
        ),
        ({"channels": [{"door": "d", "source": "a", "target": "a", "direction": "up"}]}, "/channels/0/direction"),
        ({"reaches": {"a": {"a": "write"}}}, "/reaches/a/a: expected the name of an instance with ro or rw"),
    ],
)
def test_a_snapshot_that_is_wrong_says_where(change: dict[str, object], where: str) -> None:
    load(GOOD)
    with pytest.raises(SnapshotError) as caught:
        load({**GOOD, **change})
    assert where in str(caught.value)


def test_a_file_that_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(NotFound):
        read(str(path))
    path.write_text("{\n!")
    with pytest.raises(SnapshotError, match=":2:1: this is no JSON"):
        read(str(path))
    path.write_text("[" * 100_000)
    with pytest.raises(SnapshotError, match="no JSON"):
        read(str(path))
    path.write_text(json.dumps(GOOD))
    with pytest.raises(UnknownName), Policy.open(small("")) as policy:
        Flows(read(str(path)), {"selinux": Memo(policy)}).number("b")


def test_a_stale_label_is_named(tmp_path: Path) -> None:
    image = small("")
    snapshot = snapshot_of((process("gone", "red", "s0", "gone_t"),), tmp_path, image)
    with Policy.open(image) as policy, pytest.raises(SnapshotError, match="label of gone is not valid"):
        Flows(snapshot, {"selinux": Memo(policy)})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("never realm:a", 1),
        ("\n# a word\nnever realm:a -> realm:b via door:x", 3),
        ("only realm:a -> realm:b", 1),
        ("trust process:x because nothing", 1),
        ("never realm:a -> realm:b extra", 1),
        ("never who:a -> realm:b", 1),
    ],
)
def test_a_line_that_is_no_goal_is_told(text: str, line: int) -> None:
    with pytest.raises(SnapshotError, match=f"goals:{line}: this is no goal"):
        parse(text)


def test_no_goals_and_goals_about_nobody(ours: Snapshot) -> None:
    with pytest.raises(SnapshotError, match="no goal in it"):
        parse('# nothing\ntrust platform because "x"')
    with pytest.raises(SnapshotError, match="goals:2: realm:green is nobody"):
        results(ours, "\nnever realm:green -> realm:r0")
    assert (
        parse('trust process:x because "a # in it" # and one behind\nnever platform -> realm:a').trusts[0].why
        == "a # in it"
    )


def test_public_names_are_pinned() -> None:
    assert sorted(septum.analysis.__all__) == [
        "Channel", "Directions", "Edge", "Flows", "Goal", "Goals", "Hop", "Instance", "PolicyFile", "Reach", "Result",
        "Snapshot", "Trust", "Way", "check", "closure", "directions", "dump", "load", "parse", "read", "snapshot_hash",
        "way", "ways",
    ]  # fmt: skip
