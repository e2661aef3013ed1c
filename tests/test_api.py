"""The API on its sockets: what it refuses, what it bears, what it tells."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from septum.api import ROUTES, describe
from septum.client import Client, Evidence
from septum.errors import Denied, NotFound
from tests.launchkit import NOBODY, forked, wait
from tests.realmskit import EMPTY, QEMU, Host, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    for made in host():
        with made.client() as api:
            api.create_realm("red", {"events": 20})
            api.create_realm("blue", {"calls": 20})
        wait(made.address("blue").exists)
        yield made


def test_it_describes_itself(place: Host) -> None:
    told = place.call("GET", "/openapi.json", realm="red").json
    assert told == json.loads(json.dumps(describe()))
    assert {one["operationId"] for path in told["paths"].values() for one in path.values()} == {r.name for r in ROUTES}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/", None, {}, 404),
        ("GET", "/v1/realms/red/guests/..%2f..", None, {}, 404),
        ("PATCH", "/v1/realms", None, {}, 405),
        ("GET", "/v1/realms?x=1", None, {}, 400),
        ("GET", "/v1/realms", b"x", {}, 400),
        ("POST", "/v1/realms/red/guests", b"{", {}, 400),
        ("POST", "/v1/realms/red/guests", b"\xff\xfe", {}, 400),
        ("POST", "/v1/realms/red/guests", b"[" * 60000, {}, 400),
        ("POST", "/v1/realms/red/guests", b'{"name":"a"}', {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/realms/red/guests", {"name": "../a"}, {}, 422),
        ("POST", "/v1/realms/red/guests", {"name": "a", "realm": "blue"}, {}, 422),
        ("POST", "/v1/realms/red/guests", {"name": "a", "config": {"memory": 1e999}}, {}, 400),
        ("POST", "/v1/realms/red/guests", {"name": "a", "config": {"memory": -1}}, {}, 422),
        ("POST", "/v1/realms/red/guests", {"name": "a", "config": {"append": "a\nb"}}, {}, 422),
        ("POST", "/v1/realms/red/guests", {"name": "a", "config": {"kernel": "none"}}, {}, 404),
        ("POST", "/v1/realms/red/guests", {"name": "a"}, {"Idempotency-Key": "a b"}, 400),
        ("PUT", "/v1/realms/red/quota", {}, {}, 428),
        ("PUT", "/v1/realms/red/quota", {}, {"If-Match": "*"}, 400),
        ("PUT", "/v1/realms/red/quota", {}, {"If-Match": '"99999"'}, 412),
        ("POST", "/v1/realms/red/guests", b" " * (65 << 10), {}, 413),
    ],
)
def test_what_can_not_be_understood_is_refused(
    place: Host, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    reply = place.call(method, path, body, headers=headers)
    assert reply.status == status, reply.raw
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["status"] == status
    assert {"type", "title", "detail"} <= set(reply.json)


def test_a_change_is_of_what_was_seen(place: Host) -> None:
    made = place.call("POST", "/v1/realms/red/guests", {"name": "seen"})
    assert (made.status, made.headers["ETag"]) == (201, f'"{made.json["version"]}"')
    tag = {"If-Match": made.headers["ETag"]}
    changed = place.call("PUT", "/v1/realms/red/guests/seen/config", {"memory": 64}, headers=tag)
    assert (changed.status, changed.json["config"]["memory"]) == (200, 64)
    assert place.call("PUT", "/v1/realms/red/guests/seen/config", {"memory": 65}, headers=tag).status == 412
    assert place.call("DELETE", "/v1/realms/red/guests/seen", headers=tag).status == 412
    tag = {"If-Match": changed.headers["ETag"]}
    assert place.call("DELETE", "/v1/realms/red/guests/seen", headers=tag).status == 204


def test_no_header_says_who_calls(place: Host) -> None:
    claims = {"Host": "platform", "X-Forwarded-For": "root", "Authorization": "Basic cm9vdA==", "X-Realm": "red"}
    assert place.call("GET", "/v1/me", realm="blue", headers=claims).json["realm"] == "blue"
    assert place.call("GET", "/v1/realms/red", realm="blue", headers=claims).status == 404


def test_a_user_acts_for_a_realm_when_the_platform_says_so(place: Host) -> None:
    sockets = place.folder / "sockets"
    place.kill()
    place.apid(f"parts.sockets = {str(sockets)!r}")
    address = sockets / "red.sock"

    def ask(uid: int) -> bool:
        def act() -> None:
            os.setgroups([])
            os.setresuid(uid, uid, uid)
            with Client(str(address), timeout=5) as api:
                assert api.me().realm == "red"
                with pytest.raises(NotFound):
                    api.guests("blue")

        return forked(act, place.said) == 0

    assert not ask(NOBODY)
    with place.client() as api:
        api.delegate("red", [NOBODY, 12345], api.realm("red").version)
        wait(lambda: ask(NOBODY))
        assert ask(12345)
        assert not ask(12346)
        # A guest's emulator has no business there, though it is of the realm's group.
        guest = place.running("red", "curious", EMPTY)
        row = place.guest("red/curious")
        assert row is not None
        assert not ask(row.uid)
        api.wait(api.stop_guest("red", guest.name, force=True))
        api.destroy_guest("red", guest.name)
        api.delegate("red", [], api.realm("red").version)
        wait(lambda: not ask(NOBODY))
    assert address.stat().st_mode & 0o7777 == 0o600
    place.kill()
    place.apid()


def test_slow_and_silent_callers_are_dropped(place: Host) -> None:
    place.kill()
    place.apid("parts.bounds = parts.bounds._replace(arrival=0.5)")
    for sent in (
        b"",
        b"GET /v1/me HTTP/1.1\r\nHos",
        b"POST /v1/realms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ):
        with closing(place.connect()) as slow:
            slow.sendall(sent)
            begun = time.monotonic()
            rest = b""
            while True:
                try:
                    data = slow.recv(4096)
                except ConnectionResetError:
                    break
                if not data:
                    break
                rest += data
            assert time.monotonic() - begun < 20
            assert not rest or rest.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")), rest
    place.kill()
    place.apid()


def test_one_realms_connections_are_bounded(place: Host) -> None:
    place.kill()
    place.apid("parts.bounds = parts.bounds._replace(connections=20)")
    held = [place.connect("red") for _ in range(60)]
    assert place.call("GET", "/v1/me", realm="blue").status == 200
    for one in held:
        one.close()
    wait(lambda: answers(place))
    place.kill()
    place.apid()


def answers(place: Host) -> bool:
    try:
        return place.call("GET", "/v1/me", realm="red").status == 200
    except OSError:
        return False


def test_one_realms_calls_are_bounded(place: Host) -> None:
    found = [place.call("GET", "/v1/me", realm="blue") for _ in range(60)]
    refused = [one for one in found if one.status == 429]
    assert refused
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert place.call("GET", "/v1/me", realm="red").status == 200
    time.sleep(1.1)
    assert {place.call("GET", "/v1/me", realm="blue").status for _ in range(10)} == {200}
    time.sleep(1.1)


def test_what_happens_is_told_to_the_realm_alone(place: Host) -> None:
    with place.client("red") as api, place.client("blue") as other:
        begin = 0
        api.create_guest("red", "told", EMPTY)
        other.create_guest("blue", "other", EMPTY)
        kinds = []
        for event in api.events("red", begin):
            assert event.fields.get("guest") != "other"
            kinds.append(event.kind)
            if event.fields.get("guest") == "told":
                break
        assert kinds[-1] == "guest.create"
        with pytest.raises(NotFound):
            next(other.events("red"))
        api.destroy_guest("red", "told")
        other.destroy_guest("blue", "other")


def test_who_was_away_too_long_is_told(place: Host) -> None:
    with place.client("red") as api:
        for number in range(15):
            api.create_guest("red", f"many{number}")
            api.destroy_guest("red", f"many{number}")
        first = next(api.events("red", 0))
        assert first.kind == "lost"
        assert first.fields["events"] > 0


def test_who_never_reads_is_dropped_and_harms_nobody(place: Host) -> None:
    place.kill()
    place.apid("parts.bounds = parts.bounds._replace(arrival=0.5, streams=3)")
    with place.client() as api:
        api.set_quota("red", {"events": 1_000_000}, api.realm("red").version)
    deaf = [place.connect("red") for _ in range(3)]
    for one in deaf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.sendall(b"GET /v1/realms/red/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n")
    wait(lambda: place.call("GET", "/v1/realms/red/events", realm="red").status == 503)
    with place.client("red") as api:
        for number in range(150):
            api.create_guest("red", "x" * 60 + str(number % 10))
            api.destroy_guest("red", "x" * 60 + str(number % 10))
            time.sleep(0.01)  # the realm may call so often only
    assert place.call("GET", "/v1/me", realm="blue").status == 200
    for one in deaf:
        one.close()
    place.kill()
    place.apid()


def test_evidence_is_the_platforms_word(place: Host, tmp_path: Path) -> None:
    guest = place.running("red", "proof", EMPTY)
    with place.client("red") as api:
        key = api.realm("red").platform_key
        first = api.evidence("red", "n1")
        api.wait(api.stop_guest("red", "proof", force=True))
        second = api.evidence("red", "n2")
        api.destroy_guest("red", "proof")
        with pytest.raises(NotFound):
            api.evidence("blue")
    stated = json.loads(first.statement)
    assert [(one["name"], one["level"]) for one in stated["guests"]] == [("proof", guest.level)]
    assert stated["policy"]["engine"] == "libsepol"
    assert len(stated["policy"]["fingerprint"]) == 64
    assert "blue" not in first.statement
    paths = [tmp_path / "1", tmp_path / "2"]
    for path, one in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(one._asdict()))
    checked = place.json("evidence", "verify", paths[1], "--key", key, "--nonce", "n2", "--since", paths[0])
    assert checked["realm"] == "red"
    for words in (
        (paths[1], "--key", key, "--nonce", "n1"),
        (paths[1], "--key", key, "--realm", "blue"),
        (paths[0], "--key", key, "--since", paths[1]),
        (paths[0], "--key", "A" * 43 + "="),
    ):
        place.septum("evidence", "verify", *words, status=Denied.exit_status)
    for forged in (
        first._replace(statement=first.statement.replace(guest.level, "s0:c9")),
        first._replace(signature=second.signature),
        Evidence("{}", key, first.signature),
    ):
        paths[0].write_text(json.dumps(forged._asdict()))
        place.septum("evidence", "verify", paths[0], "--key", key, status=Denied.exit_status)


def test_who_does_not_wait_for_answers_waits_for_room(place: Host) -> None:
    """Requests that are sent without end, and no answer read: the kernel's buffers fill, the daemon's don't."""
    with closing(place.connect("red")) as hasty:
        hasty.setblocking(False)
        request = b"GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        sent = 0
        until = time.monotonic() + 3
        while time.monotonic() < until and sent < 64 << 20:
            try:
                sent += hasty.send(request)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        assert sent < 8 << 20
    assert place.call("GET", "/v1/me", realm="blue").status == 200


def test_a_connection_is_of_the_process_that_made_it(place: Host) -> None:
    """Who hands his socket to another process and ends has taken his right with him."""
    ours, theirs = socket.socketpair()

    def make() -> None:
        made = place.connect("red")
        made.sendall(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert made.recv(4096).startswith(b"HTTP/1.1 200")
        socket.send_fds(theirs, [b"x"], [made.fileno()])

    child = os.fork()
    if child == 0:
        try:
            make()
        finally:
            os._exit(0)
    _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    with socket.socket(fileno=fd) as handed:
        handed.settimeout(20)
        ended = b""
        try:
            while not ended:
                handed.sendall(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n")
                if not handed.recv(4096):
                    ended = b"end of file"
        except (ConnectionResetError, BrokenPipeError):
            ended = b"reset"
    assert ended
    ours.close()
    theirs.close()
