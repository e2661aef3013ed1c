"""`septum policy` as a command, on a host without SELinux."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from septum.errors import UsageError
from septum.launch.drivers import make
from septum.ledger.sqlite import SqliteLedger
from septum.policy import FILE, fingerprint, module, source_fingerprint

pytestmark = pytest.mark.skipif(os.path.isdir("/sys/fs/selinux"), reason="what it says here depends on the kernel")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def septum(state: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SEPTUM_STATE": str(state), **more}
    command = [sys.executable, "-m", "septum", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def answer(state: Path, *words: str) -> dict[str, str]:
    done = septum(state, *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_load_puts_it_into_force_and_writes_it_down(state: Path) -> None:
    loaded = answer(state, "policy", "load")
    assert loaded["fingerprint"] == fingerprint((state / FILE).read_bytes())
    assert loaded["source"] == source_fingerprint("standalone")
    ledger = SqliteLedger(str(state), create=False, read_only=True)
    assert json.loads(ledger.recall("policy standalone")) == loaded
    events = {record.event: record.fields for record in ledger.audit_records()}
    assert events["policy.load"]["source"] == loaded["source"]
    assert events["policy.loaded"] == loaded
    shown = answer(state, "policy", "show")
    assert (shown["state"], shown["fingerprint"]) == ("same", loaded["fingerprint"])
    names = answer(state, "policy", "fingerprint")["standalone"]
    assert {names[key] for key in ("built", "in force", "recorded")} == {loaded["fingerprint"]}  # type: ignore[index]


def test_doctor_says_what_is_in_force(state: Path) -> None:
    def says() -> dict[str, str]:
        found: dict[str, str] = json.loads(septum(state, "doctor", "--json").stdout)["ledger"]["policy"]
        return found

    assert says() == {"module": "none", "standalone": "none"}
    answer(state, "policy", "load")
    assert says()["standalone"] == "same"
    # Somebody else's file, or a load that was killed half-way: what is there is not what was written down.
    image = (state / FILE).read_bytes()
    (state / FILE).write_bytes(image[:-1] + b"x")
    assert says()["standalone"] == "differs"
    assert "septum policy load" in septum(state, "doctor").stdout
    (state / FILE).write_bytes(b"rubbish")
    assert json.loads(septum(state, "doctor", "--json").stdout)["ledger"]["error"]["error"] == "PolicyError"


def test_build_writes_what_each_tool_takes(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = answer(state, "policy", "build", "--out", str(out))
    assert fingerprint(out.read_bytes()) == built["fingerprint"]
    assert septum(state, "policy", "build", "--out", str(tmp_path / "no" / "out")).returncode == 125
    if os.path.isdir("/var/lib/selinux/default/active/modules"):
        answer(state, "policy", "build", "--target", "module", "--out", str(out))
        assert out.read_bytes() == module()
    assert not state.exists(), "building changes nothing"


def test_a_module_needs_selinux(state: Path) -> None:
    done = septum(state, "policy", "load", "--target", "module")
    assert done.returncode == 125
    assert "SELinux does not run in this kernel" in done.stderr
    assert "--target standalone" in done.stderr
    assert not (state / FILE).exists()
    assert septum(state, "policy", "load", "--svirt").returncode == 2


def test_nothing_in_force_is_said(state: Path) -> None:
    done = septum(state, "policy", "show")
    assert (done.returncode, "septum policy load" in done.stderr) == (125, True)


def test_without_the_compiler_nothing_changes(state: Path) -> None:
    answer(state, "policy", "load")
    before = (state / FILE).read_bytes()
    done = septum(state, "policy", "load", PATH="/nonexistent")
    assert (done.returncode, "secilc is not installed" in done.stderr) == (127, True)
    assert (state / FILE).read_bytes() == before


def test_a_set_of_types_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_SELINUX_TYPES", "container")
    with pytest.raises(UsageError, match="container"):
        make(("selinux",))
