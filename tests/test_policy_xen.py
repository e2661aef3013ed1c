"""The hypervisor's policy decides what was meant, and its neverallows really refuse. The hypervisor: test_lab_xen."""

from collections.abc import Iterator

import pytest

from septum.errors import PolicyError
from septum.policy import Source, XenDoor, build, numbers_cil, xen_role_cil
from septum.sepol import Policy
from tests.cilkit import neverallows, pairs

# What is never allowed, and a rule that would allow some of it. A new neverallow without its rule here fails the test.
PAIRS = """
(neverallow septum_not_channel septum_any_domain (event (bind)))
    (allow septum_vm.domain dom0_t (event (bind)))
(neverallow septum_any_domain septum_not_channel (event (create send status)))
    (allow septum_vm.domain dom0_t (event (send)))
(neverallow septum_not_control septum_any_domain (domain (create)))
    (allow septum_driver_t septum_xenstore_t (domain (create)))
(neverallow septum_not_control septum_any_domain (domain2 (relabelfrom relabelto relabelself make_priv_for set_as_target
    create_hardware_domain)))
    (allow septum_xenstore_t septum_vm.domain (domain2 (relabelto)))
(neverallow septum_any_domain septum_unlabelled (domain (create)))
    (allow dom0_t domU_t (domain (create)))
(neverallow septum_not_control security_t (security (all)))
    (allow septum_orchestrator.domain security_t (security (setbool)))
(neverallow septum_driver_t septum_guest_own septum_any_domain_op)
    (allow septum_driver_t septum_vm.domain (domain (pause)))
(neverallow septum_guest_acting xen_t (xen (not (writeconsole))))
    (allow septum_vm.domain xen_t (xen (readconsole)))
(neverallow septum_guest_acting xen_t (xen2 (not (pmu_use))))
    (allow septum_vm.domain xen_t (xen2 (livepatch_op)))
(neverallow septum_guest_acting xen_t (version (xen_commandline xen_build_id)))
    (allow septum_vm.domain xen_t (version (xen_build_id)))
(neverallow septum_guest_acting septum_host_device (resource (all)))
    (allow septum_vm.domain device_t (resource (use_iommu)))
(neverallow septum_guest_acting septum_guest_domain (mmu (all)))
    (allow septum_vm.domain septum_vm.domain (mmu (map_read)))
(neverallow septum_guest_acting septum_platform_domain septum_any_domain_op)
    (allow septum_vm.domain dom0_t (mmu (map_read)))
(neverallow septum_guest_domain septum_guest_own (domain (all)))
    (allow septum_orchestrator.domain septum_orchestrator.domain (domain (getdomaininfo)))
(neverallow septum_guest_acting septum_guest_own (shadow (all)))
    (allow septum_vm.stub septum_vm.target (shadow (logdirty)))
(neverallow septum_guest_acting septum_guest_own (domain2 (vm_event mem_access mem_paging mem_sharing)))
    (allow septum_vm.stub septum_vm.target (domain2 (vm_event)))
(neverallow septum_guest_acting septum_guest_own (hvm (mem_sharing share_mem audit_p2m altp2mhvm altp2mhvm_op)))
    (allow septum_vm.domain septum_vm.itself (hvm (altp2mhvm_op)))
(neverallow septum_guest_acting septum_guest_own (grant (map_write copy transfer)))
    (allow septum_vm.domain septum_vm.domain (grant (copy)))
(neverallow septum_guest_acting septum_platform_domain (grant (all)))
    (allow septum_vm.domain septum_driver_t (grant (map_read)))
(neverallow septum_guest_acting septum_platform_domain (argo (all)))
    (allow septum_vm.domain dom0_t (argo (send)))
(neverallow septum_any_domain xen_t (argo (register_any_source)))
    (allow dom0_t xen_t (argo (register_any_source)))
(neverallow domain strangers septum_any_exchange)
    (allow septum_vm.domain septum_orchestrator.domain (grant (map_read)))
(neverallow stub strangers septum_any_exchange)
    (allow septum_vm.stub septum_orchestrator.domain (argo (send)))
(neverallow channel strangers (event (bind)))
    (allow septum_vm.channel septum_orchestrator.domain (event (bind)))
(neverallow domain strangers septum_any_domain_op)
    (allow septum_vm.domain septum_orchestrator.target (hvm (getparam)))
(neverallow stub strangers septum_any_domain_op)
    (allow septum_vm.stub septum_orchestrator.domain (hvm (dm)))
(neverallow one_end not_other (event (bind)))
    (allow web_to_db_ends.one_end acme_cache.domain (event (bind)))
(neverallow other_end not_one (event (bind)))
    (allow web_to_db_ends.other_end dom0_t (event (bind)))
(neverallow not_one one_end (event (create send)))
    (allow dom0_t web_to_db_ends.one_end (event (send)))
(neverallow not_other other_end (event (create send)))
    (allow acme_web.domain web_to_db_ends.other_end (event (create)))
"""

