"""The `landlock` driver: its steps as data, and the process that went through its entries."""

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from septum.host import cgroup, credentials, kernel
from septum.host.driver import Confinement, Item, Step
from septum.host.landlock import LandlockDriver
from septum.host.ops import OPERATIONS
from tests.confined import enter, errno_of, facts, found, guest, inside, item, searchable

UID, GID, REALM = 70001, 70001, 80001
_CAP_SYS_RESOURCE = 24


def own_guest(*items: Item, **given: Any) -> Confinement:
    return guest(items, **{"uid": UID, "gid": GID, "realm_gid": REALM, **given})


def steps(*items: Item, **given: Any) -> list[tuple[str, str, str, dict[str, Any]]]:
    driver = LandlockDriver(no_new_privs=True)
    return [(step.op, step.path, step.scope, dict(step.args)) for step in driver.steps(own_guest(*items, **given))]


def acl(path: str, perms: str, tag: str = "group", number: int = REALM) -> tuple[str, str, str, dict[str, Any]]:
    return ("acl", path, f"k:{path}#{number}" if tag == "group" else "", {"tag": tag, "id": number, "perms": perms})


def test_exclusive_objects_change_hands() -> None:
    block = item("/dev/sdb", facts=facts("/dev/sdb", type="block", mode=0o660))
    folder = item("/s", "directory", facts=facts("/s", type="dir", mode=0o755))
    secret = item("/s/key", "secret", "ro", facts=facts("/s/key", mode=0o604, uid=5))
    assert steps(item("/i/a"), block, folder, secret) == [
        ("own", "/i/a", "", {"uid": UID, "gid": GID, "mode": 0o600}),
        ("own", "/dev/sdb", "", {"uid": UID, "gid": GID, "mode": 0o600}),
        ("own", "/s", "", {"uid": UID, "gid": GID, "mode": 0o700}),
        ("own", "/s/key", "", {"uid": -1, "gid": GID, "mode": 0o640}),
    ]


def test_shared_objects_open_to_the_realm_and_only_if_they_must() -> None:
    private = item("/i/base", "backing", "ro", "shared", facts=facts("/i/base", mode=0o600))
    public = item("/i/iso", "image", "ro", "shared", facts=facts("/i/iso", mode=0o644))
    assert steps(private, public) == [acl("/i/base", "r")]
    assert steps(private, realm_gid=-1) == [acl("/i/base", "r", "user", UID)]


def test_a_siblings_entry_is_not_taken_for_the_hosts() -> None:
    """Else it would go away under this guest when the sibling ends."""
    raw = f"0200000001000600ffffffff04000000ffffffff08000400{REALM.to_bytes(4, 'little').hex()}"
    raw += "10000400ffffffff20000000ffffffff"
    assert steps(item("/i/base", "backing", "ro", "shared", facts=facts("/i/base", mode=0o640, acl=raw))) == [
        acl("/i/base", "r")
    ]


def test_ways_are_opened_for_searching_once() -> None:
    way = facts("/home/me", type="dir", mode=0o700)
    assert steps(item("/home/me/a", search=(way,)), item("/home/me/b", search=(way,)))[:2] == [
        acl("/home/me", "x"),
        ("own", "/home/me/a", "", {"uid": UID, "gid": GID, "mode": 0o600}),
    ]


def test_devices_that_a_group_or_everybody_opens_stay_as_they_are() -> None:
    def device(mode: int) -> Item:
        return item(
            "/dev/kvm", "shared-device", "rw", "shared", facts=facts("/dev/kvm", type="char", gid=106, mode=mode)
        )

    assert steps(device(0o660), groups=(106,)) == []
    assert steps(device(0o666)) == []
    assert steps(device(0o660)) == [acl("/dev/kvm", "rw")]


def test_sockets_and_files_that_qemu_makes() -> None:
    parent = facts("/s", type="dir", mode=0o755)
    unlink = ("unlink", "/s/qmp", "", {"uid": UID})
    assert steps(item("/s/qmp", "socket", facts=None)) == [acl("/s", "wx", "user", UID), unlink]
    assert steps(item("/s/qmp", "socket", facts=facts("/s/qmp", type="socket"))) == [
        acl("/s", "wx", "user", UID),
        unlink,
    ]
    assert steps(item("/s/qmp", "socket", facts=None), run_dir="/s") == []
    made = {"uid": UID, "gid": GID, "mode": 0o600, "back_uid": 0, "back_gid": 0}
    assert steps(item("/s/pid", "pidfile", facts=None, creates=True, parent=parent)) == [
        ("mkfile", "/s/pid", "", made),
        ("unlink", "/s/pid", "", {"uid": UID}),
    ]
    assert steps(item("/s/log", "log", facts=None, creates=True)) == [("mkfile", "/s/log", "", made)]


