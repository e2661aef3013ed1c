"""Realms and their guests through the API, with both daemons and real emulators."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from septum.access import Decision, ObjectQuestion
from septum.errors import Changed, Denied, Held, NotFound, OverQuota, SeptumError
from septum.launch.process import alive
from septum.ledger.records import Commit, Put, Spend
from septum.realms import Core, sweep
from septum.realms.sweep import KEPT
from tests.launchkit import wait
from tests.realmskit import EMPTY, PAUSED, QEMU, Host, finished, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    for made in host():
        with made.client() as api:
            api.create_realm("red")
            api.create_realm("blue")
        wait(made.address("blue").exists)
        yield made


def test_a_guest_from_its_definition_to_its_end(place: Host) -> None:
    with place.client("red") as api:
        made = api.create_guest("red", "life", EMPTY)
        assert (made.state, made.pid, made.level) == ("stopped", 0, "")
        done = api.wait(api.start_guest("red", "life"))
        assert (done.verb, done.target, done.state) == ("guest.start", "life", "done")
        guest = api.guest("red", "life")
        assert (guest.state, guest.incarnation) == ("running", 1)
        assert guest.level.startswith(api.realm("red").level + ",")
        row = place.guest("red/life")
        assert row is not None
        assert (row.uuid, row.pid, row.level) == (guest.uuid, guest.pid, guest.level)
        assert os.readlink(f"/proc/{guest.pid}/exe").endswith("qemu-system-x86_64")
        assert [one.name for one in api.guests("red")] == ["life"]
        api.wait(api.stop_guest("red", "life", force=True))
        assert not alive(row.boot_id, row.pid, row.started)
        assert place.guest("red/life") is None
        assert api.guest("red", "life").state == "stopped"
        api.destroy_guest("red", "life")
        with pytest.raises(NotFound):
            api.guest("red", "life")


def test_a_guest_has_its_image_alone(place: Host) -> None:
    with place.client("red") as api:
        api.wait(api.create_image("red", "disk", size=1 << 20))
        for name in ("one", "two"):
            api.create_guest("red", name, {**PAUSED, "disks": [{"image": "disk"}]})
        api.wait(api.start_guest("red", "one"))
        assert api.guest("red", "one").state == "paused"
        file = place.store / "red" / "disk.img"
        assert file.stat().st_uid == place.guest("red/one").uid  # type: ignore[union-attr]
        with pytest.raises(Held, match="in use") as refusal:
            api.start_guest("red", "two")
        assert refusal.value.holder == "guest one"
        with pytest.raises(Held):
            api.destroy_image("red", "disk")
        api.wait(api.stop_guest("red", "one", force=True))
        assert file.stat().st_uid == 0
        api.wait(api.start_guest("red", "two"))
        api.wait(api.stop_guest("red", "two", force=True))
        for name in ("one", "two"):
            api.destroy_guest("red", name)
        api.wait(api.destroy_image("red", "disk"))
        assert not file.exists()
        assert api.realm("red").used.get("disk", 0) == 0


def test_images_are_copied(place: Host) -> None:
    (place.folder / "content").write_bytes(b"septum" * 1000)
    with place.client() as api:
        api.wait(api.create_image("red", "base", path=str(place.folder / "content")))
        api.wait(api.clone_image("red", "base", "copy"))
        assert (place.store / "red" / "copy.img").read_bytes() == b"septum" * 1000
        assert api.image("red", "copy").size == 6000
        api.wait(api.destroy_image("red", "base"))
        api.wait(api.destroy_image("red", "copy"))


def test_only_the_platform_names_files_of_the_host(place: Host) -> None:
    with place.client("red") as api, pytest.raises(NotFound):
        api.create_image("red", "shadow", path="/etc/shadow")
    assert not (place.store / "red" / "shadow.img").exists()


def test_what_a_guest_ends_by_itself_is_free(place: Host) -> None:
    with place.client("red") as api:
        guest = place.running("red", "brief")
        os.kill(guest.pid, 9)
        wait(lambda: api.guest("red", "brief").state == "stopped")
        assert api.realm("red").used["guests"] == 0
        api.wait(api.start_guest("red", "brief"))
        assert api.guest("red", "brief").incarnation == 2
        api.wait(api.stop_guest("red", "brief", force=True))
        api.destroy_guest("red", "brief")


def test_quotas_hold(place: Host) -> None:
    with place.client() as api:
        small = api.create_realm("small", {"guests": 1, "memory": 24 << 20, "disk": 1000})
        api.create_guest("small", "one", EMPTY)
        api.create_guest("small", "two", EMPTY)
        api.create_guest("small", "big", {**EMPTY, "memory": 25})
        with pytest.raises(OverQuota, match="memory"):
            api.start_guest("small", "big")
        with pytest.raises(OverQuota, match="disk"):
            api.create_image("small", "big", size=1001)
        api.wait(api.start_guest("small", "one"))
        with pytest.raises(OverQuota, match="guests"):
            api.start_guest("small", "two")
        assert api.realm("small").used == {"guests": 1, "memory": 16 << 20}
        with pytest.raises(Changed):
            api.set_quota("small", {"guests": 2}, small.version + 1000)
        api.set_quota("small", {"guests": 2}, small.version)
        api.wait(api.start_guest("small", "two"))
        for name in ("one", "two"):
            api.wait(api.stop_guest("small", name, force=True))
        for name in ("one", "two", "big"):
            api.destroy_guest("small", name)
        api.destroy_realm("small")
        assert [one.name for one in api.realms()] == ["blue", "red"]


def test_a_start_that_fails_leaves_nothing(place: Host) -> None:
    with place.client() as api:
        api.wait(api.create_image("red", "nokernel", size=4096))
        api.create_guest("red", "broken", {"kernel": "nokernel", "memory": 32})
        (place.store / "red" / "nokernel.img").unlink()
        operation = finished(api, api.start_guest("red", "broken"))
        assert operation.state == "failed"
        assert operation.failure is not None
        assert "nokernel" in operation.failure["rule"]
        with pytest.raises(SeptumError, match="did not come up"):
            api.wait(operation)
        assert api.guest("red", "broken").state == "stopped"
        assert api.realm("red").used["guests"] == 0
        api.destroy_guest("red", "broken")
        api.wait(api.destroy_image("red", "nokernel"))


def test_another_realms_objects_are_not_there(place: Host) -> None:
    guest = place.running("red", "secret")
    with place.client("blue") as api:
        assert api.me().realm == "blue"
        assert [one.name for one in api.realms()] == ["blue"]
        for name in ("secret", "nothing"):
            for act in (
                lambda name=name: api.guest("red", name),
                lambda name=name: api.stop_guest("red", name),
                lambda name=name: api.destroy_guest("red", name),
                lambda: api.guests("red"),
                lambda: api.guests("none"),
                lambda: api.create_guest("red", "mine"),
                lambda: api.realm("red"),
                lambda: api.create_realm("green"),
            ):
                with pytest.raises(NotFound) as refusal:
                    act()
                assert refusal.value.what == "there is no such object"
        there = place.call("GET", "/v1/realms/red/guests/secret", realm="blue")
        nowhere = place.call("GET", "/v1/realms/red/guests/nothing", realm="blue")
        assert (there.status, there.raw) == (nowhere.status, nowhere.raw) == (404, nowhere.raw)
    with place.client("red") as api:
        assert api.guest("red", "secret").pid == guest.pid
        api.wait(api.stop_guest("red", "secret", force=True))
        api.destroy_guest("red", "secret")


def test_a_repeated_call_is_one(place: Host) -> None:
    with place.client("red") as api:
        first = api.create_guest("red", "once", EMPTY, key="k1")
        assert api.create_guest("red", "once", EMPTY, key="k1") == first
        with pytest.raises(Denied, match="another request"):
            api.create_guest("red", "twice", EMPTY, key="k1")
        with pytest.raises(Held, match="is there already"):
            api.create_guest("red", "once", EMPTY, key="k2")
        operation = api.start_guest("red", "once", key="k3")
        assert api.start_guest("red", "once", key="k3").id == operation.id
        api.wait(operation)
        assert api.start_guest("red", "once", key="k3").state == "done"
        api.wait(api.stop_guest("red", "once", force=True))
        api.destroy_guest("red", "once")


def test_the_commands_are_clients(place: Host) -> None:
    given = ("--state", place.state)
    place.septum("realm", "create", "green", "--guests", "3", *given)
    assert [one["name"] for one in place.json("realm", "list", *given)] == ["blue", "green", "red"]
    assert place.json("realm", "show", "green", *given)["quota"]["guests"] == 3
    place.septum("guest", "create", "web", "--realm", "green", "--machine", "none", "--memory", "16", *given)
    place.septum("guest", "start", "web", "--realm", "green", *given)
    listed = place.septum("guest", "list", "--realm", "green", *given).stdout.decode().split()
    assert listed[4:6] == ["web", "running"]
    at = ("--api", place.address("green"))
    assert place.json("guest", "show", "web", *at)["state"] == "running"
    place.septum("guest", "stop", "web", "--force", *at)
    place.septum("guest", "destroy", "web", *at)
    assert place.septum("guest", "show", "web", *at, status=127).stderr.startswith(b"septum: there is no such object")
    place.septum("realm", "destroy", "green", *given)


def test_what_was_done_is_in_the_audit_chain(place: Host) -> None:
    with place.client("red") as api:
        api.create_guest("red", "seen", EMPTY)
        api.destroy_guest("red", "seen")
    events = [(one.event, one.fields["by"]) for one in place.audit() if one.fields.get("guest") == "seen"]
    assert events == [("guest.create", f"uid 0, pid {os.getpid()}"), ("guest.destroy", f"uid 0, pid {os.getpid()}")]


def test_guests_outlive_the_daemon(place: Host) -> None:
    guest = place.running("red", "lasting")
    place.kill()
    place.apid()
    with place.client("red") as api:
        assert api.guest("red", "lasting") == guest
        place.kill(number=signal.SIGTERM)
        place.apid()
        assert api.guest("red", "lasting") == guest
        place.kill()
        os.kill(guest.pid, 9)
        place.apid()
        wait(lambda: api.guest("red", "lasting").state == "stopped")
        api.destroy_guest("red", "lasting")


def test_a_guest_is_paused_and_goes_on(place: Host) -> None:
    with place.client("red") as api:
        place.running("red", "clock", PAUSED)
        assert api.guest("red", "clock").state == "paused"
        assert api.resume_guest("red", "clock").state == "running"
        assert api.pause_guest("red", "clock").state == "paused"
        api.reset_guest("red", "clock")
        assert "BIOS" not in api.console("red", "clock")
        api.wait(api.stop_guest("red", "clock", seconds=0))
        with pytest.raises(Held, match="does not run"):
            api.pause_guest("red", "clock")
        api.destroy_guest("red", "clock")


def test_an_image_comes_and_goes_while_the_guest_runs(place: Host) -> None:
    with place.client("red") as api:
        api.wait(api.create_image("red", "hot", size=1 << 20))
        guest = place.running("red", "slots", PAUSED)
        place.running("red", "other", PAUSED)
        api.wait(api.attach_image("red", "slots", "hot"))
        assert api.guest("red", "slots").attached == ["hot"]
        for act in (api.attach_image, api.detach_image):
            with pytest.raises(Held):
                act("red", "other", "hot")
        # The emulator has a descriptor, and still no way to the file itself.
        assert (place.store / "red" / "hot.img").stat().st_uid == 0
        held = [os.readlink(one) for one in Path(f"/proc/{guest.pid}/fd").iterdir()]
        assert str(place.store / "red" / "hot.img") in held
        place.kill()
        place.apid()
    with place.client("red") as api:
        api.resume_guest("red", "slots")  # QEMU keeps descriptors of a guest that is paused
        # Nothing in this guest gives a disk up when it is asked to, but a reset does it too.
        operation = api.detach_image("red", "slots", "hot")
        wait(lambda: api.operation("red", operation.id).step == "detach")
        time.sleep(0.1)
        api.reset_guest("red", "slots")
        api.wait(operation)
        assert api.guest("red", "slots").attached == []
        held = [os.readlink(one) for one in Path(f"/proc/{guest.pid}/fd").iterdir()]
        assert str(place.store / "red" / "hot.img") not in held
        api.wait(api.attach_image("red", "other", "hot", read_only=True))
        api.wait(api.attach_image("red", "slots", "hot", read_only=True))
        for name in ("slots", "other"):
            api.wait(api.stop_guest("red", name, force=True))
            assert api.guest("red", name).attached == []
            api.destroy_guest("red", name)
        api.wait(api.destroy_image("red", "hot"))


def test_what_a_guest_can_not_take_is_not_its(place: Host) -> None:
    with place.client("red") as api:
        api.wait(api.create_image("red", "hot", size=4096))
        place.running("red", "bare", EMPTY)
        operation = finished(api, api.attach_image("red", "bare", "hot"))
        assert operation.state == "failed"
        assert api.guest("red", "bare").attached == []
        api.wait(api.stop_guest("red", "bare", force=True))
        api.destroy_guest("red", "bare")
        api.wait(api.destroy_image("red", "hot"))


def test_disks_become_what_they_were(place: Host) -> None:
    with place.client("red") as api:
        for name in ("root", "data"):
            api.wait(api.create_image("red", name, size=1 << 16))
        files = [place.store / "red" / f"{name}.img" for name in ("root", "data")]
        for file in files:
            file.write_bytes(b"before" * 100 + bytes((1 << 16) - 600))
        used = api.realm("red").used["disk"]
        place.running("red", "saved", {**PAUSED, "disks": [{"image": "root"}, {"image": "data"}]})
        api.resume_guest("red", "saved")
        api.wait(api.create_snapshot("red", "saved", "monday"))
        assert api.guest("red", "saved").state == "running"
        made = api.snapshot("red", "monday")
        assert (made.images, made.size, made.ready) == (["data", "root"], 1 << 17, True)
        assert api.realm("red").used["disk"] == used + (1 << 17)
        with pytest.raises(Held, match="in use"):
            api.restore_snapshot("red", "monday")
        api.wait(api.stop_guest("red", "saved", force=True))
        for file in files:
            file.write_bytes(b"after" + bytes((1 << 16) - 5))
        api.wait(api.restore_snapshot("red", "monday"))
        assert {file.read_bytes()[:600] for file in files} == {b"before" * 100}
        api.wait(api.destroy_snapshot("red", "monday"))
        assert api.snapshots("red") == []
        assert api.realm("red").used["disk"] == used
        api.destroy_guest("red", "saved")
        for name in ("root", "data"):
            api.wait(api.destroy_image("red", name))
        assert [path.name for path in (place.store / "red").rglob("*") if path.is_file()] == []


def test_what_is_remembered_is_bounded(place: Host) -> None:
    """Old operations and keys go; what is under way, and what is new, stays."""
    with place.client() as api:
        api.create_realm("forgets", {"calls": 100_000})
        operation = api.wait(api.create_image("forgets", "x", size=1, key="fresh"))
    ledger = place.ledger
    body = {**ledger.document("operation", "forgets", operation.id).body, "created": 1.0}  # type: ignore[union-attr]
    puts = [Put("operation", "forgets", f"old{number:04}", 0, body) for number in range(KEPT + 300)]
    puts += [Put("key", "forgets", f"old{n}", 0, {"digest": "", "made": "", "time": 1.0}) for n in range(3)]
    spends = (Spend("forgets", "operations", KEPT + 300, 10_000), Spend("forgets", "keys", 3, 10_000))
    ledger.commit(Commit(tuple(puts), spends=spends))
    core = Core(ledger, Nobody())
    rounds = 1
    while sweep(core, "forgets"):
        rounds += 1
    assert rounds == 2
    left = ledger.documents("operation", "forgets")
    assert len(left) == KEPT
    assert operation.id in {one.id for one in left}
    assert [one.id for one in ledger.documents("key", "forgets")] == ["fresh"]
    assert ledger.spent("forgets") == {"disk": 1, "keys": 1, "operations": KEPT}
    ledger.close()


class Nobody:
    """Allows nothing."""

    def decide_all(self, questions: Sequence[ObjectQuestion]) -> list[Decision]:
        raise AssertionError(questions)


def test_no_room_for_an_image_is_no_image(place: Host) -> None:
    place.kill()
    place.apid("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 20, 32 << 20))")
    with place.client() as api:
        used = api.realm("red").used.get("disk", 0)
        operation = finished(api, api.create_image("red", "huge", size=33 << 20))
        assert operation.state == "failed"
        assert operation.failure is not None
        assert "File too large" in operation.failure["what"]
        assert api.realm("red").used.get("disk", 0) == used
        assert [one.name for one in api.images("red") if one.name == "huge"] == []
    assert list((place.store / "red").glob("huge*")) == []
    place.kill()
    place.apid()


def test_without_a_decision_nothing_is_done_and_nothing_is_called_absent(place: Host) -> None:
    place.kill("septumd")
    for path in ("/v1/realms/red", "/v1/realms/none"):
        reply = place.call("GET", path)
        assert (reply.status, reply.json["type"]) == (503, "urn:septum:error:EngineGone")
    assert place.call("POST", "/v1/realms/red/guests", {"name": "undecided"}).status == 503
    place.septumd()
    with place.client() as api, pytest.raises(NotFound):
        api.guest("red", "undecided")


def test_a_guest_that_ends_amid_an_operation_is_stopped_all_the_same(place: Host) -> None:
    with place.client("red") as api:
        api.wait(api.create_image("red", "late", size=4096))
        guest = place.running("red", "amid", PAUSED)
        api.wait(api.attach_image("red", "amid", "late"))
        operation = api.detach_image("red", "amid", "late")
        wait(lambda: api.operation("red", operation.id).step == "detach")
        os.kill(guest.pid, 9)
        finished(api, operation)
        wait(lambda: api.guest("red", "amid").state == "stopped")
        assert api.realm("red").used["guests"] == 0
        api.destroy_guest("red", "amid")
        api.wait(api.destroy_image("red", "late"))


def test_an_emulator_that_says_nothing_holds_nobody_up(place: Host) -> None:
    guest = place.running("red", "silent", EMPTY)
    os.kill(guest.pid, signal.SIGSTOP)
    place.kill()
    place.apid()
    place.running("blue", "lively", EMPTY)
    os.kill(guest.pid, signal.SIGCONT)
    with place.client() as api:
        for realm, name in (("red", "silent"), ("blue", "lively")):
            api.wait(api.stop_guest(realm, name, force=True))
            api.destroy_guest(realm, name)


def test_a_repeated_call_is_one_also_for_the_next_daemon(place: Host) -> None:
    with place.client("red") as api:
        api.create_guest("red", "again", EMPTY, key="c1")
    place.kill()
    place.apid("import os, signal; parts.checkpoint = lambda what: 'launch' in what and os.kill(os.getpid(), 9)")
    with place.client("red") as api, pytest.raises(SeptumError):
        api.wait(api.start_guest("red", "again", key="s1"))
    place.daemons["apid"].wait()
    place.kill()
    place.apid()
    with place.client("red") as api:
        assert api.create_guest("red", "again", EMPTY, key="c1").name == "again"
        operation = finished(api, api.start_guest("red", "again", key="s1"))
        assert [one.id for one in api.operations("red") if one.target == "again"] == [operation.id]
        # It was killed before anything had been launched, so nothing runs, and it may be started under another key.
        assert operation.state == "failed"
        api.wait(api.start_guest("red", "again", key="s2"))
        api.wait(api.stop_guest("red", "again", force=True))
        api.destroy_guest("red", "again")


@pytest.fixture
def loop(place: Host) -> Iterator[str]:
    """A block device of the host."""
    (place.folder / "backing").write_bytes(bytes(1 << 20))
    done = subprocess.run(
        ["losetup", "--find", "--show", place.folder / "backing"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device can be had: {done.stderr}")
    path = done.stdout.strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=True)


def test_a_device_is_one_realms_and_in_one_guest(place: Host, loop: str) -> None:
    owner = os.stat(loop).st_uid
    with place.client() as platform, place.client("red") as api, place.client("blue") as other:
        for client in (api, other):
            with pytest.raises(NotFound):
                client.assign_device("red", "mine", loop)
        with pytest.raises(Denied, match="no block device"):
            platform.assign_device("red", "bad", "/dev/null")
        assert platform.assign_device("red", "data", loop).guest == ""
        with pytest.raises(Held):
            platform.assign_device("blue", "data", loop)
        assert [one.name for one in api.devices("red")] == ["data"]
        assert other.devices("blue") == []
        for name in ("one", "two"):
            api.create_guest("red", name, {**PAUSED, "devices": ["data"]})
        with pytest.raises(NotFound):
            other.create_guest("blue", "thief", {**PAUSED, "devices": ["data"]})
        api.wait(api.start_guest("red", "one"))
        assert api.devices("red")[0].guest == "one"
        assert os.stat(loop).st_uid == place.guest("red/one").uid  # type: ignore[union-attr]
        with pytest.raises(Held, match="in use"):
            api.start_guest("red", "two")
        with pytest.raises(Held, match="in use"):
            api.release_device("red", "data")
        api.wait(api.stop_guest("red", "one", force=True))
        assert os.stat(loop).st_uid == owner
        api.wait(api.start_guest("red", "two"))
        api.wait(api.stop_guest("red", "two", force=True))
        for name in ("one", "two"):
            api.destroy_guest("red", name)
        api.release_device("red", "data")
        platform.assign_device("blue", "data", loop)
        platform.release_device("blue", "data")


def test_a_services_umask_closes_nothing_to_guests(place: Host) -> None:
    place.kill()
    place.apid(f"import os; os.umask(0o077); parts.place = parts.place._replace(store={str(place.folder / 'other')!r})")
    with place.client() as api:
        api.create_realm("masked")
        api.wait(api.create_image("masked", "disk", size=4096))
        place.running("masked", "web", {**PAUSED, "disks": [{"image": "disk"}]})
        api.wait(api.create_snapshot("masked", "web", "one"))
        api.wait(api.stop_guest("masked", "web", force=True))
    place.kill()
    place.apid()


def test_a_folder_that_others_may_write_to_is_not_used(place: Host) -> None:
    place.kill()
    bad = place.folder / "bad"
    bad.mkdir()
    bad.chmod(0o777)
    place.apid(f"parts.place = parts.place._replace(store={str(bad)!r})", up=False)
    assert place.daemons["apid"].wait(20) != 0
    assert "not safe to use" in place.heard("apid")
    place.kill()
    place.apid()
