"""What must not start: each refused with septum's own exit status and a message that helps, and nothing is changed."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from septum.launch.run import run
from tests.launchkit import NOBODY, World, forked, left_over, plain, request, snapshot, somebodys, wait, world

pytestmark = pytest.mark.root


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


def refused(place: World, *words: object, status: int = 125, says: str = "", options: Any = (), **given: Any) -> str:
    """Runs it, and holds that nothing was changed and nothing is left."""
    before, others = snapshot(place.folder), held(place)
    done = place.septum("run", *options, "--", place.program, *words, status=status, **given)
    message = done.stderr.decode()
    assert done.stdout == b""
    assert message.startswith("septum: ")
    assert "Traceback" not in message
    assert says in message
    assert snapshot(place.folder) == before
    assert held(place) == others
    return message


def held(place: World) -> list[str]:
    return left_over(place) if (place.state / "ledger.db").exists() else []


def drive(path: object, more: str = ",format=raw") -> tuple[str, str]:
    return "-drive", f"file={path}{more}"


def test_an_unknown_option(place: World) -> None:
    message = refused(place, "-frobnicate", "/etc/passwd", says="-frobnicate")
    assert "next:" in message


@pytest.mark.parametrize("option", ["-runas", "-chroot"])
def test_what_needs_root_inside_qemu(place: World, option: str) -> None:
    empty = place.folder / "empty"
    empty.mkdir(exist_ok=True)
    words = (option, "nobody" if option == "-runas" else empty)
    message = refused(place, *words, says=option)
    assert "--driver selinux" in message
    plan = place.septum("plan", "--json", "--", place.program, *words)
    assert option in json.loads(plan.stdout)["refused"][0]["what"]


def test_a_path_like_value_that_no_table_explains(place: World) -> None:
    refused(place, "-device", "virtio-rng-pci,made-up=/etc/passwd", says="made-up")


def test_a_file_that_does_not_exist(place: World) -> None:
    message = refused(place, *drive(place.folder / "missing.img"), says=str(place.folder / "missing.img"))
    assert "next:" in message


def test_a_folder_that_does_not_exist(place: World) -> None:
    refused(place, *drive(place.folder / "no" / "a.img"), says="a folder on the way does not exist")


def test_a_folder_instead_of_an_image(place: World) -> None:
    refused(place, *drive(place.folder / "bin"), says="is a dir")


def test_a_cyclic_chain(place: World) -> None:
    one, two = place.qcow2("one.qcow2"), place.folder / "two.qcow2"
    for path, backing in ((two, one), (one, two)):
        options = ["-u", "-f", "qcow2", "-F", "qcow2", "-b", backing]
        subprocess.run(["qemu-img", "create", "-q", *options, path, "8M"], check=True)
    refused(place, *drive(one, ",format=qcow2"), says=str(one))


def test_a_hard_link(place: World) -> None:
    image = place.image()
    os.link(image, place.folder / "second")
    message = refused(place, *drive(image), says="2 names")
    assert f"--allow-path {image}" in message


def test_a_symlink_of_somebody_else_in_a_sticky_folder(place: World) -> None:
    public = place.folder / "public"
    public.mkdir()
    public.chmod(0o1777)
    (public / "a.img").symlink_to(place.image("victim.img", 0o600))
    os.lchown(public / "a.img", 1000, 1000)
    message = refused(place, *drive(public / "a.img"), says=f"{public}/a.img")
    assert "uid 1000" in message


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/passwd", "/dev/mem", "/proc/kcore", "/etc/../etc/shadow"])
def test_the_hosts_own_files_as_a_disk(place: World, path: str) -> None:
    before = snapshot(Path("/etc/shadow"))
    refused(place, *drive(path), says=os.path.normpath(path))
    assert snapshot(Path("/etc/shadow")) == before


def test_the_hosts_own_files_as_a_log(place: World) -> None:
    refused(place, "-D", "/etc/septum-test.log", says="system folder")
    assert not Path("/etc/septum-test.log").exists()


@pytest.mark.parametrize("how", ["plain", "json"])
def test_the_hosts_own_file_as_a_backing_file(place: World, how: str) -> None:
    """A header that a guest wrote must lead nowhere."""
    image = place.folder / "a.qcow2"
    backing = (
        "/etc/shadow" if how == "plain" else 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'
    )
    options = ["-u", "-f", "qcow2", "-F", "raw", "-b", backing]
    subprocess.run(["qemu-img", "create", "-q", *options, image, "8M"], check=True)
    before = snapshot(Path("/etc/shadow"))
    refused(place, *drive(image, ",format=qcow2"), says="/etc/shadow")
    assert snapshot(Path("/etc/shadow")) == before


def test_no_name_from_a_header_speaks_to_the_terminal(place: World) -> None:
    image = place.folder / "a.qcow2"
    options = ["-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/\x1b]0;owned\x07\x1b[2J"]
    subprocess.run(["qemu-img", "create", "-q", *options, image, "8M"], check=True)
    assert "\x1b" not in refused(place, *drive(image, ",format=qcow2"))


def test_septums_own_files(place: World) -> None:
    place.septum("run", "--", place.program, "-name", "first")
    place.wait_empty()
    refused(place, *drive(place.state / "ledger.db"), says="septum's own")


@pytest.mark.parametrize("text", ["{", "{not json}", '{"driver":"file"'])
def test_unparseable_json(place: World, text: str) -> None:
    refused(place, "-blockdev", text, says="-blockdev")


@pytest.mark.parametrize("uuid", ["../../../../tmp/x", "/tmp/septum-evil", "x", "{}", "0" * 36, "٠" * 36])
def test_a_uuid_that_is_none(place: World, uuid: str) -> None:
    refused(place, "-uuid", uuid, says="-uuid")
    assert not Path("/tmp/septum-evil").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", ".x", " a", "a\nb", "\x1b[31m", "x" * 65])
def test_a_name_that_is_not_safe(place: World, name: str) -> None:
    refused(place, options=[f"--name={name}"], says="can't be the name of a guest")
    refused(place, options=[f"--realm={name}"], says="can't be the name of a realm")


def test_the_platform_is_no_realm(place: World) -> None:
    """A declaration calls by this name what belongs to no realm; the two must not be taken for one another."""
    refused(place, options=["--realm=platform"], says="belongs to no realm")


def test_an_image_of_another_guest(place: World) -> None:
    image = place.image()
    place.start("--realm", "red", "--", place.program, "-name", "other", *drive(image))
    place.wait_running("other")
    for realm in ("red", "blue"):
        message = refused(place, *drive(image), options=["--realm", realm], says=str(image))
        assert "red/other" in message
        assert "next:" in message


@pytest.mark.parametrize("how", ["-D", "-serial file:", "-drive", "-cdrom"])
def test_a_log_that_another_guest_has_made(place: World, how: str) -> None:
    """It was claimed by name when there was no object yet; now there is one, and it is just as much the other's."""
    log = place.folder / "other.log"
    place.start("--", place.program, "-name", "other", "-D", log)
    place.wait_running("other")
    words = drive(log) if how == "-drive" else (how, log) if " " not in how else ("-serial", f"file:{log}")
    message = refused(place, *words, options=["--allow-probe"], says="other.log")
    assert "default/other" in message


