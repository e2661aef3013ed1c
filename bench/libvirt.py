"""The peer: libvirt starts and ends the same guest, under a libvirtd of our own.

libvirtd, virtlogd and virsh run in mount and pid namespaces with their own /run/libvirt and so on: nothing of the
host's libvirt is touched, and ending the first process there ends them all. There is no /dev/kvm in it: where KVM
opens but does not work (nested without support), libvirt's probing of QEMU hangs; and a /dev/kvm that opens but is
none makes it probe again at each start (libvirt's qemu_capabilities.c, virQEMUCapsIsValid).
"""

import os
import shutil
import subprocess
import time
from types import TracebackType
from typing import Self

from bench.figures import BenchError, Figure, Goal, Result, added, ratio
from bench.place import Place, wait

NEEDED = ("libvirtd", "virtlogd", "virsh", "unshare", "nsenter", "setpriv")
MACHINE = (
    "-machine", "pc,accel=tcg,usb=off,dump-guest-core=off", "-m", "16", "-smp", "1", "-no-acpi", "-no-shutdown",
    "-drive", "file=DISK,format=qcow2,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk",
)  # fmt: skip
_PATIENCE = 30.0
_MOST = 15  # guests for libvirt's rate: a second for three of them

_HOST = r"""
set -e
for folder in /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p $folder
    mount -t tmpfs -o mode=755 none $folder
done
devices=/run/libvirt/dev
mkdir $devices
mount -t tmpfs -o mode=755 none $devices
mkdir $devices/pts $devices/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $devices
mount --bind /dev/pts $devices/pts
mount -t tmpfs none $devices/shm
ln -s pts/ptmx $devices/ptmx
umount --recursive --lazy /dev || true
mount --move $devices /dev
virtlogd &
libvirtd &
wait
"""
# libvirt 9 names its own drive and memory options; what the guest is made of is the same as in MACHINE.
_DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>{program}</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
<target dev='vda' bus='virtio'/></disk>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""


class Libvirt:
    """A libvirtd of our own, ended with the ``with``."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._log = open(os.path.join(place.folder, "libvirt.log"), "wb")  # noqa: SIM115
        script = os.path.join(place.folder, "libvirt.sh")
        with open(script, "w", encoding="ascii") as file:
            file.write(_HOST)
        self._process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL",
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", script,
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._first = 0

    def __enter__(self) -> Self:
        try:
            wait(self._born, "the namespaces")
            wait(lambda: self.virsh("uri") is not None, "libvirtd")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(_PATIENCE)
        wait(lambda: not self._first or not os.path.exists(f"/proc/{self._first}"), "libvirtd's end")
        self._log.close()

    def virsh(self, *words: str) -> float | None:
        """Milliseconds that a command took, virsh itself included; None if it was refused."""
        begun = time.perf_counter()
        client = ["nsenter", "-t", str(self._first), "-m", "-p", "virsh", "-q", "-c", "qemu:///system", *words]
        try:
            done = subprocess.run(client, capture_output=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"virsh {words[0]} took more than {_PATIENCE:.0f} s") from error
        self._said = done.stderr.decode().strip()
        return None if done.returncode else (time.perf_counter() - begun) * 1000

    def must(self, *words: str) -> float:
        """The same.

        Raises:
            BenchError: it was refused.
        """
        took = self.virsh(*words)
        if took is None:
            raise BenchError(f"virsh {words[0]}: {self._said}")
        return took

    def create(self, name: str) -> float:
        """Starts a paused guest with the disk of that name."""
        path = os.path.join(self._place.folder, f"{name}.xml")
        program = shutil.which("qemu-system-x86_64")
        with open(path, "w", encoding="ascii") as file:
            file.write(_DOMAIN.format(name=name, program=program, disk=self._place.disk(name)))
        return self.must("create", "--paused", path)

    def _born(self) -> bool:
        if self._process.poll() is not None:
            raise BenchError(f"no namespaces of our own: status {self._process.returncode}")
        with open(f"/proc/{self._process.pid}/task/{self._process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        self._first = int(children[0]) if children else 0
        return bool(children)


def bench(place: Place, driver: str, runs: int, guests: int) -> Result:
    """The same guest bare, under septum and by libvirt, by turns; then how many paused ones each starts a second.

    Raises:
        BenchError: libvirt is not there, or does not work here.
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise BenchError(f"no {', '.join(missing)} here")
    times: dict[str, list[float]] = {name: [] for name in ("bare", "septum", "libvirt", "septum stop", "libvirt stop")}
    with Libvirt(place) as peer:
        peer.create("peer")  # probes QEMU once
        peer.must("destroy", "peer")
        for _ in range(runs):
            client = peer.must("uri")
            for name, before in (("bare", []), ("septum", place.septum(driver))):
                guest = place.start("disk", MACHINE, before)
                times[name].append(guest.ready)
                begun = time.perf_counter()
                guest.stop()
                if before:
                    times["septum stop"].append((time.perf_counter() - begun) * 1000)
            times["libvirt"].append(peer.create("peer") - client)
            times["libvirt stop"].append(peer.must("destroy", "peer") - client)
        rates = _rates(place, peer, driver, min(guests, _MOST))
    return _result(times, rates)


def _rates(place: Place, peer: Libvirt, driver: str, guests: int) -> tuple[Figure, Figure]:
    names = [f"many-{number}" for number in range(guests)]
    for name in names:
        place.disk(name)
    begun = time.perf_counter()
    started = [place.start(name, MACHINE, place.septum(driver)) for name in names]
    ours = guests / (time.perf_counter() - begun)
    for guest in started:
        guest.stop()
    begun = time.perf_counter()
    client = sum(peer.must("uri") for _ in range(3)) / 3 / 1000
    begun = time.perf_counter()
    for name in names:
        peer.create(name)
    theirs = guests / (time.perf_counter() - begun - guests * client)
    for name in names:
        peer.must("destroy", name)
    text = f"{guests} paused PCs, one after another, "
    return Figure(f"{text}septum", "per s", (ours,)), Figure(f"{text}libvirt", "per s", (theirs,))


def _result(times: dict[str, list[float]], rates: tuple[Figure, Figure]) -> Result:
    bare, septum, libvirt = (Figure(f"PC ready, {name}", "ms", tuple(times[name])) for name in list(times)[:3])
    ours, theirs = (
        added(f"PC ready, {name} added", one, bare) for name, one in (("septum", septum), ("libvirt", libvirt))
    )
    stops = [
        Figure(f"PC from quit to released, {name}", "ms", tuple(times[f"{name} stop"]))
        for name in ("septum", "libvirt")
    ]
    return Result(
        "libvirt",
        (bare, septum, libvirt, ours, theirs, *stops, *rates),
        (
            ratio("PC, added, libvirt to septum", theirs, ours),
            ratio("PC, stop, libvirt to septum", stops[1], stops[0]),
            ratio("PC, rate, septum to libvirt", rates[0], rates[1]),
        ),
        (
            Goal(
                "paused PCs, rate five times libvirt's in this run",
                rates[0].median / rates[1].median,
                5,
                "times",
                False,
            ),
        ),
        ("The PC is emulated, for libvirt's sake; virsh's own time is taken off libvirt's.",),
    )
