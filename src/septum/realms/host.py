"""What realms do to the host: sockets for guests, files of images, processes. Each act may be repeated."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from septum.errors import HostError

__all__ = [
    "Launcher",
    "Place",
    "SeptumRun",
    "check_device",
    "connect",
    "copy",
    "deserted",
    "device_number",
    "folder",
    "listen",
    "open_image",
    "remove",
    "replace",
]

_CHUNK: Final = 64 << 20


class Place(NamedTuple):
    """Where things are.

    Attributes:
        state: folder of the ledger; closed to all others.
        store: folder of realms' images, that any uid may search and nobody list: emulators open them by name.
        program: QEMU.
    """

    state: str
    store: str
    program: str = "qemu-system-x86_64"

    def image(self, realm: str, name: str) -> str:
        """File of an image."""
        return os.path.join(self.store, realm, f"{name}.img")

    def snapshot(self, realm: str, snapshot: str, image: str) -> str:
        """File of an image's copy."""
        return os.path.join(self.store, realm, ".snapshots", snapshot, f"{image}.img")

    def folders(self, realm: str, snapshot: str = "") -> list[str]:
        """Those that a realm's images, or a snapshot's copies, lie in, the outer one first."""
        own = os.path.join(self.store, realm)
        copies = os.path.join(own, ".snapshots")
        return [own, copies, os.path.join(copies, snapshot)] if snapshot else [own]

    def monitor(self, uuid: str) -> str:
        """QMP socket of a guest."""
        return os.path.join(self.state, "guests", f"{uuid}.qmp")

    def port(self, uuid: str) -> str:
        """Socket of an orchestrator's port."""
        return os.path.join(self.state, "guests", f"{uuid}.port")

    def log(self, uuid: str) -> str:
        """What the emulator has printed since its last start."""
        return os.path.join(self.state, "guests", f"{uuid}.log")

    def make(self) -> None:
        """Makes the folders.

        Raises:
            HostError: it can't be.
        """
        with _explained("the folders of realms can't be made", self.store):
            folder(os.path.join(self.state, "guests"), 0o700)
            folder(self.store, 0o711)


class Launcher(Protocol):
    """Starts guests."""

    def start(
        self,
        realm: str,
        name: str,
        argv: Sequence[str],
        shared: Sequence[str],
        descriptors: Sequence[int],
        log: str,
        *,
        orchestrator: bool = False,
        role: str = "",
    ) -> subprocess.Popen[bytes]:
        """A process that becomes the guest's emulator, in a session of its own: it outlives this one.

        Args:
            realm, name: of the guest.
            argv: QEMU's command line.
            shared: files that other guests of the realm may use too.
            descriptors: that it inherits.
            log: file for what it prints.
            orchestrator: it gets the clearance of its realm.
            role: as it was declared, "" for none.
        """


