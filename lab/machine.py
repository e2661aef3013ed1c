"""What the lab's machines have in common: one QEMU, an agent in it, a disk that is thrown away, kernel logs."""

import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from lab import cache, qmp
from lab.cache import LabError, LabHalted

_BOOT_TIMEOUT = 120.0
_ANSWER_GRACE = 30.0
_AVC = re.compile(
    r"avc: +(?P<result>denied|granted) +\{ (?P<permissions>[^}]*) \} for +(?:(?P<rest>.*?) +)?scontext=(?P<source>\S+) "
    r"tcontext=(?P<target>\S+) tclass=(?P<cls>\S+)(?: permissive=(?P<permissive>[01]))?"
)


class Done(NamedTuple):
    """What a program in the machine came to.

    Attributes:
        status: exit status; minus the signal that ended it; None if it had to be killed as it took too long.
        output: of its standard output.
        errors: of its standard error.
    """

    status: int | None
    output: str
    errors: str


class Avc(NamedTuple):
    """One access decision that was recorded, by Linux or by Xen.

    Attributes:
        source: context of the process.
        target: context of the object.
        cls: object class.
        permissions: what was asked for.
        denied: false for an access that was granted, but audited.
        enforced: false if it was only recorded, as the domain or the machine is permissive.
        details: the fields between, as in the record: ``pid=… comm=… path=…``.
    """

    source: str
    target: str
    cls: str
    permissions: frozenset[str]
    denied: bool
    enforced: bool
    details: str


def parse_avcs(text: str) -> list[Avc]:
    """The access decisions among the lines of a kernel log, in order."""
    return [
        Avc(
            source=found["source"],
            target=found["target"],
            cls=found["cls"],
            permissions=frozenset(found["permissions"].split()),
            denied=found["result"] == "denied",
            enforced=found["permissive"] != "1",
            details=found["rest"] or "",
        )
        for found in _AVC.finditer(text)
    ]


