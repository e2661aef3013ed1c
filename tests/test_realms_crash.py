"""septum-apid is killed at every point of every verb: the next one finishes what was begun, or undoes it."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from septum.client import Client
from septum.errors import SeptumError
from septum.launch.undo import survivors
from tests.launchkit import wait
from tests.realmskit import PAUSED, QEMU, WAIT, Host, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]

# Ends the daemon at its n-th checkpoint, or change of the ledger: before it, or when it is on disk and nobody knows.
KILLER = """
from tests.launchkit import Killer
from septum.ledger.sqlite import SqliteLedger
killer = Killer({at})
parts.checkpoint = killer
commit = SqliteLedger.commit
def killing(self, change):
    killer()
    made = commit(self, change)
    killer()
    return made
SqliteLedger.commit = killing
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    for made in host():
        with made.client() as api:
            api.create_realm("red")
        yield made


def settled(place: Host) -> None:
    """Waits until nothing is under way."""
    wait(lambda: all(one.body["state"] in ("done", "failed") for one in place.documents("operation")))


def check(place: Host) -> None:
    """Ledger, host and what the API says agree; nothing is half done."""
    guests = {one.id: one for one in place.documents("guest")}
    images = {one.id: one for one in place.documents("image")}
    rows = {row.uuid: row for row in place.guests()}
    started = [one for one in guests.values() if one.body["state"] == "started"]
    assert {one.body["state"] for one in guests.values()} <= {"started", "stopped"}
    assert {one.body["uuid"] for one in started} == set(rows)
    for row in rows.values():
        assert row.state == "running"
        assert survivors(row) == [row.pid]
    used: dict[str, dict[str, str]] = {name: {} for name in images}
    for guest in started:
        for disk in guest.body["config"]["disks"]:
            used[disk["image"]][guest.id] = "rw"
        for name in guest.body["attached"]:
            used[name][guest.id] = "rw"
    assert {name: one.body["users"] for name, one in images.items()} == used
    assert all(one.body["ready"] for one in images.values())
    assert all(one.body["ready"] and not one.body["restoring"] for one in place.documents("snapshot"))
    files = {str(path.relative_to(place.store / "red")) for path in (place.store / "red").rglob("*") if path.is_file()}
    copies = {f".snapshots/{one.id}/{name}.img" for one in place.documents("snapshot") for name in one.body["sizes"]}
    assert files == {f"{name}.img" for name in images} | copies
    disk = sum(one.body["size"] for one in images.values())
    disk += sum(sum(one.body["sizes"].values()) for one in place.documents("snapshot"))
    ledger = place.ledger
    spent = ledger.spent("red")
    ledger.check()
    ledger.audit_verify()
    ledger.close()
    assert spent.get("guests", 0) == len(started)
    assert spent.get("memory", 0) == sum(one.body["charged"] for one in started)
    assert spent.get("disk", 0) == disk
    assert place.daemons["apid"].poll() is None, place.heard("apid")


def ready(api: Client, *, running: bool) -> None:
    """The state from which each verb is tried: a guest with a disk, and another image."""
    for snapshot in api.snapshots("red"):
        api.wait(api.destroy_snapshot("red", snapshot.name))
    for guest in api.guests("red"):
        if guest.state != "stopped":
            api.wait(api.stop_guest("red", guest.name, force=True))
        api.destroy_guest("red", guest.name)
    for image in api.images("red"):
        api.wait(api.destroy_image("red", image.name))
    for name in ("disk", "spare"):
        api.wait(api.create_image("red", name, size=8192))
    api.create_guest("red", "web", {**PAUSED, "disks": [{"image": "disk"}]})
    if running:
        api.wait(api.start_guest("red", "web"))


def realm_is_whole(place: Host) -> None:
    """A realm has its row, its code and its settings, or nothing."""
    ledger = place.ledger
    rows = {realm.name for realm in ledger.realms()}
    assert rows == {one.id for one in ledger.documents("realm")} == set(ledger.taken("realm-code").values())
    ledger.close()


