"""What is seen better from outside: whether QEMU itself stands where its attacker stood, what it has open, and what
SELinux says where it can't be tried.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from septum.attack.model import Outcome, Result
from septum.attack.stage import Stage, facts_of
from septum.errors import HostError
from septum.host import selinux_kernel as se
from septum.host.driver import Driver
from septum.host.selinux import SelinuxDriver

_TITLE: Final = "QEMU itself"
_NAMESPACES: Final = ("ipc", "net", "mnt", "user", "pid")
_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_SAID: Final[dict[bool | None, Outcome]] = {True: "allowed", False: "refused", None: "inconclusive"}
_HARMLESS_TYPES: Final = (stat.S_IFSOCK, stat.S_IFIFO)
# Asked about all at once. Not `signull`: that a process is there is no secret, and policies let every domain see it.
_ON_PROCESSES: Final = frozenset("ptrace signal sigkill sigstop getattr setsched transition dyntransition".split())
_ON_FILES: Final = frozenset("unlink rename link setattr relabelfrom relabelto execute".split())


def unconfined(name: str) -> Result:
    """For a guest that runs without any driver: nothing has to be tried."""
    return Result(_TITLE, "run without any confinement", name, "refused", "started with --unconfined", "allowed")


def standing(attacker: int, pid: int) -> Result:
    """Whether QEMU is held at least as tightly as its attacker, as far as the kernel shows it.

    Landlock's domains are not shown anywhere: that QEMU is in one rests on the launcher's word.
    """
    try:
        looser = sorted(_looser(_status(attacker), _status(pid), _spaces(attacker), _spaces(pid)))
    except OSError as error:
        return Result(_TITLE, "be held less than its attacker", str(pid), "refused", "", "inconclusive", str(error))
    why = "uids, groups, capabilities, no_new_privs, seccomp and namespaces are the attacker's"
    outcome = _SAID[bool(looser)]
    return Result(_TITLE, "be held less than its attacker", str(pid), "refused", why, outcome, ", ".join(looser))


def descriptors(stage: Stage, drivers: Sequence[Driver]) -> Iterator[Result]:
    """Files that QEMU has open and could not open itself; the caller's standard streams are the caller's business."""
    folder = f"/proc/{stage.pid}/fd"
    leaked = []
    try:
        numbers = sorted(int(name) for name in os.listdir(folder))
        for number in numbers:
            path = _file_of(f"{folder}/{number}")
            if number > 2 and path and _forbidden(stage, drivers, path):
                leaked.append(f"{number} → {path}")
    except OSError as error:
        yield Result(_TITLE, "have foreign files open", str(stage.pid), "refused", "", "inconclusive", str(error))
        return
    why = f"its {len(numbers)} descriptors lead to what its rules allow"
    outcome = _SAID[bool(leaked)]
    yield Result(_TITLE, "have foreign files open", str(stage.pid), "refused", why, outcome, ", ".join(leaked))


def asked(stage: Stage, drivers: Sequence[Driver]) -> list[Result]:
    """SELinux' own answers (``/sys/fs/selinux/access``) about other guests' objects and processes, and the ledger."""
    selinux = next(driver for driver in drivers if isinstance(driver, SelinuxDriver))
    source = selinux.context(stage.guest)
    things = [(f"objects of {v.name}", thing.path) for v in stage.victims for thing in v.objects]
    things += [(f"sockets of {v.name}", path) for v in stage.victims for path in v.sockets]
    things += [("septum", path) for path in stage.places["ledger"]]
    found = []
    for title, path in things:
        facts, _ = facts_of(path)
        if facts is None:
            found.append(Result(title, "read", path, "refused", "", "inconclusive", "it can't be reached", True))
            continue
        for name, access in (("read", "ro"), ("write", "rw")):
            verdict = selinux.explain(stage.guest, facts, access)
            why, outcome = f"selinux: {verdict.rule}", _SAID[verdict.allowed]
            found.append(Result(title, name, path, "refused", why, outcome, "", True))
        if facts.type == "file":
            name = "take its name away, change its owner, label"
            found.append(_ask(source, title, name, path, facts.context, "file", _ON_FILES))
    for process in (*(victim.process for victim in stage.victims), *stage.hosts):
        title, name = f"process of {process.name}", "trace, signal, inspect, become"
        found.append(_ask(source, title, name, process.context, process.context, "process", _ON_PROCESSES))
    return found


def _ask(
    source: str, title: str, name: str, target: str, context: str, cls: str, permissions: frozenset[str]
) -> Result:
    try:
        decision = se.decide(source, context, cls, permissions)
    except HostError as error:
        return Result(title, name, target, "refused", "", "inconclusive", error.what, True)
    allowed = sorted(permissions if decision.permissive else decision.allowed)
    why = f"selinux: no rule allows {source} {context}:{cls}"
    return Result(title, name, target, "refused", why, _SAID[bool(allowed)], ", ".join(allowed), True)


def _looser(
    attacker: Mapping[str, str], qemu: Mapping[str, str], there: Mapping[str, int], here: Mapping[str, int]
) -> Iterator[str]:
    for name in ("Uid", "Gid"):
        if qemu[name].split() != attacker[name].split():
            yield f"{name} {qemu[name]}"
    if set(qemu["Groups"].split()) - set(attacker["Groups"].split()):
        yield f"Groups {qemu['Groups']}"
    for name in _SETS:
        if int(qemu[name], 16) & ~int(attacker[name], 16):
            yield f"{name} {qemu[name]}"
    for name in ("NoNewPrivs", "Seccomp", "Seccomp_filters"):
        if int(qemu.get(name, "0")) < int(attacker.get(name, "0")):
            yield f"{name} {qemu.get(name, '0')}"
    for name in _NAMESPACES:
        if there[name] != here[name]:
            yield f"its {name} namespace is another"


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def _spaces(pid: int) -> dict[str, int]:
    return {name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in _NAMESPACES}


def _file_of(link: str) -> str:
    """The path of the file, folder or device that a descriptor is open on; "" for all that has none."""
    try:
        path, status = os.readlink(link), os.stat(link)
    except FileNotFoundError:
        return ""
    if stat.S_IFMT(status.st_mode) in _HARMLESS_TYPES or not path.startswith("/") or path.endswith(" (deleted)"):
        return ""
    return path if not path.startswith("/memfd:") else ""


def _forbidden(stage: Stage, drivers: Sequence[Driver], path: str) -> bool:
    facts, _ = facts_of(path)
    if facts is None:
        return False
    return any(driver.explain(stage.guest, facts, "ro").allowed is False for driver in drivers)
