"""The worker's own process: one policy, its decisions, and nothing else. `septum.sepol.worker` starts it."""

from __future__ import annotations

import ctypes as c
import fcntl
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from septum.errors import Denied, PolicyError, Unenforceable
from septum.sepol.library import libc
from septum.sepol.memo import Memo
from septum.sepol.policy import Policy
from septum.sepol.wire import receive, send

__all__ = ["confine", "end_with", "serve"]

_NOBODY: Final = 65534
_PR_SET_NAME: Final = 15  # include/uapi/linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38


def serve(channel: int, image: int, life: int, memory: int, name: str, booleans: dict[str, bool]) -> None:
    """Answers until the other side closes.

    Args:
        channel: descriptor of a connected socket.
        image: descriptor of a file that holds the policy.
        life: descriptor of a pipe's reading end: this process ends when its writing end is closed.
        memory: bytes of address space that this process may have.
        name: of the policy, for messages.
        booleans: what-if values.
    """
    end_with(life)
    with socket.socket(fileno=channel) as client:
        try:
            with open(image, "rb") as file:
                content = file.read()
            confine(memory)
            policy = Policy(content, booleans, name)
            remembered = Memo(policy)
            opened = {
                "fingerprint": policy.fingerprint,
                "version": policy.version,
                "mls": policy.mls,
                "handle_unknown": policy.handle_unknown,
                "classes": policy.classes(),
            }
        except Exception as error:  # as of one question, below
            send(client, _refusal(error))
            return
        send(client, opened)
        try:
            while True:
                verb, items = receive(client)
                if verb == "compute":
                    send(client, [_answer(remembered.allowed, item) for item in items])
                else:
                    send(client, [_answer(remembered.explain, item) for item in items])
        except (EOFError, OSError):
            return


def _answer(ask: Callable[..., Any], item: Sequence[Any]) -> Any:
    try:
        return ask(*item)
    except MemoryError:
        raise SystemExit(1) from None  # one that starts anew has room again
    except Exception as error:  # in a damaged policy there may be anything; one question of it is not all of them
        return _refusal(error)


def _refusal(error: Exception) -> dict[str, str]:
    if not isinstance(error, Denied):
        error = PolicyError(f"the policy is damaged: {error!r:.200}")
    return error.as_dict()


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


def confine(memory: int) -> None:
    """Gives up what a process that decides does not need, for good: root's rights, and more memory than a policy takes.

    For before the policy is looked at.

    Args:
        memory: bytes of address space that this process may have.

    Raises:
        Unenforceable: the kernel refuses.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for whoever asks, which closes
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0)):
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