ROLES = ("acme_web", "acme_cache", "blue_db")
DOORS = (
    XenDoor("web_to_db", "acme_web", "blue_db", "to-service"),
    XenDoor("web_and_cache", "acme_web", "acme_cache", "both"),
)
WEB, WEB2 = "c1,c300,c301", "c1,c302,c303"
CACHE, DB = "c1,c304,c305", "c2,c300,c301"


def declared(*doors: XenDoor) -> Source:
    return Source("declared.cil", xen_role_cil(ROLES, doors))


@pytest.fixture(scope="module")
def image() -> bytes:
    return build("xen", extra=[declared(*DOORS)]).image


@pytest.fixture(scope="module", params=[False, True], ids=["closed", "open"])
def policy(request: pytest.FixtureRequest, image: bytes) -> Iterator[tuple[Policy, bool]]:
    booleans = {f"{door.name}.open": request.param for door in DOORS}
    with Policy.open(image, booleans=booleans) as opened:
        yield opened, request.param


def domain(role: str, categories: str) -> str:
    return f"system_u:system_r:{role}.domain:s0:{categories}"


def channel(kind: str, categories: str) -> str:
    return f"system_u:object_r:{kind}:s0:{categories}"


def allowed(policy: Policy, source: str, target: str, cls: str, permission: str) -> bool:
    return policy.explain(source, target, cls, [permission]).allowed


def test_each_neverallow_has_a_rule_that_breaks_it() -> None:
    assert set(pairs(PAIRS)) == set(neverallows("xen"))


@pytest.mark.parametrize(("never", "rule"), pairs(PAIRS).items())
def test_breaking_it_fails_the_build(never: str, rule: str) -> None:
    with pytest.raises(PolicyError) as caught:
        build("xen", extra=[declared(*DOORS), Source("broken.cil", f"{rule}\n")])
    assert f"neverallow check failed at {neverallows('xen')[never]}\n" in f"{caught.value.rule}\n"
    assert "allow at broken.cil:1" in caught.value.rule


@pytest.mark.parametrize(
    "rule",
    [
        "(allow acme_web.domain blue_db.domain (grant (map_read)))",
        "(allow acme_web.channel blue_db.domain (event (bind)))",
        "(allow blue_db.domain acme_web.domain (argo (send)))",
    ],
)
def test_declared_roles_are_held_to_them_unless_there_is_a_door(rule: str) -> None:
    with pytest.raises(PolicyError, match="does not compile"):
        build("xen", extra=[declared(), Source("broken.cil", rule)])
    assert build("xen", extra=[declared(DOORS[0]), Source("wider.cil", rule)]).image


def test_a_door_never_gives_what_the_neverallows_keep() -> None:
    for rule in (
        "(allow blue_db.domain acme_web.domain (grant (map_write)))",
        "(allow blue_db.domain acme_web.domain (mmu (map_read)))",
        "(allow blue_db.domain acme_web.domain (domain (pause)))",
    ):
        with pytest.raises(PolicyError, match="does not compile"):
            build("xen", extra=[declared(*DOORS), Source("broken.cil", rule)])


def test_a_door_opens_one_way(policy: tuple[Policy, bool]) -> None:
    decides, opened = policy
    web, db = domain("acme_web", WEB), domain("blue_db", DB)
    # Who writes grants; who reads maps, and only for reading.
    assert allowed(decides, db, web, "grant", "map_read") == opened
    assert allowed(decides, web, db, "argo", "send") == opened
    assert allowed(decides, db, web, "argo", "register_single_source") == opened
    for maker, end, other in (
        (web, channel("web_to_db_ends.one_end", WEB), db),
        (db, channel("web_to_db_ends.other_end", DB), web),
    ):
        assert allowed(decides, end, other, "event", "bind") == opened
        # Asked for each signal, so that a channel that is there falls silent when the door closes.
        assert allowed(decides, maker, end, "event", "send") == opened
        assert not allowed(decides, end, maker, "event", "bind")
    for source, target, cls, permission in (
        (db, web, "grant", "map_write"),
        (web, db, "grant", "map_read"),
        (web, db, "grant", "copy"),
        (db, web, "argo", "send"),
        (web, db, "argo", "register_single_source"),
    ):
        assert not allowed(decides, source, target, cls, permission)


