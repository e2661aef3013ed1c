"""Type-level answers beside SETools': both read the same compiled policy, each in its own way."""

import random
import re
import subprocess
from pathlib import Path

import pytest

from septum.analysis import Flows, Instance, directions
from septum.sepol import Memo, Policy
from tests.analysiskit import snapshot_of
from tests.sepolkit import built


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.33"
    path.write_bytes(built("debian"))
    return path


def sesearch(path: Path, source: str, target: str, tclass: str) -> set[str]:
    """The permissions that unconditional rules, and conditional ones that are on, allow."""
    command = ["sesearch", "-A", "-s", source, "-t", target, "-c", tclass, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: set[str] = set()
    for line in said.splitlines():
        rule = re.fullmatch(r"allow (\S+) (\S+):(\S+) (?:\{ (.*) \}|(\S+));(?: \[ (.*) \]:(True|False))?", line.strip())
        if rule and not rule[6]:
            found |= set((rule[4] or rule[5]).split())
    return found


def test_what_rules_allow(policy_file: Path) -> None:
    """For types that no constraint and no boolean concerns, what libsepol decides is what sesearch finds."""
    choose = random.Random(5)
    asked = 0
    with Policy.open(str(policy_file)) as policy:
        rules = policy.rules
        plain = [
            found
            for found in re.findall(r"^\(allow (\S+) (\S+) \((dbus|service|system|fd|netif) ", rules.text, re.MULTILINE)
            if found[0] in rules.types and found[1] in rules.types
        ]
        memo = Memo(policy)
        for source, target, tclass in choose.sample(plain, 25):
            one, other = (f"system_u:{role}:{kind}:s0" for role, kind in (("system_r", source), ("object_r", target)))
            if not policy.valid(one) or not policy.valid(other):
                continue
            if any(rule.condition for rule in rules.allows(source, target, tclass)):
                continue
            asked += 1
            assert set(policy.names(tclass, memo.allowed(one, other, tclass))) == sesearch(
                policy_file, source, target, tclass
            )
    assert asked >= 10


def test_direct_flows(policy_file: Path, tmp_path: Path) -> None:
    """seinfoflow's one-step flows between types through an object, and ours, where both have a direction for it."""
    kinds = [("svirt_t", "svirt_image_t"), ("svirt_t", "virt_content_t"), ("virtd_t", "svirt_image_t")]
    for process, thing in kinds:
        said = subprocess.run(
            ["sesearch", "-A", "-s", process, "-t", thing, "-c", "file", str(policy_file)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        rules = [line for line in said.splitlines() if "[" not in line]
        permissions = {word for line in rules for word in re.findall(r"[a-z_]+", line.partition(":file")[2])}
        ways = directions("file", sorted(permissions))
        instances = (
            Instance("p", "", "process", "process", f"system_u:system_r:{process}:s0"),
            Instance("o", "", "object", "file", f"system_u:object_r:{thing}:s0"),
        )
        snapshot = snapshot_of(instances, tmp_path, policy_file.read_bytes())
        with Policy.open(str(policy_file)) as policy:
            flows = Flows(snapshot, {"selinux": Memo(policy)})
        assert (bool(flows.out[0]), bool(flows.out[1])) == (bool(ways.out), bool(ways.back)), (process, thing, rules)