class SeptumRun:
    """Implements `Launcher` by ``septum run``.

    Args:
        state: folder of the ledger.
        drivers: as ``--driver`` takes them.
        words: the command.
    """

    def __init__(
        self, state: str, drivers: str = "auto", words: Sequence[str] = (sys.executable, "-m", "septum", "run")
    ) -> None:
        self._words = [*words, "--state", state, "--driver", drivers]

    def start(
        self,
        realm: str,
        name: str,
        argv: Sequence[str],
        shared: Sequence[str],
        descriptors: Sequence[int],
        log: str,
        *,
        orchestrator: bool = False,
        role: str = "",
    ) -> subprocess.Popen[bytes]:
        words = [*self._words, "--realm", realm, "--name", name, *(("--role", role) if role else ())]
        for path in shared:
            words += ["--share", path]
        with _explained("the launcher can't be started", self._words[0]), open(log, "wb") as said:
            return subprocess.Popen(
                [*words, "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=tuple(descriptors),
                start_new_session=True,
                env=_environment(os.environ) | ({"SEPTUM_SELINUX_TYPES": "orchestrator"} if orchestrator else {}),
            )


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a guest's emulator may know of this process's environment."""
    kept = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SEPTUM_SELINUX_TYPES", "TMPDIR")
    return {name: given[name] for name in kept if name in given}


def listen(path: str) -> socket.socket:
    """A listening socket at a path in a folder that is closed to others; one that is there already is replaced.

    Raises:
        HostError: the kernel refused.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _explained("a guest's socket can't be made", path), _Folder(path) as name:
            with suppress(FileNotFoundError):
                os.unlink(path)
            listener.bind(name)
            os.chmod(path, 0o600)
            listener.listen(1)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: str) -> socket.socket | None:
    """A connection to such a socket, or None: no process holds it any more, whatever lies at the path.

    Raises:
        HostError: the kernel refused for another reason.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with _explained("a guest's socket can't be reached", path), _Folder(path) as name:
            connection.connect(name)
    except HostError as error:
        connection.close()
        if isinstance(error.__cause__, (FileNotFoundError, ConnectionRefusedError)):
            return None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def deserted(path: str) -> bool:
    """Whether no process holds such a socket any more. An emulator takes the trial for a client that left at once."""
    try:
        connection = connect(path)
    except HostError:
        return False  # its queue is full, which somebody holds
    if connection is None:
        return True
    connection.close()
    return False


def folder(path: str, mode: int) -> None:
    """Makes a folder, or checks that nobody else can have prepared it.

    Args:
        mode: whatever the umask of this process is.

    Raises:
        HostError: somebody else may write to it.
        OSError: the kernel refused.
    """
    try:
        os.mkdir(path)
        os.chmod(path, mode)
    except FileExistsError:
        pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise HostError(
            "a folder is not safe to use",
            target=path,
            holder=f"uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
            rule="it must be a directory of root's or the caller's, and nobody else may write to it",
        )


def copy(source: str, target: str, size: int, folders: Sequence[str] = ()) -> None:
    """Makes an image's file: a copy, or empty if `source` is "". It has its name only when it is whole and on disk.

    Args:
        size: bytes. Of a source that is longer, so many are copied; behind the end of one that is shorter are zeros.
        folders: to make first, the outer one first, if they are missing.

    Raises:
        HostError: there is no room, or the source can't be read.
    """
    part = f"{target}.part"
    with _explained("an image can't be made", target):
        place = os.path.dirname(target)
        for made in folders:
            folder(made, 0o711)
        into = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(into, size)
            if source:
                _copy_data(source, into, size)
            os.fsync(into)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
        finally:
            os.close(into)
        os.rename(part, target)
        _sync(place)


def device_number(path: str) -> str:
    """``MAJOR:MINOR`` of a block device; "" for anything else.

    Raises:
        HostError: there is nothing.
    """
    with _explained("a device can't be looked at", path):
        status = os.stat(path)
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if stat.S_ISBLK(status.st_mode) else ""


def check_device(path: str, number: str) -> None:
    """
    Raises:
        HostError: the node is not of that device any more: a realm owns a device, and not a name.
    """
    found = device_number(path)
    if found != number:
        raise HostError(
            "another device has this name now", target=path, rule=f"device {number} was given to the realm, not {found}"
        )


def replace(source: str, target: str) -> None:
    """Puts an image's file in the place of another one."""
    with _explained("an image can't be put back", target):
        os.rename(source, target)
        _sync(os.path.dirname(target))


def open_image(path: str, flags: int) -> int:
    """A descriptor of an image's file.

    Args:
        flags: of open(2).

    Raises:
        HostError: it is not there, or is a link.
    """
    with _explained("an image can't be opened", path):
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def remove(path: str) -> None:
    """Removes an image's file, and what is left of one that was being made."""
    with _explained("an image can't be removed", path):
        for name in (path, f"{path}.part"):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _sync(path: str) -> None:
    """Has a folder's names on disk: the ledger is about to say that they are."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _copy_data(source: str, into: int, size: int) -> None:
    """Holes stay holes."""
    out = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        offset = 0
        while offset < size:
            try:
                begin = os.lseek(out, offset, os.SEEK_DATA)
            except OSError:
                return  # ENXIO: nothing but a hole is left
            end = min(os.lseek(out, begin, os.SEEK_HOLE), size)
            while begin < end:
                done = os.copy_file_range(out, into, min(_CHUNK, end - begin), begin, begin)
                if done == 0:
                    return
                begin += done
            offset = end
    finally:
        os.close(out)


class _Folder:
    """The name of a socket, short enough for sun_path (108 bytes) however long the path of its folder is."""

    def __init__(self, path: str) -> None:
        self._folder, self._name = os.path.split(path)

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _explained:  # noqa: N801 (used like a function)
    """Turns the kernel's refusals into HostError."""

    def __init__(self, what: str, target: str) -> None:
        self._what = what
        self._target = target

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise HostError(f"{self._what}: {error.strerror}", errno=error.errno or 0, target=self._target) from error