@pytest.mark.parametrize("verb", ["create", "destroy"])
def test_a_realm_is_there_whole_or_not_at_all(place: Host, verb: str) -> None:
    for at in (1, 2):
        with suppress(SeptumError), place.client() as api:
            api.create_realm("brief") if verb == "destroy" else api.destroy_realm("brief")
        place.kill()
        place.apid(KILLER.format(at=at), up=False)
        wait(lambda: place.address().exists() and answers(place))
        with pytest.raises(SeptumError), place.client() as api:
            api.create_realm("brief") if verb == "create" else api.destroy_realm("brief")
        place.daemons["apid"].wait(WAIT)
        realm_is_whole(place)
        place.kill()
        place.apid()
        with place.client() as api:
            # The first time it died before the commit, the second time after it.
            assert ("brief" in {one.name for one in api.realms()}) == ((at == 2) == (verb == "create"))
    with suppress(SeptumError), place.client() as api:
        api.destroy_realm("brief")


VERBS: dict[str, tuple[bool, Callable[[Client], Any], Callable[[Client], Any]]] = {
    "guest.create": (False, lambda api: None, lambda api: api.create_guest("red", "more")),
    "guest.start": (False, lambda api: None, lambda api: api.wait(api.start_guest("red", "web"))),
    "guest.stop": (True, lambda api: None, lambda api: api.wait(api.stop_guest("red", "web", force=True))),
    "guest.pause": (True, lambda api: api.resume_guest("red", "web"), lambda api: api.pause_guest("red", "web")),
    "guest.attach": (True, lambda api: None, lambda api: api.wait(api.attach_image("red", "web", "spare"))),
    "guest.snapshot": (
        True,
        lambda api: api.resume_guest("red", "web"),
        lambda api: api.wait(api.create_snapshot("red", "web", "one")),
    ),
    "snapshot.restore": (
        False,
        lambda api: api.wait(api.create_snapshot("red", "web", "one")),
        lambda api: api.wait(api.restore_snapshot("red", "one")),
    ),
    "snapshot.destroy": (
        False,
        lambda api: api.wait(api.create_snapshot("red", "web", "one")),
        lambda api: api.wait(api.destroy_snapshot("red", "one")),
    ),
    "image.create": (False, lambda api: None, lambda api: api.wait(api.create_image("red", "new", size=4096))),
    "image.clone": (False, lambda api: None, lambda api: api.wait(api.clone_image("red", "spare", "new"))),
    "image.destroy": (False, lambda api: None, lambda api: api.wait(api.destroy_image("red", "spare"))),
}


@pytest.mark.parametrize("verb", VERBS)
def test_killed_anywhere(place: Host, verb: str) -> None:
    running, prepare, act = VERBS[verb]
    at = killed = 0
    while True:
        at += 1
        with place.client() as api:
            ready(api, running=running)
            prepare(api)
        settled(place)
        place.kill()
        place.apid(KILLER.format(at=at), up=False)
        wait(lambda: place.address().exists() and answers(place))
        try:
            with place.client("red") as api:
                act(api)
            settled(place)
            ended = place.daemons["apid"].poll()
        except SeptumError:
            ended = place.daemons["apid"].wait(WAIT)
        if ended is None:
            check(place)
            place.kill()
            place.apid()
            break
        killed += 1
        place.kill()
        place.apid()
        settled(place)
        wait(lambda: all(one.body["state"] != "starting" for one in place.documents("guest")))
        check(place)
        if verb == "guest.snapshot":
            with place.client() as api:
                assert api.guest("red", "web").state == "running"
    assert killed >= (2 if verb in ("guest.create", "guest.pause") else 6)


def answers(place: Host) -> bool:
    """Whether the daemon can be asked, or has been killed before it could."""
    if place.daemons["apid"].poll() is not None:
        return True
    with suppress(SeptumError), place.client() as api:
        api.me()
        return True
    return False
