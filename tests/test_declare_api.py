"""The command, the public names, and that nothing but a fault comes of a text that is wrong."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import septum.declare
from septum.cli.main import main
from septum.declare import cil, consents, difference
from septum.errors import DeclarationError, Fault
from tests.declarekit import BLUE, EXAMPLE, OFFER, PLATFORM, RED, ROOT, USE, declare, faults


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["declare", *words])
    return int(caught.value.code or 0)


@pytest.fixture
def platform(tmp_path: Path) -> str:
    tmp_path.chmod(0o755)
    (tmp_path / "realms").mkdir(mode=0o755)
    for source in EXAMPLE.parent.rglob("*.toml"):
        copy = tmp_path / source.relative_to(EXAMPLE.parent)
        copy.write_text(source.read_text())
        copy.chmod(0o644)
    return str(tmp_path / EXAMPLE.name)


def test_check_says_what_it_found(platform: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", platform) == 0
    assert capsys.readouterr().out == f"{platform}: 2 realms, 5 roles, 4 doors, 1 of them closed\n"
    assert run("check", "--json", platform) == 0
    assert json.loads(capsys.readouterr().out) == {"file": platform, "faults": []}


def test_check_prints_faults_as_compilers_do(platform: str, capsys: pytest.CaptureFixture[str]) -> None:
    red = Path(platform).parent / "realms" / "red.toml"
    red.write_text(red.read_text() + 'file = "\x7f"\n"\\u001b[2J" = 1\n')
    assert run("check", platform) == 125
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{red}:42:9: this is no TOML: illegal character '\\x7f'"]
    red.write_text(red.read_text().replace("\x7f", "x"))
    assert run("check", "--json", platform) == 125
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [(fault["line"], fault["column"]) for fault in faults] == [(42, 1), (43, 1)]
    assert faults[1]["what"] == 'use has no "\\x1b[2J"'


def test_show_prints_the_whole(platform: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", platform) == 0
    text = capsys.readouterr().out
    assert ["red", "blue/restore", "both"] in [line.split()[:3] for line in text.splitlines()]
    assert "pending: blue offers it, red does not use it" in text
    assert run("show", "--json", platform) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["realms"]["red"]["quota"]["memory"] == 16 << 30
    assert [door["state"] for door in shown["doors"]] == ["pending", "open", "open", "open"]
    assert run("show", "--cil", platform) == 0
    assert "(block septum_realm-red" in capsys.readouterr().out


def test_show_of_what_is_wrong_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", str(tmp_path / "none.toml")) == 125
    assert "none.toml: it can't be read: No such file or directory" in capsys.readouterr().err


PIECES = (PLATFORM + RED + BLUE + USE + OFFER + EXAMPLE.read_text()).splitlines(keepends=True)
PIECES += ["[realm.red.role.web]\n", "[[platform.deny]]\n", "[device.nic]\n", 'owner = "red"\n', "x = [[{}]]\n"]
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@settings(deadline=None, max_examples=300)
@given(texts, texts, texts, st.integers(0, 1 << 32))
def test_a_text_is_a_declaration_or_has_faults(platform: str, red: str, blue: str, seed: int) -> None:
    chance = random.Random(seed)
    if chance.random() < 0.5:
        platform = PLATFORM + platform
    if chance.random() < 0.3:
        at = chance.randrange(len(platform) + 1)
        platform = platform[:at] + chance.choice("[]{}\"'=.,\x00\u202e\n") + platform[at:]
    files = {"red": RED + red, "blue": BLUE + blue} if chance.random() < 0.5 else {"red": red, "blue": blue}
    found: tuple[Fault, ...] = ()
    try:
        declaration = declare(platform, **files)
    except DeclarationError as error:
        found = error.faults
    if found:
        assert all(fault.line >= 1 and fault.column >= 1 for fault in found)
        return
    assert {door.state for door in declaration.doors} <= {"open", "pending", "denied"}
    assert sum(consents(declaration).values()) == sum(door.state == "open" for door in declaration.doors)
    assert difference(declaration, declaration) == ()
    assert cil(declaration).count("(") == cil(declaration).count(")")


def test_a_flood_of_faults_is_cut_short() -> None:
    lines = "".join(f"k{number} = 1\n" for number in range(15_000))
    with pytest.raises(DeclarationError) as caught:
        declare(lines)
    assert len(caught.value.faults) == 100


def test_a_realm_can_not_ask_for_a_policy_without_bounds() -> None:
    services = "".join(f'[service.s{number}]\nrole = "web"\nkind = "stream"\n' for number in range(65))
    roles = "".join(f'[role.r{number}]\nmemory = "1 KiB"\n' for number in range(8))
    uses = "".join(f'[[use]]\nrole = "web"\nservice = "blue/s{number}"\n' for number in range(10))
    assert [fault.partition(": ")[2] for fault in faults(PLATFORM, red=RED + services + roles + uses, blue=BLUE)] == [
        "there are more than 64 of service, the most that are read",
        "1 guest of role r7: guests of the realm would come to 10, more than its quota of 9",
        "the use of blue/s9 by role web: channels of the realm would come to 10, more than its quota of 9",
    ]


def test_public_names_are_pinned() -> None:
    assert sorted(septum.declare.__all__) == [
        "ANY", "Assignment", "Change", "DIRECTIONS", "Declaration", "Denial", "Device", "Door", "End", "Fetched",
        "Image", "Limits", "NETWORKS", "Offer", "PLATFORM", "Quota", "Realm", "Role", "Section", "Service", "Taken",
        "Unfetched", "Use", "Where", "again", "as_json", "as_sections", "assign", "cil", "consents", "difference",
        "door_name", "parse", "process_type", "read", "role_name", "service_name", "service_type", "take",
    ]  # fmt: skip
    assert all(hasattr(septum.declare, name) for name in septum.declare.__all__)


def test_the_examples_are_where_the_page_says() -> None:
    assert f"docs/{EXAMPLE.relative_to(ROOT / 'docs')}" in (ROOT / "docs" / "declaration.md").read_text()