def test_a_monitor_that_another_guest_serves(place: World) -> None:
    path = place.folder / "other.qmp"
    place.start("--", place.program, "-name", "other", "-qmp", f"unix:{path},server=on,wait=off")
    uid = place.guest("other" if place.wait_running("other") else "").uid  # type: ignore[union-attr]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chown(path, uid, uid)
        refused(place, "-qmp", f"unix:{path},server=on,wait=off", says="default/other")
        assert path.is_socket()
        message = refused(place, "-chardev", f"socket,id=c,path={path}", says="another guest")
        assert f"uid {uid}" in message


def test_a_corrupt_ledger(place: World) -> None:
    (place.state / "ledger.db").write_bytes(b"no database at all, but longer than a header of sqlite" * 100)
    (place.state / "ledger.db").chmod(0o600)
    before = (place.state / "ledger.db").read_bytes()
    done = place.septum("run", "--", place.program, status=125)
    assert str(place.state).encode() in done.stderr
    assert b"damaged" in done.stderr
    assert (place.state / "ledger.db").read_bytes() == before
    for words in (["ps"], ["show", "a"], ["reconcile"]):
        assert b"damaged" in place.septum(*words, status=125).stderr


def test_a_ledger_of_a_later_septum(place: World) -> None:
    place.septum("run", "--", place.program, "-name", "first")
    place.wait_empty()
    with sqlite3.connect(place.state / "ledger.db") as database:
        database.execute("PRAGMA user_version = 9999")
    for words in (["run", "--", place.program], ["ps"], ["reconcile"]):
        done = place.septum(*words, status=125)
        assert b"septum: " in done.stderr
        assert b"Traceback" not in done.stderr
    error = json.loads(place.septum("ps", "--json", status=125).stderr)
    assert error["error"] == "LedgerTooNew"


