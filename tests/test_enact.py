"""Declarations put in force: all or nothing, doors closed before all and opened last, whoever is killed when."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import septum.enact.places
from septum.access import Client
from septum.access.client import SOCKET
from septum.access.objects import DEFAULT_CONTEXTS, of_uid
from septum.declare import End, Taken, door_name, process_type, service_type, take
from septum.enact import Enacted, Enactor, in_force, nothing
from septum.errors import Denied, Held, HostError, PolicyError
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE
from septum.sepol import Memo, Policy
from tests.launchkit import SEPTUM, SOURCES
from tests.rendezvouskit import BLUE, PLATFORM, RED, WAIT, Process, until, write_declaration

WEB, MAIL = End("red", "web"), End("red", "mail")
SQL, LOG = End("blue", "sql"), End("blue", "log")


class Host:
    """A state folder and declarations beside it."""

    def __init__(self, folder: Path) -> None:
        self.files = folder
        self.folder = folder / "state"
        self.folder.mkdir(mode=0o700)
        self.septumd: Process | None = None

    def declared(self, platform: str = PLATFORM, red: str = RED, blue: str = BLUE) -> Taken:
        write_declaration(self.files, platform, red, blue)
        return take(str(self.files / "platform.toml"))

    def apply(self, taken: Taken, checkpoint: Any = lambda _: None) -> Enacted:
        ledger = SqliteLedger(str(self.folder))
        try:
            return Enactor(ledger, str(self.folder), checkpoint=checkpoint).apply(taken)
        finally:
            ledger.close()

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(str(self.folder))

    def open(self, role: End, service: End) -> bool:
        """Whether the policy in force lets a guest of the role connect, whatever the categories."""
        with Policy.open(str(self.folder / FILE)) as policy:
            if process_type(role) not in policy.types() or service_type(service) not in policy.types():
                return False
            ends = f"system_u:system_r:{process_type(role)}:s0:c1,c300", f"system_u:object_r:{service_type(service)}:s0"
            return "connect" in policy.names("septum_service", Memo(policy).allowed(*ends, "septum_service"))

    def boolean(self, role: End, service: End) -> bool:
        with Policy.open(str(self.folder / FILE)) as policy:
            return policy.booleans()[f"{door_name(role, service)}.open"]

    def start(self) -> None:
        words = ["--state", str(self.folder), "--engine", "libsepol"]
        self.septumd = Process(f"from septum.daemon.main import main; main({words!r})", self.folder / "said")
        self.septumd.up(lambda: Client(str(self.folder / SOCKET), timeout=WAIT).close())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    tmp_path.chmod(0o755)
    place = Host(tmp_path)
    yield place
    if place.septumd is not None:
        place.septumd.stop()


def test_a_declaration_comes_into_force(host: Host) -> None:
    done = host.apply(host.declared())
    assert (done.compiled, done.new_realms, done.retired, done.asked) == (True, ("blue", "red"), (), False)
    assert {change.kind for change in done.changes} >= {"realm", "role", "service", "door"}
    assert (host.open(WEB, SQL), host.open(MAIL, LOG), host.open(MAIL, SQL)) == (True, True, False)
    ledger = host.ledger()
    assert len({tuple(realm.categories) for realm in ledger.realms()}) == 2
    document = ledger.document("realm", "red", "red")
    assert document is not None
    assert document.body["quota"]["channels"] == 400
    assert in_force(ledger).declaration == host.declared().declaration
    assert ledger.document("declaration", "", "pending") is None
    assert [one.event for one in ledger.audit_records()][-1] == "declaration.applied"
    ledger.close()
    again = host.apply(host.declared())
    assert (again.changes, again.compiled, again.new_realms) == ((), False, ())


def test_consent_alone_flips_booleans_and_compiles_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply(host.declared())
    monkeypatch.setattr(septum.enact.places, "build", lambda *_, **__: pytest.fail("it was compiled"))
    deny = '[[platform.deny]]\nrole = "red/web"\nservice = "blue/sql"\n'
    done = host.apply(host.declared(PLATFORM + deny))
    assert not done.compiled
    assert (host.boolean(WEB, SQL), host.open(WEB, SQL), host.open(MAIL, LOG)) == (False, False, True)
    host.apply(host.declared())
    assert (host.boolean(WEB, SQL), host.open(WEB, SQL)) == (True, True)


def test_septumd_takes_it_at_once(host: Host) -> None:
    host.apply(host.declared())
    host.start()
    with Client(str(host.folder / SOCKET), timeout=WAIT) as client:
        before = client.status()
    more = RED + '[role.new]\nmemory = "1 GiB"\n[[use]]\nrole = "new"\nservice = "blue/log"\ndirection = "to-service"\n'
    done = host.apply(host.declared(red=more))
    assert done.asked
    assert done.compiled
    with Client(str(host.folder / SOCKET), timeout=WAIT) as client:
        after = client.status()
    with Policy.open(str(host.folder / FILE)) as policy:
        assert after["fingerprint"] == policy.fingerprint != before["fingerprint"]
    assert host.open(End("red", "new"), LOG)


def test_doors_close_before_anything_else_and_open_last(host: Host) -> None:
    host.apply(host.declared())
    seen: list[tuple[str, bool, bool]] = []
    narrowed = RED.replace('service = "blue/sql"\nchannels = 300', 'service = "blue/log"\ndirection = "to-service"')
    host.apply(
        host.declared(red=narrowed),
        lambda step: seen.append((step, host.open(WEB, SQL), host.open(WEB, LOG))),
    )
    states = {step: (first, second) for step, first, second in seen}
    assert states["compiled"] == states["pending"] == (True, False)
    assert states["closed"] == states["realms"] == states["policy"] == (False, False)
    assert states["opened"] == states["settled"] == (False, True)


STEPS = ("compiled", "pending", "closed", "realms", "policy", "opened", "settled")


@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_the_next_one_finishes(host: Host, step: str) -> None:
    host.apply(host.declared())
    third = PLATFORM + '[realm.green]\nquota = { guests = 1, memory = "1 GiB", disk = "1 GiB" }\n'
    narrowed = RED.replace('service = "blue/sql"\nchannels = 300', 'service = "blue/log"\ndirection = "to-service"')
    new = host.declared(third, narrowed)
    code = f"""
