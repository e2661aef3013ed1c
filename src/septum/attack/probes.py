"""Makes the probes, and takes everything away again, whatever the attacker left behind as well."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from septum.attack.calls import call
from septum.attack.stage import Probes

# ipc.h, sem.h, stat.h
_IPC_CREAT = 0o1000
_IPC_EXCL = 0o2000
_IPC_RMID = 0
_EVERYBODY = 0o666


@contextmanager
def made() -> Iterator[Probes]:
    """Probes on this host, for as long as the context lasts."""
    token = f"septum-attack-{os.urandom(6).hex()}"
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix=f"{token}-", dir="/var/tmp")
        stack.callback(shutil.rmtree, folder, True)
        os.chmod(folder, 0o755)
        paths = {name: os.path.join(folder, name) for name in ("file", "stream", "dgram")}
        _file(paths["file"])
        shm = f"/dev/shm/{token}"
        if os.path.isdir("/dev/shm"):
            stack.callback(_forget, shm)
            _file(shm)
        for kind, name in ((socket.SOCK_STREAM, "stream"), (socket.SOCK_DGRAM, "dgram")):
            _listening(stack, socket.AF_UNIX, kind, paths[name])
            os.chmod(paths[name], _EVERYBODY)
            _listening(stack, socket.AF_UNIX, kind, f"\0{token}-{name}")
        tcp = _listening(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = _listening(stack, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        yield Probes(
            token,
            folder,
            paths["file"],
            paths["stream"],
            paths["dgram"],
            f"{token}-stream",
            f"{token}-dgram",
            tcp.getsockname()[1],
            udp.getsockname()[1],
            shm if os.path.exists(shm) else "",
            _system_v(stack),
            _queue(stack, token),
        )


def sweep(folder: str, token: str) -> None:
    """Removes names that attempts have made in the guest's own folder."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(f".{token}-"):
                _forget(os.path.join(folder, name))


def _file(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b"septum attack: a probe that is open to everybody\n")
        os.fchmod(fd, _EVERYBODY)
    finally:
        os.close(fd)


def _forget(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _listening(stack: ExitStack, family: int, kind: int, address: str | tuple[str, int]) -> socket.socket:
    made = stack.enter_context(socket.socket(family, kind | socket.SOCK_CLOEXEC))
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made


def _system_v(stack: ExitStack) -> int:
    """One key for a segment, a semaphore set and a queue; 0 if this kernel has none of them."""
    key = int.from_bytes(os.urandom(4), "little") & 0x7FFFFFFF | 1
    flags = _IPC_CREAT | _IPC_EXCL | _EVERYBODY
    try:
        stack.callback(call, "shmctl", call("shmget", key, 4096, flags), _IPC_RMID, None)
        stack.callback(call, "semctl", call("semget", key, 1, flags), 0, _IPC_RMID, 0)
        stack.callback(call, "msgctl", call("msgget", key, flags), _IPC_RMID, None)
    except OSError:
        return 0
    return key


def _queue(stack: ExitStack, token: str) -> str:
    umask = os.umask(0)
    try:
        os.close(call("mq_open", token.encode() + b"\0", os.O_RDWR | os.O_CREAT | os.O_EXCL, _EVERYBODY, None))
        stack.callback(call, "mq_unlink", token.encode() + b"\0")
    except OSError:
        return ""
    finally:
        os.umask(umask)
    return token
