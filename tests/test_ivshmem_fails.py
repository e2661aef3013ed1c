"""A QEMU that fails, hangs up or falls silent at any step of setting a channel up: nothing half-made stays in the other
guest, and the memory is sealed whoever has it."""

import asyncio
import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from septum.errors import MonitorBroken, MonitorError, MonitorRefused
from septum.ivc import Role, Terms
from septum.ivc.carriers import ivshmem
from septum.ivc.carriers.ivshmem import Access, Place, RootPort
from septum.ivc.carriers.segment import Segment
from septum.monitor import Monitor

TERMS = Terms("test", 5, size=1 << 12)
PORT = RootPort("rp0", 8)
STEPS = 14
"""Commands that one guest gets for its end, and some more."""


class FakeQemu:
    """Keeps books of what it was given, as QEMU does.

    Args:
        path: of its socket.
        step: the command, from 0 on, at which it goes wrong; -1: never.
        way: "refuse", "hang up" or "silence".
    """

    def __init__(self, path: Path, step: int = -1, way: str = "") -> None:
        self.objects: set[str] = set()
        self.devices: set[str] = set()
        self.chardevs: set[str] = set()
        self.names: set[str] = set()
        self.sets: set[int] = set()
        self._step, self._way, self._count = step, way, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def has(self) -> set[str]:
        """Whatever a channel left behind."""
        return self.objects | self.devices | self.chardevs | self.names | {str(one) for one in self.sets}

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        line, _ = self._listener.accept()
        fds: list[int] = []
        with line, self._listener, suppress(OSError):
            line.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
            buffer = b""
            while True:
                data, came, _, _ = socket.recv_fds(line, 65536, 4)
                fds += came
                buffer += data
                if not data:
                    break
                while (end := _whole(buffer)) is not None:
                    asked, buffer = json.loads(buffer[:end]), buffer[end:]
                    answer = self._answer(asked["execute"], asked.get("arguments", {}))
                    if answer is None:
                        if self._way == "hang up":
                            return
                        continue
                    if "id" in asked:
                        answer["id"] = asked["id"]
                    line.sendall(json.dumps(answer).encode() + b"\n")
        for fd in fds:
            os.close(fd)

    def _answer(self, name: str, given: dict[str, Any]) -> dict[str, Any] | None:
        if name != "qmp_capabilities":
            self._count += 1
            if self._step >= 0 and self._count - 1 == self._step:
                return {"error": {"class": "GenericError", "desc": "it refuses"}} if self._way == "refuse" else None
            if self._step >= 0 and self._count - 1 > self._step and self._way == "silence":
                return None
        try:
            return {"return": getattr(self, "_" + name.replace("-", "_"), lambda _: {})(given)}
        except KeyError as error:
            return {"error": {"class": "GenericError", "desc": str(error)}}

    def _add_fd(self, _: dict[str, Any]) -> dict[str, int]:
        self.sets.add(len(self.sets) + 1)
        return {"fdset-id": len(self.sets), "fd": 30}

    def _remove_fd(self, given: dict[str, Any]) -> dict[str, Any]:
        self.sets.remove(given["fdset-id"])
        return {}

    def _object_add(self, given: dict[str, Any]) -> dict[str, Any]:
        self.objects.add(given["id"])
        return {}

    def _object_del(self, given: dict[str, Any]) -> dict[str, Any]:
        self.objects.remove(given["id"])
        return {}

    def _device_add(self, given: dict[str, Any]) -> dict[str, Any]:
        self.devices.add(given["id"])
        return {}

    def _device_del(self, given: dict[str, Any]) -> dict[str, Any]:
        self.devices.remove(given["id"])
        return {}

    def _qom_list(self, _: dict[str, Any]) -> list[dict[str, str]]:
        return [{"name": name, "type": "x"} for name in self.objects]

    def _getfd(self, given: dict[str, Any]) -> dict[str, Any]:
        self.names.add(given["fdname"])
        return {}

    def _closefd(self, given: dict[str, Any]) -> dict[str, Any]:
        self.names.remove(given["fdname"])
        return {}

    def _chardev_add(self, given: dict[str, Any]) -> dict[str, Any]:
        self.names.remove(given["backend"]["data"]["addr"]["data"]["str"])
        self.chardevs.add(given["id"])
        return {}

    def _chardev_remove(self, given: dict[str, Any]) -> dict[str, Any]:
        self.chardevs.remove(given["id"])
        return {}

    def _query_chardev(self, _: dict[str, Any]) -> list[dict[str, str]]:
        return [{"label": name} for name in self.chardevs]


def _whole(buffer: bytes) -> int | None:
    """Where the first JSON object ends; the library sends no line ends, and a blank with each descriptor."""
    try:
        text = buffer.decode()
        blank = len(text) - len(text.lstrip())
        return blank + json.JSONDecoder().raw_decode(text[blank:])[1]
    except ValueError:
        return None


@pytest.mark.parametrize("role", Role, ids=lambda role: role.name.lower())
@pytest.mark.parametrize("way", ["refuse", "hang up", "silence"])
@pytest.mark.parametrize("step", range(STEPS))
def test_no_half_of_a_channel_stays(tmp_path: Path, step: int, way: str, role: Role) -> None:
    other = Role.CONSUMER if role is Role.PRODUCER else Role.PRODUCER
    bad, good = FakeQemu(tmp_path / "bad", step, way), FakeQemu(tmp_path / "good")

    async def main() -> bool:
        async with await Monitor.connect(tmp_path / "bad", 0.2) as one, await Monitor.connect(tmp_path / "good") as two:
            made = ivshmem.pair(TERMS)
            ends = {role: Place(one, PORT), other: Place(two, PORT)}
            try:
                attached = await ivshmem.attach(made, {each: ends[each] for each in Role})
            except MonitorError:
                assert good.has == set()
                if way == "refuse":
                    assert bad.has - {"1", "2"} == set()  # a refused remove-fd leaves a descriptor in QEMU
                assert made.own(role).sealed
                made.close()
                return False
            assert len(good.objects) == 2
            await ivshmem.detach(two, attached[other])
            assert good.has == set()
            made.close()
            return True

    worked = asyncio.run(main())
    bad.join()
    good.join()
    # What QEMU says to the taking back of a descriptor decides nothing.
    assert not worked or step >= 3


@pytest.mark.parametrize("access", Access)
def test_memory_is_lent_once_whatever_becomes_of_it(tmp_path: Path, access: Access) -> None:
    bad = FakeQemu(tmp_path / "bad", 0, "refuse")

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "bad") as monitor:
            with Segment(TERMS, Role.PRODUCER) as segment:
                if access is Access.PEER:
                    segment.seal()
                with pytest.raises(MonitorRefused):
                    await ivshmem.plug(monitor, segment, access, PORT)
                assert segment.sealed

    asyncio.run(main())
    bad.join()


@pytest.mark.parametrize("said", [[], {}, [{}], [{"devices": 3}], [{"devices": [{"id": 7}]}], "x", None])
def test_nonsense_about_ports_is_none(tmp_path: Path, said: object) -> None:
    fake = FakeQemu(tmp_path / "bad")
    fake._query_pci = lambda _: said  # type: ignore[attr-defined]

    async def main() -> None:
        async with await Monitor.connect(tmp_path / "bad") as monitor:
            with pytest.raises(MonitorBroken, match="PCI"):
                await ivshmem.free_ports(monitor)

    asyncio.run(main())
    fake.join()
