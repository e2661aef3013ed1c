"""A machine with Xen for tests: FLASK enforcing in the hypervisor by septum's policy, SELinux enforcing in dom0.

::

    with Machine.restored() as machine:
        red = machine.create("red", "system_u:system_r:septum_vm.domain:s0:c1,c2")
        print(red.python("result = open('/proc/uptime').read()"))
        print(machine.hypervisor_avcs())
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from lab import cache, machine, qmp, xen_image, xen_source
from lab.cache import LabError
from lab.debian import emulator
from lab.machine import Avc, Done, parse_avcs
from septum import policy as shipped

__all__ = ["Guest", "Kind", "Machine", "policy", "snapshot"]

Kind = Literal["pv", "pvh", "hvm"]

_MEMORY = 2560  # MiB, of which dom0 has
_DOM0_MEMORY = 768
_GUEST_MEMORY = 144
# With `-cpu max` dom0 dies of SMAP, and without SMAP memory is silently corrupted as soon as guests run (QEMU 7.2).
_CPU = "qemu64,+svm,+npt,+nrip-save,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+cx16,+pdpe1gb"
_XEN = (
    f"console=com1 com1=115200 loglvl=all guest_loglvl=all dom0_mem={_DOM0_MEMORY}M,max:{_DOM0_MEMORY}M "
    "dom0_max_vcpus=1 flask=enforcing argo=1 spec-ctrl=no xpti=off noreboot"
)
_DOM0 = (
    "console=hvc0 quiet loglevel=4 panic=-1 security=selinux selinux=1 enforcing=1 audit=1 audit_backlog_limit=8192 "
    "mitigations=off random.trust_cpu=on"
)
_MODULES = (Path(__file__), Path(machine.__file__), Path(qmp.__file__))
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/xen-4.17/bin"}
_CREATE_TIMEOUT = 120
_TRIES = 3  # under emulated SVM a guest now and then does not come up, which takes 5 to 7 seconds when it does
_PATIENCE = 60
_FOLDER = "/" + xen_image.GUEST_FOLDER


class Guest(NamedTuple):
    """A running guest with the lab's agent in it.

    Attributes:
        machine: that it runs in.
        name: of the domain.
        domid: of the domain.
    """

    machine: "Machine"
    name: str
    domid: int

    def python(self, code: str, *, files: Mapping[str, str] | None = None, timeout: float = 60, **values: Any) -> Any:
        """Runs Python in the guest, as root, in a namespace that stays from one call to the next.

        Args:
            code: statements; what they leave in `result` is returned.
            files: modules to write first, by path below a folder that Python looks in.
            timeout: in seconds.
            values: names in the code's namespace.

        Raises:
            LabError: it raised; the message has the traceback.
        """
        message = {"code": code, "files": dict(files or {}), "values": values}
        answer = self.machine.ask_guest(self.domid, message, timeout)
        if "error" in answer:
            raise LabError(f"in the guest {self.name}: {answer['error']}")
        return answer["result"]


class Machine(machine.Machine):
    """One running machine, see `lab.machine.Machine`."""

    def __init__(self, disk: Path, disk_format: str, memory: Path | None = None, *, saving: bool = False) -> None:
        super().__init__(disk, disk_format)
        self._memory = memory
        self._memory_apart = memory is not None
        self._saving = saving

    @classmethod
    def booted(cls, memory: Path | None = None) -> Self:
        """A machine that went through its whole boot: 15 to 25 s.

        Args:
            memory: the file to have it in, for `save`.
        """
        made = cls(xen_image.dom0() / "disk", "raw", memory, saving=memory is not None)
        made._begin(made._boot)
        return made

    @classmethod
    def restored(cls, saved: Path | None = None) -> Self:
        """A machine as it was right after boot, or as `saved`; takes a second."""
        saved = saved or snapshot()
        made = cls(saved / "disk.qcow2", "qcow2", saved / "memory")
        made._begin(lambda: made._restore(saved / "state"))
        return made

    def xl(self, *words: str, context: str = "", timeout: float = 60, check: bool = True) -> Done:
        """One command of Xen's toolstack."""
        return self.run(["xl", *words], context=context, environment=_PATH, timeout=timeout, check=check)

    def create(
        self, name: str, label: str, kind: Kind = "pv", *, extra: str = "", context: str = "", wait: bool = True
    ) -> Guest:
        """Starts a guest with the lab's agent and, unless told otherwise, waits for that.

        Args:
            name: of the domain.
            label: its FLASK context.
            kind: of virtualisation.
            extra: further lines for its configuration.
            context: SELinux context to run the toolstack in.
            wait: for the agent.

        Raises:
            LabError: it was refused.
        """
        self.write(f"/tmp/{name}.cfg", self.config(name, label, kind, extra).encode())
        for left in reversed(range(1 if kind == "hvm" or not wait else _TRIES)):
            self.xl("create", "-q", f"/tmp/{name}.cfg", context=context, timeout=_CREATE_TIMEOUT)
            guest = Guest(self, name, int(self.xl("domid", name).output))
            if not wait:
                break
            try:
                guest.python("", timeout=_PATIENCE if left else _CREATE_TIMEOUT)
                break
            except LabError:
                if not left:
                    raise
                self.xl("destroy", name, context=context)
        return guest

    @staticmethod
    def config(name: str, label: str, kind: Kind = "pv", extra: str = "") -> str:
        """The configuration of a guest with the lab's agent, for xl."""
        console, kernel = ("ttyS0", "vmlinuz") if kind == "hvm" else ("hvc0", "vmlinux")
        lines = {
            "name": name,
            "type": kind,
            "kernel": f"{_FOLDER}/{kernel}",
            "ramdisk": f"{_FOLDER}/initrd",
            "extra": f"console={console} quiet mitigations=off random.trust_cpu=on",
            "memory": _GUEST_MEMORY,
            "vcpus": 1,
            "vnc": 0,
            "vga": "none",
            "on_crash": "preserve",
            "seclabel": label,
        }
        # xl's strings have no escapes; nothing here needs any.
        return "".join(f"{key}={json.dumps(value)}\n" for key, value in lines.items()) + extra

    def ask_guest(self, domid: int, message: Any, timeout: float) -> Any:
        """One question to a guest's agent, see `Guest.python`."""
        return json.loads(
            self._ask("guest", json.dumps(message).encode(), wait=timeout, domid=domid, timeout=timeout)[1]
        )

    def labels(self) -> dict[str, str]:
        """The FLASK context of each domain, by its name."""
        rows = [line.split() for line in self.xl("list", "-Z").output.splitlines()[1:]]
        return {row[0]: row[-1] for row in rows}

    def xen_log(self) -> str:
        """The hypervisor's messages since the last call; all of them stay in ``xen.log``."""
        text = self.xl("dmesg", "-c").output
        with (self.folder / "xen.log").open("a") as log:
            log.write(text)
        return text

    def hypervisor_avcs(self) -> list[Avc]:
        """The access decisions that FLASK recorded since the last call of this or of `xen_log`."""
        return parse_avcs(self.xen_log())

    def load_flask(self, compiled: bytes) -> None:
        """Loads a policy into the hypervisor."""
        self.write("/tmp/xenpolicy", compiled)
        self.xl("loadpolicy", "/tmp/xenpolicy")

    def set_flask_boolean(self, name: str, value: bool) -> None:
        """Sets a boolean of the hypervisor's policy."""
        self.run(["flask-set-bool", name, "1" if value else "0"], environment=_PATH, check=True)

    def _argv(self) -> list[str]:
        built = xen_image.dom0()
        argv = ["qemu-system-x86_64", "-machine", "q35,memory-backend=memory", "-accel", "tcg,thread=multi,tb-size=512"]
        argv += ["-cpu", _CPU, "-smp", "2", "-m", str(_MEMORY), "-vga", "none"]
        if self._memory is None:
            argv += ["-object", f"memory-backend-ram,id=memory,size={_MEMORY}M"]
        else:
            # Copy on write, unless it is to be saved: one file serves many machines.
            share = "on" if self._saving else "off"
            argv += ["-object", f"memory-backend-file,id=memory,size={_MEMORY}M,mem-path={self._memory},share={share}"]
        initrd = f"{built / 'vmlinuz'} {_DOM0},{built / 'initrd'},{policy()}"
        return [*argv, "-kernel", str(xen_source.hypervisor()), "-append", _XEN, "-initrd", initrd, *self._common()]


