"""The driver domain of docs/examples/relay: one platform guest serves guests of two realms, each over its channels."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.guest_python import GuestError, PythonGuest
from tests.ivshmemkit import Duo

pytestmark = pytest.mark.qemu

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "relay"


class Realms(NamedTuple):
    red: PythonGuest
    blue: PythonGuest
    platform: PythonGuest


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duo]:
    made = Duo(tmp_path_factory.mktemp("relay"))
    made.third(tmp_path_factory.mktemp("platform"))
    made.machines[2].guest.run((EXAMPLE / "relay.py").read_text().replace("__main__", "relay"))
    for machine in made.machines[:2]:
        machine.guest.run((EXAMPLE / "client.py").read_text())
    yield made
    made.close()


@pytest.fixture
def realms(duo: Duo) -> Iterator[Realms]:
    platform = duo.machines[2]
    with contextlib.ExitStack() as stack:
        for machine, realm in ((duo.one, "red"), (duo.other, "blue")):
            stack.enter_context(duo.channel(duo.terms(f"{realm}.requests"), machine, platform))
            stack.enter_context(duo.channel(duo.terms(f"{realm}.replies"), platform, machine))
        platform.guest.run(
            "import threading\n"
            "serving = threading.Thread(target=lambda: asyncio.run(main(['red', 'blue'])), daemon=True)\n"
            "serving.start()"
        )
        for machine, realm in ((duo.one, "red"), (duo.other, "blue")):
            machine.guest.run(f"disk = Disk('{realm}')")
        yield Realms(duo.one.guest, duo.other.guest, platform.guest)
        for machine in (duo.one, duo.other):
            machine.guest.run("disk.close()")
        platform.guest.run("serving.join()")


def test_each_realm_has_its_own_store(realms: Realms) -> None:
    realms.red.run("disk.write(4096, b'of red')")
    realms.blue.run("disk.write(4096, b'of blue')")
    assert realms.red.run("result = disk.read(4096, 7).decode()") == "of red\0"
    assert realms.blue.run("result = disk.read(4096, 7).decode()") == "of blue"
    assert realms.blue.run("result = disk.read(0, 3000).decode()") == "\0" * 3000


@pytest.mark.parametrize(
    "request_",
    [
        "b''", "b'x'", "REQUEST.pack(0, 1, 1 << 20)", "REQUEST.pack(0, 2, (1 << 20) - 1)", "REQUEST.pack(7, 1, 0)",
        "REQUEST.pack(0, 1, (1 << 64) - 1)", "REQUEST.pack(0, (1 << 32) - 1, 0)", "REQUEST.pack(1, 9, 0) + b'short'",
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_refused(realms: Realms, request_: str) -> None:
    with pytest.raises(GuestError) as refused:
        realms.red.run(f"disk.ask({request_})")
    assert refused.value.kind == "PermissionError"
    assert realms.red.run("disk.write(0, b'on'); result = disk.read(0, 2).decode()") == "on"


def test_a_client_that_breaks_the_rules_is_left_and_the_other_served(realms: Realms) -> None:
    realms.red.run(
        "from septum.guest import channels, pci\nimport mmap, os\n"
        "slot = next(one.slot for one in channels() if one.terms.name == 'red.requests')\n"
        "fd = os.open(pci.device(slot, 1) / 'resource2_wc', os.O_RDWR)\n"
        "memory = mmap.mmap(fd, 4096); memory[128:136] = b'\\x10' + bytes(6) + b'\\xff'; disk._requests._bell.ring()"
    )
    for number in range(20):
        realms.blue.run(f"disk.write({number}, b'served')")
    assert realms.blue.run("result = disk.read(19, 6).decode()") == "served"
    with pytest.raises(GuestError) as over:
        realms.red.run("disk.read(0, 1)")
    assert over.value.kind in ("ChannelPoisoned", "ChannelClosed", "ChannelLost")


def test_a_client_that_never_reads_delays_itself_only(realms: Realms) -> None:
    realms.red.run("while disk._requests.try_send(REQUEST.pack(0, 3000, 0)): pass")
    for number in range(20):
        realms.blue.run(f"disk.write({number}, b'served')")
    assert realms.blue.run("result = disk.read(19, 6).decode()") == "served"
