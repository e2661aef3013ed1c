"""A Debian machine with SELinux enforcing, for tests.

::

    with Machine.restored() as machine:
        machine.push(checkout / "src", "/opt/septum")
        done = machine.run("id -Z", context="system_u:system_r:svirt_t:s0:c1,c2")
        print(done.output, machine.avcs())
"""

from pathlib import Path
from typing import Self

from lab import cache, machine, qmp, selinux_image
from lab.debian import emulator
from lab.machine import Avc, Done, parse_avcs

__all__ = ["GUEST_INITRD", "GUEST_KERNEL", "MEMORY", "Avc", "Done", "Machine", "parse_avcs", "snapshot"]

MEMORY = 1024  # MiB
GUEST_KERNEL = "/usr/share/septum-lab/vmlinuz"
GUEST_INITRD = "/usr/share/septum-lab/initrd"
_APPEND = (
    "console=ttyS0 quiet loglevel=4 panic=-1 security=selinux selinux=1 enforcing=1 audit=1 audit_backlog_limit=8192 "
    "mitigations=off random.trust_cpu=on nokaslr"
)
_MODULES = (Path(__file__), Path(machine.__file__), Path(qmp.__file__))


class Machine(machine.Machine):
    """One running machine, see `lab.machine.Machine`."""

    @classmethod
    def booted(cls) -> Self:
        """A machine that went through its whole boot: for what happens at boot only; takes seconds."""
        made = cls(selinux_image.image() / "disk", "raw")
        made._begin(made._boot)
        return made

    @classmethod
    def restored(cls) -> Self:
        """A machine as it was right after boot; takes less than a second."""
        saved = snapshot()
        made = cls(saved / "disk.qcow2", "qcow2")
        made._begin(lambda: made._restore(saved / "state"))
        return made

    def _argv(self) -> list[str]:
        built = selinux_image.image()
        # One CPU: with more, emulation spends its time on keeping them in step.
        argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single,tb-size=512", "-cpu", "max"]
        argv += ["-smp", "1", "-m", str(MEMORY)]
        argv += ["-kernel", str(built / "vmlinuz"), "-initrd", str(built / "initrd"), "-append", _APPEND]
        return [*argv, *self._common()]


def snapshot() -> Path:
    """A folder with the state and the disk of a machine right after boot; made if it is not in the cache."""
    key = cache.recipe(selinux_image.image().name, _APPEND, MEMORY, emulator(), *_MODULES)
    return cache.artifact("selinux-snapshot", key, _build_snapshot)


def _build_snapshot(target: Path) -> None:
    cache.say("booting the machine once")
    with Machine.booted() as made:
        # Start what tests use most, so that its pages are in memory.
        made.run("python3 -c 'import json, sqlite3, ctypes'; getfacl / >/dev/null; qemu-system-x86_64 --version; sync")
        made.dmesg()
        cache.say("saving its state")
        made.save(target)
