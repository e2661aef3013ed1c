"""Real launches at once: of one thing exactly one wins, and the watcher is one, small, and replaceable."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit

import pytest

from septum.launch import state, watch
from septum.launch.watcher import Watcher
from tests.launchkit import World, became, left_over, snapshot, wait, world

pytestmark = pytest.mark.root

UUID = "0f0e0d0c-0b0a-4908-8706-050403020100"


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


def drive(path: object) -> tuple[str, str]:
    return "-drive", f"file={path},format=raw"


def settled(processes: list["subprocess.Popen[bytes]"]) -> tuple[list["subprocess.Popen[bytes]"], list[str]]:
    """Those that run, once each has either become the program or ended; what the others said."""
    wait(lambda: all(p.poll() is not None or became(p.pid) for p in processes), seconds=60)
    living = [p for p in processes if p.poll() is None]
    said = [p.stderr.read().decode() for p in processes if p.poll() is not None and p.stderr]
    assert all(p.returncode == 125 for p in processes if p.poll() is not None), said
    return living, said


@pytest.mark.parametrize("what", ["image", "name", "uuid"])
@pytest.mark.parametrize("many", [2, 10])
def test_of_one_thing_exactly_one_wins_and_the_others_name_it(place: World, what: str, many: int) -> None:
    image = place.image()
    before = snapshot(place.folder)
    words = {"image": drive(image), "name": ("-name", "same"), "uuid": ("-uuid", UUID)}[what]
    processes = []
    for number in range(many):
        name = () if what == "name" else ("--name", f"n{number}")
        processes.append(place.start(*name, "--", place.program, *words))
    winners, said = settled(processes)
    assert len(winners) == 1, said
    guest = next(iter(place.ps().values()))
    assert guest["pid"] == winners[0].pid
    assert len(said) == many - 1
    for message in said:
        assert f"default/{guest['name']} ({guest['uuid']})" in message or what == "image", message
        assert "holder:" in message
    winners[0].kill()
    place.wait_empty()
    assert snapshot(place.folder) == before


@pytest.mark.parametrize("named", [True, False], ids=["with a name", "without a name"])
def test_a_guest_that_is_started_again_at_once_comes_up(place: World, named: bool) -> None:
    image = place.image()
    before = snapshot(place.folder)
    words = (*(("-name", "a") if named else ()), *drive(image), "-D", place.folder / "a.log")
    for _ in range(6):
        process = place.start("--", place.program, *words)
        wait(lambda process=process: process.poll() is not None or became(process.pid))
        assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.wait()
    place.wait_empty()
    assert snapshot(place.folder) == before


def test_twenty_guests_at_once_start_and_are_put_back(place: World) -> None:
    base = place.qcow2("base.qcow2", mode=0o640)
    tops = [place.qcow2(f"top{number}.qcow2", base) for number in range(20)]
    before = snapshot(place.folder)
    processes = [
        place.start("--", place.program, "-name", f"g{number}", "-drive", f"file={top},format=qcow2")
        for number, top in enumerate(tops)
    ]  # fmt: skip
    living, said = settled(processes)
    assert len(living) == 20, said
    guests = place.ps()
    assert len({row["label"] for row in guests.values()}) == 20
    assert len({row["uid"] for row in guests.values()}) == 20
    assert len({top.stat().st_uid for top in tops}) == 20
    assert len(place.watchers()) == 1
    for process in living:
        process.kill()
    place.wait_empty(60)
    assert snapshot(place.folder) == before
    assert left_over(place) == []


def test_after_a_killed_watcher_the_next_launch_takes_over(place: World) -> None:
    images = [place.image(f"{number}.img") for number in range(3)]
    before = snapshot(place.folder)
    first, second = (place.start("--", place.program, "-name", f"g{n}", *drive(images[n])) for n in range(2))
    for number in range(2):
        place.wait_running(f"g{number}")
    (watcher,) = place.watchers()
    os.kill(watcher, signal.SIGKILL)
    wait(lambda: not place.watchers())
    first.kill()  # while nobody watches
    first.wait()
    assert images[0].stat().st_uid != 0
    third = place.start("--", place.program, "-name", "g2", *drive(images[2]))
    place.wait_running("g2")
    wait(lambda: images[0].stat().st_uid == 0)
    assert images[1].stat().st_uid != 0
    for process in (second, third):
        process.kill()
    place.wait_empty()
    assert snapshot(place.folder) == before


def test_two_watchers_never_run(place: World) -> None:
    """Launches while watchers are killed: whenever one looks, there is one at most, and all ends well."""
    processes = []
    for number in range(12):
        processes.append(place.start("--", place.program, "-name", f"g{number}", then="exit:0"))
        watchers = place.watchers()
        assert len(watchers) <= 1
        if number % 3 == 2 and watchers:
            os.kill(watchers[0], signal.SIGKILL)
    for process in processes:
        process.wait(timeout=60)
    assert all(process.returncode == 0 for process in processes), [p.stderr.read() for p in processes if p.stderr]
    place.septum("reconcile")
    assert left_over(place) == []


def test_the_watcher_stays_small(place: World) -> None:
    def resident() -> int:
        (watcher,) = place.watchers()
        line = next(row for row in Path(f"/proc/{watcher}/status").read_text().splitlines() if "VmRSS" in row)
        return int(line.split()[1])

    place.start("--", place.program, "-name", "first")
    place.wait_running("first")
    for number in range(50):
        place.start("--", place.program, "-name", f"g{number}")
        if number % 10 == 9:
            place.wait_running(f"g{number}")
    for number in range(50):
        place.wait_running(f"g{number}")
    wait(lambda: len(place.ps()) == 51)
    assert resident() < 25 * 1024 + 50 * 20


def test_the_watcher_needs_more_descriptors_than_its_starter_has(place: World) -> None:
    """A shell's limit of open files says nothing of how many guests a host has."""
    first = place.start("--", place.program, "-name", "first", preexec_fn=lambda: setrlimit(RLIMIT_NOFILE, (24, 4096)))
    place.wait_running("first")
    for number in range(24):
        place.start("--", place.program, "-name", f"g{number}")
    for number in range(24):
        place.wait_running(f"g{number}")
    assert len(place.watchers()) == 1
    assert len(os.listdir(f"/proc/{place.watchers()[0]}/fd")) > 25
    first.kill()
    for process in place.started:
        process.kill()
    place.wait_empty(30)
    assert "Traceback" not in place.log()


