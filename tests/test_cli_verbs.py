"""What the verbs print, and that asking changes nothing."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.launchkit import NOBODY, SEPTUM, SOURCES, World, snapshot, somebodys, world


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


def anywhere(*words: str, status: int = 0, before: Sequence[str] = SEPTUM) -> "subprocess.CompletedProcess[str]":
    """Septum on a machine that has neither its folder nor QEMU nor the files."""
    environment = {"PATH": "/nonexistent", "SEPTUM_STATE": "/nonexistent/state", "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([*before, *words], env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


QUESTION = (
    "plan", "--realm", "red", "--json", "--no-probe", "--", "qemu-system-x86_64", "-name", "vm",
    "-drive", "file=/images/a.qcow2,format=qcow2", "-cdrom", "/images/cd.iso",
    "-qmp", "unix:/run/vm/qmp,server=on,wait=off", "-device", "virtio-rng-pci,made-up=/x/y", "-D", "/var/log/vm.log",
)  # fmt: skip


def test_a_plan_needs_neither_root_nor_files() -> None:
    plan = json.loads(anywhere(*QUESTION, before=somebodys(NOBODY)).stdout)
    assert (plan["name"], plan["realm"]) == ("vm", "red")
    assert re.fullmatch(r"s0(:c\d+(,c\d+)*)", plan["label"])
    found = {row["path"]: row for row in plan["resources"]}
    assert set(found["/images/a.qcow2"]) >= {"path", "kind", "access", "sharing", "option"}
    disk = found["/images/a.qcow2"]
    assert (disk["kind"], disk["access"], disk["sharing"]) == ("image", "rw", "exclusive")
    assert "-drive" in disk["option"]
    assert found["/images/cd.iso"]["access"] == "ro"
    assert found["/run/vm/qmp"]["kind"] == "socket"
    assert found["/var/log/vm.log"]["kind"] == "log"
    assert [entry["value"] for entry in plan["unknown"]] == ["made-up=/x/y"] or "/x/y" in str(plan["unknown"])
    assert isinstance(plan["steps"], list)


def test_a_plan_is_the_same_each_time() -> None:
    """But for the name of the cgroup, which no two starts share."""
    one, other = (re.sub(r"guest-\d+-\w+", "CGROUP", anywhere(*QUESTION).stdout) for _ in range(2))
    assert one == other


@pytest.mark.root
@pytest.mark.parametrize(
    "words",
    [["plan", "--", "PROGRAM", "-name", "a", "-drive", "file=IMAGE,format=raw", "-D", "LOG"], ["ps"], ["ps", "--all"],
     ["doctor"], ["reconcile"]],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_asking_changes_nothing(place: World, words: list[str]) -> None:
    named = {"PROGRAM": str(place.program), "LOG": str(place.folder / "a.log")}
    image = place.image()
    words = [named.get(word, word).replace("IMAGE", str(image)) for word in words]
    os.rmdir(place.state)
    before = snapshot(place.folder)
    place.septum(*words)
    place.septum(words[0], "--json", *words[1:])
    assert snapshot(place.folder) == before
    assert not place.state.exists()


@pytest.mark.root
def test_a_plan_tells_what_run_does(place: World) -> None:
    """Every object that a run changes is in a step of the plan."""
    image, folder = place.image(), place.folder / "private"
    folder.mkdir(mode=0o700)
    deep = folder / "b.img"
    deep.write_bytes(b"x")
    drives = [word for path in (image, deep) for word in ("-drive", f"file={path},format=raw")]
    words = ["--", place.program, "-name", "a", *drives]
    plan = json.loads(place.septum("plan", "--json", *words, "-D", place.folder / "a.log").stdout)
    before = snapshot(place.folder)
    place.start(*words, "-D", place.folder / "a.log")
    place.wait_running("a")
    after = snapshot(place.folder)
    changed = {path for path in after if before.get(path) != after[path]}
    assert changed == {str(p) for p in (image, deep, folder, place.folder / "a.log")}
    assert changed <= {step["path"] for step in plan["steps"]}
    shown = place.json("show", "a")
    assert {entry["path"] for entry in shown["journal"]} == {s["path"] for s in plan["steps"] if s["op"] != "enter"} - {
        step["path"] for step in plan["steps"] if step["op"] == "cgroup"
    } | {shown["cgroup"]}


@pytest.mark.root
def test_a_plan_shows_what_would_be_refused(place: World) -> None:
    words = ["-drive", "file=/etc/shadow,format=raw", "-drive", f"file={place.folder}/missing.img,format=raw"]
    plan = json.loads(place.septum("plan", "--json", "--", place.program, *words).stdout)
    assert {row["object"] for row in plan["refused"]} == {"/etc/shadow", f"{place.folder}/missing.img"}
    text = place.septum("plan", "--", place.program, *words).stdout.decode()
    assert text.count("refused: ") == 2


@pytest.mark.root
def test_a_path_that_is_not_utf8_is_shown(place: World) -> None:
    path = os.fsencode(place.folder) + b"/\xff\xe4.img"
    Path(os.fsdecode(path)).write_bytes(b"")
    words = ["--", place.program, "-name", "a", "-drive", b"file=" + path + b",format=raw"]
    plan = json.loads(place.septum("plan", "--json", *words).stdout)
    assert os.fsencode(plan["resources"][0]["path"]) == path
    assert b"\\udcff" in place.septum("plan", *words).stdout
    place.start(*words)
    place.wait_running("a")
    for verb in (["show", "a"], ["ps"], ["explain", "a", path]):
        place.septum(*verb)
        place.septum(*verb, "--json")


@pytest.mark.root
def test_ps_and_show(place: World) -> None:
    image = place.image()
    place.start("--realm", "red", "--", place.program, "-name", "a", "-drive", f"file={image},format=raw")
    pid = place.wait_running("a")
    (row,) = place.json("ps")
    assert set(row) >= {"name", "realm", "uuid", "pid", "label", "uid", "drivers", "started"}
    assert (row["name"], row["realm"], row["pid"], row["drivers"]) == ("a", "red", pid, ["landlock"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["started"])
    text = place.septum("ps").stdout.decode().splitlines()
    assert text[0].split() == ["REALM", "NAME", "STATE", "PID", "LABEL", "UID", "DRIVERS", "STARTED"]
    assert text[1].split()[:4] == ["red", "a", "running", str(pid)]
    for reference in ("a", "red/a", row["uuid"]):
        shown = place.json("show", reference)
        assert shown["uuid"] == row["uuid"]
        assert str(image) in {hold["path"] for hold in shown["holds"]}
        own = next(entry for entry in shown["journal"] if entry["op"] == "own")
        assert own["original"]["uid"] == 0
    assert str(image) in place.septum("show", "a").stdout.decode()
    message = place.septum("show", "b", status=127).stderr.decode()
    assert "there is no guest b" in message


@pytest.mark.root
def test_a_name_of_two_realms_needs_the_realm(place: World) -> None:
    for realm in ("red", "blue"):
        place.start("--realm", realm, "--", place.program, "-name", "same")
        place.wait_running(f"{realm}/same")
    message = place.septum("show", "same", status=125).stderr.decode()
    assert "red/same" in message
    assert "blue/same" in message
    assert place.json("show", "blue/same")["realm"] == "blue"


@pytest.mark.root
def test_explain_says_what_the_kernel_does(place: World) -> None:
    images = [place.image(f"{n}.img") for n in range(2)]
    for number, image in enumerate(images):
        place.start("--", place.program, "-name", f"g{number}", "-drive", f"file={image},format=raw")
        place.wait_running(f"g{number}")

    def answers(guest: str, path: object) -> tuple[object, object, list[str]]:
        said = place.json("explain", guest, path)
        for access in ("ro", "rw"):
            assert all(set(verdict) == {"mechanism", "allowed", "rule"} for verdict in said[access]["by"])
        return said["ro"]["allowed"], said["rw"]["allowed"], said["holders"]

    assert answers("g0", images[0]) == (True, True, ["default/g0"])
    assert answers("g0", images[1]) == (False, False, ["default/g1"])
    assert answers("g1", images[0]) == (False, False, ["default/g0"])
    assert answers("g0", "/usr/bin/env")[1] is False
    assert answers("g0", place.state / "ledger.db") == (False, False, [])
    assert answers("g0", "/etc/shadow") == (False, False, [])
    text = place.septum("explain", "g0", images[1]).stdout.decode()
    assert f"default/g0 may NOT read {images[1]}" in text
    assert "held by: default/g1" in text
    assert place.septum("explain", "g0", "/nonexistent/x", status=None).returncode in (125, 127)
    assert place.septum("explain", "g0", "/nonexistent", status=127).stderr


@pytest.mark.root
def test_doctor_counts(place: World) -> None:
    place.start("--", place.program, "-name", "a")
    place.wait_running("a")
    report = place.json("doctor")
    assert report["ok"] is True
    assert report["enforces"] == ["landlock"] or "landlock" in report["enforces"]
    ledger = report["ledger"]
    assert (ledger["ok"], ledger["guests"], ledger["watcher"], ledger["stuck"]) == (True, 1, True, [])
    text = place.septum("doctor").stdout.decode()
    assert re.search(r"ok +driver landlock", text)


@pytest.mark.root
def test_doctor_tells_of_a_ledger_that_can_not_be_read(place: World) -> None:
    (place.state / "ledger.db").write_bytes(b"nonsense" * 1000)
    (place.state / "ledger.db").chmod(0o600)
    report = json.loads(place.septum("doctor", "--json", status=125).stdout)
    assert report["ok"] is False
    assert report["ledger"]["error"]["error"] == "LedgerCorrupt"
    (place.state / "ledger.db").unlink()


@pytest.mark.root
def test_reconcile_reports_in_json(place: World) -> None:
    from tests.launchkit import Silent, launch, request

    silent = Silent(place.state)
    asked = request(place, "-name", "a", "-drive", f"file={place.image()},format=raw")
    assert launch(place, asked) == 0
    (report,) = json.loads(place.septum("reconcile", "--json").stdout)
    assert (report["realm"], report["name"], report["released"]) == ("red", "a", True)
    assert {"path", "op", "outcome", "why"} == set(report["steps"][0])
    assert json.loads(place.septum("reconcile", "--json").stdout) == []
    silent.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str) -> None:
    script = anywhere("completion", shell).stdout
    assert "reconcile" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_help_names_every_verb_and_the_exit_statuses() -> None:
    from septum.cli.main import VERBS

    text = anywhere("--help").stdout
    assert all(verb in text for verb in VERBS)
    assert "125" in text
    for verb in VERBS:
        assert f"septum {verb}" in anywhere(verb, "--help").stdout


def test_the_version() -> None:
    from septum import __version__

    assert anywhere("--version").stdout == f"septum {__version__}\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m septum completion bash | head -1"
    done = subprocess.run(
        command, shell=True, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCES)}, capture_output=True, check=True
    )
    assert b"Traceback" not in done.stderr