def test_a_full_disk(place: World) -> None:
    state = place.folder / "full"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k,mode=700", "septum-test", state], check=True)
    try:
        image = place.image()
        before = snapshot(image)
        done = place.septum("run", "--state", state, "--", place.program, *drive(image), status=125)
        assert b"septum: " in done.stderr
        assert b"Traceback" not in done.stderr
        assert snapshot(image) == before
    finally:
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if str(state).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"septum.launch.watcher")[-1]:
                    os.kill(pid, 9)
            except OSError:
                continue
        wait(lambda: subprocess.run(["umount", state], check=False, capture_output=True).returncode == 0)


@pytest.mark.parametrize("how", ["somebody else's", "open to others", "a symlink", "a file"])
def test_a_state_folder_that_others_could_have_prepared(place: World, how: str) -> None:
    state = place.folder / "state"
    if how == "a symlink":
        state.symlink_to(place.state)
    elif how == "a file":
        state.write_bytes(b"")
    else:
        state.mkdir(mode=0o700)
        if how == "open to others":
            state.chmod(0o770)
        else:
            os.chown(state, 1000, 1000)
    before = snapshot(place.folder)
    done = place.septum("run", "--state", state, "--", place.program, status=125)
    assert str(state).encode() in done.stderr
    assert b"rule:" in done.stderr
    assert snapshot(place.folder) == before


def test_a_state_folder_that_cannot_be_made(place: World) -> None:
    message = refused(place, options=["--state", "/proc/septum"], says="/proc/septum")
    assert "next:" in message


def test_a_kernel_without_landlock(place: World) -> None:
    """A system call filter answers ENOSYS, as an old kernel does."""
    code = (
        "import errno, runpy, sys\n"
        "from septum.host import kernel, landlock\n"
        "from septum.errors import Unenforceable\n"
        "def missing(): raise Unenforceable('this kernel has no Landlock', remedy='use another')\n"
        "def absent(): raise __import__('septum.errors').errors.HostError('no landlock', errno=errno.ENOSYS)\n"
        "kernel.landlock_abi = absent\n"
        "sys.argv = ['septum', *sys.argv[1:]]\n"
        "from septum.cli.main import main\n"
        "main()\n"
    )
    image = place.image()
    before = snapshot(place.folder)
    words = [sys.executable, "-c", code, "run", "--", place.program, *drive(image)]
    done = subprocess.run(words, env=place.environment, capture_output=True, check=False)
    assert done.returncode == 125
    assert b"nothing on this host can keep guests apart" in done.stderr
    assert b"--unconfined" in done.stderr
    assert snapshot(place.folder) == before
    words[4:4] = ["--unconfined"]
    assert subprocess.run(words, env=place.environment, capture_output=True, check=False).returncode == 0
    place.wait_empty()
    assert snapshot(place.folder) == before


def test_a_driver_that_does_not_exist(place: World) -> None:
    refused(place, options=["--driver", "magic"], status=2, says="magic")


