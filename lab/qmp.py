"""A QEMU that this process owns, and its monitor."""

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.agent import Frames
from lab.cache import LabError

_GRACE = 5.0


class Qemu:
    """One running QEMU with a monitor and an agent's port, both over socket pairs: nothing to connect, nothing to
    clean up. It dies with the thread that started it.

    Args:
        argv: of QEMU, without monitor and port; a ``virtio-serial`` bus named ``vs`` is there already.
        folder: for its own messages (``qemu.log``).
    """

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self._monitor, monitor = socket.socketpair()
        self._port, port = socket.socketpair()
        self.frames = Frames(self._port.fileno())
        words = ["setpriv", "--pdeathsig", "KILL", *argv]
        words += ["-chardev", f"socket,id=qmp,fd={monitor.fileno()}", "-mon", "chardev=qmp,mode=control"]
        words += ["-chardev", f"socket,id=agent,fd={port.fileno()}"]
        words += ["-device", "virtserialport,bus=vs.0,chardev=agent,name=lab"]
        with (folder / "qemu.log").open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(monitor.fileno(), port.fileno()),
            )
        monitor.close()
        port.close()
        self._reader = self._monitor.makefile("rb")
        self._answer("greeting")
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Executes a QMP command and returns its result.

        Raises:
            LabError: QEMU is gone or refuses.
        """
        self._monitor.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        answer = self._answer(name)
        while "event" in answer:
            answer = self._answer(name)
        if "error" in answer:
            raise LabError(f"QEMU refuses {name}: {answer['error']['desc']}")
        return answer["return"]

    def _answer(self, doing: str) -> dict[str, Any]:
        line = self._reader.readline()
        if not line:
            self.process.wait(_GRACE)
            raise LabError(f"QEMU ended ({doing}, status {self.process.returncode}):\n{self.logs()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_for_status(self, wanted: str, timeout: float = 60) -> None:
        """Until ``query-status`` says so."""
        until = time.monotonic() + timeout
        while (status := self.command("query-status")["status"]) != wanted:
            if time.monotonic() > until or status == "internal-error":
                raise LabError(f"the machine is {status}, not {wanted}:\n{self.logs()}")
            time.sleep(0.005)

    def save(self, path: Path, *, without_memory: bool = False) -> None:
        """Stops the machine and writes its state (not its disks) to a file.

        Args:
            path: of the file.
            without_memory: leave out memory that is in a file which was mapped shared.
        """
        self.command("stop")
        self._leave_out_memory(without_memory)
        self.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.command("migrate", uri=f"exec:cat > {path}")
        while (info := self.command("query-migrate")).get("status") != "completed":
            if info.get("status") == "failed":
                raise LabError(f"the machine's state can't be saved: {info}")
            time.sleep(0.05)

    def load(self, path: Path, *, without_memory: bool = False) -> None:
        """Takes over a saved state; QEMU was started with ``-incoming defer``. The machine is paused after that."""
        self._leave_out_memory(without_memory)
        self.command("migrate-incoming", uri=f"exec:cat {path}")
        self.wait_for_status("paused")

    def _leave_out_memory(self, without: bool) -> None:
        self.command("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": without}])

    def logs(self, size: int = 3000) -> str:
        """The ends of QEMU's messages and of the serial console."""
        texts = []
        for name in ("qemu.log", "serial.log"):
            path = self.folder / name
            if path.exists():
                texts.append(f"--- {name}\n{path.read_bytes()[-size:].decode(errors='replace')}")
        return "\n".join(texts)

    def kill(self) -> None:
        """Ends it at once, like a power cut."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.close()
        self._monitor.close()
        self._port.close()
