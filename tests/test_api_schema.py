"""The API against its own description: generated requests, valid and not; and every verb across realms."""

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, given, settings
from requests.adapters import HTTPAdapter

from septum.api import ROUTES, Route, describe
from tests.launchkit import wait
from tests.realmskit import EMPTY, QEMU, Host, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]

SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(describe())))
OPERATIONS = {one.ok().definition.raw["operationId"]: one.ok() for one in SCHEMA.get_all_operations()}
# A stream of events has no end to wait for.
ANSWERED = sorted(name for name in OPERATIONS if name != "event.follow")
REALMS = ("red", "blue")
BODIES: dict[str, Any] = {
    "realm.set_quota": {},
    "realm.delegate": {},
    "realm.enrol": {"key": "k", "public_key": "k"},
    "guest.create": {"name": "fresh"},
    "guest.set_config": {},
    "guest.stop": {},
    "guest.attach": {"image": "disk"},
    "guest.detach": {"image": "disk"},
    "guest.snapshot": {"name": "fresh"},
    "image.create": {"name": "fresh"},
    "device.assign": {"name": "fresh", "path": "/dev/null"},
    "image.clone": {"name": "fresh"},
}


class Wire(HTTPAdapter):
    """What `requests` needs to speak over a unix socket."""

    def __init__(self, address: str) -> None:
        super().__init__()

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(30)
                self.sock.connect(address)

        class Pool(urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Connection

        self._pool = Pool("septum")

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self._pool


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    for made in host():
        with made.client() as api:
            for realm in REALMS:
                api.create_realm(realm, {"calls": 100_000})
                api.wait(api.create_image(realm, "disk", size=4096))
                api.create_guest(realm, "web", {**EMPTY, "disks": [{"image": "disk"}]})
                api.wait(api.create_snapshot(realm, "web", "monday"))
                api.wait(api.start_guest(realm, "web"))
        wait(made.address("blue").exists)
        yield made


def session(place: Host, realm: str) -> requests.Session:
    made = requests.Session()
    made.mount("http://", Wire(str(place.address(realm))))
    return made


@pytest.mark.parametrize("name", ANSWERED)
def test_it_is_as_it_describes_itself(place: Host, name: str) -> None:
    operation = OPERATIONS[name]
    valid = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    broken = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    line = session(place, "red")

    @given(case=valid | broken)
    @settings(max_examples=30, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        case.validate_response(case.call(session=line, base_url="http://septum"))

    check()
    assert place.daemons["apid"].poll() is None
    assert "a request failed" not in place.heard("apid")


def filled(route: Route, realm: str, *, there: bool, operation: str) -> str:
    """A route's path with names of objects that are there, or are not."""
    names = {"guest": "web", "image": "disk", "device": "none", "snapshot": "monday", "operation": operation}
    if not there:
        names = {name: "0" * 8 + text[:0] for name, text in names.items()}
    return re.sub(r"\{(\w+)\}", lambda found: realm if found[1] == "realm" else names[found[1]], route.path)


@pytest.mark.parametrize("route", [route for route in ROUTES if "{realm}" in route.path], ids=lambda route: route.name)
@pytest.mark.parametrize(("mine", "other"), [REALMS, REALMS[::-1]])
def test_nothing_crosses_realms(place: Host, route: Route, mine: str, other: str) -> None:
    with place.client() as api:
        before = (api.guests(other), api.images(other), api.snapshots(other), api.realm(other))
        operation = api.operations(other)[0].id
    headers = {"If-Match": f'"{before[3].version}"'} if route.versioned == "must" else {}
    body = BODIES[route.name] if route.body is not None else None
    replies = [
        place.call(route.method, path, body, realm=mine, headers=headers)
        for path in (
            filled(route, other, there=True, operation=operation),
            filled(route, other, there=False, operation=operation),
            filled(route, "nowhere", there=True, operation=operation),
        )
    ]
    assert {(reply.status, reply.raw) for reply in replies} == {(404, replies[0].raw)}
    kept = [{name: one for name, one in reply.headers.items() if name != "Date"} for reply in replies]
    assert kept[0] == kept[1] == kept[2]
    assert other not in replies[0].raw.decode()
    with place.client() as api:
        assert (api.guests(other), api.images(other), api.snapshots(other), api.realm(other)) == before


@pytest.mark.parametrize("realm", REALMS)
def test_lists_are_of_one_realm(place: Host, realm: str) -> None:
    (other,) = set(REALMS) - {realm}
    for route in ROUTES:
        if route.method == "GET" and not re.search(r"\{(?!realm)", route.path) and not route.streams:
            reply = place.call("GET", route.path.replace("{realm}", realm), realm=realm)
            assert reply.status == 200
            assert other not in reply.raw.decode(), route.name


def test_what_only_the_platform_may_no_realm_may(place: Host) -> None:
    with place.client("red") as api:
        version = api.realm("red").version
    for method, path, body in (
        ("POST", "/v1/realms", {"name": "green"}),
        ("PUT", "/v1/realms/red/quota", {}),
        ("PUT", "/v1/realms/red/delegates", {}),
        ("DELETE", "/v1/realms/red", None),
    ):
        headers = {"If-Match": f'"{version}"'} if method == "PUT" else {}
        assert place.call(method, path, body, realm="red", headers=headers).status == 404
