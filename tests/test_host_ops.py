"""Reversible changes on real files: applied, killed half-way or changed meanwhile, undo knows what to do."""

import fcntl
import os
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from septum.errors import Denied, HostError
from septum.host import objects
from septum.host.driver import Operation, Step
from septum.host.objects import Gone, look
from septum.host.ops import OPERATIONS
from tests.confined import searchable
from tests.launchkit import forked, kill_between_syscalls, snapshot

pytestmark = pytest.mark.root

GUEST = 70021


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from searchable()


def step(op: str, path: Path, **args: object) -> Step:
    found = look(str(path)).facts
    return Step(op, found.key if found and op in ("own", "acl") else "", str(path), "", args)


def own(path: Path, uid: int = GUEST, mode: int = 0o600) -> Step:
    return step("own", path, uid=uid, gid=GUEST, mode=mode)


def grant(path: Path, perms: str = "rx", number: int = GUEST) -> Step:
    return step("acl", path, tag="user", id=number, perms=perms)


def make(path: Path, uid: int = GUEST) -> Step:
    return step("mkfile", path, uid=uid, gid=uid, mode=0o600, context="", back_uid=0, back_gid=0)


def operation(change: Step) -> Operation:
    return OPERATIONS[change.op]


def apply(change: Step) -> Mapping[str, Any]:
    original = operation(change).capture(change)
    operation(change).apply(change, original)
    return original


ACLS = st.sampled_from(["", "u:1234:rwx", "u:1234:r,g:1235:rw", "g:1235:---,m::rwx", "u:1234:rw,m::r", "u:1234:-,m::-"])
MODES = st.integers(0, 0o7777)
OWNERS = st.sampled_from([0, 1000, 1001])
STEPS = st.sampled_from(["own rw", "own ro", "acl"])


def prepared(path: Path, kind: str, owner: int, group: int, mode: int, acl: str) -> None:
    if kind == "dir":
        path.mkdir()
    else:
        path.write_bytes(b"content")
    os.chown(path, owner, group)
    path.chmod(mode)
    if acl:
        subprocess.run(["setfacl", "-m", acl, path], check=True)


@settings(max_examples=40, deadline=None, phases=[Phase.reuse, Phase.generate],
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.sampled_from(["file", "dir"]), OWNERS, OWNERS, MODES, ACLS, STEPS, st.integers(1, 6), st.integers(1, 6))
def test_killed_between_any_two_system_calls_undo_restores(
    folder: Path, kind: str, owner: int, group: int, mode: int, acl: str, name: str, first: int, second: int
) -> None:
    """Killed in apply, then killed in undo, then undone."""
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    path = folder / "object"
    prepared(path, kind, owner, group, mode, acl)
    change = {"own rw": own(path), "own ro": own(path, -1, 0o040), "acl": grant(path)}[name]
    before = snapshot(path)
    original = operation(change).capture(change)

    def dying(at: int, act: Any) -> None:
        def run() -> None:
            kill_between_syscalls(at)
            with suppress(HostError):  # an ACL mask that withholds: nothing was changed
                act()

        assert forked(run) in (0, -9)

    dying(first, lambda: operation(change).apply(change, original))
    dying(second, lambda: operation(change).undo(change, original))
    assert operation(change).undo(change, original) in ("restored", "untouched")
    assert snapshot(path) == before
    assert operation(change).undo(change, original) == "untouched"


@pytest.mark.parametrize("mode", [0o644, 0o4755, 0o2755, 0o000])
def test_own_gives_and_takes_back(folder: Path, mode: int) -> None:
    path = folder / "a"
    prepared(path, "file", 1000, 1001, mode, "u:1234:rw")
    before = snapshot(path)
    change = own(path)
    original = apply(change)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (GUEST, GUEST, 0o600)
    assert "system.posix_acl_access" not in os.listxattr(path)
    assert operation(change).undo(change, original) == "restored"
    assert snapshot(path) == before


def test_what_the_guest_did_to_its_own_object_is_no_foreign_change(folder: Path) -> None:
    path = folder / "a"
    prepared(path, "file", 1000, 1001, 0o640, "u:1234:rw")
    before = snapshot(path)
    change = own(path)
    original = apply(change)
    subprocess.run(["setfacl", "-m", "u:4321:rwx", path], check=True)
    os.chown(path, GUEST, 5555)
    path.chmod(0o6777)
    assert operation(change).undo(change, original) == "restored"
    assert snapshot(path) == before


@pytest.mark.parametrize("how", ["owner", "mode", "acl", "group"])
def test_a_foreign_change_is_left_alone(folder: Path, how: str) -> None:
    path = folder / "a"
    prepared(path, "file", 1000, 1001, 0o640, "")
    change = own(path, -1, 0o040)
    original = apply(change)
    if how == "owner":
        os.chown(path, 4444, -1)
    elif how == "group":
        os.chown(path, -1, 4444)
    elif how == "mode":
        path.chmod(0o444)
    else:
        subprocess.run(["setfacl", "-m", "u:4321:rwx", path], check=True)
    changed = snapshot(path)
    assert operation(change).undo(change, original) == "foreign"
    assert snapshot(path) == changed


