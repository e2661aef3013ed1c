"""A compiled policy against its declaration: whatever is changed in it is told."""

from pathlib import Path

import pytest

from septum.analysis.declared import deviations
from septum.declare import Declaration, cil, consents, door_name, process_type, read, service_type
from septum.policy import Source, build
from septum.sepol import Memo, Policy
from septum.sepol.image import with_booleans
from tests.rendezvouskit import PLATFORM, RED, write_declaration
from tests.test_cli_analysis import septum

EXAMPLE = Path(__file__).parent.parent / "docs/examples/platform/platform.toml"
WEB, MAIL, DB = (f"septum_realm-{one}" for one in ("red.role-web", "red.role-mail", "blue.role-db"))
SQL = f"{WEB}.realm-blue.service-sql"
LOG = f"{MAIL}.realm-blue.service-log"


def compiled(declaration: Declaration, more: str = "", **values: bool) -> bytes:
    text = cil(declaration)
    image = build("standalone", extra=[Source("declared.cil", text), Source("more.cil", more)]).image
    return with_booleans(image, {**consents(declaration), **values})


def told(declaration: Declaration, image: bytes) -> list[tuple[str, str]]:
    with Policy.open(image) as policy:
        return [(one.kind, one.what) for one in deviations(declaration, Memo(policy))]


@pytest.fixture(scope="module")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return write_declaration(tmp_path_factory.mktemp("declared"))


def test_what_apply_makes_is_what_is_declared(declaration: Declaration) -> None:
    assert told(declaration, compiled(declaration)) == []
    example = read(str(EXAMPLE))
    assert told(example, compiled(example)) == []


def test_a_door_that_is_shut_though_it_is_declared_open(declaration: Declaration) -> None:
    found = told(declaration, compiled(declaration, **{f"{SQL}.open": False}))
    assert ("missing", "red/web reaches blue/sql") in found
    assert {kind for kind, _ in found} == {"missing"}
    assert len(found) == 13  # connecting, and for each of four kinds of memory one writer and two readers


def test_a_door_that_is_open_though_it_is_denied(declaration: Declaration, tmp_path: Path) -> None:
    denied = write_declaration(tmp_path, PLATFORM + '[[platform.deny]]\nrole = "red/web"\nservice = "blue/sql"\n')
    assert told(denied, compiled(denied)) == []
    found = told(denied, compiled(declaration))
    assert ("more", "red/web reaches blue/sql") in found
    assert {kind for kind, _ in found} == {"more"}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (f"(allow {MAIL}.process {LOG}.channel (septum_channel (send)))", []),
        (f"(booleanif {SQL}.open (true (allow {WEB}.process {SQL}.to_service (file (append)))))", []),
        (f"(allow {WEB}.process {WEB}.memory (shm (read write)))", []),
    ],
)
def test_what_changes_nothing_is_no_deviation(declaration: Declaration, more: str, what: list[str]) -> None:
    assert told(declaration, compiled(declaration, more)) == what


def test_a_policy_of_another_declaration(declaration: Declaration, tmp_path: Path) -> None:
    more = write_declaration(
        tmp_path,
        red=RED
        + '[role.new]\nmemory = "1 GiB"\n[[use]]\nrole = "new"\nservice = "blue/log"\ndirection = "to-service"\n',
    )
    found = told(more, compiled(declaration))
    assert ("missing", "red/new reaches blue/log") in found
    found = told(declaration, compiled(more))
    assert found == []  # a role that is not declared any more has no guests


def test_types_are_those_that_are_asked_for(declaration: Declaration) -> None:
    names = {process_type(role) for role in declaration.roles} | {service_type(one) for one in declaration.services}
    names |= {f"{door_name(door.role, door.service)}.to_service" for door in declaration.doors}
    with Policy.open(compiled(declaration)) as policy:
        assert names <= policy.types()


def test_the_command(declaration: Declaration, tmp_path: Path) -> None:
    write_declaration(tmp_path)
    (tmp_path / "policy").write_bytes(compiled(declaration))
    said = septum("check", tmp_path / "policy", "--declared", tmp_path / "platform.toml", status=0)
    assert said == "the policy allows what is declared, and no more\n"
    (tmp_path / "policy").write_bytes(compiled(declaration, **{f"{SQL}.open": False}))
    said = septum("check", tmp_path / "policy", "--declared", tmp_path / "platform.toml", status=1)
    assert said.startswith("missing: red/web reaches blue/sql\n  ")
