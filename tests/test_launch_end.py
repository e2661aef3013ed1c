"""The end of a guest: whatever happened meanwhile, what can be put back is, and the rest is said."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from septum.launch import process
from tests.confined import Qmp
from tests.launchkit import EMPTY, QEMU, Silent, World, launch, left_over, request, restore, snapshot, wait, world

pytestmark = pytest.mark.root


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


def drive(path: object, more: str = ",format=raw") -> tuple[str, str]:
    return "-drive", f"file={path}{more}"


@pytest.mark.qemu
def test_a_real_guest_with_all_that_it_makes_leaves_nothing(place: World) -> None:
    base = place.qcow2("base.qcow2", mode=0o640)
    top = place.qcow2("top.qcow2", base, 0o600)
    os.chown(top, 1000, 1000)
    before = snapshot(place.folder)
    words = ["-qmp", f"unix:{place.folder}/a.qmp,server=on,wait=off", "-pidfile", place.folder / "a.pid"]
    disk = drive(top, ",format=qcow2,if=none")
    process = place.start("--", QEMU, *EMPTY, "-name", "a", "-D", place.folder / "a.log", *words, *disk)
    place.wait_running("a")
    qmp = Qmp(place.folder / "a.qmp")
    assert (place.folder / "a.pid").read_text().strip() == str(process.pid)
    os.kill(process.pid, signal.SIGKILL)  # it can't clean up after itself
    qmp.close()
    process.wait()
    place.wait_empty()
    assert snapshot(place.folder) == before
    assert left_over(place) == []


@pytest.mark.qemu
def test_a_daemon_counts_until_it_ends(place: World) -> None:
    image = place.qcow2("a.qcow2")
    before = snapshot(place.folder)
    monitor = ["-qmp", f"unix:{place.folder}/a.qmp,server=on,wait=off"]
    disk = drive(image, ",format=qcow2,if=none")
    place.septum("run", "--", QEMU, *EMPTY, "-name", "a", "-daemonize", *monitor, *disk)
    qmp = Qmp(place.folder / "a.qmp")
    row = place.ps()["a"]
    assert row["state"] == "running"
    assert place.septum("reconcile").stdout == b"nothing to put back\n"
    assert image.stat().st_uid == row["uid"]
    message = place.septum("run", "--", place.program, *drive(image), status=125).stderr.decode()
    assert "default/a" in message
    assert "return" in qmp("quit")
    qmp.close()
    place.wait_empty()
    assert snapshot(place.folder) == before


def test_a_child_of_the_guest_keeps_it_alive(place: World) -> None:
    """Its first process ends, another one of its cgroup goes on: nothing is put back under its hands."""
    image = place.image()
    place.start("--", place.program, "-name", "a", *drive(image))
    pid = place.wait_running("a")
    guest = place.guest("a")
    assert guest is not None
    group = Path(guest.details["cgroup"])
    other = subprocess.Popen(["sleep", "1000"])
    (group / "cgroup.procs").write_text(str(other.pid))
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not Path(f"/proc/{pid}/cwd").exists() or process.start_time(pid) == 0)
    place.septum("reconcile")
    assert image.stat().st_uid == guest.uid
    assert "a" in place.ps()
    other.kill()
    other.wait()
    place.wait_empty()
    assert image.stat().st_uid == 0


def test_a_process_whose_first_thread_ended_lives() -> None:
    code = (
        "import ctypes, threading, time, os\n"
        "threading.Thread(target=lambda: time.sleep(1000)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit(2): this thread alone
    )
    child = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"up\n"
    wait(lambda: b") Z " in Path(f"/proc/{child.pid}/stat").read_bytes())
    started = process.start_time(child.pid)
    assert started
    assert process.alive(process.boot_id(), child.pid, started)
    child.kill()
    wait(lambda: process.start_time(child.pid) == 0)  # a zombie, not yet waited for
    assert not process.alive(process.boot_id(), child.pid, started)
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("how", ["image", "log"])
def test_what_somebody_else_changed_is_left_alone_until_a_person_decides(place: World, how: str) -> None:
    image, log = place.image(mode=0o640), place.folder / "a.log"
    words = drive(image) if how == "image" else ("-D", log)
    process = place.start("--", place.program, "-name", "a", *words)
    place.wait_running("a")
    claimed = place.guest("a")
    assert claimed is not None
    changed = image if how == "image" else log
    os.chown(changed, 4444, 4444)
    process.kill()
    wait(lambda: (place.guest("a") or claimed).state == "stuck")
    assert changed.stat().st_uid == 4444
    assert "a" not in place.ps()
    assert place.ps("--all")["a"]["state"] == "stuck"
    assert str(changed) in place.log()
    for _ in range(3):  # it may be asked as often as one likes
        reports = json.loads(place.septum("reconcile", "--json", status=125).stdout)
        assert [step["outcome"] for step in reports[0]["steps"] if step["path"] == str(changed)] == ["foreign"]
        assert place.ps("--all")["a"]["state"] == "stuck"
        assert str(claimed.uid) in place.taken("uid")
    assert place.json("doctor", status=None)["ledger"]["stuck"] == ["default/a"]
    refused = place.septum("run", "--", place.program, "-name", "a", status=125).stderr.decode()
    assert "default/a" in refused
    place.septum("reconcile", "--forget", "a")
    assert left_over(place) == []
    assert changed.stat().st_uid == 4444


def test_what_somebody_has_seen_to_is_released_by_the_next_reconcile(place: World) -> None:
    image = place.image(mode=0o640)
    before = snapshot(place.folder)
    process = place.start("--", place.program, "-name", "a", *drive(image))
    place.wait_running("a")
    os.chown(image, 4444, 4444)
    process.kill()
    wait(lambda: place.ps("--all").get("a", {}).get("state") == "stuck")
    os.chown(image, 0, 0)
    image.chmod(0o640)
    place.septum("reconcile")
    assert left_over(place) == []
    assert snapshot(place.folder) == before


def test_a_guest_that_lives_can_not_be_forgotten(place: World) -> None:
    place.start("--", place.program, "-name", "a")
    place.wait_running("a")
    assert b"lives" in place.septum("reconcile", "--forget", "a", status=125).stderr
    assert place.septum("reconcile", "--forget", "nobody", status=127).stderr
    assert "a" in place.ps()


def test_a_renamed_image_is_restored_and_a_deleted_one_is_gone(place: World) -> None:
    renamed, deleted = place.image("r.img", 0o640), place.image("d.img")
    os.chown(renamed, 1000, 1001)
    before = snapshot(renamed)[str(renamed)]
    process = place.start("--", place.program, "-name", "a", *drive(renamed), *drive(deleted))
    place.wait_running("a")
    (place.folder / "elsewhere").mkdir()
    moved = place.folder / "elsewhere" / "b.img"
    renamed.rename(moved)
    renamed.write_bytes(b"a new one")
    deleted.unlink()
    process.kill()
    place.wait_empty()
    assert snapshot(moved)[str(moved)] == before
    assert renamed.stat().st_uid == 0
    assert "foreign" not in place.log()


def test_a_folder_that_was_turned_into_somebodys_symlink_blocks_nobody(place: World) -> None:
    deep = place.folder / "deep"
    deep.mkdir()
    image = deep / "a.img"
    image.write_bytes(b"x")
    first = place.start("--", place.program, "-name", "a", *drive(image), "-D", deep / "a.log")
    second = place.start("--", place.program, "-name", "b", *drive(place.image("b.img")))
    for name in ("a", "b"):
        place.wait_running(name)
    deep.rename(place.folder / "moved")
    deep.symlink_to("/etc")
    os.lchown(deep, 1000, 1000)
    first.kill()
    wait(lambda: (place.folder / "moved" / "a.img").stat().st_uid == 0)
    wait(lambda: place.ps("--all").get("a", {}).get("state") == "stuck")
    second.kill()
    wait(lambda: (place.folder / "b.img").stat().st_uid == 0)
    deep.unlink()
    (place.folder / "moved").rename(deep)
    place.septum("reconcile")
    assert left_over(place) == []


@pytest.mark.parametrize("dies", ["first", "second"])
def test_a_shared_base_image_is_put_back_when_the_last_guest_is_gone(place: World, dies: str) -> None:
    base = place.qcow2("base.qcow2", mode=0o640)
    tops = [place.qcow2(f"{n}.qcow2", base) for n in range(2)]
    before = snapshot(place.folder)
    guests = []
    for number, top in enumerate(tops):
        words = drive(top, ",format=qcow2")
        guests.append(place.start("--realm", "red", "--", place.program, "-name", f"g{number}", *words))
        place.wait_running(f"g{number}")
    other = place.qcow2("other.qcow2", base)
    words = drive(other, ",format=qcow2")
    refused = place.septum("run", "--realm", "blue", "--", place.program, *words, status=125).stderr.decode()
    assert "red/g" in refused
    other.unlink()
    if dies == "second":
        guests.reverse()
    guests[0].kill()
    wait(lambda: len(place.guests()) == 1)
    assert os.getxattr(base, "system.posix_acl_access")
    guests[1].kill()
    place.wait_empty()
    assert snapshot(place.folder) == before


@pytest.mark.parametrize("dies", [0, 1])
def test_two_launches_that_share_a_base_image_die_at_every_point(place: World, dies: int) -> None:
    """One guest stays; the other's launch is killed at each checkpoint: the base image stays open to the one."""
    base = place.qcow2("base.qcow2", mode=0o640)
    tops = [place.qcow2(f"{n}.qcow2", base) for n in range(2)]
    before = snapshot(place.folder)
    silent = Silent(place.state)
    running = place.start(
        "--realm", "red", "--", place.program, "-name", "stays", *drive(tops[1 - dies], ",format=qcow2")
    )
    place.wait_running("stays")
    meanwhile = snapshot(place.folder)
    asked = request(place, "-name", "dies", *drive(tops[dies], ",format=qcow2"))
    for at in range(1, 100):
        status = launch(place, asked, at=at)
        assert status in (0, -9), place.said.read_text(errors="replace")
        restore(place)
        assert (at, snapshot(place.folder)) == (at, meanwhile)
        assert [guest.name for guest in place.guests()] == ["stays"]
        silent.drain()
        if status == 0:
            break
    running.kill()
    running.wait()
    restore(place)
    assert snapshot(place.folder) == before
    assert left_over(place) == []
    silent.close()


