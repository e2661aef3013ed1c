"""Attempts on other processes: their memory, descriptors, limits; and signals."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Final

from septum.attack.calls import call, read_memory
from septum.attack.judge import Predictor
from septum.attack.model import DENIED, Attempt, Expectation
from septum.attack.on_files import opened
from septum.attack.stage import Process, Stage

# ptrace.h, ioprio.h, kcmp.h
_PTRACE_SEIZE: Final = 0x4206
_IOPRIO_WHO_PROCESS: Final = 1
_KCMP_FILE: Final = 0
_LINKS: Final = ("root", "cwd", "exe", "ns/net", "ns/mnt")
_FILES: Final = ("mem", "environ", "maps", "auxv", "io", "syscall", "attr/current")


def of_others(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """Other guests' emulators, and the host's own processes."""
    for process in (*(victim.process for victim in stage.victims), *stage.hosts):
        yield from _on_process(judge, process)


def _on_process(judge: Predictor, process: Process) -> Iterator[Attempt]:
    pid = process.pid
    title = f"process of {process.name}"
    inside = judge.process("ptrace_may_access")
    other = "dac: it is another uid's" if judge.guest.uid >= 0 else ""
    limits = judge.call("prlimit64", other)

    def attempt(
        name: str, expectation: Expectation, act: Callable[[], object], passed: frozenset[int] = frozenset()
    ) -> Attempt:
        return Attempt(title, name, str(pid), expectation, act, DENIED, passed)

    yield attempt("signal 0", judge.signal(), lambda: os.kill(pid, 0))
    yield attempt("signal 0 by pidfd", judge.signal(), lambda: _by_pidfd(pid))
    yield attempt("take descriptor 0 by pidfd", judge.call("pidfd_getfd"), lambda: _descriptor(pid))
    # Seizing does not stop it, and ends with the attacker.
    yield attempt("ptrace", judge.call("ptrace"), lambda: call("ptrace", _PTRACE_SEIZE, pid, 0, 0))
    yield attempt(
        "process_vm_readv", judge.call("process_vm_readv"), lambda: read_memory(pid), frozenset({errno.EFAULT})
    )
    yield attempt("kcmp", judge.call("kcmp"), lambda: call("kcmp", os.getpid(), pid, _KCMP_FILE, 0, 0))
    yield attempt("get_robust_list", inside, lambda: call("get_robust_list", pid, bytes(8), bytes(8)))
    yield attempt("move_pages", inside, lambda: call("move_pages", pid, 0, None, None, None, 0))
    yield attempt("prlimit", limits, lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE))
    for name in _FILES:
        # Which of them anybody may read is the kernel's business; what a guest may read is septum's.
        yield attempt(
            f"read {name}", judge.file(f"/proc/{pid}/{name}", "ro"), opened(f"/proc/{pid}/{name}", os.O_RDONLY)
        )
    yield attempt("list fd", judge.file(f"/proc/{pid}/fd", "ro"), lambda: os.listdir(f"/proc/{pid}/fd"))
    for name in _LINKS:
        yield attempt(f"follow {name}", inside, opened(f"/proc/{pid}/{name}", os.O_PATH))
    path = f"/proc/{pid}/oom_score_adj"
    yield attempt("write oom_score_adj", judge.file(path, "rw"), opened(path, os.O_WRONLY))
    yield attempt("write mem", judge.file(f"/proc/{pid}/mem", "rw"), opened(f"/proc/{pid}/mem", os.O_RDWR))
    yield attempt("set its priority", judge.call("setpriority", other), lambda: _same_priority(pid))
    yield attempt("set its CPUs", judge.affinity(), lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid)))
    yield attempt("set its I/O priority", judge.call("ioprio_set", other), lambda: _same_io_priority(pid))


def _by_pidfd(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)


def _descriptor(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        os.close(call("pidfd_getfd", fd, 0, 0))
    finally:
        os.close(fd)


def _same_priority(pid: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))


def _same_io_priority(pid: int) -> None:
    call("ioprio_set", _IOPRIO_WHO_PROCESS, pid, call("ioprio_get", _IOPRIO_WHO_PROCESS, pid))
