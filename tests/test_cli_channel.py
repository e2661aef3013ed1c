"""``septum channel``, run by guests: standard streams, a socket on each side for programs as they are, ls and close."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.rendezvouskit import GUESTS, ROOT, WAIT, Platform, platform, until

pytestmark = pytest.mark.root

# Loaded before it becomes the guest, to whom a clone may be closed.
AS_GUEST = """
import os, sys
sys.path.insert(0, {root!r})
import septum.cli.main, septum.cli.channel, encodings.idna
os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
septum.cli.main.main(sys.argv[1:])
"""


@pytest.fixture
def site() -> Iterator[Platform]:
    with platform() as made:
        made.start_septumd()
        made.start_broker()
        yield made


@pytest.fixture
def run(site: Platform) -> Iterator[Any]:
    """Starts ``septum channel`` as a guest, or as root."""
    started: list[subprocess.Popen[bytes]] = []

    def start(guest: str, what: str, *words: str) -> "subprocess.Popen[bytes]":
        uid = GUESTS[guest][2] if guest else 0
        command = [sys.executable, "-c", AS_GUEST.format(root=str(ROOT), uid=uid)]
        command += ["channel", what, *words, "--socket", str(site.socket)]
        made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(made)
        return made

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            one.kill()
        if one.stdin is not None and one.stdin.closed:
            one.stdin = None
        one.communicate()


def connected(run: Any, guest: str, *words: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    """Tries again until the other side is there."""
    result: list[tuple[int, bytes, bytes]] = []

    def once() -> bool:
        made = run(guest, "connect", *words)
        out, err = made.communicate(data, WAIT)
        result[:] = [(made.returncode, out, err)]
        return b"nobody offers" not in err

    until(once)
    return result[0]


def test_standard_streams(site: Platform, run: Any) -> None:
    server = run("db", "listen", "sql", "--messages")
    server.stdin.write(b"1\n")
    server.stdin.close()
    assert connected(run, "web", "blue/sql", data=b"select 1\nselect 2\n") == (0, b"1\n", b"")
    assert server.stdout.read() == b"select 1\nselect 2\n"
    assert server.wait(WAIT) == 0


def test_both_directions_and_much(site: Platform, run: Any) -> None:
    data, back = os.urandom(1 << 20), os.urandom(1 << 19)
    server = run("spy", "listen", "copy")
    answer: list[bytes] = []
    thread = threading.Thread(target=lambda: answer.append(server.communicate(back, WAIT)[0]))
    thread.start()
    status, out, err = connected(run, "db", "copy", data=data)
    thread.join()
    assert (status, out == back, err) == (0, True, b"")
    assert answer == [data]
    assert server.returncode == 0
    until(lambda: site.rows() == [])


def test_one_way(site: Platform, run: Any) -> None:
    server = run("db", "listen", "log")
    server.stdin.close()
    status, out, err = connected(run, "mail", "blue/log", data=b"line 1\nline 2\n")
    assert (status, out, err) == (0, b"", b"")
    assert server.stdout.read() == b"line 1\nline 2\n"
    assert server.wait(WAIT) == 0


def test_a_refusal_is_worded_and_has_its_status(run: Any) -> None:
    refused = run("other", "connect", "blue/sql")
    _, err = refused.communicate(b"", WAIT)
    assert refused.returncode == 125
    assert b"nobody offers this service, or it is not for this guest" in err


def test_ls_and_close(site: Platform, run: Any) -> None:
    server = run("db", "listen", "sql", "--messages")
    user = None
    while not site.rows():
        user = run("web", "connect", "blue/sql")
        until(lambda user=user: user.poll() is not None or bool(site.rows()))  # type: ignore[misc]
    until(lambda: [row.state for row in site.rows()] == ["active"] * 2)
    out, _ = run("", "ls").communicate(b"", WAIT)
    lines = out.decode().splitlines()
    assert lines[0].split() == ["ID", "LINK", "FROM", "TO", "SERVICE", "WAY", "STATE"]
    assert lines[1].split()[2:] == ["red/web", "blue/db", "blue/sql", "to-service", "active"]
    closed = run("", "close", lines[1].split()[1])
    closed.communicate(b"", WAIT)
    assert closed.returncode == 0
    assert site.rows() == []
    assert user is not None
    for one in (server, user):
        assert one.wait(WAIT) == 1


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello " * 50_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_a_program_as_it_is_reaches_a_service_through_a_door(site: Platform, run: Any) -> None:
    """curl, a web server, and nothing between them but the door."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    run("spy", "forward", "web", "--to", f"tcp:127.0.0.1:{port}")
    folder = site.folder.parent / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    path = folder / "web.sock"
    run("db", "forward", "blue/web", "--from", f"unix:{path}")
    until(path.exists)
    command = ["curl", "-s", "--unix-socket", str(path), "http://service/"]
    until(lambda: subprocess.run(command, capture_output=True, check=False).stdout == b"hello " * 50_000)
    many = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(8)]
    assert [one.communicate(timeout=WAIT)[0] for one in many] == [b"hello " * 50_000] * 8
    until(lambda: site.rows() == [])
    server.shutdown()


def test_a_forwarder_ends_with_the_broker(site: Platform, run: Any, tmp_path: Path) -> None:
    made = run("", "forward", "blue/web", "--from", f"unix:{tmp_path}/x")
    until((tmp_path / "x").exists)
    assert site.broker is not None
    site.broker.stop(signal.SIGKILL)
    _, err = made.communicate(b"", WAIT)
    assert made.returncode == 125
    assert b"the broker is gone" in err


@pytest.mark.parametrize("address", ["", "unix:", "tcp:1", "tcp:localhost", "udp:1:2", "tcp:127.0.0.1:99999"])
def test_an_address_is_one(run: Any, address: str) -> None:
    made = run("db", "forward", "x", "--from", address)
    _, err = made.communicate(b"", WAIT)
    assert made.returncode in (2, 125)
    assert b"is no address" in err or b"can't listen at" in err
