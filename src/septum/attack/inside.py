"""The attacker's process: it becomes what QEMU became, tries everything, and reports each errno to its parent.

It has no way back, and the parent believes it nothing but numbers.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from septum.attack.calls import errno_of
from septum.attack.catalogue import attempts
from septum.attack.judge import Predictor
from septum.attack.model import Attempt
from septum.attack.on_kernel import HOST_NAMESPACE
from septum.attack.stage import from_json
from septum.errors import SeptumError
from septum.guests import parse
from septum.host import kernel
from septum.host.driver import Entry
from septum.launch import drivers

EACH: Final = 0.5  # seconds for one attempt
REPORT: Final = 3  # descriptor that reports go to
GO: Final = 4  # descriptor that the parent's go-ahead, or the stage, comes from
_NAMESPACES: Final = ("ipc", "uts", "cgroup", "net", "mnt")  # mnt last: /proc is another one behind it
_SKIPPED: Final = (10, 20)  # phases: the guest's cgroup is left to the guest; its namespaces are joined, not made
_ENTER_EXEC: Final = 70


class _TooLong(Exception):
    pass


def attacker(pid: int, entering: Iterable[Entry], tries: Sequence[Attempt]) -> NoReturn:
    """Confines this process as far as it goes without another program, and attacks.

    Args:
        pid: of the guest's QEMU.
        entering: all drivers' entry actions for the guest.
        tries: the attempts.
    """
    try:
        arm(pid)
        confine(entry for entry in entering if entry.phase < _ENTER_EXEC)
    except (OSError, SeptumError) as error:
        _say({"failed": str(error)})
        os._exit(1)
    attack(tries)


def arm(pid: int) -> None:
    """What comes before the confinement: it ends with its parent, stands in QEMU's namespaces, has one descriptor of
    the host's that a careless launcher might have left open.

    Raises:
        HostError, OSError: the kernel refused; without QEMU's namespaces an attack would prove nothing.
    """
    kernel.set_parent_death_signal(signal.SIGKILL)
    kernel.set_name(b"septum-attacker")
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.dup2(fd, HOST_NAMESPACE)
    os.close(fd)
    joined = []
    for name in _NAMESPACES:
        fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(fd).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            joined.append(fd)
        else:
            os.close(fd)
    for fd in joined:
        kernel.setns(fd)
        os.close(fd)


def confine(entering: Iterable[Entry]) -> None:
    """Goes through the entry actions as a launch does, but for cgroup and new namespaces."""
    for entry in sorted(entering, key=lambda entry: entry.phase):
        if entry.phase not in _SKIPPED:
            entry.act()


def attack(tries: Sequence[Attempt]) -> NoReturn:
    """Waits for the parent's go-ahead, makes the attempts, reports, ends."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _say({"ready": len(tries)})
    os.read(GO, 1)
    for attempt in tries:
        _say({"key": list(attempt[:3]), "errno": _bounded(attempt)})
    os._exit(0)


def main() -> NoReturn:
    """Entry of an attacker that had to be executed to get into its SELinux domain. The stage comes as one line."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(GO, 1 << 16)
        if not read:
            os._exit(1)
        line += read
    job: dict[str, Any] = json.loads(line)
    stage = from_json(job["stage"])
    judge = Predictor(stage.guest, drivers.make(job["drivers"]), parse(job["argv"], cwd="/"))
    attack(list(attempts(stage, judge)))


def executed(pid: int, entering: Iterable[Entry]) -> NoReturn:
    """Confines this process and executes the interpreter, which enters the guest's domain by that, for `main`."""
    try:
        arm(pid)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = f"import sys; sys.path.insert(0, {root!r}); from septum.attack.inside import main; main()"
        for fd in (REPORT, GO):
            os.set_inheritable(fd, True)
        confine(entering)
        os.execv(sys.executable, ["septum-attacker", "-I", "-S", "-B", "-c", code])
    except (OSError, SeptumError) as error:
        _say({"failed": str(error)})
    os._exit(1)


def _bounded(attempt: Attempt) -> int:
    """The error number, 0 for success, -1 for an attempt that took too long."""
    signal.setitimer(signal.ITIMER_REAL, EACH)
    try:
        return errno_of(attempt.act)
    except _TooLong:
        return -1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _alarm(_number: int, _frame: object) -> None:
    raise _TooLong


def _say(message: dict[str, Any]) -> None:
    os.write(REPORT, json.dumps(message).encode() + b"\n")
