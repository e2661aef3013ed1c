"""The monitor, before a real QEMU."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import septum.monitor
from septum.errors import MonitorError, MonitorGone, MonitorRefused, MonitorTimeout
from septum.monitor import Event, Monitor

pytestmark = pytest.mark.qemu

SOON = 30.0


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = f"qemu-system-x86_64 -S -machine none -nodefaults -display none -qmp unix:{tmp_path}/qmp,server=on,wait=off"
    process = subprocess.Popen(words.split())
    yield process
    process.kill()
    process.wait()


@asynccontextmanager
async def connected(folder: Path, timeout: float = SOON) -> AsyncIterator[Monitor]:
    while not (folder / "qmp").exists():
        await asyncio.sleep(0.01)
    async with await Monitor.connect(folder / "qmp", timeout) as monitor:
        yield monitor


def test_public_names_are_pinned() -> None:
    assert septum.monitor.__all__ == ["Added", "Event", "Events", "Monitor"]


@pytest.mark.usefixtures("qemu")
def test_commands_are_answered_and_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path) as monitor:
            assert monitor.path == f"{tmp_path}/qmp"
            assert (await monitor.command("query-status"))["status"] == "prelaunch"
            together = await asyncio.gather(*(monitor.command("query-name") for _ in range(20)))
            assert together == [{}] * 20
            assert len(await monitor.command("query-qmp-schema")) > 500  # the longest answer there is
            with pytest.raises(MonitorRefused, match="device_del: Device 'none' not found") as caught:
                await monitor.command("device_del", id="none")
            assert caught.value.kind == "DeviceNotFound"
            assert caught.value.target == f"{tmp_path}/qmp"
            assert (await monitor.command("query-status"))["running"] is False

    asyncio.run(main())


def test_descriptors_go_in_and_out(tmp_path: Path, qemu: subprocess.Popen[bytes]) -> None:
    def held() -> set[str]:
        folder = f"/proc/{qemu.pid}/fd"
        return {os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}

    async def main() -> None:
        memory = os.memfd_create("given")
        async with connected(tmp_path) as monitor:
            await monitor.command("cont")  # a machine that does not run keeps what was taken out
            one, other = await monitor.add_fd(memory), await monitor.add_fd(memory)
            assert one.fdset != other.fdset
            assert os.readlink(f"/proc/{qemu.pid}/fd/{one.fd}") == "/memfd:given (deleted)"
            await monitor.remove_fd(one)
            await monitor.remove_fd(other)
            assert "/memfd:given (deleted)" not in held()
            os.close(memory)
            with pytest.raises(MonitorError, match="Bad file descriptor"):
                await monitor.add_fd(memory)
            await monitor.command("query-status")  # it is the caller's fault, and the monitor goes on

    asyncio.run(main())


@pytest.mark.usefixtures("qemu")
def test_events_are_heard_by_all_who_listen(tmp_path: Path) -> None:
    async def main() -> list[list[Event]]:
        async with connected(tmp_path) as monitor:
            with monitor.events() as all_of_them, monitor.events("RESET") as some, monitor.events() as nothing:
                nothing.close()
                await monitor.command("cont")
                await monitor.command("stop")
            return [[event async for event in events] for events in (all_of_them, some, nothing)]

    async def kept() -> list[str]:
        async with connected(tmp_path) as monitor:
            events = monitor.events()
            await monitor.command("cont")
            await monitor.command("stop")
            await monitor.close()
            return [event.name async for event in events]

    assert asyncio.run(main()) == [[], [], []]  # closed listeners forget
    assert asyncio.run(kept()) == ["RESUME", "STOP"]


def test_the_end_of_qemu_ends_everything(tmp_path: Path, qemu: subprocess.Popen[bytes]) -> None:
    async def main() -> None:
        async with connected(tmp_path) as monitor:
            events = monitor.events()
            waiting = asyncio.create_task(events.__anext__())
            await asyncio.sleep(0)
            qemu.kill()
            async with asyncio.timeout(SOON):
                with pytest.raises(StopAsyncIteration):
                    await waiting
            for _ in range(2):
                with pytest.raises(MonitorGone, match="query-status"):
                    await monitor.command("query-status")
            with pytest.raises(MonitorGone):
                await monitor.add_fd(0)
            assert [event async for event in monitor.events()] == []

    asyncio.run(main())


@pytest.mark.usefixtures("qemu")
def test_a_second_client_is_not_greeted(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path) as monitor:
            with pytest.raises(MonitorTimeout, match="one client"):
                await Monitor.connect(tmp_path / "qmp", 0.2)
            await monitor.close()
            with pytest.raises(MonitorGone, match="closed"):
                await monitor.command("query-status")
        async with connected(tmp_path) as monitor:
            await monitor.command("query-status")

    asyncio.run(main())


def test_nobody_there(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(MonitorGone, match="connecting"):
            await Monitor.connect(tmp_path / "none")
        (tmp_path / "file").touch()
        with pytest.raises(MonitorGone):
            await Monitor.connect(tmp_path / "file")
        with pytest.raises(MonitorError, match="too long"):
            await Monitor.connect("/" + "x" * 200)

    asyncio.run(main())
