"""An orchestrator: a guest that really boots, and manages its realm from inside, over a port that is its alone."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import orchestrator
from septum.errors import NotFound
from tests.launchkit import wait
from tests.realmskit import EMPTY, QEMU, Host, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    yield from host()


class Console:
    """What a guest has said so far, as its script's steps.

    Attributes:
        text: all of it.
    """

    def __init__(self, place: Host, realm: str, name: str) -> None:
        self._place = place
        self._of = realm, name
        self.text = ""

    def steps(self) -> dict[str, Any]:
        with self._place.client() as api:
            self.text += api.console(*self._of)
        found: dict[str, Any] = {}
        for line in self.text.split("\n"):
            if line.startswith("orchestrator: {") and line.rstrip("\r").endswith("}"):
                found |= json.loads(line.removeprefix("orchestrator: "))
        return found

    def until(self, step: str, seconds: float = 120) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while step not in (found := self.steps()):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.2)
        return found


def test_bootstrap_and_management_from_inside(place: Host) -> None:
    with place.client() as api:
        # The platform makes both realms; each gets a key that works once.
        key = api.create_realm("red").enrolment_key
        api.create_realm("blue")
        api.create_guest("red", "web", EMPTY)
        api.create_guest("blue", "mail", EMPTY)
        api.wait(api.create_image("red", "kernel", path=str(orchestrator.kernel())))
        api.wait(api.create_image("red", "initrd", path=str(orchestrator.initrd())))
        config = {
            "memory": 256,
            "kernel": "kernel",
            "initrd": "initrd",
            "append": orchestrator.append("red", "web", "blue/mail", key),
            "orchestrator": True,
        }
        place.running("red", "boss", config)
        console = Console(place, "red", "boss")
        steps = console.until("realms")
        assert steps["me"]["realm"] == "red"
        assert steps["enrolled"] is True
        assert steps["again"]["error"] == "Denied"
        assert (steps["started"], steps["own"]) == ("done", "running")
        assert steps["other"] == steps["absent"]
        assert steps["other"]["what"] == "there is no such object"
        assert steps["realms"] == ["red"]
        assert api.realm("red").enrolled
        assert not api.realm("blue").enrolled
        assert (api.guest("red", "web").state, api.guest("blue", "mail").state) == ("running", "stopped")
        # Who did it is in the record: the guest, by its place.
        assert "guest red/boss" in {one.fields.get("by") for one in place.audit() if one.event == "guest.start"}
        # A reset in the middle of whatever goes on; then the daemon is killed: the port works again each time.
        for again in (lambda: None, lambda: (place.kill(), place.apid())):
            api.wait(api.stop_guest("red", "web", force=True))
            again()
            console.text = ""
            api.reset_guest("red", "boss")
            steps = console.until("realms")
            assert (steps["started"], steps["again"]["error"]) == ("done", "Denied")
        api.wait(api.stop_guest("red", "web", force=True))
        api.wait(api.stop_guest("red", "boss", force=True))


def test_an_enrolment_key_is_of_its_realm(place: Host) -> None:
    public = "A" * 43 + "="
    with place.client() as platform:
        key = platform.create_realm("green").enrolment_key
        platform.create_realm("grey")
        with pytest.raises(NotFound):
            platform.enrol("green", key, public)  # not even the platform enrols in a realm's place
    with place.client("grey") as api:
        with pytest.raises(NotFound):
            api.enrol("green", key, public)
        reply = place.call("POST", "/v1/realms/grey/enrolment", {"key": key, "public_key": public}, realm="grey")
        assert reply.status == 403
    with place.client("green") as api:
        for bad in ("", "AA==", "A" * 44, "*" * 44):
            reply = place.call("POST", "/v1/realms/green/enrolment", {"key": key, "public_key": bad}, realm="green")
            assert reply.status == 403
        assert api.enrol("green", key, public).enrolled
        reply = place.call("POST", "/v1/realms/green/enrolment", {"key": key, "public_key": public}, realm="green")
        assert reply.status == 403
    assert key not in json.dumps([one.fields for one in place.audit()])
    wait(lambda: place.call("GET", "/v1/realms/green", realm="green").status == 200)
