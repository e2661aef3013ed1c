"""Walking to an object: whose symlinks are followed, what a key names, and what cannot be led astray."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from septum.errors import Denied, HostError
from septum.host.objects import Gone, look, open_name, open_object, open_parent, recover, same
from tests.confined import inside, searchable

pytestmark = pytest.mark.root


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from searchable()


def link(path: Path, target: str | Path, owner: int) -> Path:
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


def test_facts_are_the_objects_own(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"x")
    path.chmod(0o4640)
    os.chown(path, 5, 6)
    path.chmod(0o4640)
    (folder / "x").mkdir()
    found = look(f"{folder}/./x/../a")
    assert found.facts is not None
    assert (found.facts.path, found.facts.type, found.facts.nlink) == (str(path), "file", 1)
    assert (found.facts.uid, found.facts.gid, found.facts.mode) == (5, 6, 0o4640)
    assert found.parent.path == str(folder)
    assert [facts.path for facts in found.way][:2] == ["/", "/var"]


@pytest.mark.parametrize("kind", ["file", "dir", "socket", "fifo", "char"])
def test_types_are_told(folder: Path, kind: str) -> None:
    path = folder / "x"
    if kind == "char":
        path = Path("/dev/null")
    elif kind == "dir":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.write_bytes(b"")
    facts = look(str(path)).facts
    assert facts is not None
    assert facts.type == kind


@pytest.mark.parametrize("last", [True, False], ids=["the object", "a directory on the way"])
def test_links_of_root_are_followed_and_links_of_others_are_not(folder: Path, last: bool) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "a").write_bytes(b"")
    target = folder / "real" / "a" if last else folder / "real"
    good, bad = link(folder / "good", target, 0), link(folder / "bad", target, 1000)
    end = "" if last else "/a"
    facts = look(f"{good}{end}").facts
    assert facts is not None
    assert facts.path == str(folder / "real" / "a")
    with pytest.raises(Denied) as caught:
        look(f"{bad}{end}")
    assert caught.value.target == str(bad)
    assert "1000" in caught.value.holder
    assert caught.value.remedy


def test_the_callers_own_links_are_followed(folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    link(folder / "own", "a", 1000)

    def act() -> str:
        os.setuid(1000)
        facts = look(str(folder / "own")).facts
        return facts.path if facts else ""

    assert inside(act) == str(folder / "a")


def test_circles_of_links_end(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(HostError, match="symbolic links"):
        look(str(folder / "a"))


def test_a_missing_object_is_told_from_a_missing_directory(folder: Path) -> None:
    found = look(str(folder / "missing"))
    assert (found.facts, found.name, found.parent.path) == (None, "missing", str(folder))
    with pytest.raises(Gone):
        look(str(folder / "missing" / "a"))
    (folder / "file").write_bytes(b"")
    for path in (f"{folder}/file/a", f"{folder}/file/"):
        with pytest.raises(Gone):
            look(path)


@pytest.mark.parametrize("path", ["", "a", "./a", "/a\0b"])
def test_a_path_must_be_absolute_and_have_no_nul(path: str) -> None:
    with pytest.raises(HostError):
        look(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["d", "e", "f", "up", "abs", "self", ".", "..", "", "nothing"]), max_size=8))
def test_it_walks_as_the_kernel_does(folder: Path, parts: list[str]) -> None:
    """For root, whose links are all followed, a walk ends where the kernel's would."""
    if not (folder / "d").exists():
        (folder / "d" / "e").mkdir(parents=True)
        (folder / "d" / "e" / "f").write_bytes(b"")
        (folder / "d" / "up").symlink_to("..")
        (folder / "abs").symlink_to(folder / "d" / "e")
        (folder / "self").symlink_to("./d/up/d")
    path = "/".join([str(folder), *parts])
    try:
        status = os.stat(path)
    except FileNotFoundError:
        expected = None
    except NotADirectoryError:
        with pytest.raises(Gone):
            look(path)
        return
    else:
        expected = (status.st_dev, status.st_ino)
    try:
        facts = look(path).facts
    except Gone:
        facts = None
    assert (facts and (facts.dev, facts.ino)) == expected
    if facts:
        assert os.path.realpath(path) == facts.path


def test_a_key_names_the_object_and_not_its_name_or_its_inode_number(folder: Path) -> None:
    path = folder / "a"
    keys = set()
    for _ in range(5):
        path.write_bytes(b"")
        facts = look(str(path)).facts
        assert facts is not None
        keys.add(facts.key)
        path.unlink()  # ext4 uses the inode number again at once
    assert len(keys) == 5
    path.write_bytes(b"")
    before = look(str(path)).facts
    path.rename(folder / "b")
    after = look(str(folder / "b")).facts
    assert before is not None
    assert after is not None
    assert same(before.key, after.key)


def test_two_nodes_of_one_device_are_one_object(folder: Path) -> None:
    node = folder / "null"
    os.mknod(node, 0o020666, os.makedev(1, 3))
    one, other = look(str(node)).facts, look("/dev/null").facts
    assert one is not None
    assert other is not None
    assert one.key == other.key == "c:1:3"


def test_opening_again_takes_only_the_very_same_object(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"")
    facts = look(str(path)).facts
    assert facts is not None
    descriptor = open_object(str(path), facts.key)
    assert os.fstat(descriptor).st_ino == facts.ino
    os.close(descriptor)
    path.rename(folder / "b")
    with pytest.raises(Gone):
        open_object(str(path), facts.key)
    path.write_bytes(b"")
    with pytest.raises(Gone, match="another object"):
        open_object(str(path), facts.key)
    descriptor = recover(str(path), facts.key)
    assert os.fstat(descriptor).st_ino == facts.ino
    os.close(descriptor)


def test_without_the_right_to_look_an_object_is_not_declared_gone(folder: Path) -> None:
    """Root without CAP_DAC_READ_SEARCH, as in a container: the object may well be there."""
    path = folder / "a"
    path.write_bytes(b"")
    facts = look(str(path)).facts
    assert facts is not None
    path.rename(folder / "b")

    def act() -> str:
        import ctypes

        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)(0x3, 0x3, 0, 0, 0, 0)  # CAP_CHOWN and CAP_DAC_OVERRIDE only
        assert ctypes.CDLL(None).capset(header, sets) == 0
        try:
            os.close(recover(str(path), facts.key))
        except Gone:
            return "gone"
        except HostError:
            return "refused"
        return "found"

    assert inside(act) == "refused"


def test_a_name_is_opened_without_following_it(folder: Path) -> None:
    link(folder / "l", "/etc/hostname", 0)
    descriptor = open_name(str(folder / "l"))
    assert os.readlink("", dir_fd=descriptor) == "/etc/hostname"
    os.close(descriptor)
    directory, name = open_parent(str(folder / "l"))
    assert (os.readlink(f"/proc/self/fd/{directory}"), name) == (str(folder), "l")
    os.close(directory)
    with pytest.raises(Gone):
        open_name(str(folder / "missing"))


def test_no_descriptor_is_left_open(folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    link(folder / "bad", "a", 1000)
    before = os.listdir("/proc/self/fd")
    for path in ("a", "missing", "missing/a", "a/b"):
        for call in (look, lambda path: os.close(open_object(path, ""))):
            try:
                call(str(folder / path))
            except HostError:
                continue
    with pytest.raises(Denied):
        look(str(folder / "bad"))
    assert os.listdir("/proc/self/fd") == before