import os, signal, sys
from septum.declare import take
from septum.enact import Enactor
from septum.ledger.sqlite import SqliteLedger
def checkpoint(step):
    if step == {step!r}:
        os.kill(os.getpid(), signal.SIGKILL)
Enactor(SqliteLedger({str(host.folder)!r}), {str(host.folder)!r}, checkpoint=checkpoint).apply(take({new.file!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONPATH": str(SOURCES)}, check=False
    )
    assert done.returncode == -9, done.stderr
    ledger = host.ledger()
    enactor = Enactor(ledger, str(host.folder))
    begun = ledger.document("declaration", "", "pending") is not None
    assert begun == (step not in ("compiled", "settled"))
    if step == "realms":
        run("reconcile", "--state", str(host.folder))
    else:
        assert enactor.finish() == begun
    applied = step != "compiled"
    assert in_force(ledger).declaration == (new.declaration if applied else host.declared().declaration)
    assert (ledger.realm("green") is not None) == applied
    assert (host.open(WEB, SQL), host.open(WEB, LOG)) == ((False, True) if applied else (True, False))
    assert not enactor.finish()
    ledger.close()


def test_what_does_not_compile_changes_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply(host.declared())
    before = (host.folder / FILE).read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise PolicyError("the policy does not compile")

    monkeypatch.setattr(septum.enact.places, "build", refuse)
    with pytest.raises(PolicyError):
        host.apply(host.declared(red=RED + '[role.new]\nmemory = "1 GiB"\n'))
    ledger = host.ledger()
    assert ledger.document("declaration", "", "pending") is None
    assert in_force(ledger).declaration.roles.keys() == {WEB, MAIL, End("blue", "db")}
    assert (host.folder / FILE).read_bytes() == before
    ledger.close()


def test_a_policy_that_septumd_refuses_is_taken_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply(host.declared())
    host.start()
    before = (host.folder / FILE).read_bytes()

    def refuse(_: Client) -> dict[str, Any]:
        raise Denied("the policy is refused")

    monkeypatch.setattr(Client, "reload", refuse)
    with pytest.raises(Denied, match="refused"):
        host.apply(host.declared(red=RED + '[role.new]\nmemory = "1 GiB"\n'))
    assert (host.folder / FILE).read_bytes() == before
    ledger = host.ledger()
    assert ledger.document("declaration", "", "pending") is None
    assert End("red", "new") not in in_force(ledger).declaration.roles
    ledger.close()


def test_a_full_disk_leaves_what_the_next_one_finishes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply(host.declared())

    def full(*_: object) -> str:
        raise HostError("the policy can't be installed: No space left on device", errno=28)

    new = host.declared(red=RED + '[role.new]\nmemory = "1 GiB"\n')
    with monkeypatch.context() as patch:
        patch.setattr(septum.enact.places, "install", full)
        with pytest.raises(HostError, match="No space"):
            host.apply(new)
    assert host.open(WEB, SQL)
    host.apply(new)
    with Policy.open(str(host.folder / FILE)) as policy:
        assert process_type(End("red", "new")) in policy.types()


def test_one_at_a_time(host: Host) -> None:
    taken = host.declared()

    def meanwhile(step: str) -> None:
        if step == "pending":
            with pytest.raises(Held, match="another process is applying"):
                host.apply(taken)

    host.apply(taken, meanwhile)


def test_a_realm_that_is_not_declared_any_more_keeps_its_code(host: Host) -> None:
    host.apply(host.declared())
    ledger = host.ledger()
    codes = {realm.name: realm.categories for realm in ledger.realms()}
    alone = PLATFORM.partition("[realm.blue]")[0]
    done = host.apply(host.declared(alone, RED.partition("[[use]]")[0]))
    assert done.retired == ("blue",)
    assert {realm.name: realm.categories for realm in ledger.realms()} == codes
    assert nothing().declaration.realms == {}
    ledger.close()


def run(*words: str, status: int = 0) -> str:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([*SEPTUM, *words], capture_output=True, text=True, check=False, env=environment, input="")
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_command(host: Host) -> None:
    taken = host.declared()
    at = ("--state", str(host.folder))
    said = run("declare", "apply", taken.file, "--dry-run", *at)
    assert "realm red is added" in said
    assert not (host.folder / FILE).exists()
    assert "nobody is there to be asked" in run("declare", "apply", taken.file, *at, status=2)
    assert run("declare", "apply", taken.file, "--yes", *at).endswith("in force, as soon as septumd runs\n")
    assert run("declare", "apply", taken.file, *at) == "nothing changes\nin force, as soon as septumd runs\n"
    host.declared(PLATFORM + '[[platform.deny]]\nrole = "red/web"\nservice = "blue/sql"\n')
    found = json.loads(run("declare", "apply", taken.file, "--yes", "--json", *at))
    assert (found["applied"], found["compiled"], found["new_realms"]) == (True, False, [])
    assert [change["kind"] for change in found["changes"]] == ["door", "denial"]
    (host.files / "red.toml").write_text("[role.x]\n")
    assert "red.toml:1" in run("declare", "apply", taken.file, "--yes", *at, status=125)
    assert not host.open(WEB, SQL)


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and QEMU")
def test_a_guest_of_a_role_asks_with_the_roles_type(host: Host) -> None:
    host.apply(host.declared())
    at = ("--state", str(host.folder), "--realm", "red", "--driver", "landlock")
    qemu = ("qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults", "-S")
    assert "realm red has no role db" in run("run", *at, "--role", "db", "--", *qemu, status=127)
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    process = subprocess.Popen([*SEPTUM, "run", *at, "--role", "web", "--", *qemu], env=environment)
    ledger = host.ledger()
    try:
        until(lambda: bool(ledger.guests(("running",))))
        (guest,) = ledger.guests(("running",))
        assert (guest.details["role"], guest.details["type"]) == ("web", process_type(WEB))
        context = of_uid(ledger, DEFAULT_CONTEXTS, guest.uid, 0)
        assert context == f"system_u:system_r:{process_type(WEB)}:{guest.level}"
        with Policy.open(str(host.folder / FILE)) as policy:
            service = f"system_u:object_r:{service_type(SQL)}:s0"
            assert "connect" in policy.names("septum_service", Memo(policy).allowed(context, service, "septum_service"))
    finally:
        process.terminate()
        process.wait(WAIT)
        until(lambda: not ledger.guests())
        ledger.close()
