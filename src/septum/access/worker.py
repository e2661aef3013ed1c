"""libsepol's security server in a process of its own: what a policy does to libsepol, it does to that process only.

The worker gets the policy in a memfd and a socket, and nothing else: as root's it becomes ``nobody`` without a
capability before it looks at the policy, and it can neither write a file nor use memory without bound. What it answers
is taken for data: JSON, whose shape and names are checked. It ends when its socket does.

Messages are JSON with their length before it (4 bytes, big-endian).
"""

import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from septum.access.engine import Access, Triple, Why
from septum.access.libsepol import LibsepolEngine
from septum.access.question import Question
from septum.errors import EngineGone, PolicyError, SeptumError
from septum.host import kernel

__all__ = ["WorkerEngine", "serve"]

_LENGTH: Final = struct.Struct("!I")
_MOST: Final = 64 << 20  # bytes of a message
_MEMORY: Final = 2 << 30  # bytes of address space; a policy of Debian's size takes less than a tenth
_NOBODY: Final = 65534
_OPEN: Final = 60.0  # seconds
_ANSWER: Final = 5.0  # seconds: the daemon stands still as long


class WorkerEngine:
    """Implements `septum.access.engine.Engine`.

    Args:
        image: a compiled policy.

    Attributes:
        image: the same, to open it again.

    Raises:
        PolicyError: libsepol does not take it, or broke on it.
        Unenforceable: there is no libsepol of version 3.4 or later.
    """

    name = "libsepol"

    def __init__(self, image: bytes) -> None:
        self.image = image
        self._why = ""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = _spawn(theirs.fileno(), image)
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        self._socket.settimeout(_OPEN)
        try:
            self._classes, self.fingerprint = self._opened()
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(_ANSWER)

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def classes(self) -> Mapping[str, Set[str]]:
        self.generation()
        return self._classes

    def generation(self) -> int:
        if self._why or self._poll.poll(0):
            raise self._gone(self._why or "it was ended")
        return 0

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        answers = self._call("compute", triples, len(triples))
        return [self._access(triple, answer) for triple, answer in zip(triples, answers, strict=True)]

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        answers = self._call("explain", questions, len(questions))
        if not all(type(reason) is str and type(rule) is str for reason, rule in answers):
            raise self._gone("it answered nonsense")
        return [Why(reason, rule) for reason, rule in answers]

    def fileno(self) -> int:
        return self._pidfd

    def close(self) -> None:
        if self._pidfd < 0:
            return
        self._why = self._why or "it was closed"
        self._process.kill()
        self._process.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        self._socket.close()

    def _opened(self) -> tuple[dict[str, frozenset[str]], str]:
        try:
            told = _receive(self._socket)
            if "error" in told:
                raise PolicyError(
                    **{key: str(told["error"].get(key, "")) for key in ("what", "target", "rule", "remedy")}
                )
            classes = {str(name): frozenset(map(str, found)) for name, found in told["classes"].items()}
            return classes, str(told["fingerprint"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(
                "libsepol broke on the policy",
                rule=_end(self._process) or repr(error),
                remedy="build it anew: septum policy build",
            ) from error

    def _call(self, verb: str, items: Sequence[tuple[Any, ...]], count: int) -> list[tuple[Any, Any]]:
        self.generation()
        try:
            _send(self._socket, [verb, items])
            answers = _receive(self._socket)
            if type(answers) is not list or len(answers) != count:
                raise ValueError("so many answers were not asked for")
            return [(one, other) for one, other in answers]
        except (OSError, EOFError, ValueError, TypeError) as error:
            raise self._gone(str(error) or repr(error)) from error

    def _access(self, triple: Triple, answer: tuple[Any, Any]) -> Access:
        names, flaw = answer
        known = self._classes.get(triple.tclass, frozenset())
        sound = type(names) is list and type(flaw) is str and all(type(name) is str for name in names)
        if not sound or not known.issuperset(names):
            raise self._gone("it answered nonsense")
        return Access(frozenset(names), flaw)

    def _gone(self, why: str) -> EngineGone:
        """Whatever is wrong with it, there is no second question to such a worker."""
        if not self._why:
            self._why = why
            self._process.kill()
        return EngineGone("the process that decides is gone", target=f"pid {self._process.pid}", rule=self._why)


def serve(channel: int, policy: int) -> None:
    """The worker's process.

    Args:
        channel: descriptor of its socket.
        policy: descriptor of the memfd that holds the policy.
    """
    with socket.socket(fileno=channel) as client:
        try:
            with open(policy, "rb") as file:
                image = file.read()
            _confine()
            engine = LibsepolEngine(image)
            classes = {name: sorted(permissions) for name, permissions in engine.classes().items()}
        except SeptumError as error:
            parts = {"what": error.what, "target": error.target, "rule": error.rule, "remedy": error.remedy}
            _send(client, {"error": parts})
            return
        _send(client, {"classes": classes, "fingerprint": engine.fingerprint})
        verbs: dict[str, Callable[[Any], Any]] = {
            "compute": lambda items: [(list(one.allowed), one.flaw) for one in engine.compute(_triples(items))],
            "explain": lambda items: engine.explain(_questions(items)),
        }
        while True:
            try:
                verb, items = _receive(client)
            except (EOFError, OSError):
                return
            _send(client, verbs[verb](items))


def _spawn(channel: int, image: bytes) -> "subprocess.Popen[bytes]":
    memfd = os.memfd_create("septum-policy", os.MFD_CLOEXEC)
    try:
        with open(memfd, "wb", closefd=False) as file:
            file.write(image)
        os.lseek(memfd, 0, os.SEEK_SET)
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            f"import sys; sys.path.insert(0, {root!r}); "
            f"from septum.access.worker import serve; serve({channel}, {memfd})"
        )
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(channel, memfd),
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(memfd)


def _confine() -> None:
    """Gives up what a worker does not need, before it looks at a policy."""
    kernel.set_name(b"septum-worker")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (most, most))
    kernel.set_no_new_privs()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        kernel.drop_capabilities()


def _triples(items: list[list[str]]) -> list[Triple]:
    return [Triple(*item) for item in items]


def _questions(items: list[Any]) -> list[Question]:
    return [Question(source, target, tclass, tuple(wanted)) for source, target, tclass, wanted in items]


def _end(process: "subprocess.Popen[bytes]") -> str:
    """How the worker ended, "" if it runs."""
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return ""
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with status {code}"


def _send(channel: socket.socket, value: Any) -> None:
    data = json.dumps(value).encode()
    channel.sendall(_LENGTH.pack(len(data)) + data)


def _receive(channel: socket.socket) -> Any:
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    if length > _MOST:
        raise ValueError(f"a message of {length} bytes")
    return json.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = channel.recv(min(count - len(data), 1 << 18))
        if not more:
            raise EOFError("it closed its end")
        data += more
    return bytes(data)