def test_peers_memory_and_temporary_folders() -> None:
    peer = item("/s/tpm", "peer-socket", facts=facts("/s/tpm", type="socket", mode=0o755))
    memory = item("/hp", "memory", facts=facts("/hp", type="dir", mode=0o755))
    temporary = item("/var/tmp", "tmpdir", facts=facts("/var/tmp", type="dir", mode=0o1777))
    assert steps(peer, memory, temporary) == [acl("/s/tpm", "rw", "user", UID), acl("/hp", "wx", "user", UID)]


def test_the_platform_is_left_alone() -> None:
    assert steps(item("/usr/share/qemu/x", "firmware", "ro", facts=facts(mode=0o600), platform=True)) == []
    assert steps(item("/x/up.sh", "helper", "ro", facts=facts("/x/up.sh", mode=0o700))) == []


def test_without_a_uid_nothing_changes_hands() -> None:
    log = item("/s/log", "log", facts=None, creates=True)
    found_steps = LandlockDriver(no_new_privs=True).steps(guest([item("/i/a"), log]))
    assert [(step.op, step.args["uid"], step.args["gid"]) for step in found_steps] == [("mkfile", -1, -1)]


def test_a_cgroup_comes_first_and_is_named_for_the_guest() -> None:
    driver = LandlockDriver(no_new_privs=True, group="/cg/septum/one")
    subject = own_guest(item("/i/a"))
    assert driver.steps(subject)[0] == Step("cgroup", "", "/cg/septum/one", "", {})
    assert "cgroup" in driver.operations()


@pytest.mark.parametrize(
    ("no_new_privs", "uid", "phases"),
    [(True, UID, [10, 20, 40, 50, 60]), (False, UID, [10, 20, 40, 49, 50]), (False, -1, [10, 40, 60])],
)
def test_entries_come_in_an_order_that_the_kernel_allows(no_new_privs: bool, uid: int, phases: list[int]) -> None:
    driver = LandlockDriver(no_new_privs=no_new_privs, group="/cg/septum/one")
    assert sorted(entry.phase for entry in driver.entries(own_guest(uid=uid))) == phases


def test_explaining_names_the_rule_that_decided() -> None:
    driver = LandlockDriver(no_new_privs=True, abi=7)
    subject = own_guest(item("/i/a"), item("/i/b", access="ro"))
    mine = facts("/i/a", uid=UID, mode=0o600)
    assert driver.explain(subject, mine, "rw")[:2] == ("landlock", True)
    assert "-drive file=" in driver.explain(subject, mine, "rw").rule
    assert driver.explain(subject, facts("/i/a", uid=0, mode=0o600), "rw")[:2] == ("dac", False)
    assert driver.explain(subject, facts("/i/b", uid=UID, mode=0o600), "rw")[:2] == ("landlock", False)
    assert driver.explain(subject, facts("/i/b", uid=UID, mode=0o600), "ro")[:2] == ("landlock", True)
    assert driver.explain(subject, facts("/etc/shadow"), "ro") == (
        "landlock",
        False,
        "no rule names it or a directory above it",
    )
    assert driver.explain(subject, facts("/usr/lib", type="dir", mode=0o755), "ro").allowed
    assert not driver.explain(subject, facts("/usr/lib", type="dir", mode=0o755), "rw").allowed


@pytest.mark.root
def test_probing_says_what_is_weaker_here() -> None:
    whole = LandlockDriver(no_new_privs=True, group="/cg/septum/one").probe()
    assert whole.works
    assert int(whole.details["abi"]) == kernel.landlock_abi()
    assert not any("cgroup2" in sentence for sentence in whole.weaker)
    assert any("cgroup2" in sentence for sentence in LandlockDriver(no_new_privs=True).probe().weaker)


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from searchable()