def test_two_roles_may_have_many_doors() -> None:
    doors = (
        *DOORS,
        XenDoor("again", "acme_web", "blue_db", "both"),
        XenDoor("back", "blue_db", "acme_web", "to-service"),
    )
    image = build("xen", extra=[declared(*doors)]).image
    web, db = domain("acme_web", WEB), domain("blue_db", DB)
    end = channel("web_to_db_ends.one_end", WEB)
    for opened in ("web_to_db", "again", "back"):
        with Policy.open(image, booleans={f"{opened}.open": True}) as policy:
            assert allowed(policy, web, end, "event", "send")
            assert allowed(policy, web, db, "grant", "map_read") == (opened != "web_to_db")


def test_a_door_both_ways_never_maps_for_writing(policy: tuple[Policy, bool]) -> None:
    decides, opened = policy
    web, cache = domain("acme_web", WEB), domain("acme_cache", CACHE)
    for source, target in ((web, cache), (cache, web)):
        assert allowed(decides, source, target, "grant", "map_read") == opened
        assert allowed(decides, source, target, "argo", "send") == opened
        assert not allowed(decides, source, target, "grant", "map_write")


def test_guests_of_one_role_are_apart_whatever_doors_are_open(policy: tuple[Policy, bool]) -> None:
    decides, _ = policy
    one, other = domain("acme_web", WEB), domain("acme_web", WEB2)
    for cls, permission in (("grant", "map_read"), ("argo", "send"), ("mmu", "map_read"), ("domain", "pause")):
        assert not allowed(decides, one, other, cls, permission)
    assert not allowed(decides, channel("acme_web.channel", WEB), other, "event", "bind")


def test_what_a_guest_does_to_itself_it_can_do_to_no_other(policy: tuple[Policy, bool]) -> None:
    decides, _ = policy
    one, itself, other = domain("acme_web", WEB), "acme_web.itself", "acme_web.target"
    for cls, permission in (("mmu", "map_write"), ("grant", "setup"), ("hvm", "getparam")):
        assert allowed(decides, one, f"system_u:system_r:{itself}:s0:{WEB}", cls, permission)
        assert not allowed(decides, one, f"system_u:system_r:{itself}:s0:{WEB2}", cls, permission)
        assert not allowed(decides, one, f"system_u:system_r:{other}:s0:{WEB}", cls, permission)


def test_a_stub_domain_acts_on_its_own_guest_only(policy: tuple[Policy, bool]) -> None:
    decides, _ = policy
    stub = f"system_u:system_r:acme_web.stub:s0:{WEB}"
    for categories in (WEB, WEB2):
        target = f"system_u:system_r:acme_web.target:s0:{categories}"
        assert allowed(decides, stub, target, "mmu", "map_write") == (categories == WEB)
        assert allowed(decides, stub, target, "hvm", "dm") == (categories == WEB)


def test_a_driver_domain_serves_the_realms_it_is_cleared_for(policy: tuple[Policy, bool]) -> None:
    decides, _ = policy
    driver = "system_u:system_r:septum_driver_t:s0-s0:c1,c256.c1021"
    web, db = domain("acme_web", WEB), domain("blue_db", DB)
    for guest, served in ((web, True), (db, False)):
        assert allowed(decides, driver, guest, "grant", "map_write") == served
        assert not allowed(decides, driver, guest, "domain", "pause")
        assert not allowed(decides, guest, driver, "grant", "map_read")
    assert allowed(decides, channel("acme_web.channel", WEB), driver, "event", "bind")
    assert not allowed(decides, channel("blue_db.channel", DB), driver, "event", "bind")


def test_dom0_controls_every_guest_and_nothing_unlabelled(policy: tuple[Policy, bool]) -> None:
    decides, _ = policy
    dom0 = "system_u:system_r:dom0_t:s0-s0:c0.c1023"
    for label in (domain("acme_web", WEB), domain("septum_vm", DB), domain("septum_orchestrator", "c2,c300,c301")):
        assert allowed(decides, dom0, label, "domain", "create")
    for kind in ("domU_t", "dm_dom_t", "unlabeled_t"):
        assert not allowed(decides, dom0, f"system_u:system_r:{kind}:s0", "domain", "create")


def test_numbers_come_from_files_that_fit_each_other() -> None:
    classes, vectors, sids = (
        "class xen # a\nclass mmu\n",
        "class xen\n{\n  settime # b\n}\nclass mmu { map }",
        "sid xen\n",
    )
    assert numbers_cil(classes, vectors, sids).splitlines()[1:] == [
        "(class xen (settime))",
        "(class mmu (map))",
        "(classorder (xen mmu))",
        "(sid xen)",
        "(sidorder (xen))",
    ]
    for broken in ((classes + "class argo\n", vectors, sids), (classes, vectors, ""), ("", "", sids)):
        with pytest.raises(PolicyError, match="not Xen's"):
            numbers_cil(*broken)
