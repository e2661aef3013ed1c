"""The talk's question on the real files: Xen's own policy, before and after a mechanism came to it."""

import re
from itertools import product
from pathlib import Path

import pytest

from septum.analysis import Flows, Instance, PolicyFile, Result, Snapshot, check, parse, ways
from septum.analysis.difference import compare
from septum.sepol import Memo, Policy
from tests.xenpolicykit import stock

pytestmark = pytest.mark.lab  # the hypervisor's source is fetched, and built with it

APART = parse("never realm:* -> realm:*")


def before_argo(source: Path) -> None:
    """Takes Argo's rules out of the policy: as it was when users were thought of."""
    for path in source.glob("modules/*"):
        path.write_text(re.sub(r"^\s*allow [^;]*:argo \{?[^;]*;", "", path.read_text(), flags=re.MULTILINE))


def mended(source: Path) -> None:
    """The MLS build, made to compile: names that were merged away go, users get ranges, dom0's channels are trusted."""
    mls = source / "policy/mls"
    mls.write_text(re.sub(r"\b(getextvcpucontext|setextvcpucontext|scheduler)\b", "", mls.read_text()))
    users = source / "modules/vm_role.te"
    users.write_text(users.read_text().replace(" s0, s0)", " s0, s0 - mls_systemhigh)"))
    dom0 = source / "modules/dom0.te"
    dom0.write_text(dom0.read_text() + "\ntypeattribute dom0_t_channel mls_priv;\n")


def constrained(source: Path) -> None:
    """Mended, and with constraints on what moves data."""
    mended(source)
    mls = source / "policy/mls"
    more = "".join(
        f"mlsconstrain {tclass} {{ {names} }} ((l1 dom l2) or (t1 == mls_priv) or (t2 == mls_priv));\n"
        for tclass, names in (
            ("grant", "map_read map_write copy"),
            ("event", "bind"),
            ("argo", "send register_single_source"),
            ("mmu", "map_read map_write"),
        )
    )
    mls.write_text(mls.read_text().replace("') dnl end enable_mls", f"{more}') dnl end enable_mls"))


def guests(contexts: dict[str, list[str]]) -> tuple[Instance, ...]:
    return tuple(
        Instance(f"{realm}/{number}", realm, "guest", "domain", context, "flask")
        for realm, some in contexts.items()
        for number, context in enumerate(some)
    )


def snapshot(instances: tuple[Instance, ...]) -> Snapshot:
    return Snapshot("xen", {"flask": PolicyFile("policy")}, instances)


def result(image: bytes, instances: tuple[Instance, ...]) -> Result:
    with Policy.open(image) as policy:
        (found,) = check(Flows(snapshot(instances), {"flask": Memo(policy)}), APART)
        return found


def test_every_permission_of_xens_has_a_direction() -> None:
    with Policy.open(stock()) as policy:
        missing = [
            (one, name) for one, names in policy.classes().items() for name in names if (one, name) not in ways()
        ]
    assert missing == []


@pytest.mark.parametrize("kind", ["domU_t", "isolated_domU_t"])
def test_argo_opened_what_users_keep_apart(kind: str) -> None:
    """Constraints on event and grant keep users apart; Argo came later and has none: from 0 to all 24 pairs."""
    orgs = guests({f"org{number}": [f"user_{number}:vm_r:{kind}"] * 2 for number in (1, 2, 3)})
    assert result(stock(before_argo), orgs).verdict == "holds"
    with Policy.open(stock(before_argo)) as old, Policy.open(stock()) as new:
        before, after = (Flows(snapshot(orgs), {"flask": Memo(policy)}) for policy in (old, new))
        across = {(a.name, b.name) for a, b in product(orgs, repeat=2) if a.realm != b.realm}
        assert len(across) == 24
        assert not any(before.out[before.number(a)] >> before.number(b) & 1 for a, b in across)
        changes = compare(before, after)
    added = [one for one in changes if one.kind == "added" and one.source != one.target]
    assert sum(one.pairs for one in added) == 24
    assert not any(one.kind == "removed" for one in changes)
    for one in added:
        (hop,) = one.witness
        (edge,) = hop.edges
        assert edge.operation.startswith("argo send")
        assert edge.rule == "(allow domain_type domain_type (argo (register_single_source send)))"


def test_events_are_decided_by_their_channels_own_label() -> None:
    signal = frozenset({"data", "signal"})
    with Policy.open(stock(before_argo)) as policy:
        for kind, same in (("domU_t", True), ("isolated_domU_t", False)):
            two = guests({"org1": [f"user_1:vm_r:{kind}"] * 2, "org2": [f"user_2:vm_r:{kind}"]})
            flows = Flows(snapshot(two), {"flask": Memo(policy)}, signal)
            found = [edge for edge in flows.edges("org1/0", "org1/1") if edge.operation.startswith("event")]
            assert bool(found) == same, kind
            assert flows.edges("org1/0", "org2/0") == ()
            if same:
                assert f"(allow {kind}_channel" in found[0].rule or "event_type" in found[0].rule


def test_xens_mls_policy_does_not_compile_and_once_mended_separates_too_little() -> None:
    with pytest.raises(Exception, match="returned non-zero"):
        stock(mls=True)
    levels = guests({"red": ["user_1:vm_r:domU_t:s0:c1"], "blue": ["user_1:vm_r:domU_t:s0:c2"]})
    found = result(stock(mended, mls=True), levels)
    assert found.verdict == "violated"
    operations = {edge.operation.split(" (")[0] for edge in found.witness[0].edges}
    assert any(one.startswith("grant") for one in operations)
    assert any(one.startswith("argo") for one in operations)
    assert result(stock(constrained, mls=True), levels).verdict == "holds"
    same = guests({"red": ["user_1:vm_r:domU_t:s0:c1"], "blue": ["user_1:vm_r:domU_t:s0:c1"]})
    assert result(stock(constrained, mls=True), same).verdict == "violated"
