"""A policy in a process of its own: what a damaged or hostile one does to libsepol, it does to that process only.

libsepol is C that reads a file with tables of offsets; it checks what it reads, and it is no wall (docs/sepol.md says
what became of damaged policies). So a policy that was not compiled here is opened in a worker first, or only there. The
worker has the policy, a socket and a pipe; as root's it becomes ``nobody``; its memory is bounded; it ends with whoever
started it. Nothing that it answers is more than data, and no call here waits longer than `timeout`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from septum.errors import Denied, EngineGone, LabelError, PolicyError, Unenforceable, UnknownName
from septum.sepol import image
from septum.sepol.library import REASONS
from septum.sepol.policy import CONTEXT_MAX, Explanation
from septum.sepol.wire import receive, send

__all__ = ["Worker", "vet"]

_BATCH: Final = 1 << 14  # questions of one message
_OPENING: Final = 60.0  # seconds
_ERRORS: Final = {kind.__name__: kind for kind in (LabelError, PolicyError, Unenforceable, UnknownName, Denied)}
_PERMISSIONS_MAX: Final = 64  # of one question; a class has 32
_Q = TypeVar("_Q")
_A = TypeVar("_A")


class Worker:
    """A policy that another process holds. Use it in a ``with``, or `close` it.

    Threads may share it; one asks at a time.

    Args:
        source: path of a compiled policy, or the policy itself.
        booleans: values to set, for asking what if.
        timeout: seconds that a batch of 16,384 questions may take.

    Attributes:
        name, fingerprint, version, mls, handle_unknown: as of `Policy`.

    Raises:
        PolicyError: it can't be read, libsepol does not take it, or broke on it.
        UnknownName: the policy has no such boolean.
        Unenforceable: there is no libsepol of version 3.4 or later.
        EngineGone: no process can be had.
    """

    def __init__(
        self, source: str | bytes, *, booleans: Mapping[str, bool] | None = None, timeout: float = 10.0
    ) -> None:
        self.name = "the policy" if isinstance(source, bytes) else source
        self._content = source if isinstance(source, bytes) else image.read(source)
        image.header(self._content, self.name)
        self._booleans = dict(booleans or {})
        self._timeout = timeout
        self._lock = threading.RLock()
        self._why: str
        self._process: subprocess.Popen[bytes]
        self._channel: socket.socket
        self._pidfd: int
        self._life: int
        self._start()

    @property
    def alive(self) -> bool:
        """Whether it would answer."""
        with self._lock:
            return not self._why and not self._ended.poll(0)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """A pidfd: readable once the process has ended, for an event loop."""
        return self._pidfd

    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Each class with its permissions, in the order of their bits."""
        return self._classes

    def compute_many(self, questions: Sequence[tuple[str, str, str]]) -> list[int | Denied]:
        """Decisions.

        Args:
            questions: of two contexts and a class each.

        Returns:
            For each question the bits of what is allowed, or what is wrong with it.

        Raises:
            EngineGone: the worker has ended, or did not answer in time, or not what was asked: all is denied until
                `restart`.
        """
        return self._ask("compute", questions, lambda question: [_cut(word) for word in question], _mask)

    def explain_many(self, questions: Sequence[tuple[str, str, str, Sequence[str]]]) -> list[Explanation | Denied]:
        """The same with permissions and reasons; see `Policy.explain`."""

        def item(question: tuple[str, str, str, Sequence[str]]) -> list[Any]:
            *names, permissions = question
            return [*map(_cut, names), [_cut(name) for name in permissions[:_PERMISSIONS_MAX]]]

        return self._ask("explain", questions, item, _explanation)

    def explain(self, source: str, target: str, tclass: str, permissions: Sequence[str]) -> Explanation:
        """One decision with its reason.

        Raises:
            LabelError, UnknownName: as `Policy.explain`.
            EngineGone: as `compute_many`.
        """
        (found,) = self.explain_many([(source, target, tclass, permissions)])
        if isinstance(found, Denied):
            raise found
        return found

    def restart(self) -> None:
        """Gives up the process, if there still is one, and starts another with the same policy.

        Raises:
            PolicyError, Unenforceable, EngineGone: as `Worker`.
        """
        with self._lock:
            self.close()
            self._start()

    def close(self) -> None:
        """Ends the process. Questions get EngineGone from now on."""
        with self._lock:
            if not self._why:
                self._why = "it was closed"
            if self._pidfd >= 0:
                self._process.kill()
                self._process.wait()
                self._channel.close()
                os.close(self._life)
                os.close(self._pidfd)
                self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._why = "it was not started"
        self._pidfd = -1
        self._channel, theirs = socket.socketpair()
        life, self._life = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = self._spawn(theirs.fileno(), life)
        except OSError as error:
            self._channel.close()
            os.close(self._life)
            raise EngineGone(f"no process can be had that decides: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(life)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._ended = select.poll()
        self._ended.register(self._pidfd, select.POLLIN)
        try:
            self._opened(receive(self._channel, _OPENING))
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = "it did not end in time" if isinstance(error, TimeoutError) else self._end() or repr(error)
            self.close()
            raise PolicyError(
                f"libsepol broke on {self.name}",
                target=self.name,
                rule=f"of the process that opened it: {why}",
                remedy="it is damaged, or made to do harm: compile it anew",
            ) from error
        except BaseException:
            self.close()
            raise
        self._why = ""

    def _opened(self, told: Any) -> None:
        refusal = _refusal(told)
        if refusal is not None:
            raise refusal
        kinds = {"fingerprint": str, "version": int, "mls": bool, "handle_unknown": str, "classes": dict}
        if set(told) != set(kinds) or not all(type(told[key]) is kind for key, kind in kinds.items()):
            raise ValueError("it answered nonsense")
        self.fingerprint: str = told["fingerprint"]
        self.version: int = told["version"]
        self.mls: bool = told["mls"]
        self.handle_unknown: str = told["handle_unknown"]
        self._classes = {str(name): tuple(map(str, permissions)) for name, permissions in told["classes"].items()}

    def _spawn(self, channel: int, life: int) -> subprocess.Popen[bytes]:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        memfd = os.memfd_create("septum-policy", os.MFD_CLOEXEC)
        try:
            with open(memfd, "wb", closefd=False) as file:
                file.write(self._content)
            os.lseek(memfd, 0, os.SEEK_SET)
            words = json.dumps([root, channel, memfd, life, self.name, self._booleans])
            code = (
                "import sys, json; root, *words = json.loads(sys.argv[1]); sys.path.insert(0, root); "
                "from septum.sepol.serve import serve; serve(*words)"
            )
            return subprocess.Popen(
                # Nothing of the environment's is loaded, neither modules nor variables.
                [sys.executable, "-I", "-S", "-c", code, words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(channel, memfd, life),
                env={},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(memfd)

    def _ask(
        self, verb: str, questions: Sequence[_Q], item: Callable[[_Q], list[Any]], read: Callable[[Any], _A]
    ) -> list[_A | Denied]:
        found: list[_A | Denied] = []
        with self._lock:
            if not self.alive:
                raise self._gone(self._why or self._end())
            try:
                for begin in range(0, len(questions), _BATCH):
                    part = [item(question) for question in questions[begin : begin + _BATCH]]
                    send(self._channel, [verb, part], self._timeout)
                    answers = receive(self._channel, self._timeout)
                    if type(answers) is not list or len(answers) != len(part):
                        raise ValueError("so many answers were not asked for")
                    found += [_refusal(answer) or read(answer) for answer in answers]
            except TimeoutError as error:
                raise self._gone("it did not answer in time") from error
            except (OSError, EOFError) as error:
                raise self._gone(self._end() or str(error)) from error
            except (ValueError, TypeError) as error:
                raise self._gone(f"it answered nonsense: {str(error)[:200]}") from error
        return found

    def _gone(self, why: str) -> EngineGone:
        """A worker that failed once is not asked again."""
        with self._lock:
            if not self._why:
                self._why = why
                self._process.kill()
            return EngineGone(
                "the process that decides is gone",
                target=f"pid {self._process.pid}",
                rule=self._why,
                remedy="all is denied until it is started anew",
            )

    def _end(self) -> str:
        """How it ended; "" if it runs."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return ""
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def vet(source: str | bytes) -> None:
    """Opens a policy in a worker and gives it up again: whether it may be opened in this process.

    A policy that passes is one that libsepol reads, writes out as CIL and takes for its own without harm; questions
    may still break it, if it was made to that end.

    Raises:
        PolicyError, Unenforceable, EngineGone: as `Worker`.
    """
    Worker(source).close()


def _cut(word: str) -> str:
    """What is too long is refused, whatever follows."""
    return word[: CONTEXT_MAX + 1]


def _refusal(answer: Any) -> Denied | None:
    """An error that the worker answers with, as `SeptumError.as_dict` writes it."""
    if type(answer) is not dict or "error" not in answer:
        return None
    parts = {key: answer.get(key, "") for key in ("what", "object", "holder", "rule", "next")}
    if answer["error"] not in _ERRORS or not all(type(value) is str for value in parts.values()):
        raise ValueError("it answered nonsense")
    return _ERRORS[answer["error"]](
        parts["what"], target=parts["object"], holder=parts["holder"], rule=parts["rule"], remedy=parts["next"]
    )


def _mask(answer: Any) -> int:
    if type(answer) is not int or not 0 <= answer < 1 << 32:
        raise ValueError("no mask")
    return answer


def _explanation(answer: Any) -> Explanation:
    allowed, granted, refused, reasons, constraint, rule = answer
    lists = (granted, refused, reasons)
    if type(allowed) is not bool or not all(type(some) is list for some in lists):
        raise ValueError("no explanation")
    if not all(type(word) is str for word in (*granted, *refused, *reasons, constraint, rule)):
        raise ValueError("no explanation")
    if allowed != (not refused) or not set(reasons) <= set(REASONS.values()):
        raise ValueError("no explanation")
    return Explanation(allowed, tuple(granted), tuple(refused), tuple(reasons), constraint, rule)