class Machine(ABC):
    """One running machine, with a disk of its own that is thrown away with it.

    Leaving its ``with`` block with an exception, or with `keep` set, keeps the folder with its logs and says where.

    Attributes:
        folder: disk overlay, ``serial.log``, ``kernel.log``, ``qemu.log``.
        keep: keep the folder; set it when a test failed.
    """

    def __init__(self, disk: Path, disk_format: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="septum-lab-"))
        self.keep = bool(os.environ.get("SEPTUM_LAB_KEEP"))
        self._overlay = self.folder / "disk.qcow2"
        cache.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", disk_format, "-b", disk, self._overlay])
        self._qemu: qmp.Qemu | None = None
        self._halted = False
        self._memory_apart = False  # in a file of its own, and not in the saved state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.keep = self.keep or kind is not None
        self.close()

    def close(self) -> None:
        """Ends the machine; its folder goes unless `keep` is set."""
        self.kill()
        if self.keep:
            cache.say(f"the machine's disk and logs are kept in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Cuts the power. `reboot` brings it up again."""
        if self._qemu:
            self._qemu.kill()
            self._qemu = None

    def reboot(self, *, sync: bool = True) -> None:
        """Ends it and boots it again from the same disk; folders in memory (/tmp, /run) are lost.

        Args:
            sync: write everything to the disk first; without, it is a power cut.
        """
        if sync:
            self.run(["sync"])
        self.kill()
        self._begin(self._boot)

    def run(
        self,
        command: str | Sequence[str],
        *,
        context: str = "",
        stdin: bytes = b"",
        folder: str = "/",
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
        check: bool = False,
    ) -> Done:
        """Runs a program to its end, as root.

        Args:
            command: an argv; or text for bash.
            context: to run it in; "" stands for ``unconfined_u:unconfined_r:unconfined_t:s0``.
            stdin: what it reads.
            folder: to start in.
            environment: variables beside the usual.
            timeout: in seconds; then it and its process group are killed.
            check: any status but 0 raises.

        Raises:
            LabError: the machine did not answer, or `check` failed.
        """
        header = self._command(command, context, folder, environment)
        answer, payload = self._ask("run", stdin, wait=timeout, timeout=timeout, **header)
        size = answer["output"]
        done = Done(answer["status"], *(part.decode(errors="replace") for part in (payload[:size], payload[size:])))
        if check and done.status != 0:
            raise LabError(f"{command!r} ended with status {done.status}\n{done.output}{done.errors}")
        return done

    def spawn(
        self,
        command: str | Sequence[str],
        *,
        context: str = "",
        folder: str = "/",
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Starts a program and returns its pid; see `wait`."""
        answer, _ = self._ask("spawn", **self._command(command, context, folder, environment))
        return int(answer["pid"])

    def wait(self, pid: int, timeout: float = 60) -> Done:
        """What a spawned program has come to, its errors among its output; status None if it still runs."""
        answer, payload = self._ask("wait", wait=timeout, pid=pid, timeout=timeout)
        return Done(answer["status"], payload.decode(errors="replace"), "")

    def push(self, source: Path, folder: str) -> None:
        """Copies the content of a folder into a folder of the machine."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(source, arcname=".")
        answer, errors = self._ask("untar", buffer.getvalue(), folder=folder)
        if answer["status"]:
            raise LabError(f"the machine could not unpack {source}: {errors.decode(errors='replace')}")

    def pull(self, folder: str, target: Path) -> None:
        """Copies the content of a folder of the machine into a folder here."""
        _, content = self._ask("tar", folder=folder)
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-C", target, "--no-same-owner", "-xf", "-"], input=content, check=True)

    def write(self, path: str, content: bytes) -> None:
        """Writes one file of the machine, in one write(2)."""
        self._ask("write", content, path=path)

    def read(self, path: str) -> bytes:
        """Reads one file of the machine."""
        return self._ask("read", path=path)[1]

    def load_policy(self, policy: Path | bytes) -> None:
        """Loads a compiled policy; that is much faster than building modules in the machine."""
        self.write("/sys/fs/selinux/load", policy if isinstance(policy, bytes) else policy.read_bytes())

    def dmesg(self) -> str:
        """The kernel's messages since the last call; all of them stay in ``kernel.log``."""
        text = self.run(["dmesg", "-c"], check=True).output
        with (self.folder / "kernel.log").open("a") as log:
            log.write(text)
        return text

    def avcs(self) -> list[Avc]:
        """The access decisions recorded since the last call of this or of `dmesg`."""
        return parse_avcs(self.dmesg())

    def save(self, target: Path) -> None:
        """Writes state and disk into a folder for later `restored` ones; the machine is off after that."""
        if self._qemu is None:
            raise LabError("the machine is off")
        self._qemu.save(target / "state", without_memory=self._memory_apart)
        self.kill()
        shutil.copy(self._overlay, target / "disk.qcow2")

    def _command(
        self, command: str | Sequence[str], context: str, folder: str, environment: Mapping[str, str] | None
    ) -> dict[str, Any]:
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        return {"argv": argv, "context": context, "folder": folder, "environment": dict(environment or {})}

    def _ask(self, op: str, payload: bytes = b"", *, wait: float = 60, **header: Any) -> tuple[dict[str, Any], bytes]:
        if self._qemu is None:
            raise LabError("the machine is off")
        if self._halted:
            raise LabHalted(f"the machine does not answer any more ({op})")
        try:
            self._qemu.frames.send({"op": op, **header}, payload)
            answer, data = self._qemu.frames.receive(wait + _ANSWER_GRACE)
        except TimeoutError as error:
            self._halted = True
            raise LabHalted(f"the machine does not answer ({op}: {error})\n{self._qemu.logs()}") from error
        except (OSError, EOFError) as error:
            raise LabError(f"the machine does not answer ({op}: {error})\n{self._qemu.logs()}") from error
        if "error" in answer:
            raise LabError(f"the machine's agent could not {op}: {answer['error']}")
        return answer, data

    def _begin(self, start: Callable[[], None]) -> None:
        try:
            start()
            answer, _ = self._ask("hello", wait=_BOOT_TIMEOUT, time=time.time())
            if not answer["enforcing"]:
                raise LabError("SELinux is not enforcing in the machine")
        except BaseException:
            self.keep = True
            self.close()
            raise

    def _boot(self) -> None:
        self._qemu = qmp.Qemu(self._argv(), self.folder)

    def _restore(self, state: Path) -> None:
        self._qemu = qmp.Qemu([*self._argv(), "-incoming", "defer"], self.folder)
        self._qemu.load(state, without_memory=self._memory_apart)
        self._qemu.command("cont")

    @abstractmethod
    def _argv(self) -> list[str]:
        """Of QEMU: what differs between the machines, and `_common`."""

    def _common(self) -> list[str]:
        argv = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-chardev", f"file,id=serial,append=on,path={self.folder}/serial.log", "-serial", "chardev:serial"]
        argv += ["-drive", f"if=none,id=disk,file={self._overlay},format=qcow2,cache=unsafe"]
        return [*argv, "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci,id=vs"]
