"""`septum attack` on real guests: it finds nothing where the confinement holds, and it finds what was let slip."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from septum.attack import inside, outside
from septum.attack.model import Attempt, Expectation, outcome_of, result
from septum.attack.probes import made
from septum.attack.run import Report, attack
from septum.attack.stage import as_json, from_json, survey
from septum.cli.attack import summary
from septum.errors import HostError
from septum.host import kernel
from septum.host.driver import Confinement, Entry
from septum.host.landlock import LandlockDriver
from septum.ledger.sqlite import SqliteLedger
from tests.confined import Qmp


class Host:
    """A ledger of its own with two guests of different realms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, realm: str, *more: str, leaked: Sequence[int] = ()) -> None:
        disk = self.folder / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
        argv = [
            *("qemu-system-x86_64", "-name", name, "-machine", "none", "-nodefaults", "-display", "none"),
            *("-drive", f"file={disk},format=qcow2,if=none", "-D", str(self.folder / f"{name}.log")),
            *("-qmp", f"unix:{self.folder}/{name}.qmp,server=on,wait=off", *more),
        ]
        command = [sys.executable, "-m", "septum", "run", "--realm", realm, "--", *argv]
        environment = {**os.environ, "SEPTUM_STATE": str(self.state)}
        self.running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=leaked))
        Qmp(self.folder / f"{name}.qmp").close()

    def septum(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "septum", *words, "--state", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def attack(self, guest: str, drivers: Sequence[LandlockDriver] | None = None) -> Report:
        ledger = SqliteLedger(str(self.state), create=False, read_only=True)
        there = ledger.guest(guest)
        assert there is not None
        return attack(ledger, there, str(self.state), drivers=drivers)

    def stop(self) -> None:
        """Ends the guest that was started last."""
        process = self.running.pop()
        process.terminate()
        process.wait()

    def end(self) -> None:
        while self.running:
            self.stop()
        deadline = time.monotonic() + 20
        while json.loads(self.septum("ps", "--json", "--all").stdout) and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="septum-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    there = Host(folder)
    try:
        there.start("a", "red")
        there.start("b", "blue")
        yield there
    finally:
        there.end()
        shutil.rmtree(folder)


class Weak(LandlockDriver):
    """Leaves out entry actions, as a defect would."""

    def __init__(self, without: Sequence[int], instead: Callable[[Confinement], list[Entry]] = lambda _: []) -> None:
        super().__init__(no_new_privs=True)
        self.without = without
        self.instead = instead

    def entries(self, guest: Confinement) -> list[Entry]:
        kept = [entry for entry in super().entries(guest) if entry.phase not in self.without]
        return kept + self.instead(guest)


def escapes(report: Report) -> dict[tuple[str, str], str]:
    return {(result.category, result.name): result.target for result in report.results if result.verdict == "ESCAPE"}


@pytest.mark.root
@pytest.mark.qemu
def test_nothing_gets_out_and_everything_was_tried(host: Host) -> None:
    done = host.septum("attack", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    reports = json.loads(done.stdout)
    assert [report["guest"] for report in reports] == ["blue/b", "red/a"]
    for report in reports:
        assert report["mode"] == "attempted"
        assert report["escapes"] == 0
        verdicts = {(entry["verdict"]) for entry in report["attempts"]}
        assert verdicts <= {"ok", "open", "gap", "absent"}
        assert sum(entry["verdict"] == "ok" for entry in report["attempts"]) > 200
        assert all(entry["why"] for entry in report["attempts"])
        assert not [entry for entry in report["attempts"] if "no mechanism is known" in entry["why"]]
    other = [entry["target"] for entry in reports[1]["attempts"] if entry["category"] == "objects of blue/b"]
    assert str(host.folder / "b.qcow2") in other
    assert str(host.folder / "b.log") in other


@pytest.mark.root
@pytest.mark.qemu
def test_the_table_ends_with_the_count(host: Host) -> None:
    done = host.septum("attack", "red/a", "--brief")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert " attempts refused as expected, " in last
    assert " allowed as declared, 0 escapes" in last
    assert "\033" not in done.stdout
    assert "guest blue/b" not in done.stdout


@pytest.mark.root
@pytest.mark.qemu
def test_it_leaves_nothing_and_changes_nothing(host: Host) -> None:
    def seen() -> dict[str, tuple[int, ...]]:
        places = [*host.folder.iterdir(), *(host.folder / "state").glob("watch.*")]
        stats = {str(path): path.lstat() for path in places}
        return {path: (s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_nlink) for path, s in stats.items()}

    before = seen()
    pids = [process.pid for process in host.running]
    host.attack("red/a")
    assert seen() == before
    assert [process.poll() for process in host.running] == [None, None]
    assert not list(Path("/dev/shm").glob("septum-attack-*"))
    assert not list(Path("/var/tmp").glob("septum-attack-*"))
    for pid in pids:
        assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
    answered = Qmp(host.folder / "b.qmp")
    assert answered("query-status")["return"]
    answered.close()


@pytest.mark.root
@pytest.mark.qemu
def test_without_uid_landlock_and_filter_it_gets_out(host: Host) -> None:
    """The proof that an attack can fail: the attacker is root, and nothing but namespaces holds it."""
    found = escapes(host.attack("red/a", [Weak((40, 50, 60))]))
    for expected in (
        ("objects of blue/b", "write"),
        ("objects of blue/b", "read by a symlink in " + str(host.folder)),
        ("objects of blue/b", "chmod to the mode it has"),
        ("objects of blue/b", "take its name away"),
        ("sockets of blue/b", "connect"),
        ("process of blue/b", "signal 0"),
        ("process of blue/b", "ptrace"),
        ("process of blue/b", "take descriptor 0 by pidfd"),
        ("septum", "write"),
        ("septum", "connect"),
        ("kernel", "mount"),
        ("kernel", "setns"),
        ("kernel", "reboot"),
        ("own confinement", "stack a wider filter, then read memory"),
        ("own confinement", "run a shell"),
    ):
        assert expected in found
    assert (host.folder / "b.qcow2").lstat().st_nlink == 1
    assert all(process.poll() is None for process in host.running)


@pytest.mark.root
@pytest.mark.qemu
def test_each_mechanism_is_missed_when_it_is_left_out(host: Host) -> None:
    without_landlock = escapes(host.attack("red/a", [Weak((40,))]))
    assert ("the host", "read") in without_landlock  # the probe, whose mode lets everybody
    assert ("own confinement", "run a shell") in without_landlock
    assert ("objects of blue/b", "write") not in without_landlock  # another uid's
    without_filter = escapes(host.attack("red/a", [Weak((60,))]))
    assert ("kernel", "unshare") in without_filter
    assert ("process of blue/b", "ptrace") not in without_filter
    without_uid = escapes(host.attack("red/a", [Weak((50,))]))
    assert ("kernel", "reboot") in without_uid
    assert ("objects of blue/b", "write") not in without_uid  # Landlock's


@pytest.mark.root
@pytest.mark.qemu
def test_an_image_that_everybody_may_write_is_found_once_its_rule_is_missing(host: Host) -> None:
    disk = host.folder / "b.qcow2"
    mode = disk.stat().st_mode & 0o777
    disk.chmod(0o666)
    try:
        held = host.attack("red/a")
        slipped = host.attack("red/a", [Weak((40,))])
    finally:
        disk.chmod(mode)
    # Landlock does not see extended attributes (docs/landlock.md): the mode alone decides, and it lets everybody.
    assert set(escapes(held)) == {("objects of blue/b", "remove an attribute that it lacks")}
    written = [r for r in slipped.results if r.category == "objects of blue/b" and r.name == "write"]
    assert [r.verdict for r in written if r.target == str(disk)] == ["ESCAPE"]
    assert ", 1 escapes" in summary(held)


@pytest.mark.root
@pytest.mark.qemu
def test_a_confinement_that_refuses_everything_proves_nothing(host: Host) -> None:
    def all_shut(_: Confinement) -> list[Entry]:
        def act() -> None:
            kernel.landlock_restrict_self(kernel.landlock_create_ruleset(0x1FFF, 0, 0))

        return [Entry(45, "restrict itself to nothing", act)]

    report = host.attack("red/a", [Weak((), all_shut)])
    broken = [entry.target for entry in report.results if entry.verdict == "BROKEN"]
    assert str(host.folder / "a.qcow2") in broken
    assert "/dev/null" in broken
    assert "refused that the guest needs" in summary(report)


@pytest.mark.root
@pytest.mark.qemu
def test_a_qemu_that_is_held_less_than_its_attacker_is_an_escape(host: Host) -> None:
    """The ledger says confined; the process, a plain root shell here, says otherwise."""
    ledger = SqliteLedger(str(host.state), create=False, read_only=True)
    guest = ledger.guest("red/a")
    assert guest is not None
    with subprocess.Popen(["sleep", "60"]) as loose:
        found = outside.standing(guest.pid, loose.pid)
        loose.kill()
    assert found.verdict == "ESCAPE"
    assert all(name in found.error for name in ("Uid", "CapEff", "NoNewPrivs", "Seccomp", "net namespace"))


@pytest.mark.root
@pytest.mark.qemu
def test_an_attacker_that_cant_be_confined_attacks_nothing(host: Host) -> None:
    def fails(_: Confinement) -> list[Entry]:
        def act() -> None:
            raise HostError("a step that does not work")

        return [Entry(65, "fail", act)]

    with pytest.raises(HostError, match="can't be confined as the guest is"):
        host.attack("red/a", [Weak((), fails)])


@pytest.mark.root
@pytest.mark.qemu
def test_a_guest_without_drivers_is_an_escape_by_itself(host: Host) -> None:
    report = host.attack("red/a", [])
    assert [entry.verdict for entry in report.results] == ["ESCAPE"]


@pytest.mark.root
@pytest.mark.qemu
def test_host_network_is_open_by_declaration(host: Host) -> None:
    host.start("c", "green", "-netdev", "user,id=n")
    try:
        results = {(entry.category, entry.name): entry for entry in host.attack("green/c").results}
    finally:
        host.stop()
    tcp = results["channels", "TCP to the host's loopback"]
    assert (tcp.expected, tcp.outcome, tcp.verdict) == ("open", "allowed", "open")
    assert results["channels", "connect to an abstract socket"].verdict == "ok"
    assert results["sockets of blue/b", "connect"].verdict == "ok"
    gap = results["channels", "connect"]
    assert (gap.expected, gap.verdict) == ("gap", "gap")
    assert "docs" not in gap.why
    assert "Landlock before ABI 9" in gap.why


@pytest.mark.root
@pytest.mark.qemu
def test_a_file_that_qemu_was_handed_by_mistake_is_found(host: Host) -> None:
    secret = host.folder / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with secret.open() as file:
        host.start("d", "green", leaked=(file.fileno(),))
    try:
        results = {entry.name: entry for entry in host.attack("green/d").results}
    finally:
        host.stop()
    found = results["have foreign files open"]
    assert found.verdict == "ESCAPE"
    assert f"→ {secret}" in found.error


@pytest.mark.root
@pytest.mark.qemu
def test_what_could_not_be_tried_is_no_refusal(host: Host) -> None:
    def few(_: Confinement) -> list[Entry]:
        return [Entry(65, "no more files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5)))]

    report = host.attack("red/a", [Weak((), few)])
    opened = [entry for entry in report.results if (entry.category, entry.name) == ("objects of blue/b", "read")]
    assert {entry.verdict for entry in opened} == {"inconclusive"}
    assert {entry.error for entry in opened} == {"EMFILE"}
    assert " inconclusive" in summary(report)


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.parametrize("said", [b"x\n", b"[]\n", b"{}\n", b'{"key": 1, "errno": 0}\n', b"\xff\n"])
def test_what_an_attacker_says_is_not_trusted(host: Host, said: bytes) -> None:
    def speaks(_: Confinement) -> list[Entry]:
        return [Entry(65, "speak", lambda: print(os.write(inside.REPORT, said)))]

    with pytest.raises(HostError, match="can't be confined"):
        host.attack("red/a", [Weak((), speaks)])


@pytest.mark.root
@pytest.mark.qemu
def test_a_stage_survives_json(host: Host) -> None:
    ledger = SqliteLedger(str(host.state), create=False, read_only=True)
    guest = ledger.guest("red/a")
    assert guest is not None
    with made() as probes:
        stage = survey(guest, guest.pid, ledger.guests(), str(host.state), probes)
    assert [victim.name for victim in stage.victims] == ["blue/b"]
    assert from_json(json.loads(json.dumps(as_json(stage)))) == stage


def test_there_must_be_such_a_guest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "septum", "attack", "--state", str(tmp_path)]
    none = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (none.returncode, "no guest runs" in none.stdout) == (0, True)
    wrong = subprocess.run([*command, "nobody"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "there is no guest nobody" in wrong.stderr) == (127, True)


@pytest.mark.parametrize(
    ("expected", "number", "verdict"),
    [
        ("refused", errno.EPERM, "ok"),
        ("refused", errno.EACCES, "ok"),
        ("refused", 0, "ESCAPE"),
        ("refused", errno.ETXTBSY, "ESCAPE"),  # given as passed: permission was not the reason
        ("refused", errno.ENOSYS, "absent"),
        ("refused", errno.EMFILE, "inconclusive"),
        ("refused", errno.EINVAL, "inconclusive"),
        ("allowed", 0, "open"),
        ("allowed", errno.EACCES, "BROKEN"),
        ("open", 0, "open"),
        ("open", errno.EPERM, "ok"),
        ("gap", 0, "gap"),
        ("gap", errno.EPERM, "ok"),
    ],
)
def test_a_verdict_needs_a_reason(expected: Any, number: int, verdict: str) -> None:
    attempt = Attempt("c", "n", "t", Expectation(expected, "w"), lambda: None, passed=frozenset({errno.ETXTBSY}))
    assert result(attempt, outcome_of(attempt, number), "").verdict == verdict
