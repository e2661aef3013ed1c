"""``make demo``: two owners, three guests that boot a Linux at the same time, kept apart by this machine's kernel.

Everything is real: QEMU with software emulation, a Debian kernel, ``septum run`` as a user would type it. The guests'
disks are in one folder and belong to root, as on many hosts; septum gives each guest what is its own and nothing else,
shows what a compromised emulator could reach, and puts everything back.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from lab import cache, demo_realms, guest, orchestrator

GUESTS = (("red", "web"), ("red", "db"), ("blue", "mail"))
WAIT = 60.0  # seconds for three guests to boot on a slow machine


class Demo:
    """The folder of one demonstration and the guests in it.

    Args:
        folder: emptied by the caller afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SEPTUM_STATE": str(folder / "state")}
        self.running: list[subprocess.Popen[bytes]] = []

    def septum(self, *words: str) -> str:
        """The output of a command of septum's, which may fail."""
        command = [sys.executable, "-m", "septum", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def disk(self, name: str) -> Path:
        return self.folder / f"{name}.qcow2"

    def make_disks(self) -> None:
        """For each owner a kernel and a base image, for each guest a disk over that."""
        for realm in sorted({realm for realm, _ in GUESTS}):
            shutil.copy(guest.kernel(), self.folder / f"vmlinuz.{realm}")
            shutil.copy(guest.initrd(), self.folder / f"initrd.{realm}")
            base = self.folder / f"base-{realm}.raw"
            base.write_bytes(f"this disk belongs to {realm}\n".encode().ljust(1 << 20, b"\0"))
        for realm, name in GUESTS:
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
            command += ["-b", str(self.folder / f"base-{realm}.raw"), str(self.disk(name))]
            subprocess.run(command, check=True)

    def command(self, realm: str, name: str) -> list[str]:
        """The command line of a guest, as anybody would write it."""
        return [
            "qemu-system-x86_64", "-name", name, "-machine", "q35,accel=tcg", "-m", "192", "-nodefaults",
            "-display", "none", "-no-reboot",
            "-kernel", f"{self.folder}/vmlinuz.{realm}", "-initrd", f"{self.folder}/initrd.{realm}",
            "-append", guest.append(marker=f"guest {name} is up", show="vda"),
            "-drive", f"file={self.disk(name)},format=qcow2,if=virtio",
            "-serial", f"file:{self.folder}/{name}.log",
            "-qmp", f"unix:{self.folder}/{name}.qmp,server=on,wait=off",
        ]  # fmt: skip

    def start(self, realm: str, name: str) -> None:
        command = [sys.executable, "-m", "septum", "run", "--realm", realm, "--", *self.command(realm, name)]
        self.running.append(subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL))

    def wait_until_up(self) -> None:
        """Until each guest's Linux has said so on its serial console."""
        deadline = time.monotonic() + WAIT
        for _, name in GUESTS:
            log = self.folder / f"{name}.log"
            while not log.exists() or f"guest {name} is up" not in log.read_text(errors="replace"):
                if time.monotonic() > deadline or any(process.poll() is not None for process in self.running):
                    raise cache.LabError(f"guest {name} did not come up; its console: {log}")
                time.sleep(0.1)

    def console(self, name: str) -> list[str]:
        """What the guest has printed."""
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def end(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()
        deadline = time.monotonic() + 5
        while json.loads(self.septum("ps", "--all", "--json")) and time.monotonic() < deadline:
            time.sleep(0.05)

    def listing(self) -> list[str]:
        """The folder's files with owner and mode."""
        rows = []
        for path in sorted(self.folder.glob("*.*")):
            facts = path.stat()
            rows.append(f"{oct(facts.st_mode & 0o7777)[2:]:>4} {facts.st_uid:>10}:{facts.st_gid:<10} {path.name}")
        return rows


def say(text: str) -> None:
    """A heading."""
    mark = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{mark[0]}== {text}{mark[1]}\n", flush=True)


def show(lines: list[str]) -> None:
    for line in lines:
        print(f"    {line}")


def trick(demo: Demo) -> list[str]:
    """What an attacker does who has taken over red/web's QEMU: has it open other disks."""
    answers = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(demo.folder / "web.qmp"))
        stream = connection.makefile("rw")
        stream.readline()
        ask(stream, "qmp_capabilities")
        for name in ("db", "mail"):
            question = {"driver": "file", "node-name": f"stolen-{name}", "filename": str(demo.disk(name))}
            answer = ask(stream, "blockdev-add", **question)
            said = answer["error"]["desc"] if "error" in answer else "OPENED"
            answers.append(f"blockdev-add {demo.disk(name).name}: {said}")
    return answers


def ask(stream: TextIO, command: str, **arguments: object) -> dict[str, Any]:
    """One QMP command; events on the way are passed over."""
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while "event" in (answer := json.loads(stream.readline())):
        continue
    return dict(answer)


def run(folder: Path) -> bool:
    """The demonstration; True if the walls held and everything was put back."""
    demo = Demo(folder)
    demo.make_disks()
    before = demo.listing()
    say("Three disks of two owners, red and blue, in one folder. Any process of root's can open each of them")
    show(before)
    say("Start three guests: septum run --realm red -- qemu-system-x86_64 …")
    try:
        for realm, name in GUESTS:
            demo.start(realm, name)
        demo.wait_until_up()
        for realm, name in GUESTS:
            print(f"    {realm}/{name} booted; its console says: {' | '.join(demo.console(name)[-2:])}")
        say("Who runs, under which label (septum ps). Labels of two guests never contain one another")
        show(demo.septum("ps").splitlines())
        say("The same folder now: each disk is its guest's own, the base image is its owner's guests' to read")
        show(demo.listing())
        say("May red/web reach blue's disk, and its own? (septum explain)")
        show(demo.septum("explain", "red/web", str(demo.disk("mail"))).splitlines())
        show(demo.septum("explain", "red/web", str(demo.disk("web"))).splitlines())
        say("Suppose red/web has taken over its QEMU. It tells QEMU to open the others' disks (over QMP, for real)")
        stolen = trick(demo)
        show(stolen)
        say("And everything else it could try, from inside its own confinement (septum attack red/web)")
        attack = [sys.executable, "-m", "septum", "attack", "red/web"]
        attacked = subprocess.run(attack, env=demo.environment, check=False).returncode
    finally:
        say("End all guests")
        demo.end()
    after = [row for row in demo.listing() if not row.endswith(".log")]
    show(demo.listing())
    same = after == before
    held = attacked == 0 and not any("OPENED" in line for line in stolen)
    print(f"\n    Owners and modes are {'as they were' if same else 'NOT as they were'}; the ledger is ", end="")
    print("empty:" if not json.loads(demo.septum("ps", "--all", "--json")) else "NOT empty:")
    show(demo.septum("reconcile").splitlines())
    return same and held


def main() -> int:
    """Entry of ``python -m lab.demo``."""
    if os.geteuid() != 0:
        print("the demo needs root: guests get uids of their own", file=sys.stderr)
        return 1
    started = time.monotonic()
    guest.kernel()
    orchestrator.initrd()
    ready = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="septum-demo-"))
    folder.chmod(0o755)
    try:
        good = run(folder)
        good = demo_realms.run(say, show) and good
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - ready
    verdict = "The walls held." if good else "SOMETHING IS WRONG."
    print(f"\n{verdict} {took:.0f} s (set-up before: {ready - started:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