def test_nothing_of_a_guest_that_is_not_put_back_is_given_to_another(place: World) -> None:
    """Neither its label nor its uid, however many start meanwhile."""
    image = place.image()
    silent = Silent(place.state)
    asked = request(place, "-name", "first", *drive(image))
    assert launch(place, asked, at=12) == -9
    (first,) = place.guests()
    for number in range(20):
        assert launch(place, request(place, "-name", f"n{number}")) == 0
        silent.drain()
    others = [guest for guest in place.guests() if guest.uuid != first.uuid]
    assert len(others) == 20
    assert first.level not in {guest.level for guest in others}
    assert first.uid not in {guest.uid for guest in others}
    assert launch(place, request(place, "-name", "second", *drive(image))) == 125
    assert "red/first" in place.said.read_text(errors="replace")
    restore(place)
    assert left_over(place) == []
    silent.close()


def test_a_block_device_is_given_and_taken_back(place: World) -> None:
    """A node of its own for a device that nobody uses: what counts is the node's owner and mode."""
    node = place.folder / "disk"
    os.mknod(node, 0o060660, os.makedev(240, 77))
    os.chown(node, 0, 6)
    before = snapshot(place.folder)
    silent = Silent(place.state)
    asked = request(place, "-name", "a", *drive(node))
    for at in range(1, 100):
        status = launch(place, asked, at=at)
        assert status in (0, -9), place.said.read_text(errors="replace")
        restore(place)
        assert (at, snapshot(place.folder)) == (at, before)
        silent.drain()
        if status == 0:
            break
    assert left_over(place) == []
    silent.close()


def test_a_guests_own_uid_is_no_realms_group(place: World) -> None:
    from septum.launch import identity
    from septum.ledger.records import Realm

    ledger = place.ledger
    offset = int.from_bytes(ledger.secret()[:4], "big")
    number = identity.UID_BASE + (offset + 1) % identity.UID_COUNT
    ledger.add_realm(Realm("blue", (0, 1), number))
    ledger.close()
    place.start("--realm", "red", "--", place.program, "-name", "a")
    place.wait_running("a")
    with closing(place.ledger) as ledger:
        realms = ledger.realms()
    taken = {guest.uid for guest in place.guests()} | {realm.gid for realm in realms}
    assert len(taken) == 3