def test_an_object_that_was_renamed_is_found(folder: Path) -> None:
    path = folder / "a"
    prepared(path, "file", 1000, 1001, 0o640, "u:1234:rw")
    before = snapshot(path)[str(path)]
    change = own(path)
    original = apply(change)
    (folder / "elsewhere").mkdir()
    path.rename(folder / "elsewhere" / "b")
    path.write_bytes(b"another one")
    assert operation(change).undo(change, original) == "restored"
    assert snapshot(folder / "elsewhere" / "b")[str(folder / "elsewhere" / "b")] == before
    assert path.stat().st_uid == 0


def test_a_symlink_put_on_the_way_later_does_not_keep_it_from_being_put_back(folder: Path) -> None:
    deep = folder / "deep"
    deep.mkdir()
    path = deep / "a"
    prepared(path, "file", 1000, 1001, 0o640, "")
    change = own(path)
    original = apply(change)
    deep.rename(folder / "moved")
    deep.symlink_to("/etc")
    os.lchown(deep, 1000, 1000)
    assert operation(change).undo(change, original) == "restored"
    assert (folder / "moved" / "a").stat().st_uid == 1000


def test_a_deleted_object_is_gone(folder: Path) -> None:
    path = folder / "a"
    prepared(path, "file", 0, 0, 0o644, "")
    kept = os.open(path, os.O_RDONLY)
    change = own(path)
    original = apply(change)
    path.unlink()
    assert operation(change).undo(change, original) == "gone"
    path.write_bytes(b"a new one of the same name")
    assert operation(change).undo(change, original) == "gone"
    assert path.stat().st_uid == 0
    os.close(kept)
    assert operation(change).undo(change, original) == "gone"


def test_an_object_that_was_swapped_before_apply_is_not_touched(folder: Path) -> None:
    path = folder / "a"
    prepared(path, "file", 0, 0, 0o644, "")
    change = own(path)
    path.rename(folder / "old")
    (folder / "target").write_bytes(b"the host's own")
    path.symlink_to(folder / "target")
    before = snapshot(folder)
    with pytest.raises(Gone):
        operation(change).apply(change, {"uid": 0, "gid": 0, "mode": 0o644, "acl": ""})
    assert snapshot(folder) == before


def test_an_immutable_object_is_refused_and_stays(folder: Path) -> None:
    path = folder / "a"
    prepared(path, "file", 0, 0, 0o644, "")
    change = own(path)
    original = operation(change).capture(change)
    before = snapshot(path)
    set_flags(path, 0x10)
    try:
        with pytest.raises(HostError, match="owner can't be changed"):
            operation(change).apply(change, original)
        assert snapshot(path) == before
        assert operation(change).undo(change, original) == "untouched"
    finally:
        set_flags(path, 0)


def set_flags(path: Path, flags: int) -> None:
    """FS_IOC_SETFLAGS; 0x10 is FS_IMMUTABLE_FL."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", flags))
    os.close(descriptor)


@pytest.mark.parametrize("acl", ["", "u:1234:rwx", "g:1235:r", "u:1234:r,m::rwx"])
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o2755, 0o1777])
def test_an_acl_entry_comes_and_goes_without_a_trace(folder: Path, mode: int, acl: str) -> None:
    path = folder / "d"
    prepared(path, "dir", 1000, 1001, mode, acl)
    subprocess.run(["setfacl", "-d", "-m", "u:99:r", path], check=True)
    before = snapshot(path)
    change = grant(path, "x")
    try:
        original = apply(change)
    except HostError as error:
        assert "mask" in error.what  # noqa: PT017
        assert snapshot(path) == before
        return
    assert operation(change).undo(change, original) == "restored"
    assert snapshot(path) == before


def test_entries_of_others_may_come_and_go_meanwhile(folder: Path) -> None:
    path = folder / "d"
    prepared(path, "dir", 1000, 1001, 0o700, "")
    change = grant(path, "x")
    original = apply(change)
    subprocess.run(["setfacl", "-m", "u:1234:rx", path], check=True)
    assert operation(change).undo(change, original) == "restored"
    shown = subprocess.run(["getfacl", "-cn", path], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["user::rwx", "user:1234:r-x", "group::---", "mask::r-x", "other::---"]


def test_an_entry_that_somebody_took_away_is_not_missed_and_one_that_was_narrowed_is_foreign(folder: Path) -> None:
    path = folder / "d"
    prepared(path, "dir", 0, 0, 0o700, "")
    change = grant(path, "rx")
    original = apply(change)
    subprocess.run(["setfacl", "-m", f"u:{GUEST}:r", path], check=True)
    assert operation(change).undo(change, original) == "foreign"
    subprocess.run(["setfacl", "-x", f"u:{GUEST}", path], check=True)
    assert operation(change).undo(change, original) == "untouched"


def test_a_second_grant_of_less_takes_nothing_from_a_running_guest(folder: Path) -> None:
    path = folder / "d"
    prepared(path, "dir", 0, 0, 0o700, "")
    before = snapshot(path)
    more, less = grant(path, "rx"), grant(path, "x")
    originals = [operation(change).capture(change) for change in (more, less)]
    for change, original in zip((more, less), originals, strict=True):
        operation(change).apply(change, original)
    shown = subprocess.run(["getfacl", "-cn", path], check=True, capture_output=True, text=True).stdout
    assert f"user:{GUEST}:r-x" in shown
    assert operation(less).undo(less, originals[1]) == "restored"
    assert operation(more).undo(more, originals[0]) == "untouched"
    assert snapshot(path) == before


def test_a_socket_can_be_granted(folder: Path) -> None:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o600)
        before = snapshot(path)
        change = grant(path, "rw")
        original = apply(change)
        assert os.getxattr(path, "system.posix_acl_access")
        assert operation(change).undo(change, original) == "restored"
        assert snapshot(path) == before


def test_somebody_elses_lock_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read a directory may lock it; septum must not hang on that while it holds its own locks."""
    monkeypatch.setattr(objects, "_PATIENCE", 0.05)
    change = grant(folder, "x")
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    original = operation(change).capture(change)
    with pytest.raises(HostError, match="lock") as caught:
        operation(change).apply(change, original)
    assert caught.value.target == str(folder)
    assert caught.value.remedy
    os.close(held)
    operation(change).apply(change, original)
    assert operation(change).undo(change, original) == "restored"