def test_refused_starts_of_a_running_uuid_leave_nothing_with_the_watcher(place: World) -> None:
    place.start("--", place.program, "-name", "a", "-uuid", UUID)
    place.wait_running("a")
    (watcher,) = place.watchers()

    for _ in range(6):
        place.septum("run", "--", place.program, "-uuid", UUID, status=125)

    def watched() -> int:
        paths = (f"/proc/{watcher}/fd/{number}" for number in os.listdir(f"/proc/{watcher}/fd"))
        return [os.readlink(path) for path in paths if os.path.lexists(path)].count("anon_inode:[pidfd]")

    # Two if the watcher found it in the ledger and heard of it as well.
    wait(lambda: 1 <= watched() <= 2)


def test_a_watcher_that_retires_removes_no_other_watchers_socket(tmp_path: Path) -> None:
    """Somebody removes a ledger's folder and begins anew: the old watcher is still there, and ends later."""
    folder, moved = tmp_path / "state", tmp_path / "moved"
    state.make(str(folder))
    old = Watcher(str(folder), watch.listen(str(folder)).detach())
    folder.rename(moved)
    state.make(str(folder))
    new = watch.listen(str(folder))
    assert old.retire()
    assert (folder / "watch.sock").is_socket()
    assert not (moved / "watch.sock").exists()
    # Nor does it matter that its own is gone.
    assert old.retire()
    old.listener.close()
    new.close()
