"""Realms and doors that a declaration makes, as the API shows them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from septum.errors import NotFound
from tests.launchkit import wait
from tests.realmskit import QEMU, ROOT, Host, host

pytestmark = [
    pytest.mark.root,
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0 or not Path(QEMU).exists(), reason="needs root and QEMU"),
]
PUBLIC = "A" * 43 + "="


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    for made in host():
        shutil.copytree(ROOT / "docs" / "examples" / "platform", made.folder / "declared")
        made.septum("declare", "apply", made.folder / "declared" / "platform.toml", "--yes", "--state", made.state)
        yield made


def test_a_declared_realm_is_served_and_can_be_given_to_its_orchestrator(place: Host) -> None:
    with place.client() as api:
        names = [one.name for one in api.realms()]
        assert names
        for name in names:
            wait(place.address(name).exists)
        key = api.invite(names[0], api.realm(names[0]).version).enrolment_key
        other = api.invite(names[0], api.realm(names[0]).version).enrolment_key
    with place.client(names[0]) as api:
        with pytest.raises(NotFound):
            api.invite(names[0], api.realm(names[0]).version)
        reply = place.call(
            "POST", f"/v1/realms/{names[0]}/enrolment", {"key": key, "public_key": PUBLIC}, realm=names[0]
        )
        assert reply.status == 403
        assert api.enrol(names[0], other, PUBLIC).enrolled


def test_a_realm_sees_its_doors_and_no_others(place: Host) -> None:
    with place.client() as platform:
        names = [one.name for one in platform.realms()]
        seen = {name: platform.doors(name) for name in names}
    assert any(door.state == "open" for doors in seen.values() for door in doors)
    for name in names:
        for door in seen[name]:
            assert name in (door.role.split("/")[0], door.service.split("/")[0])
        with place.client(name) as api:
            assert api.doors(name) == seen[name]
            for other in set(names) - {name}:
                with pytest.raises(NotFound):
                    api.doors(other)
        shown = place.json("door", "list", "--api", place.address(name))
        assert [one["service"] for one in shown] == [door.service for door in seen[name]]