def test_an_empty_file_that_was_made_is_removed_and_one_with_content_handed_over(folder: Path) -> None:
    empty, full = make(folder / "empty"), make(folder / "full")
    originals = [apply(change) for change in (empty, full)]
    assert (folder / "full").stat().st_uid == GUEST
    (folder / "full").write_bytes(b"log")
    assert [operation(c).undo(c, o) for c, o in zip((empty, full), originals, strict=True)] == ["restored"] * 2
    assert not (folder / "empty").exists()
    status = (folder / "full").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)


@pytest.mark.parametrize("what", ["symlink", "dir", "fifo", "link", "owner"])
def test_what_is_not_the_file_that_was_made_is_left_alone(folder: Path, what: str) -> None:
    path = folder / "log"
    (folder / "target").write_bytes(b"the host's own")
    change = make(path)
    original = apply(change)
    path.unlink()
    if what == "symlink":
        path.symlink_to(folder / "target")
    elif what == "dir":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "owner":
        path.write_bytes(b"")
        os.chown(path, 4444, 4444)
    else:
        (folder / "other").write_bytes(b"x")
        os.link(folder / "other", path)
    before = snapshot(folder)
    assert operation(change).undo(change, original) == "foreign"
    assert snapshot(folder) == before


def test_a_file_that_somebody_made_first_is_not_taken(folder: Path) -> None:
    path = folder / "log"
    change = make(path)
    original = operation(change).capture(change)
    path.write_bytes(b"mine")
    with pytest.raises(HostError):
        operation(change).apply(change, original)
    with pytest.raises(HostError, match="meanwhile"):
        operation(change).capture(change)
    assert path.read_bytes() == b"mine"


def test_a_dangling_symlink_is_not_followed_when_a_file_is_made(folder: Path) -> None:
    path = folder / "log"
    change = make(path)
    path.symlink_to(folder / "target")
    os.lchown(path, 1000, 1000)
    with pytest.raises((HostError, Denied)):
        apply(change)
    assert not (folder / "target").exists()


def test_a_file_that_was_rotated_meanwhile_is_not_the_guests(folder: Path) -> None:
    path = folder / "log"
    change = make(path)
    original = apply(change)
    path.rename(folder / "log.1")
    path.write_bytes(b"of the host's log rotation")
    path.chmod(0o644)
    before = snapshot(path)
    assert operation(change).undo(change, original) == "untouched"
    assert snapshot(path) == before


@pytest.mark.parametrize("owner", [GUEST, 0, 4444])
@pytest.mark.parametrize("kind", ["socket", "file", "dir"])
def test_only_what_the_guest_left_is_removed(folder: Path, kind: str, owner: int) -> None:
    path = folder / "x"
    change = step("unlink", path, uid=GUEST)
    apply(change)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "file":
        path.write_bytes(b"1234")
    else:
        path.mkdir()
    os.chown(path, owner, owner)
    removed = owner == GUEST and kind != "dir"
    assert operation(change).undo(change, {}) == ("restored" if removed else "untouched")
    assert path.exists() is not removed
    assert operation(change).undo(change, {}) == ("gone" if removed else "untouched")


def test_a_symlink_in_the_place_of_a_socket_is_not_followed(folder: Path) -> None:
    (folder / "target").write_bytes(b"")
    os.chown(folder / "target", GUEST, GUEST)
    change = step("unlink", folder / "x", uid=-1)
    (folder / "x").symlink_to(folder / "target")
    assert operation(change).undo(change, {}) == "untouched"
    assert (folder / "target").exists()
    assert (folder / "x").is_symlink()


def test_every_operation_says_what_it_does(folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    for change in (own(folder / "a"), grant(folder / "a"), make(folder / "b"), step("unlink", folder / "c", uid=1)):
        assert str(folder) in operation(change).describe(change)
