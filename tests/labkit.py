"""What tests in the SELinux machine share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.selinux import Machine

SOURCES = Path(__file__).parent.parent / "src"
SEPTUM = "/opt/septum"
RED = "s0:c1,c2"
BLUE = "s0:c1,c4"


def guest_context(level: str) -> str:
    """The context of a guest's QEMU."""
    return f"system_u:system_r:svirt_t:{level}"


def image_context(level: str) -> str:
    """The context of what a guest may write."""
    return f"system_u:object_r:svirt_image_t:{level}"


def machine_with_septum(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with this checkout's sources in `SEPTUM`; its logs are kept if a test fails meanwhile."""
    failed = request.session.testsfailed
    with Machine.restored() as machine:
        machine.push(SOURCES, SEPTUM)
        yield machine
        machine.keep = machine.keep or request.session.testsfailed > failed