def policy() -> Path:
    """The hypervisor's policy, as the machine boots with it."""
    built = shipped.build("xen")
    folder = cache.artifact("xen-policy", cache.recipe(built.image), lambda target: _write(target, built.image))
    return folder / "policy"


def _write(target: Path, image: bytes) -> None:
    (target / "policy").write_bytes(image)


def snapshot() -> Path:
    """A folder with the state, memory and disk of a machine right after boot; made if it is not in the cache."""
    parts = (xen_image.dom0().name, policy().parent.name, xen_source.hypervisor().parent.name)
    key = cache.recipe(*parts, _XEN, _DOM0, _MEMORY, emulator(), *_MODULES)
    return cache.artifact("xen-snapshot", key, _build_snapshot)


def _build_snapshot(target: Path) -> None:
    cache.say("booting Xen once")
    with Machine.booted(target / "memory") as made:
        # Start what tests use most, so that its pages are in memory.
        made.xl("list", "-Z")
        made.run(f"python3 -c 'import json, ctypes, sqlite3'; cat {_FOLDER}/* >/dev/null; sync")
        made.dmesg()
        made.xen_log()
        cache.say("saving its state")
        made.save(target)
    cache.run(["fallocate", "--dig-holes", target / "memory"])  # Xen scrubs what nobody uses