def test_a_driver_that_does_not_work_here(place: World) -> None:
    refused(place, options=["--driver", "selinux"], says="selinux")


def test_a_program_that_is_not_there(place: World) -> None:
    done = place.septum("run", "--", "qemu-system-nonexistent", status=127)
    assert b"there is no program qemu-system-nonexistent" in done.stderr


def test_a_program_that_may_not_be_executed(place: World) -> None:
    place.program.chmod(0o644)
    done = place.septum("run", "--", place.program, status=126)
    assert str(place.program).encode() in done.stderr


def test_a_program_that_the_kernel_does_not_take(place: World) -> None:
    image = place.image()
    before = snapshot(image)
    place.program.write_bytes(b"\x7fELF nonsense")
    done = place.septum("run", "--", place.program, *drive(image), status=126)
    assert b"septum: " in done.stderr
    place.wait_empty()
    assert snapshot(image) == before


@pytest.mark.parametrize(
    "words",
    [[], ["run"], ["run", "--"], ["run", "--bogus", "--", "x"], ["bogus"], ["show"], ["explain", "a"], ["run", "x"]],
    ids=" ".join,
)
def test_a_wrong_command_line_of_septums_own(place: World, words: list[str]) -> None:
    done = place.septum(*words, status=None)
    assert done.returncode == 2 or (words == [] and done.returncode == 0)
    assert not (place.state / "ledger.db").exists()


def test_errors_as_json(place: World) -> None:
    for words, status, kind in (
        (["show", "nobody", "--json"], 127, "NotFound"),
        (["plan", "--json", "--driver", "magic", "--", place.program], 2, "UsageError"),
        (["plan", "--json"], 2, "UsageError"),
    ):
        error = json.loads(place.septum(*words, status=status).stderr)
        assert error["error"] == kind
        assert error["what"]


def unprivileged(place: World, *words: object, **given: Any) -> subprocess.CompletedProcess[bytes]:
    state = place.folder / "nobody"
    if not state.exists():
        state.mkdir(mode=0o700)
        os.chown(state, NOBODY, NOBODY)
    environment = {**place.environment, "SEPTUM_STATE": str(state / "state")}
    command = [*somebodys(NOBODY), *map(str, words)]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, check=False, **given)


def test_an_image_that_the_caller_may_not_read(place: World) -> None:
    image = place.image(mode=0o600)
    done = unprivileged(place, "run", "--", place.program, *drive(image, ",format=qcow2"))
    assert done.returncode == 125
    assert str(image).encode() in done.stderr
    assert b"Permission denied" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_ledger_of_root_for_somebody_else(place: World) -> None:
    place.septum("run", "--", place.program, "-name", "first")
    place.state.parent.chmod(0o1777)
    done = unprivileged(place, "run", "--state", place.state, "--", place.program)
    assert done.returncode == 125
    assert b"septum: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["symlink", "file", "missing"])
def test_an_image_that_is_swapped_between_the_look_and_the_change(place: World, kind: str) -> None:
    """What was not looked at is not touched: a launch looks anew, by the rules, or refuses."""
    image, victim = place.image(), place.image("victim.img", 0o640)
    os.chown(victim, 1000, 1001)
    before = snapshot(victim)

    def swap(_: str) -> None:
        """Called first when everything was looked at."""
        if not (place.folder / "kept").exists():
            image.rename(place.folder / "kept")
            if kind == "symlink":
                image.symlink_to(victim)
                os.lchown(image, 1000, 1000)
            elif kind == "file":
                image.write_bytes(b"another")

    asked = request(place, *drive(image))
    status = forked(lambda: run(asked, str(place.state), drivers=plain(), checkpoint=swap), place.said)
    assert status == 125 or (kind == "file" and status == 0)
    assert status == 0 or str(image) in place.said.read_text()
    place.wait_empty()
    assert snapshot(victim) == before
    assert (place.folder / "kept").stat().st_uid == 0
    assert kind != "file" or image.stat().st_uid == 0
    assert left_over(place) == []
