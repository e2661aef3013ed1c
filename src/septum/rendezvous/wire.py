"""The packets of the rendezvous: pure functions over bytes. docs/rendezvous.md has the protocol.

A packet is one of SOCK_SEQPACKET's: it comes whole or not at all, and carries no descriptor or exactly one. A receiver
to whom SELinux refuses a descriptor loses those after it in the same packet without a word (scm_detach_fds stops at
the first error and sets MSG_CTRUNC), so two never travel together.

A packet is UTF-8 text: a verb and fields, with one tab between each.
"""

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from septum.errors import Denied, MessageError, NotFound, SeptumError

__all__ = [
    "MOST",
    "SOCKET",
    "VERSION",
    "Packet",
    "failure",
    "number",
    "receive",
    "refusal",
    "send",
    "text",
]

VERSION: Final = 1
SOCKET: Final = "channels.sock"
"""Name of the socket in the state folder."""

MOST: Final = 4096
"""Bytes of a packet."""

_SPACE: Final = socket.CMSG_SPACE(4 * 253)  # SCM_MAX_FD: whatever is sent can be received, and then closed
# As plain numbers: an operation on an enum's flags takes longer than the system call that it is for.
_FLAGS: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_TRUNC: Final = int(socket.MSG_TRUNC)
_CTRUNC: Final = int(socket.MSG_CTRUNC)
_RIGHTS: Final = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)


class Packet(NamedTuple):
    """What came.

    Attributes:
        verb: "" when the other side has closed.
        fields: after the verb.
        fd: the descriptor that came along, the receiver's to close; -1 for none.
        cut: there was one, and the kernel did not let it through.
    """

    verb: str
    fields: tuple[str, ...]
    fd: int = -1
    cut: bool = False


def text(verb: str, *fields: object) -> bytes:
    """A packet's bytes.

    Raises:
        MessageError: a field has a tab, or it is too long altogether.
    """
    data = "\t".join((verb, *map(str, fields))).encode("utf-8", "backslashreplace")
    if data.count(b"\t") != len(fields) or len(data) > MOST:
        raise MessageError(f"a packet can't hold this: {verb}", rule=f"no tabs, at most {MOST} bytes")
    return data


def send(sock: socket.socket, data: bytes, fd: int = -1, *, flags: int = _FLAGS) -> None:
    """Sends one packet.

    Raises:
        BlockingIOError: not now.
        OSError: the other side is gone, or the kernel refused.
    """
    ancillary = [(*_RIGHTS, array.array("i", (fd,)))] if fd >= 0 else []
    sock.sendmsg([data], ancillary, flags)


def receive(sock: socket.socket, *, flags: int = 0) -> Packet:
    """Receives one packet.

    Raises:
        BlockingIOError: there is none, with MSG_DONTWAIT.
        MessageError: it is too long, isn't UTF-8, or has more than one descriptor. What came with it was closed.
        OSError: the connection broke.
    """
    data, ancillary, got, _ = sock.recvmsg(MOST + 1, _SPACE, flags | _CLOEXEC)
    fds = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == _RIGHTS:
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    try:
        if len(data) > MOST or got & _TRUNC or len(fds) > 1:
            raise MessageError("a packet that the protocol does not know", rule=f"{MOST} bytes, one descriptor")
        verb, *fields = data.decode().split("\t")
    except (UnicodeDecodeError, MessageError) as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, MessageError):
            raise
        raise MessageError("a packet that is not UTF-8") from error
    return Packet(verb, tuple(fields), fds[0] if fds else -1, bool(got & _CTRUNC))


def number(field: str, most: int) -> int:
    """A field that is a number from 0 to `most`.

    Raises:
        MessageError: it is none.
    """
    if not (field.isascii() and field.isdecimal() and len(field) <= 20 and int(field) <= most):
        raise MessageError(f"{field[:40]!a} is no number that can be here", rule=f"0 to {most}")
    return int(field)


def failure(subject: str, error: SeptumError) -> bytes:
    """The packet that refuses: ``error``, what it is about, and JSON as `SeptumError.as_dict` gives it."""
    told = {key: value[:600] for key, value in error.as_dict().items()}
    return text("error", subject, json.dumps(told))


def refusal(fields: Sequence[str]) -> SeptumError:
    """The error that a packet ``error`` tells of."""
    try:
        told = json.loads(fields[1])
        kind = NotFound if told["error"] == "NotFound" else Denied
        return kind(
            str(told["what"]),
            target=str(told.get("object", "")),
            holder=str(told.get("holder", "")),
            rule=str(told.get("rule", "")),
            remedy=str(told.get("next", "")),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return MessageError("the broker's refusal is none of the protocol's", target=ascii(fields)[:80])
