"""Channels into QEMU guests: two ``ivshmem-plain`` devices and a virtio-serial port for each end.

Facts, tried with QEMU 7.2 (docs/ivshmem.md):

- ``memory-backend-file`` takes a descriptor of ``add-fd`` as ``/proc/self/fd/N`` only, and opens it anew.
- ``readonly`` makes QEMU's mapping read-only and the guest's BAR a ROM: what it writes is dropped.
- Functions of one slot are plugged from the highest to function 0, which makes all of them visible at once, and are
  unplugged together (hw/pci/pcie.c).
- ``device_del`` of a PCI device asks the guest. A reset with ``set-action reboot=reset`` forces it.
- A virtio-serial port needs no consent.
- ``getfd`` names a descriptor for a chardev.
- Memory is let go of a little later than its device. If memory of the same name comes to the same place before that,
  QEMU aborts (qemu_ram_set_idstr in softmmu/physmem.c), so no name is used twice.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from contextlib import suppress
from typing import Final, NamedTuple

from septum.errors import Exhausted, Held, MonitorBroken, MonitorError, MonitorGone, MonitorRefused, SeptumError
from septum.ivc.carriers.memfd import MemfdGrant
from septum.ivc.carriers.port import OWN, PEER, Announced, name
from septum.ivc.carriers.segment import Access, Segment
from septum.ivc.terms import Role, Terms
from septum.monitor import Monitor

_FUNCTION: Final = {Access.OWN: OWN, Access.PEER: PEER}
_LOOK: Final = 0.01
_PATIENCE: Final = 1.0
_ROOT_PORT: Final = "1b36:000c"
"""``pcie-root-port``: PCI_VENDOR_ID_REDHAT and PCI_DEVICE_ID_REDHAT_PCIE_RP (include/hw/pci/pci.h)."""


class RootPort(NamedTuple):
    """A place for one end of a channel.

    Attributes:
        name: its id in QEMU.
        slot: its place on bus 0: device times 8, and function.
    """

    name: str
    slot: int


class Plugged(NamedTuple):
    """A segment in a guest.

    Attributes:
        name: of the device and of its memory in QEMU.
        port: where it is.
        access: what the guest may do with it.
    """

    name: str
    port: RootPort
    access: Access


class Hung(NamedTuple):
    """A bell in a guest: a virtio-serial port and the chardev behind it, both of this name in QEMU."""

    name: str


class Attached(NamedTuple):
    """One end of a channel in a guest: what `detach` takes away."""

    announced: Announced
    own: Plugged
    peer: Plugged
    bell: Hung


async def free_ports(monitor: Monitor) -> list[RootPort]:
    """The guest's root ports on bus 0 with nothing below them.

    Raises:
        MonitorError: as `Monitor.command`.
    """
    answer = await monitor.command("query-pci")
    found = []
    try:
        for device in answer[0]["devices"]:
            kind = f"{device['id']['vendor']:04x}:{device['id']['device']:04x}"
            if kind == _ROOT_PORT and device["qdev_id"] and not device["pci_bridge"].get("devices"):
                slot, function = int(device["slot"]), int(device["function"])
                if 0 <= slot < 32 and 0 <= function < 8:
                    found.append(RootPort(str(device["qdev_id"]), slot << 3 | function))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MonitorBroken(
            "what the guest's QEMU says of its PCI devices can't be understood", target=monitor.path
        ) from error
    return found


async def free_port(monitor: Monitor) -> RootPort:
    """The first of `free_ports`.

    Raises:
        Exhausted: there is none.
        MonitorError: as `Monitor.command`.
    """
    found = await free_ports(monitor)
    if not found:
        raise Exhausted(
            "the guest has no free PCIe root port",
            target=monitor.path,
            rule="an end of a channel takes one",
            remedy="start it with more of -device pcie-root-port,id=…,chassis=…,slot=…",
        )
    return found[0]


async def plug(monitor: Monitor, segment: Segment, access: Access, port: RootPort, uid: int = -1) -> Plugged:
    """Puts a segment into a guest. `Access.OWN` comes first; the guest sees both after `Access.PEER`.

    After `Access.OWN`, whether it succeeded or not, nobody else can map the segment for writing.

    Args:
        monitor: the guest's.
        segment: fresh for `Access.OWN`, sealed for `Access.PEER`.
        access: what the guest may do with it.
        port: a free one, the same for both.
        uid: of the guest's QEMU; -1: this process's own.

    Raises:
        ChannelDenied: it is too early or too late for that, or its writer tampered with it.
        MonitorError: as `Monitor.command`. Nothing stays in the guest, if its QEMU is to be believed.
    """
    plugged = Plugged(_fresh(access.value), port, access)
    if access is Access.PEER:
        fd = segment.readable()
        try:
            await _plug(monitor, segment, plugged, fd)
        finally:
            os.close(fd)
        return plugged
    segment.lend(uid)
    try:
        await _plug(monitor, segment, plugged, segment.fileno())
    finally:
        segment.seal()
    return plugged


def _fresh(what: str) -> str:
    """A name in QEMU that nothing had before."""
    return f"septum-{secrets.token_hex(8)}-{what}"


async def _plug(monitor: Monitor, segment: Segment, plugged: Plugged, fd: int) -> None:
    added = await monitor.add_fd(fd)
    try:
        backend: dict[str, object] = {"qom-type": "memory-backend-file", "id": plugged.name, "size": segment.size}
        backend |= {"mem-path": f"/proc/self/fd/{added.fd}", "share": True}
        if plugged.access is Access.PEER:
            backend["readonly"] = True
        await monitor.command("object-add", **backend)
        device = {"driver": "ivshmem-plain", "id": plugged.name, "memdev": plugged.name, "bus": plugged.port.name}
        try:
            await monitor.command("device_add", **device, addr=f"0.{_FUNCTION[plugged.access]}", multifunction=True)
        except MonitorRefused:
            with suppress(MonitorError):
                await _gone(monitor, {plugged.name}, _PATIENCE)
            raise
    finally:
        with suppress(MonitorError):
            await monitor.remove_fd(added)


async def hang(monitor: Monitor, announced: Announced, line: int, bus: str = "vs.0") -> Hung:
    """Gives a guest the bell of a channel, which also tells it of the channel.

    Args:
        monitor: the guest's.
        announced: what the guest is to know.
        line: descriptor of one end of a socket pair, whose other end is the other end's bell. QEMU gets a copy.
        bus: the guest's virtio-serial bus.

    Raises:
        ChannelDenied: the channel's name can't be told.
        MonitorError: as `Monitor.command`.
    """
    hung = Hung(_fresh("bell"))
    told = name(announced)
    await monitor.name_fd(line, hung.name)
    try:
        backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": hung.name}}, "server": False}}
        await monitor.command("chardev-add", id=hung.name, backend=backend)
    except MonitorRefused:
        with suppress(MonitorError):
            await monitor.command("closefd", fdname=hung.name)
        raise
    try:
        await monitor.command(
            "device_add", driver="virtserialport", id=hung.name, bus=bus, chardev=hung.name, name=told
        )
    except MonitorRefused:
        with suppress(MonitorError):
            await monitor.command("chardev-remove", id=hung.name)
        raise
    return hung


async def abandoned(monitor: Monitor, hung: Hung) -> None:
    """Waits until whoever opened a bell in the guest has closed it: a process that closed the channel, or died.

    The other end is not told of a death by the bell: the port is closed, the line is not. `Pair.cut` or `unhang` tell
    it.
    Start it before the guest can have opened it.

    Raises:
        MonitorGone: the guest is gone, or the monitor was closed.
        MonitorError: see `septum.monitor.Events`.
    """
    with monitor.events("VSERPORT_CHANGE") as events:
        async for event in events:
            if event.data.get("id") == hung.name and event.data.get("open") is False:
                return
    raise MonitorGone("the guest's monitor is gone", target=monitor.path)


async def unhang(monitor: Monitor, hung: Hung) -> None:
    """Takes a bell away. The guest is not asked; both ends see that the other is gone.

    Raises:
        MonitorError: as `Monitor.command`.
    """
    with suppress(MonitorRefused):  # it is gone already
        await monitor.command("device_del", id=hung.name)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            await monitor.command("chardev-remove", id=hung.name)
            return
        except MonitorRefused:  # the port is let go of a little later
            if hung.name not in await _named(monitor, "query-chardev", "label"):
                return
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_LOOK)


async def unplug(monitor: Monitor, plugged: list[Plugged], patience: float = 5.0, force: bool = False) -> None:
    """Takes segments out of one slot of a guest.

    QEMU says that they are gone; `Segment.holders` asks the kernel.

    Args:
        monitor: the guest's.
        plugged: all that is in the slot.
        patience: seconds that the guest has to let go.
        force: reset the guest if it does not.

    Raises:
        Held: the guest did not let go. It may do so later; the memory is charged to it until then.
        MonitorError: as `Monitor.command`.
    """
    for one in plugged:
        # The functions of a slot go together: for the second one it is said that it is going already.
        with suppress(MonitorRefused):
            await monitor.command("device_del", id=one.name)
    names = {one.name for one in plugged}
    if await _gone(monitor, names, patience):
        return
    if force:
        await monitor.command("set-action", reboot="reset")
        await monitor.command("system_reset")
        if await _gone(monitor, names, patience):
            return
    raise Held(
        "the guest keeps the channel's memory",
        target=monitor.path,
        holder="the guest, which has not let go of the device",
        rule="a PCI device is taken away with the guest's consent, or by a reset",
        remedy="end the guest, or force it; the memory is charged to it until then",
    )


async def _gone(monitor: Monitor, names: set[str], patience: float) -> bool:
    """Deletes memories as soon as no device uses them; False: not all of them in time."""
    until = time.monotonic() + patience
    while True:
        left = names & await _named(monitor, "qom-list", "name", path="/objects")
        if not left:
            return True
        for one in left:
            with suppress(MonitorRefused):  # in use
                await monitor.command("object-del", id=one)
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK)


async def _named(monitor: Monitor, command: str, key: str, **arguments: object) -> set[str]:
    """The names in a list that a command returns."""
    answer = await monitor.command(command, **arguments)
    if not isinstance(answer, list):
        raise MonitorBroken("what the guest's QEMU has can't be understood", target=monitor.path, rule=command)
    return {str(one.get(key)) for one in answer if isinstance(one, dict)}


class Place(NamedTuple):
    """A guest that gets one end of a channel.

    Attributes:
        monitor: the guest's.
        port: a free root port.
        uid: of its QEMU; -1: this process's own.
        bus: its virtio-serial bus.
    """

    monitor: Monitor
    port: RootPort
    uid: int = -1
    bus: str = "vs.0"


class Pair(NamedTuple):
    """The memory and the bell of a channel in one direction, before anybody has it.

    Attributes:
        produced, consumed: the producer's and the consumer's segment.
        lines: the two ends of a socket pair, the producer's first.
    """

    produced: Segment
    consumed: Segment
    lines: tuple[socket.socket, socket.socket]

    def own(self, role: Role) -> Segment:
        """The segment that this end writes."""
        return self.produced if role is Role.PRODUCER else self.consumed

    def peer(self, role: Role) -> Segment:
        """The segment that this end reads."""
        return self.consumed if role is Role.PRODUCER else self.produced

    def line(self, role: Role) -> socket.socket:
        """This end's end of the bell."""
        return self.lines[0 if role is Role.PRODUCER else 1]

    def cut(self) -> None:
        """Tells both ends that the other is gone, whatever they do. The memory stays mapped."""
        for line in self.lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets go of all. Who was given a copy keeps it."""
        self.produced.close()
        self.consumed.close()
        for line in self.lines:
            line.close()


def pair(terms: Terms, contexts: tuple[str, str] = ("", "")) -> Pair:
    """Makes what a channel needs.

    Args:
        terms: of the channel.
        contexts: SELinux labels of the producer's and of the consumer's segment; "": the kernel's choice.

    Raises:
        ChannelDenied: terms that can't be.
        HostError: the kernel refused a step.
    """
    produced = Segment(terms, Role.PRODUCER, contexts[0])
    try:
        consumed = Segment(terms, Role.CONSUMER, contexts[1])
    except BaseException:
        produced.close()
        raise
    return Pair(produced, consumed, socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))


def grant(made: Pair, role: Role) -> MemfdGrant:
    """An end for a process of this host, as the carrier `memfd` takes it.

    The order is the same: a guest at the other end has plugged its own segment before; this process joins; then its
    segment is sealed (`Segment.seal` sees to it that it is), and the guest gets it as `Access.PEER`.

    Raises:
        ChannelDenied: the other end's segment is not sealed.
        HostError: the kernel refused a step.
    """
    peer = made.peer(role).readable()
    return MemfdGrant(
        made.produced.terms, role, os.dup(made.own(role).fileno()), peer, os.dup(made.line(role).fileno())
    )


async def attach(made: Pair, ends: dict[Role, Place]) -> dict[Role, Attached]:
    """Puts a channel between guests: everything that is written first, then what is read, then the bells.

    Let go of the lines afterwards, unless you want to cut the channel: then the end of one guest is no longer seen by
    the other, and is yours to notice.

    Args:
        made: fresh.
        ends: the guests by the end that they get. The two may be one.

    Returns:
        What each guest has, for `detach`.

    Raises:
        ChannelDenied, Exhausted, MonitorError: as `plug` and `hang`. All that was put into guests is taken back, as far
            as they let it go.
    """
    done: dict[Role, list[Plugged]] = {role: [] for role in ends}
    attached: dict[Role, Attached] = {}
    try:
        for access in (Access.OWN, Access.PEER):
            for role, place in ends.items():
                segment = made.own(role) if access is Access.OWN else made.peer(role)
                done[role].append(await plug(place.monitor, segment, access, place.port, place.uid))
        for role, place in ends.items():
            announced = Announced(made.produced.terms, role, place.port.slot)
            bell = await hang(place.monitor, announced, made.line(role).fileno(), place.bus)
            own, peer = done[role]
            attached[role] = Attached(announced, own, peer, bell)
    except BaseException:
        for role, place in ends.items():
            with suppress(SeptumError):
                if role in attached:
                    await unhang(place.monitor, attached[role].bell)
                await unplug(place.monitor, done[role], _PATIENCE)
        raise
    return attached


async def detach(monitor: Monitor, attached: Attached, patience: float = 5.0, force: bool = False) -> None:
    """Takes one end of a channel out of a guest: the bell at once, the memory when the guest lets go.

    Raises:
        Held, MonitorError: as `unplug`.
    """
    await unhang(monitor, attached.bell)
    await unplug(monitor, [attached.own, attached.peer], patience, force)