@pytest.mark.root
@pytest.mark.parametrize("no_new_privs", [True, False])
def test_the_process_keeps_no_privilege_and_every_promise(folder: Path, no_new_privs: bool) -> None:
    (folder / "disk").write_text("disk")
    driver = LandlockDriver(no_new_privs=no_new_privs, group=f"{cgroup.base()}/test-{os.getpid()}")
    subject = own_guest(found(folder / "disk"), uuid=f"test-{os.getpid()}", groups=(81000,))
    done = apply(driver, subject)

    def act() -> dict[str, Any]:
        kernel.set_parent_death_signal(signal.SIGTERM)
        # Read through a descriptor that was opened before, as /proc is out of reach afterwards.
        own = os.open("/proc/self/status", os.O_RDONLY)
        enter(driver, subject)
        text = os.read(own, 65536).decode()
        return {
            "status": dict(line.split(":\t", 1) for line in text.splitlines()),
            "signal": kernel.parent_death_signal(),
            "capabilities": kernel.capabilities(),
            "disk": errno_of(lambda: os.open(folder / "disk", os.O_RDWR)),
            "back": errno_of(lambda: os.setuid(0)),
        }

    try:
        found_inside = inside(act)
    finally:
        undo(driver, done)
    seen = found_inside["status"]
    assert seen["Uid"].split() == [str(UID)] * 4
    assert seen["Gid"].split() == [str(GID)] * 4
    assert seen["Groups"].split() == [str(REALM), "81000"]
    assert {int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert found_inside["capabilities"] == [0, 0, 0]
    assert seen["NoNewPrivs"] == str(int(no_new_privs))
    assert seen["Seccomp"] == "2"
    assert found_inside["signal"] == signal.SIGTERM
    assert found_inside["disk"] == 0
    assert found_inside["back"] != 0


@pytest.mark.root
def test_inheritable_capabilities_are_dropped_too() -> None:
    def act() -> list[int]:
        libc = ctypes.CDLL(None)
        header = struct.pack("=Ii", 0x20080522, 0)
        held = kernel.capabilities()
        low = [value & 0xFFFFFFFF for value in (held.effective, held.permitted, 1 << 12)]
        high = [held.effective >> 32, held.permitted >> 32, 0]
        assert libc.capset(header, struct.pack("=6I", *low, *high)) == 0
        before = kernel.capabilities().inheritable
        credentials.drop(own_guest())
        return [before, *kernel.capabilities()]

    assert inside(act) == [1 << 12, 0, 0, 0]


@pytest.mark.root
def test_a_parent_that_ends_meanwhile_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the change of uid, which clears the signal, and setting it again."""
    parents = iter([os.getpid(), 1])

    def act() -> list[int]:
        caught: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
        kernel.set_parent_death_signal(signal.SIGUSR1)
        monkeypatch.setattr(os, "getppid", lambda: next(parents))
        credentials.drop(own_guest())
        return caught

    assert inside(act) == [signal.SIGUSR1]


@pytest.mark.root
def test_locked_memory_is_unlimited_or_the_start_is_given_up() -> None:
    """Which of the two depends on CAP_SYS_RESOURCE, which a container's root may lack."""

    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard == resource.RLIM_INFINITY or kernel.capabilities().effective >> _CAP_SYS_RESOURCE & 1:
        assert inside(drop_and_tell) is True
    else:
        assert inside(lambda: errno_of(drop_and_tell)) == errno.EPERM


def drop_and_tell() -> bool:
    credentials.drop(own_guest(memlock=True))
    return resource.getrlimit(resource.RLIMIT_MEMLOCK) == (-1, -1)


@pytest.mark.root
def test_it_works_without_any_privilege(folder: Path) -> None:
    for name in ("mine", "other"):
        (folder / name).write_text(name)
        os.chown(folder / name, 65534, 65534)
    subject = guest([found(folder / "mine")])

    def act() -> list[Any]:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        assert cgroup.base() == "", "there is no cgroup that this user may write to"
        driver = LandlockDriver(no_new_privs=False)
        weaker = [sentence for sentence in driver.probe().weaker if "without root" in sentence]
        steps = driver.steps(subject)
        enter(driver, subject)
        opened = [errno_of(lambda name=name: os.open(folder / name, os.O_RDWR)) for name in ("mine", "other")]  # type: ignore[misc]
        return [len(weaker), steps, kernel.no_new_privs(), opened]

    assert inside(act) == [2, [], True, [0, errno.EACCES]]


@pytest.mark.root
def test_two_guests_are_apart_by_their_uids_alone(folder: Path) -> None:
    """Landlock aside: the modes that the steps set hold by themselves."""
    for name in ("one", "other", "base"):
        (folder / name).write_text(name)
    (folder / "base").chmod(0o600)
    driver = LandlockDriver(no_new_privs=True)
    one = own_guest(found(folder / "one"), found(folder / "base", "backing", "ro", "shared"))
    other = own_guest(found(folder / "other"), uid=UID + 1, gid=GID + 1, realm_gid=REALM + 1)
    done = [*apply(driver, one), *apply(driver, other)]

    def tries(subject: Confinement) -> list[bool]:
        def act() -> list[bool]:
            credentials.drop(subject)
            wanted = (("one", os.O_RDWR), ("other", os.O_RDONLY), ("base", os.O_RDONLY), ("base", os.O_WRONLY))
            return [errno_of(lambda n=n, f=f: os.open(folder / n, f)) == 0 for n, f in wanted]  # type: ignore[misc]

        return list(inside(act))

    try:
        assert tries(one) == [True, False, True, False]
        assert tries(other) == [False, True, False, False]
    finally:
        undo(driver, done)
    assert [(folder / name).stat().st_mode & 0o777 for name in ("one", "base")] == [0o644, 0o600]


def apply(driver: LandlockDriver, subject: Confinement) -> list[tuple[Step, Any]]:
    operations = {**OPERATIONS, **driver.operations()}
    done = []
    for step in driver.steps(subject):
        original = operations[step.op].capture(step)
        operations[step.op].apply(step, original)
        done.append((step, original))
    return done


def undo(driver: LandlockDriver, done: list[tuple[Step, Any]]) -> None:
    operations = {**OPERATIONS, **driver.operations()}
    assert {operations[step.op].undo(step, original) for step, original in reversed(done)} <= {"restored", "gone"}
