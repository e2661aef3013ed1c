"""A client of septumd: one connection, blocking, for one thread."""

import json
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

from septum.access import wire
from septum.access.question import Decision, ObjectQuestion, Question
from septum.access.spin import spinning
from septum.errors import Denied, HostError, MessageError, NotFound

__all__ = ["LOCK", "SOCKET", "Client"]

SOCKET: Final = "septumd.sock"
"""Name of the socket in the state folder."""

LOCK: Final = "septumd.lock"
"""Name of a file there that the daemon holds locked for as long as it lives."""


class Client:
    """Asks septumd.

    Args:
        path: of its socket: ``septumd.sock`` in the state folder, or what its operator says.
        timeout: how long to wait for an answer, in seconds.

    Raises:
        NotFound: no daemon listens there.
        Denied: the daemon does not serve this process: the message says why.
        HostError: the kernel refused the connection.

    Attributes:
        context: this process's own, as the daemon sees it.
    """

    def __init__(self, path: str, *, timeout: float = 30.0) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # Kept by the kernel: Python's own time-outs cost a system call before each one that does something.
        limit = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self._connect()
            facts = self._facts(f"hello\t{wire.VERSION}")
        except BaseException:
            self._socket.close()
            raise
        self.context = str(facts["context"])

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; closing twice does no harm."""
        self._socket.close()

    def decide(self, question: Question | ObjectQuestion) -> Decision:
        """One decision; the errors are those of `decide_all`."""
        return self.decide_all((question,))[0]

    def decide_all(self, questions: Iterable[Question | ObjectQuestion]) -> list[Decision]:
        """Decisions, in the order of the questions; any number, sent in as many messages as needed.

        Raises:
            MessageError: a question that the protocol can't carry, or an answer that is none of its.
            Denied: the daemon refused the message.
            HostError: the connection broke. What was not answered is not decided.
        """
        lines = [wire.question_line(question) for question in questions]
        decisions: list[Decision] = []
        for batch in _batches(lines):
            head, *answers = self._call("\n".join(("ask", *batch)))
            _, seqno, engine = head
            if len(answers) != len(batch):
                raise MessageError(f"{len(answers)} answers came to {len(batch)} questions", target=self._path)
            decisions += [wire.decision(line, int(seqno), engine) for line in answers]
        return decisions

    def reload(self) -> dict[str, Any]:
        """Has the daemon load its policy anew, and waits for it.

        Returns:
            ``seqno`` and ``fingerprint`` of the new one.

        Raises:
            Denied: this process may not, or the policy is refused: the old one stays, and the message says why.
            HostError: the connection broke.
        """
        return self._facts("reload")

    def status(self) -> dict[str, Any]:
        """Facts about the daemon: policy, log, connections.

        Raises:
            Denied: this process may not ask for them.
            HostError: the connection broke.
        """
        return self._facts("status")

    def watch(self, seqno: int) -> None:
        """Asks to be told when the policy is not any more the one of this number, or nothing can be decided. Until
        `watched` has taken the answer, nothing else may be asked on this connection.

        Raises:
            HostError: the connection broke.
        """
        try:
            self._socket.sendall(wire.frame(f"watch\t{seqno}".encode()))
        except OSError as error:
            raise self._broken(error) from error

    def watched(self) -> int:
        """The answer to `watch`: the number of the policy in force. `fileno` polls readable when it has come.

        Raises:
            Denied: this process may not ask for it.
            HostError: the connection broke.
        """
        _, facts = self._answer()
        return int(json.loads(facts)["seqno"])

    def fileno(self) -> int:
        """Of the connection."""
        return self._socket.fileno()

    def _connect(self) -> None:
        directory = -1
        try:
            directory = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._socket.connect(wire.address(directory, self._path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NotFound("septumd does not run here", target=self._path, remedy="septumd --state DIR") from error
        except OSError as error:
            raise self._broken(error) from error
        finally:
            if directory >= 0:
                os.close(directory)

    def _facts(self, request: str) -> dict[str, Any]:
        _, facts = self._call(request)
        found: dict[str, Any] = json.loads(facts)
        return found

    def _call(self, request: str) -> list[Any]:
        """The fields of the answer's first line, then its other lines."""
        try:
            self._socket.sendall(wire.frame(request.encode()))
        except BrokenPipeError:
            pass  # the daemon closed it, and has said why
        except OSError as error:
            raise self._broken(error) from error
        return self._answer()

    def _answer(self) -> list[Any]:
        head, *lines = self._receive().split("\n")
        fields = head.split("\t")
        if fields[0] == "error":
            raise _refusal(lines)
        if fields[0] != "ok" or len(fields) != 3 or not fields[1].isdecimal():
            raise MessageError("the daemon's answer is none of the protocol's", target=self._path)
        return [fields, *lines]

    def _receive(self) -> str:
        buffer = self._buffer
        try:
            while len(buffer) < 4 or len(buffer) < 4 + self._length():
                data = spinning(self._look) or self._socket.recv(1 << 18)
                if not data:
                    raise ConnectionResetError(104, "septumd closed the connection")
                buffer += data
        except OSError as error:
            raise self._broken(error) from error
        end = 4 + self._length()
        body = buffer[4:end].decode("utf-8", "replace")
        del buffer[:end]
        return body

    def _look(self) -> bytes:
        try:
            return self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def _length(self) -> int:
        length: int = wire.LENGTH.unpack_from(self._buffer)[0]
        if length > wire.MOST_ANSWER:
            raise MessageError(f"an answer of {length} bytes", target=self._path, rule=f"at most {wire.MOST_ANSWER}")
        return length

    def _broken(self, error: OSError) -> HostError:
        timeout = isinstance(error, BlockingIOError)
        return HostError(
            "septumd did not answer in time" if timeout else f"the connection to septumd broke: {error.strerror}",
            errno=error.errno or 0,
            target=self._path,
            rule="what was not answered is not decided",
            remedy="try again; septumd's log says why",
        )


def _batches(lines: Sequence[str]) -> Iterable[Sequence[str]]:
    """Lines in portions that fit into messages."""
    batch: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode()) + 1
        if batch and (len(batch) == wire.MOST_QUESTIONS or size + length > wire.MOST_FRAME - 16):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += length
    if batch:
        yield batch


def _refusal(lines: Sequence[str]) -> Denied:
    try:
        told = json.loads(lines[0])
        return Denied(
            str(told["what"]),
            target=str(told.get("object", "")),
            holder=str(told.get("holder", "")),
            rule=str(told.get("rule", "")),
            remedy=str(told.get("next", "")),
        )
    except (ValueError, KeyError, IndexError, AttributeError):
        return MessageError("the daemon's refusal is none of the protocol's", target=ascii(str(lines)[:80]))
