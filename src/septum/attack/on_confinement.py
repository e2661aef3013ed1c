"""Attempts on the confinement itself: label, ruleset, filter, and programs that would run with more than this one."""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from septum.attack.calls import apart, call, executing, loading, read_memory
from septum.attack.judge import Predictor
from septum.attack.model import DENIED, Attempt
from septum.attack.stage import Stage
from septum.host import kernel, ruleset

_PR_SET_NO_NEW_PRIVS: Final = 38
# BPF_RET | BPF_K with SECCOMP_RET_ALLOW, a `struct sock_filter`
_ALLOW_ALL: Final = (0x06).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
_LOADERS: Final = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}


def itself(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """What holds the attacker must not be for the attacker to change."""
    title = "own confinement"
    victim = next((thing.path for other in stage.victims for thing in other.objects), stage.probes.file)
    if "landlock" in judge.names:
        why = judge.file(victim, "rw")
        yield Attempt(title, "stack a wider ruleset, then write", victim, why, _apart(lambda: _widened(victim)))
        filtered = judge.call("process_vm_readv")
        act = _apart(_refiltered)
        yield Attempt(
            title, "stack a wider filter, then read memory", "", filtered, act, DENIED, frozenset({errno.EFAULT})
        )
    yield Attempt(
        title,
        "clear no_new_privs",
        "",
        judge.rule("the kernel knows no way back"),
        lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 0),
        DENIED | {errno.EINVAL},
    )
    for name in ("current", "exec", "sockcreate", "fscreate"):
        path = f"/proc/self/attr/{name}"
        act = _labelling(path, "system_u:system_r:unconfined_t:s0-s0:c0.c1023")
        # EINVAL: there is no SELinux here, or it does not know this label.
        refusals = DENIED | {errno.EINVAL}
        yield Attempt(title, "write its own label", path, judge.file(path, "rw"), act, refusals)
    for path in stage.places["setuid"][:2]:
        yield Attempt(title, "run a setuid program", path, judge.program(), partial(executing, path, "--version"))
    yield Attempt(title, "run a shell", "/bin/sh", judge.program(), partial(executing, "/bin/sh", "-c", ":"))
    loader = _LOADERS.get(os.uname().machine, "")
    if loader:
        yield Attempt(
            title, "run a program by the loader", "/bin/true", judge.program(), partial(loading, loader, "/bin/true")
        )


def _prctl(option: int, value: int) -> None:
    call("prctl", option, value, 0, 0, 0)


def _widened(path: str) -> None:
    wanted = ruleset.READ_FILE | ruleset.WRITE_FILE
    fd = kernel.landlock_create_ruleset(wanted, 0, 0)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    kernel.landlock_add_path(fd, root, wanted)
    kernel.landlock_restrict_self(fd)
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def _refiltered() -> None:
    kernel.seccomp_filter(_ALLOW_ALL)
    read_memory(os.getpid())


def _labelling(path: str, context: str) -> Callable[[], None]:
    def act() -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, context.encode() + b"\0")
        finally:
            os.close(fd)

    return _apart(act)


def _apart(act: Callable[[], object]) -> Callable[[], None]:
    return lambda: apart(act)
