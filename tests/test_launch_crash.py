"""Killed at any point, in a launch or while things are put back, once or twice: `reconcile` gets back to a clean host.

The points are enumerated: one process for each checkpoint of the launch, and one for each change of the host or the
ledger (`launchkit.kill_between_syscalls`), until one gets through alive.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from septum.launch.plan import Request
from tests.launchkit import (
    Silent,
    World,
    forked,
    launch,
    left_over,
    plain,
    request,
    restore,
    snapshot,
    world,
)

pytestmark = pytest.mark.root

_MANY = 200


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


@pytest.fixture
def silent(place: World) -> Iterator[Silent]:
    silent = Silent(place.state)
    yield silent
    silent.close()


def acl(path: Path, *entries: str) -> None:
    subprocess.run(["setfacl", "-m", ",".join(entries), path], check=True)


def one_image(place: World) -> Request:
    return request(place, "-name", "a", "-drive", f"file={place.image()},format=raw")


def image_with_an_acl(place: World) -> Request:
    image = place.image("a.img", 0o640)
    acl(image, "u:1234:rw", "g:1235:r", "m::rw")
    os.setxattr(image, "user.mark", b"of mine")
    os.chown(image, 1000, 1001)
    return request(place, "-name", "a", "-drive", f"file={image},format=raw")


def read_only_image(place: World) -> Request:
    image = place.image("a.img", 0o604)
    acl(image, "u:1234:rwx")
    os.chown(image, 1000, 1001)
    return request(place, "-name", "a", "-drive", f"file={image},format=raw,readonly=on")


def chain(place: World) -> Request:
    base = place.qcow2("base.qcow2", mode=0o640)
    acl(base, "g:1235:r")
    return request(place, "-name", "a", "-drive", f"file={place.qcow2('top.qcow2', base)},format=qcow2")


def files_that_are_made(place: World) -> Request:
    (place.folder / "run").mkdir(mode=0o755)
    words = (
        f"-D {place.folder}/a.log -pidfile {place.folder}/a.pid -qmp unix:{place.folder}/run/a.qmp,server=on,wait=off"
    )
    return request(place, "-name", "a", *words.split())


def folders_on_the_way(place: World) -> Request:
    deep = place.folder / "one" / "two"
    deep.mkdir(parents=True)
    for number, folder in enumerate((deep.parent, deep)):
        folder.chmod(0o700 | number * 0o2040)
        os.chown(folder, 1000 + number, 1001)
    acl(deep, "u:1234:rwx")
    image = deep / "a.img"
    image.write_bytes(b"x")
    return request(place, "-name", "a", "-drive", f"file={image},format=raw")


def several_things(place: World) -> Request:
    base = place.qcow2("base.qcow2")
    top = place.qcow2("top.qcow2", base)
    cdrom = place.image("cd.iso", 0o600)
    words = f"-D {place.folder}/a.log -qmp unix:{place.folder}/a.qmp,server=on,wait=off -cdrom {cdrom}"
    return request(place, "-name", "a", "-drive", f"file={top},format=qcow2", *words.split())


SCENES = [
    one_image,
    image_with_an_acl,
    read_only_image,
    chain,
    files_that_are_made,
    folders_on_the_way,
    several_things,
]
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


@scenes
def test_killed_at_every_checkpoint(place: World, silent: Silent, scene: Callable[[World], Request]) -> None:
    asked = scene(place)
    before = snapshot(place.folder)
    for at in range(1, _MANY):
        status = launch(place, asked, at=at)
        assert status in (0, -9), place.said.read_text(errors="replace")
        restore(place)
        assert (at, snapshot(place.folder)) == (at, before)
        assert left_over(place) == []
        silent.drain()
        if status == 0:
            break
    assert 10 < at < _MANY - 1


@scenes
def test_killed_before_every_change_of_the_host_and_then_while_it_is_put_back(
    place: World, silent: Silent, scene: Callable[[World], Request]
) -> None:
    """Every point of the launch; after each, `reconcile` is killed at another point, and once more at the next."""
    asked = scene(place)
    before = snapshot(place.folder)
    for at in range(1, _MANY):
        status = launch(place, asked, syscall=at, drivers=plain)
        assert status in (0, -9), place.said.read_text(errors="replace")
        for second in (at % 7 + 1, at % 5 + 1):
            assert forked(lambda second=second: dying_restore(place, second)) in (0, -9)
        assert all(report.released for report in restore(place))
        assert (at, snapshot(place.folder)) == (at, before)
        assert left_over(place) == []
        silent.drain()
        if status == 0:
            break
    assert 5 < at < _MANY - 1


@scenes
def test_killed_at_every_point_of_putting_back(place: World, silent: Silent, scene: Callable[[World], Request]) -> None:
    asked = scene(place)
    before = snapshot(place.folder)
    for at in range(1, _MANY):
        assert launch(place, asked) == 0, place.said.read_text(errors="replace")
        status = forked(lambda at=at: dying_restore(place, at))
        assert status in (0, -9), place.said.read_text(errors="replace")
        assert all(report.released for report in restore(place))
        assert (at, snapshot(place.folder)) == (at, before)
        assert left_over(place) == []
        silent.drain()
        if status == 0:
            break
    assert 3 < at < _MANY - 1


def dying_restore(place: World, at: int) -> None:
    from tests.launchkit import kill_between_syscalls

    kill_between_syscalls(at)
    restore(place)
