"""``septum flows``, ``diff``, ``check`` and ``graph``: what they say, and how they end."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from septum.analysis import PolicyFile, dump
from septum.analysis.added import added
from septum.policy import Source, build
from septum.sepol import Policy
from tests.analysiskit import TRUSTS, process, septums, snapshot_of, thing
from tests.launchkit import SEPTUM, SOURCES
from tests.sepolkit import built, small

CONDUIT = thing("loose", "", "s0")


def septum(*words: str | Path, status: int) -> str:
    done = subprocess.run(
        [*SEPTUM, *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "PYTHONPATH": str(SOURCES)},
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    snapshot = snapshot_of(septums(), tmp_path, built("septum"))
    path = tmp_path / "platform.json"
    path.write_text(dump(snapshot))
    (tmp_path / "goals").write_text(TRUSTS)
    return path


@pytest.fixture
def loose(platform: Path, tmp_path: Path) -> Path:
    """The same with an image that all may write."""
    path = tmp_path / "loose.json"
    path.write_text(dump(snapshot_of((*septums(), CONDUIT), tmp_path, built("septum"))))
    return path


def test_flows(tmp_path: Path) -> None:
    # Without septum's own processes, which pass on what guests print.
    guests = tuple(one for one in septums() if one.realm)
    platform, loose = tmp_path / "platform.json", tmp_path / "loose.json"
    platform.write_text(dump(snapshot_of(guests, tmp_path, built("septum"))))
    loose.write_text(dump(snapshot_of((*guests, CONDUIT), tmp_path, built("septum"))))
    said = septum("flows", loose, "guest:r0/g0", "guest:r1/g1", status=0)
    assert "a way\n" in said
    assert "r0/g0 -> loose" in said
    assert "(allow septum_vm.process septum_vm.image (file (" in said
    assert septum("flows", platform, "guest:r0/g0", "object:r1/g1/image", status=1) == "no way\n"
    assert "no new way" in septum("flows", loose, "guest:r0/g0", "guest:r1/g1", "--since", loose, status=1)
    assert "r0/g0 -> loose" in septum("flows", loose, "guest:r0/g0", "guest:r1/g1", "--since", platform, status=0)
    found = json.loads(septum("flows", loose, "realm:r0", "realm:r1", "--json", status=0))
    assert found["verdict"] == "a way"
    assert found["way"][0]["edges"][0]["rule"].startswith("(allow")
    assert "nobody in this snapshot" in septum("flows", platform, "guest:x", "realm:r1", status=125)


def test_check(platform: Path, loose: Path, tmp_path: Path) -> None:
    assert septum("check", platform, tmp_path / "goals", status=0).startswith("holds: never realm:* -> realm:*\n")
    said = septum("check", loose, tmp_path / "goals", status=1)
    assert said.startswith("violated: never realm:* -> realm:*\n")
    assert "relies on" not in said
    found = json.loads(septum("check", loose, tmp_path / "goals", "--json", status=1))
    assert [(one["verdict"], one["line"]) for one in found] == [("violated", 2)]
    log: Any = json.loads(septum("check", loose, tmp_path / "goals", "--sarif", status=1))
    (result,) = log["runs"][0]["results"]
    assert result["level"] == "error"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    assert json.loads(septum("check", platform, tmp_path / "goals", "--sarif", status=0))["runs"][0]["results"] == []


def test_the_goal_without_a_file_is_that_realms_are_apart(platform: Path) -> None:
    # Nobody is trusted then, so septum's own processes are ways.
    assert "violated: never realm:* -> realm:*" in septum("check", platform, status=1)


def test_the_proof_prints_its_cases(platform: Path, tmp_path: Path) -> None:
    said = septum("check", platform, tmp_path / "goals", "--proof", status=0)
    assert "incomparable" in said
    assert "holds: never realm:* -> realm:*" in said
    found = json.loads(septum("check", platform, tmp_path / "goals", "--proof", "--json", status=0))
    assert len(found["cases"]) > 50
    assert found["uncovered"] == []


def test_diff_of_snapshots(platform: Path, loose: Path) -> None:
    assert septum("diff", platform, platform, status=0) == "nothing came, nothing went\n"
    # All reach all by the launcher, which diff does not trust; without it the loose image is what is new.
    bare = [one for one in septums() if one.realm]
    folder = platform.parent
    old, new = folder / "old.json", folder / "new.json"
    old.write_text(dump(snapshot_of(tuple(bare), folder, built("septum"))))
    new.write_text(dump(snapshot_of((*bare, CONDUIT), folder, built("septum"))))
    said = septum("diff", old, new, status=1)
    assert "added: r0 -> r1, " in said
    assert "removed" not in said
    assert "removed: r0 -> r1, " in septum("diff", new, old, status=0)
    found = json.loads(septum("diff", old, new, "--json", status=1))
    assert {(one["source"], one["target"]) for one in found["changes"]} >= {("r0", "r1"), ("r1", "r0")}


def test_graph(platform: Path, loose: Path, tmp_path: Path) -> None:
    septum("graph", loose, tmp_path / "x.svg", "--since", platform, status=0)
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert "through loose" in ET.tostring(root, encoding="unicode") or root.findall(".//{*}g[@data-line]")
    septum("graph", loose, tmp_path / "x.html", "--objects", status=0)
    assert "through loose" not in (tmp_path / "x.html").read_text()
    assert '"loose"' in (tmp_path / "x.html").read_text()
    assert "ends in .svg or .html" in septum("graph", loose, tmp_path / "x.png", status=2)
    assert "can't be written" in septum("graph", loose, "/nonexistent/x.svg", status=125)
    assert not list(tmp_path.glob("*.part"))


def test_a_policy_that_is_not_the_snapshots(platform: Path) -> None:
    folder = platform.parent
    snapshot = snapshot_of(septums(), folder, built("septum"))
    with Policy.open(built("septum")) as policy:
        good = snapshot._replace(policies={"selinux": PolicyFile("policy", policy.fingerprint)})
    platform.write_text(dump(good))
    septum("check", platform, folder / "goals", status=0)
    (folder / "policy").write_bytes(small(""))
    assert "is not the one of the snapshot" in septum("check", platform, folder / "goals", status=125)
    (folder / "policy").write_bytes(built("septum")[:1000])
    assert "septum:" in septum("check", platform, folder / "goals", status=125)


def test_hazards(tmp_path: Path) -> None:
    instances = (
        process("a", "red", "s0:c1", "svirt_t"),
        process("b", "blue", "s0:c1,c2", "svirt_t"),
        process("c", "green", "s0:c5,c6", "svirt_t"),
        process("d", "green", "s0:c5,c6", "svirt_t"),
        process("e", "grey", "s0-s0:c0.c1023", "unconfined_t", "unconfined_r")._replace(
            context="unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
        ),
        thing("old", "", "s0", "gone_t"),
        thing("left", "", "s0", "svirt_image_t"),
    )
    path = tmp_path / "x.json"
    path.write_text(dump(snapshot_of(instances, tmp_path, built("debian"))))
    found = json.loads(septum("check", path, "--hazards", "--json", status=1))
    kinds = {one["name"]: one["what"] for one in found}
    assert set(kinds) == {
        "comparable-labels", "one-category-label", "shared-label", "stale-label", "unconfined-guest",
        "writable-without-categories",
    }  # fmt: skip
    assert any("label of b contains that of a" in one["what"] for one in found)
    assert "left" in kinds["writable-without-categories"]
    path.write_text(dump(snapshot_of(septums(), tmp_path, built("septum"))))
    assert septum("check", path, "--hazards", status=0) == "no hazards\n"


# Policies


def written(folder: Path, name: str, image: bytes) -> Path:
    (folder / name).write_bytes(image)
    return folder / name


def test_septums_module_gives_debians_types_no_new_access(tmp_path: Path) -> None:
    old, new = written(tmp_path, "old", built("debian")), written(tmp_path, "new", built("debian with septum"))
    said = septum("check", "--no-new-access", old, new, status=0)
    assert said == "no type that was there before has new access to another one\n"


BASE = "(allow t o (file (read)))\n(mlsconstrain (file (read write)) (or (dom h1 h2) (eq t1 other_t)))\n"


@pytest.mark.parametrize(
    ("change", "accesses", "unknown"),
    [
        ("(allow t o (file (write)))", [("t", "o", "file", ("write",))], 0),
        ("(allow t many (file (write)))", [("t", "o", "file", ("write",)), ("t", "x", "file", ("write",))], 0),
        ("(allow t o (file (read)))", [], 0),
        ("(type new_t)(roletype object_r new_t)(allow t new_t (file (read write)))", [], 0),
        ("(type new_t)(roletype r new_t)(allow new_t o (file (write)))", [], 0),
        ("(boolean on true)(booleanif on (true (allow t o (file (write)))))", [("t", "o", "file", ("write",))], 0),
        ("(boolean off false)(booleanif off (true (allow t o (file (write)))))", [], 0),
        ("(typeattributeset many (t))(allow many many (file (open)))", "many", 0),
        ("(mlsconstrain (file (getattr)) (eq l1 l2))", [], 0),
        ("(typetransition t o process x)", [], 1),
        ("(roletype q o)", [], 1),
        ("(roleallow r q)", [], 1),
    ],
)  # fmt: skip
def test_what_a_policy_adds(change: str, accesses: object, unknown: int) -> None:
    with Policy.open(small(BASE)) as old, Policy.open(small(BASE + change)) as new:
        found = added(old, new)
    assert len(found.unknown) == unknown, found.unknown
    if accesses == "many":
        assert {(one.source, one.target) for one in found.accesses} == {
            (a, b) for a in ("o", "x", "t") for b in ("o", "x", "t")
        }
    else:
        assert [(one.source, one.target, one.tclass, one.permissions) for one in found.accesses] == accesses
        assert all(one.rule for one in found.accesses)


def test_a_constraint_that_is_gone_and_a_boolean_that_is_on_are_not_followed() -> None:
    with Policy.open(small(BASE)) as old, Policy.open(small("(allow t o (file (read)))")) as new:
        assert [one[:13] for one in added(old, new).unknown] == ["(mlsconstrain"]
    rule = "(boolean b {})(booleanif b (true (allow t o (file (write)))))"
    with Policy.open(small(rule.format("false"))) as old, Policy.open(small(rule.format("true"))) as new:
        assert added(old, new).unknown == ("(boolean b true)",)


def test_a_rule_that_changes_its_branch_is_new() -> None:
    rule = "(boolean b true)(booleanif b ({} (allow t o (file (write)))))"
    with Policy.open(small(rule.format("false"))) as old, Policy.open(small(rule.format("true"))) as new:
        assert [one.permissions for one in added(old, new).accesses] == [("write",)]


def test_an_addition_to_septums_policy_is_told(tmp_path: Path) -> None:
    more = build(
        "standalone", extra=[Source("more.cil", "(allow septum_vm.process septum_host_t (dir (add_name)))")]
    ).image
    old, new = written(tmp_path, "old", built("septum")), written(tmp_path, "new", more)
    assert "added: septum_vm.process septum_host_t dir { add_name }" in septum("diff", old, new, status=1)
    found = json.loads(septum("check", "--no-new-access", old, new, "--json", status=1))
    assert found["added"][0]["permissions"] == ["add_name"]
    assert "takes no snapshot" in septum("check", old, "--no-new-access", old, new, status=2)
    assert "a snapshot is needed" in septum("check", status=2)
