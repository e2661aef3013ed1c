"""The second part of ``make demo``: an orchestrator, a guest that acts for its owner, starts a guest of its realm from
inside, over a port that is its alone, and is told that another owner's guest does not exist.

Everything is real: septumd with septum's policy, septum-apid, ``septum realm`` and ``septum guest`` as a user would
type them, and a Linux that boots under software emulation and runs septum's client.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import cache, orchestrator

WAIT = 120.0  # seconds for the orchestrator to boot on a slow machine
_NAMES = {
    "me": "who it is to the API",
    "enrolled": "it makes its key known",
    "again": "the same one-time key again",
    "started": "it starts red/web",
    "own": "red/web is",
    "other": "it tries to start blue/mail",
    "absent": "it tries to start blue/nothing, which does not exist",
    "realms": "the realms that there are",
}


class Platform:
    """Both daemons on a state of their own.

    Args:
        folder: that any uid may search.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.environment = {**os.environ, "SEPTUM_STATE": str(self.state)}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.septum("policy", "load", "--target", "standalone")
        self._daemon("daemon", self.state / "septumd.sock", "--engine", "libsepol")
        self._daemon("api", self.state / "platform.sock", "--store", str(self.folder / "store"))

    def septum(self, *words: str) -> str:
        """What a command prints.

        Raises:
            LabError: it failed.
        """
        command = [sys.executable, "-m", "septum", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise cache.LabError(f"septum {' '.join(words)}: {done.stderr}")
        return done.stdout

    def end(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait()

    def _daemon(self, package: str, socket: Path, *words: str) -> None:
        code = f"from septum.{package}.main import main; main()"
        daemon = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self.environment,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        self._daemons.append(daemon)
        deadline = time.monotonic() + WAIT
        while not socket.exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise cache.LabError(f"{socket.name} did not come up")
            time.sleep(0.02)


def steps(platform: Platform) -> dict[str, Any]:
    """What the orchestrator has printed, step by step, once it is through."""
    text, found = "", dict[str, Any]()
    deadline = time.monotonic() + WAIT
    while "realms" not in found:
        if time.monotonic() > deadline:
            raise cache.LabError(f"the orchestrator is not through; its console: {text}")
        time.sleep(0.2)
        text += platform.septum("guest", "console", "boss", "--realm", "red")
        for line in text.splitlines():
            if line.startswith("orchestrator: {") and line.endswith("}"):
                found |= json.loads(line.removeprefix("orchestrator: "))
    return found


def run(say: Callable[[str], None], show: Callable[[list[str]], None]) -> bool:
    """The demonstration; True if the orchestrator could do what is its own, and nothing else.

    Args:
        say: prints a heading.
        show: prints lines.
    """
    folder = Path(tempfile.mkdtemp(prefix="septum-demo-", dir="/var/tmp"))
    folder.chmod(0o711)
    platform = Platform(folder)
    try:
        platform.start()
        say("Two realms, red and blue, with a guest each: septum realm create, septum guest create")
        key = json.loads(platform.septum("realm", "create", "red", "--json"))["enrolment_key"]
        platform.septum("realm", "create", "blue")
        for realm, name in (("red", "web"), ("blue", "mail")):
            platform.septum("guest", "create", name, "--realm", realm, "--memory", "32", "--paused")
        show(platform.septum("realm", "list").splitlines())
        say("An orchestrator for red: a guest that boots, and has the API on a port of its own")
        platform.septum("realm", "image", "red", "kernel", "--file", str(orchestrator.kernel()))
        platform.septum("realm", "image", "red", "initrd", "--file", str(orchestrator.initrd()))
        words = ["--memory", "256", "--kernel", "kernel", "--initrd", "initrd", "--orchestrator"]
        orders = orchestrator.append("red", "web", "blue/mail", key)
        platform.septum("guest", "create", "boss", "--realm", "red", *words, "--append", orders)
        show(platform.septum("guest", "start", "boss", "--realm", "red").splitlines())
        found = steps(platform)
        say("What it did, from inside")
        show([f"{_NAMES[name]}: {_short(answer)}" for name, answer in found.items()])
        say("What runs now")
        show(platform.septum("guest", "list", "--realm", "red").splitlines())
        show(platform.septum("guest", "list", "--realm", "blue").splitlines())
        running = json.loads(platform.septum("ps", "--json"))
        for one in running:
            platform.septum("guest", "stop", one["name"], "--realm", one["realm"], "--force")
        good = sorted(f"{one['realm']}/{one['name']}" for one in running) == ["red/boss", "red/web"]
        return good and found["other"] == found["absent"] and found["started"] == "done"
    finally:
        platform.end()
        shutil.rmtree(folder, ignore_errors=True)


def _short(answer: Any) -> str:
    return str(answer.get("what") or answer) if isinstance(answer, dict) else str(answer)
