"""The protocol of septumd's socket: frames of text, pure functions over bytes.

A frame is a length (4 bytes, big-endian, of what follows) and that many bytes of UTF-8 text. Its first line is a verb
or a status, the others depend on it; fields of a line are separated by one tab. docs/septumd.md has the whole.

A question is one line, and its bytes are what the daemon remembers the answer by: a repeated question is never taken
apart again, which is what makes batches fast.
"""

import json
import os
import struct
from typing import Final

from septum.access.question import MOST_CONTEXT, Decision, ObjectQuestion, Question
from septum.errors import MessageError, SeptumError

__all__ = [
    "LENGTH",
    "MOST_ANSWER",
    "MOST_FRAME",
    "MOST_QUESTIONS",
    "VERSION",
    "address",
    "decision",
    "decision_line",
    "failure",
    "frame",
    "head",
    "question",
    "question_line",
]

VERSION: Final = 1
"""Of the protocol; the first message names it."""

LENGTH: Final = struct.Struct("!I")

MOST_FRAME: Final = 256 * 1024
"""Bytes of a message to the daemon."""

MOST_QUESTIONS: Final = 1024
"""Of one message."""

MOST_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of a message from the daemon that a client takes."""

_MOST_LINE: Final = 3 * MOST_CONTEXT
_MOST_RULE: Final = 1024


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return LENGTH.pack(len(body)) + body


def question_line(question: Question | ObjectQuestion) -> str:
    """``SUBJECT TARGET CLASS PERMISSION,…``, or ``SUBJECT OBJECT PERMISSION,…``, with tabs between.

    Raises:
        MessageError: a part has a tab or a newline.
    """
    *parts, permissions = question
    line = "\t".join((*parts, ",".join(permissions)))
    if line.count("\t") != len(question) - 1 or "\n" in line or line.count(",") < len(permissions) - 1:
        raise MessageError("the question has a tab or a newline in it", target=ascii(line[:80]))
    return line


def question(line: bytes) -> Question | ObjectQuestion:
    """The question that a line holds; not checked further.

    Raises:
        MessageError: it is too long, isn't UTF-8, or has neither three nor four fields.
    """
    if len(line) > _MOST_LINE:
        raise MessageError(f"a question of {len(line)} bytes", rule=f"at most {_MOST_LINE}")
    try:
        fields = line.decode().split("\t")
    except UnicodeDecodeError as error:
        raise MessageError("a question that is not UTF-8") from error
    permissions = tuple(fields[-1].split(","))
    if len(fields) == 4:
        return Question(fields[0], fields[1], fields[2], permissions)
    if len(fields) == 3:
        return ObjectQuestion(fields[0], fields[1], permissions)
    raise MessageError(f"a question of {len(fields)} fields", rule="three or four, separated by one tab each")


def decision_line(decision: Decision) -> bytes:
    """``allowed GRANTED,… REASON RULE``, or ``denied …``; ``permissive`` is a fifth field where it holds."""
    fields = [
        "allowed" if decision.allowed else "denied",
        ",".join(decision.granted),
        _flat(decision.reason),
        _flat(decision.rule),
    ]
    if decision.permissive:
        fields.append("permissive")
    return "\t".join(fields).encode("utf-8", "backslashreplace")


def decision(line: str, seqno: int, engine: str) -> Decision:
    """The decision that a line holds.

    Args:
        line: as `decision_line` gives it.
        seqno, engine: from the first line of the answer.

    Raises:
        MessageError: it is none.
    """
    fields = line.split("\t")
    if len(fields) not in (4, 5) or fields[0] not in ("allowed", "denied"):
        raise MessageError("the daemon's answer is none of the protocol's", target=ascii(line[:80]))
    granted = tuple(fields[1].split(",")) if fields[1] else ()
    return Decision(fields[0] == "allowed", granted, fields[2], fields[3], seqno, engine, len(fields) == 5)


def head(seqno: int, engine: str) -> bytes:
    """The first line of an answer: ``ok SEQNO ENGINE``, with its newline."""
    return f"ok\t{seqno}\t{engine}\n".encode()


def failure(error: SeptumError) -> bytes:
    """The body of an answer that is an error: ``error``, and a line of JSON as `SeptumError.as_dict` gives it."""
    return b"error\n" + json.dumps(error.as_dict()).encode()


def address(directory: int, name: str) -> str:
    """A path that fits into sun_path (108 bytes) however long the folder's own is.

    Args:
        directory: a descriptor of the folder.
        name: of the socket in it.
    """
    return f"/proc/self/fd/{directory}/{os.path.basename(name)}"


def _flat(text: str) -> str:
    return " ".join(text[:_MOST_RULE].split())
