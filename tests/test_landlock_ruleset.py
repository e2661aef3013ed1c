"""The ruleset as data: what a guest's confinement comes to, for every Landlock ABI."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.host import ruleset as rs
from septum.host.driver import Item
from tests.confined import QEMU, facts, guest, item

READ_WRITE = rs.READ_FILE | rs.WRITE_FILE | rs.TRUNCATE
TEMPORARY = READ_WRITE | rs.MAKE_REG | rs.REMOVE_FILE


def rights_on(path: str, *items: Item, abi: int = 7, **of_guest: Any) -> int:
    found = [rule.rights for rule in rs.ruleset(guest(items, **of_guest), abi).rules if rule.path == path]
    return found[0] if found else 0


@pytest.mark.parametrize(
    ("thing", "path", "rights"),
    [
        (item("/i/a"), "/i/a", READ_WRITE),
        (item("/i/a", access="ro"), "/i/a", rs.READ_FILE),
        (item("/i/a", "backing", "ro", "shared"), "/i/a", rs.READ_FILE),
        (item("/dev/sdb", facts=facts("/dev/sdb", type="block")), "/dev/sdb", READ_WRITE | rs.IOCTL_DEV),
        (item("/dev/sr0", access="ro", facts=facts("/dev/sr0", type="block")), "/dev/sr0", rs.READ_FILE | rs.IOCTL_DEV),
        (
            item("/dev/kvm", "shared-device", "rw", "shared", facts=facts("/dev/kvm", type="char")),
            "/dev/kvm",
            READ_WRITE | rs.IOCTL_DEV,
        ),
        (item("/s/dir", "directory", "ro", facts=facts("/s/dir", type="dir")), "/s/dir", rs.READ_FILE | rs.READ_DIR),
        (item("/hp", "memory", facts=facts("/hp", type="dir")), "/hp", TEMPORARY),
        (item("/var/tmp", "tmpdir", facts=facts("/var/tmp", type="dir")), "/var/tmp", TEMPORARY),
        (item("/x/up.sh", "helper", "ro", facts=facts("/x/up.sh")), "/x/up.sh", rs.READ_FILE | rs.EXECUTE),
        (item("/s/qmp", "socket", facts=None), "/s", rs.MAKE_SOCK),
        (item("/s/qmp", "socket", facts=None), "/s/qmp", 0),
        (item("/s/qmp", "socket", facts=facts("/s/qmp", type="socket")), "/s/qmp", 0),
        (item("/s/peer", "peer-socket", facts=facts("/s/peer", type="socket")), "/s/peer", 0),
        (item("/l/log", "log", creates=True, facts=None), "/l/log", READ_WRITE),
        (item("/l/log", "log", creates=True, facts=None), "/l", 0),
        (item("/l/log", "log", creates=False, facts=None), "/l/log", 0),
        (item("/l/log", "log", creates=True, facts=None, parent=None), "/l/log", 0),
    ],
)
def test_each_kind_of_item_gets_what_it_needs(thing: Item, path: str, rights: int) -> None:
    assert rs.names(rights_on(path, thing)) == rs.names(rights)


def test_a_writable_tree_has_all_but_programs_devices_and_ioctl() -> None:
    shared = item("/s/dir", "directory", facts=facts("/s/dir", type="dir"))
    missing = rs.ruleset(guest(), 7).handled_fs & ~rights_on("/s/dir", shared)
    assert rs.names(missing) == "execute,make_char,make_block,ioctl_dev"


def test_only_qemu_and_the_loaders_may_be_executed() -> None:
    rules = rs.ruleset(guest([item("/i/a")]), 7).rules
    assert {rule.path for rule in rules if rule.rights & rs.EXECUTE and not rule.path.startswith("/lib")} == {QEMU}


def test_helpers_open_the_programs_they_run() -> None:
    assert rights_on("/usr/bin", executes=True) & rs.EXECUTE
    assert not rights_on("/usr/bin")


def test_network_opens_tcp_and_name_resolution_and_nothing_else_does() -> None:
    closed, open_ = (rs.ruleset(guest(network=network), 7) for network in (False, True))
    assert closed.handled_net == rs.BIND_TCP | rs.CONNECT_TCP
    assert open_.handled_net == 0
    assert {rule.path for rule in open_.rules} - {rule.path for rule in closed.rules} == {
        f"/etc/{name}" for name in ("resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services")
    }


@pytest.mark.parametrize("abi", range(1, 10))
def test_an_abi_is_asked_for_nothing_that_it_does_not_have(abi: int) -> None:
    known = rs.ruleset(guest([item("/i/a")], run_dir="/run/a"), abi)
    bits = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    assert known.handled_fs == (1 << bits) - 1
    assert bool(known.handled_net) == (abi >= 4)
    assert bool(known.scoped) == (abi >= 6)
    assert known.abi == min(abi, 7)
    assert all(rule.rights and not rule.rights & ~known.handled_fs for rule in known.rules)


def test_what_an_older_abi_leaves_open_is_said() -> None:
    assert rs.weaker(7) == ()
    assert len(rs.weaker(1)) == 6
    assert [sentence for sentence in rs.weaker(5) if "abstract" in sentence]


def test_platform_content_is_looked_up_and_items_are_not() -> None:
    rules = rs.ruleset(guest([item("/i/link")]), 7)
    real = {"/usr/lib": "/usr/lib", "/lib": "/usr/lib", "/etc/localtime": "/usr/share/zoneinfo/UTC"}
    found = {rule.path: rule for rule in rs.resolved(rules, real.get).rules}
    assert set(found) == {QEMU, "/i/link", "/usr/lib", "/usr/share/zoneinfo/UTC"}
    assert found["/i/link"].key == "k:/i/link"


@pytest.mark.parametrize(
    ("binary", "path"),
    [
        ("/opt/qemu/bin/qemu-system-x86_64", "/opt/qemu/share/qemu"),
        ("/opt/qemu/bin/qemu-system-x86_64", "/opt/qemu/lib"),
        ("/home/me/qemu/build/qemu-system-x86_64", "/home/me/qemu/build/qemu-bundle"),
    ],
)
def test_a_qemu_outside_usr_has_its_own_data(binary: str, path: str) -> None:
    assert rights_on(path, binary=binary) == rs.READ_FILE | rs.READ_DIR


@pytest.mark.parametrize("binary", ["/bin/q", "/opt/bin/q", "/q", "/tmp/q"])
def test_no_binary_opens_a_whole_tree(binary: str) -> None:
    opened = {rule.path for rule in rs.ruleset(guest(binary=binary), 7).rules}
    assert not opened & {"/", "/tmp", "/opt", "/usr", "/etc", "/home", "/var", "/dev", "/proc", "/sys", "/run"}


PARTS = st.lists(st.sampled_from(["a", "ab", "b"]), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
RULES = st.lists(st.builds(lambda path, rights: rs.Rule(path, rights, ""), PARTS, st.integers(1, 0xFFFF)), max_size=5)


def reference(rules: list[rs.Rule], path: str, rights: int) -> bool:
    """The walk from the object to the root, as the kernel's documentation words it."""
    names = path.split("/")
    ways = {"/".join(names[:count]) or "/" for count in range(1, len(names) + 1)}
    granted = 0
    for rule in rules:
        if rule.path in ways:
            granted |= rule.rights
    return granted & rights == rights


@given(RULES, PARTS, st.integers(0, 0xFFFF))
def test_decisions_follow_the_walk_to_the_root(rules: list[rs.Rule], path: str, rights: int) -> None:
    whole = rs.Ruleset(7, tuple(rules), 0xFFFF, 0, 0)
    assert rs.allowed(whole, path, rights) == reference(rules, path, rights)
    assert rs.allowed(rs.resolved(whole), path, rights) == reference(rules, path, rights)


@given(RULES, PARTS, st.integers(0, 0xFFFF))
def test_what_is_not_handled_is_not_refused(rules: list[rs.Rule], path: str, rights: int) -> None:
    assert rs.allowed(rs.Ruleset(7, tuple(rules), 0, 0, 0), path, rights)


def test_a_rule_on_an_object_holds_under_its_other_names() -> None:
    rules = rs.ruleset(guest([item("/i/a")]), 7)
    assert rs.allowed(rules, "/elsewhere/b", rs.READ_FILE, "k:/i/a")
    assert not rs.allowed(rules, "/elsewhere/b", rs.READ_FILE, "k:/i/b")
