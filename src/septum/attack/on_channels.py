"""Attempts on what processes talk through: sockets of every kind, shared memory, queues."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from septum.attack.calls import call
from septum.attack.judge import Predictor
from septum.attack.model import DENIED, Attempt, Expectation
from septum.attack.stage import Stage

# A socket that the kernel looked at after the name's permissions, and found of another type, full or deserted.
_REACHED: Final = frozenset({errno.EPROTOTYPE, errno.EAGAIN, errno.ECONNREFUSED})
# What is not in a namespace is not refused: it is not there.
_UNSEEN: Final = DENIED | {errno.ENOENT, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH}
_PATIENCE: Final = 0.2
_AF_VSOCK: Final = 40
_VMADDR_CID_HOST: Final = 2
_LOCALHOST: Final = "127.0.0.1"


def of_other_guests(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """The monitors, consoles and displays of other guests."""
    for victim in stage.victims:
        for path in victim.sockets:
            yield _unix(judge, f"sockets of {victim.name}", path, must_be_shut=True)


def of_the_host(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """The host's services, and probes that are open to everybody."""
    probes, title = stage.probes, "channels"
    for path in stage.places["ledger"]:
        if path.endswith(".sock"):
            yield _unix(judge, "septum", path, kind=socket.SOCK_SEQPACKET, must_be_shut=True)
    for path in (*stage.places["socket"], probes.stream):
        yield _unix(judge, title, path)
    yield Attempt(
        title,
        "send a datagram",
        probes.dgram,
        judge.path_socket(probes.dgram, "dgram"),
        _sending(socket.AF_UNIX, probes.dgram),
    )
    for name, kind in ((probes.abstract, socket.SOCK_STREAM), (probes.abstract_dgram, socket.SOCK_DGRAM)):
        act = _connecting(socket.AF_UNIX, kind, f"\0{name}")
        yield Attempt(title, "connect to an abstract socket", f"@{name}", judge.abstract(), act, _UNSEEN)
    address = (_LOCALHOST, probes.tcp)
    act = _connecting(socket.AF_INET, socket.SOCK_STREAM, address)
    yield Attempt(title, "TCP to the host's loopback", f"{_LOCALHOST}:{probes.tcp}", judge.network(), act, _UNSEEN)
    act = _sending(socket.AF_INET, (_LOCALHOST, probes.udp))
    arrived = judge.network()
    yield Attempt(title, "UDP to the host's loopback", f"{_LOCALHOST}:{probes.udp}", arrived, act, _UNSEEN)
    yield from _families(stage, judge)
    yield from _ipc(stage, judge)


def _families(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    def made(family: int, kind: int, protocol: int = 0) -> Callable[[], None]:
        return lambda: socket.socket(family, kind, protocol).close()

    raw = judge.rule("no CAP_NET_RAW" if stage.guest.uid >= 0 else "no capability")
    yield Attempt("channels", "raw socket", "AF_INET", raw, made(socket.AF_INET, socket.SOCK_RAW, 255))
    yield Attempt("channels", "packet socket", "AF_PACKET", raw, made(socket.AF_PACKET, socket.SOCK_RAW))
    vsock = Expectation("open", "host network") if stage.guest.network else judge.call("socket", "")
    act = made(_AF_VSOCK, socket.SOCK_STREAM)
    yield Attempt("channels", "vsock", f"CID {_VMADDR_CID_HOST}", vsock, act, DENIED | {errno.EAFNOSUPPORT})


def _ipc(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """Nothing is created: the probes are there, or they are not."""
    probes = stage.probes
    if probes.key:
        for name, what, arguments in (
            ("shmget", "System V shared memory", (0, 0)),
            ("semget", "System V semaphores", (1, 0)),
            ("msgget", "System V message queue", (0,)),
        ):
            act = _getting(name, probes.key, arguments)
            yield Attempt("channels", what, f"key {probes.key:#x}", judge.ipc(name), act, _UNSEEN)
    if probes.queue:
        open_it = _queue(probes.queue.encode() + b"\0")
        yield Attempt("channels", "POSIX message queue", f"/{probes.queue}", judge.ipc("mq_open"), open_it, _UNSEEN)


def _unix(
    judge: Predictor, title: str, path: str, *, kind: int = socket.SOCK_STREAM, must_be_shut: bool = False
) -> Attempt:
    expectation = judge.path_socket(path, "stream")
    if must_be_shut and expectation.expected != "refused":
        expectation = judge.rule(f"nothing is known to refuse it: {expectation.why}")
    return Attempt(title, "connect", path, expectation, _connecting(socket.AF_UNIX, kind, path), DENIED, _REACHED)


def _connecting(family: int, kind: int, address: str | tuple[str, int]) -> Callable[[], None]:
    def act() -> None:
        with closing(socket.socket(family, kind | socket.SOCK_CLOEXEC)) as made:
            made.settimeout(_PATIENCE)
            made.connect(address)

    return act


def _sending(family: int, address: str | tuple[str, int]) -> Callable[[], None]:
    """Nothing but the address: an empty datagram, by sendmsg."""

    def act() -> None:
        with closing(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as made:
            made.settimeout(_PATIENCE)
            made.sendmsg([b""], [], 0, address)

    return act


def _getting(name: str, key: int, arguments: tuple[int, ...]) -> Callable[[], int]:
    return lambda: call(name, key, *arguments)


def _queue(name: bytes) -> Callable[[], None]:
    return lambda: os.close(call("mq_open", name, os.O_RDWR | os.O_NONBLOCK, 0, None))
