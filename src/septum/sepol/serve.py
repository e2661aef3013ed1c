"""The worker's own process: one policy, its decisions, and nothing else. `septum.sepol.worker` starts it."""

from __future__ import annotations

import ctypes as c
import fcntl
import os
import resource
import select
import signal
import socket
from collections.abc import Sequence
from typing import Any, Final

from septum.errors import Denied, PolicyError, Unenforceable
from septum.sepol.library import libc
from septum.sepol.memo import Memo
from septum.sepol.policy import Policy
from septum.sepol.wire import receive, send

__all__ = ["end_with", "serve"]

_MEMORY: Final = 1 << 30
"""Bytes of address space. A worker with Debian's whole policy in it takes a tenth."""
_NOBODY: Final = 65534
_PR_SET_NAME: Final = 15  # include/uapi/linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38


def serve(channel: int, image: int, life: int, name: str, booleans: dict[str, bool]) -> None:
    """Answers until the other side closes.

    Args:
        channel: descriptor of a connected socket.
        image: descriptor of a file that holds the policy.
        life: descriptor of a pipe's reading end: this process ends when its writing end is closed.
        name: of the policy, for messages.
        booleans: what-if values.
    """
    end_with(life)
    with socket.socket(fileno=channel) as client:
        try:
            with open(image, "rb") as file:
                content = file.read()
            _confine()
            policy = Policy(content, booleans, name)
            remembered = Memo(policy)
            opened = {
                "fingerprint": policy.fingerprint,
                "version": policy.version,
                "mls": policy.mls,
                "handle_unknown": policy.handle_unknown,
                "classes": policy.classes(),
            }
        except (Denied, MemoryError) as error:
            send(client, _refusal(error))
            return
        send(client, opened)
        try:
            while True:
                verb, items = receive(client)
                if verb == "compute":
                    send(client, [_mask(remembered, item) for item in items])
                else:
                    send(client, [_explanation(policy, item) for item in items])
        except (EOFError, OSError):
            return


def _mask(remembered: Memo, item: Sequence[str]) -> Any:
    try:
        return remembered.allowed(*item)
    except Denied as error:
        return _refusal(error)


def _explanation(policy: Policy, item: Sequence[Any]) -> Any:
    try:
        return policy.explain(*item)
    except Denied as error:
        return _refusal(error)


def _refusal(error: Exception) -> dict[str, str]:
    if isinstance(error, Denied):
        return error.as_dict()
    return PolicyError("the policy needs more memory than a worker may use").as_dict()


def end_with(life: int) -> None:
    """Lets the kernel end this process when whoever started it is gone, even in the midst of a call of libsepol's.

    Args:
        life: descriptor of the reading end of a pipe whose only writer is whoever started this process.

    Not PR_SET_PDEATHSIG: that is sent when the *thread* ends that started this process. SIGIO ends a process that
    does not handle it; a pipe's readers get it when its last writer is gone (pipe_release in fs/pipe.c).
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)
    poll = select.poll()
    poll.register(life, 0)
    if poll.poll(0):  # it was gone before
        raise SystemExit(0)


def _confine() -> None:
    """Gives up what is not needed, before the policy is looked at."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for whoever asks, which closes
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(kind, (most, most))
    _prctl(_PR_SET_NAME, b"septum-sepol")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)  # and with it all capabilities


def _prctl(option: int, value: bytes | int) -> None:
    argument = value if isinstance(value, bytes) else c.c_ulong(value)
    if libc.prctl(option, argument, *[c.c_ulong(0)] * 3) != 0:
        raise Unenforceable(f"prctl({option}): {os.strerror(c.get_errno())}")
