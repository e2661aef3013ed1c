"""Host objects by descriptor: find one without being led astray, say what it is, open the very same one again.

A path is walked one component at a time with ``O_PATH | O_NOFOLLOW``. A symlink is followed only if root or the caller
owns it, so that a link which a guest (whose uid is its own) put there leads nowhere. What is then done to the object
goes through ``/proc/self/fd/N``: the name is not used a second time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from septum.errors import Denied, HostError
from septum.host import dac, kernel
from septum.host.driver import Facts
from septum.host.refusal import refused
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Final

CONTEXT: Final = "security.selinux"
_LINKS_MAX: Final = 40  # the kernel's MAXSYMLINKS
_PATIENCE: Final = 2.0  # seconds to wait for a lock that one of septum's processes holds for moments
_VOLATILE: Final = "~"
# TMPFS_MAGIC (devtmpfs too), RAMFS_MAGIC, HUGETLBFS_MAGIC, SYSFS_MAGIC, PROC_SUPER_MAGIC, CGROUP2_SUPER_MAGIC
# of include/uapi/linux/magic.h
_VOLATILE_TYPES: Final = frozenset({0x01021994, 0x858458F6, 0x958458F6, 0x62656572, 0x9FA0, 0x63677270})


class Gone(HostError):
    """The object is not there any more."""


class Replaced(Gone):
    """Another object has its name."""


class Found(NamedTuple):
    """What a path leads to.

    Attributes:
        facts: of the object, or None if its directory holds no such name.
        parent: of the directory that holds the name.
        name: the last component, as in the parent.
        way: the directories that were walked through, outermost first, the parent included.
    """

    facts: Facts | None
    parent: Facts
    name: str
    way: tuple[Facts, ...]


def by_fd(fd: int) -> str:
    """A path that leads to the object behind a descriptor, whatever its name is by now."""
    return f"/proc/self/fd/{fd}"


def look(path: str) -> Found:
    """Walks to `path` and reads what is there.

    Args:
        path: absolute.

    Raises:
        Gone: a directory on the way is missing.
        Denied: a symlink on the way belongs to neither root nor the caller.
        HostError: the kernel refused.
    """
    with _Walk(path) as walk:
        facts = _facts(walk.fd, walk.real) if walk.fd >= 0 else None
        way = tuple(_facts(fd, name) for fd, name in walk.dirs)
        return Found(facts, way[-1], walk.name, way)


def open_object(path: str, key: str) -> int:
    """An O_PATH descriptor of the object that `look` saw as `key`; the caller closes it.

    Args:
        path: where it was.
        key: "" takes whatever is there.

    Raises:
        Gone: nothing is there, or something else is.
        HostError: the kernel refused.
    """
    with _Walk(path) as walk:
        if walk.fd < 0:
            raise Gone("it is not there any more", target=path)
        if key and not same(key, _key(walk.fd, os.fstat(walk.fd))):
            raise Replaced("another object has this name now", target=path)
        return os.dup(walk.fd)


def recover(path: str, key: str) -> int:
    """Like `open_object`, for putting an object back: finds it by its handle if it was renamed meanwhile.

    Raises:
        Gone: the object does not exist any more.
        HostError: it can't be told, as its file system is not mounted where it was.
    """
    try:
        return open_object(path, key)
    except (Gone, Denied):
        # Also where somebody put a symlink of his own on the way: he must not keep the object from being put back.
        if not key.startswith(("h:", "i:")):
            raise
    nearest = path
    while True:
        nearest = os.path.dirname(nearest)
        try:
            anchor = open_object(nearest, "")
            break
        except (Gone, Denied):
            continue
    try:
        name, _, system = key.partition("@")
        if system.startswith(_VOLATILE) or system == _system(anchor):
            return _by_handle(anchor, name, path)
    finally:
        os.close(anchor)
    raise HostError(
        "its file system is not there, so it can't be put back",
        target=path,
        remedy="mount it, then run `septum reconcile`",
    )


def _by_handle(anchor: int, name: str, path: str) -> int:
    gone = Gone("it does not exist any more", target=path)
    if not name.startswith("h:") or os.geteuid() != 0:
        raise gone
    try:
        mount = os.open(by_fd(anchor), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise refused("it can't be looked for", path, error) from error
    try:
        fd = kernel.open_by_handle(mount, bytes.fromhex(name[2:]), os.O_PATH)
    except HostError as error:
        if error.errno == errno.ESTALE:
            raise gone from error
        raise
    finally:
        os.close(mount)
    if os.fstat(fd).st_nlink == 0:
        os.close(fd)
        raise gone
    return fd


def _system(fd: int) -> str:
    """Names the file system, across reboots where it has an identity; marked where its content does not survive one."""
    mark = _VOLATILE if kernel.file_system_type(fd) in _VOLATILE_TYPES else ""
    return f"{mark}{os.fstatvfs(fd).f_fsid:x}"


def open_parent(path: str) -> tuple[int, str]:
    """An O_PATH descriptor of the directory that holds `path`, and the name in it; the caller closes it.

    Raises:
        Gone: there is no such directory.
    """
    folder, name = os.path.split(path)
    return open_object(folder, ""), name


def open_name(path: str) -> int:
    """An O_PATH descriptor of what has that name, itself a symlink or not; the caller closes it.

    For names that septum or a guest has made: by now somebody may have put a link there that leads to something else.

    Raises:
        Gone: there is no such name.
        HostError: the kernel refused.
    """
    directory, name = open_parent(path)
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError as error:
        raise Gone("it is not there any more", target=path, errno=errno.ENOENT) from error
    except OSError as error:
        raise refused("it can't be reached", path, error) from error
    finally:
        os.close(directory)


def facts_of(fd: int, path: str) -> Facts:
    """What the host says of the object behind a descriptor."""
    return _facts(fd, path)


def same(one: str, other: str) -> bool:
    """Whether two keys name one object. The file system's own id is left out: it may change at a reboot, while the
    path that led there already tells which file system it is."""
    return one.split("@", 1)[0] == other.split("@", 1)[0]


def read_xattr(fd: int, name: str) -> bytes:
    """An extended attribute, b"" where there is none or the file system has no such thing."""
    try:
        return os.getxattr(by_fd(fd), name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return b""
        raise


def _facts(fd: int, path: str) -> Facts:
    status = os.fstat(fd)
    try:
        acl = b"" if stat.S_ISLNK(status.st_mode) else read_xattr(fd, dac.XATTR)
        context = read_xattr(fd, CONTEXT)
    except OSError as error:
        raise refused("its attributes can't be read", path, error) from error
    return Facts(
        key=_key(fd, status),
        path=path,
        type=_type(status.st_mode),
        dev=status.st_dev,
        ino=status.st_ino,
        nlink=status.st_nlink,
        uid=status.st_uid,
        gid=status.st_gid,
        mode=stat.S_IMODE(status.st_mode),
        acl=acl.hex(),
        context=context.rstrip(b"\0").decode("utf-8", "surrogateescape"),
    )


def _type(mode: int) -> str:
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "dir",
        stat.S_IFBLK: "block",
        stat.S_IFCHR: "char",
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "fifo",
        stat.S_IFLNK: "symlink",
    }
    return kinds[stat.S_IFMT(mode)]


def _key(fd: int, status: os.stat_result) -> str:
    """A name for the object: two nodes of one device are one object; an inode number that is used again is another."""
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        letter = "b" if stat.S_ISBLK(status.st_mode) else "c"
        return f"{letter}:{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    handle = kernel.file_handle(fd)
    if handle is None:
        return f"i:{status.st_ino}@{_system(fd)}"
    return f"h:{handle.hex()}@{_system(fd)}"


class _Walk:
    """The descriptors of one walk; closed at the end of the `with`."""

    def __init__(self, path: str) -> None:
        if not path.startswith("/") or "\0" in path:
            raise HostError("a path must be absolute", target=path)
        self.path = path
        self.dirs: list[tuple[int, str]] = []
        self.fd = -1
        self.real = ""
        self.name = ""
        self._links = 0
        self._euid = os.geteuid()

    def __enter__(self) -> _Walk:
        try:
            self.dirs.append((os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), "/"))
            self._follow(self.path)
        except OSError as error:
            self._close()
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise Gone("a folder on the way to it does not exist", target=self.path, errno=error.errno) from error
            raise refused("it can't be reached", self.path, error) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for fd, _ in self.dirs:
            os.close(fd)
        self.dirs.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _follow(self, path: str) -> None:
        """Takes the walk on by `path`, which may be relative to where it stands."""
        if path.startswith("/"):
            for fd, _ in self.dirs[1:]:
                os.close(fd)
            del self.dirs[1:]
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts:
            self._last(".")
            return
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            if part == "..":
                if len(self.dirs) > 1:
                    os.close(self.dirs.pop()[0])
                if last:
                    self._last(".")
                continue
            if last:
                self._last(part, must_be_dir=path.endswith("/"))
            else:
                self._into(part)

    def _into(self, part: str) -> None:
        here, name = self.dirs[-1]
        fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                target = self._link(fd, part)
            else:
                target = ""
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                self.dirs.append((fd, os.path.join(name, part)))
                fd = -1
        finally:
            if fd >= 0:
                os.close(fd)
        if target:
            self._follow_dir(target)

    def _follow_dir(self, target: str) -> None:
        if target.startswith("/"):
            for fd, _ in self.dirs[1:]:
                os.close(fd)
            del self.dirs[1:]
        for part in target.split("/"):
            if part == ".." and len(self.dirs) > 1:
                os.close(self.dirs.pop()[0])
            elif part not in ("", ".", ".."):
                self._into(part)

    def _last(self, part: str, must_be_dir: bool = False) -> None:
        here, name = self.dirs[-1]
        if part == ".":
            self.fd, self.real, self.name = os.dup(here), name, "."
            return
        self.name, self.real = part, os.path.join(name, part)
        try:
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            try:
                target = self._link(fd, part)
            finally:
                os.close(fd)
            self._follow(target)
            return
        self.fd = fd
        if must_be_dir and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _link(self, fd: int, part: str) -> str:
        self._links += 1
        if self._links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        owner = os.fstat(fd).st_uid
        if owner not in (0, self._euid):
            raise Denied(
                "a symlink on the way belongs to somebody else",
                target=os.path.join(self.dirs[-1][1], part),
                holder=f"uid {owner}",
                rule="only links of root or of the caller are followed",
                remedy="name the path that the link leads to",
            )
        return os.readlink("", dir_fd=fd)


def lock(fd: int, path: str) -> int:
    """An exclusive lock on an object, held until the returned descriptor is closed.

    For changes that read, compute and write: two of septum's own processes must not do that at once. What is neither
    file nor directory is locked by its directory, as a socket can't be opened, and opening a device has effects.

    Raises:
        HostError: somebody keeps a lock on it. Whoever may read a file may lock it, so nothing waits for that for ever.
    """
    if stat.S_IFMT(os.fstat(fd).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
        held = os.open(by_fd(fd), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    else:
        parent, _ = open_parent(path)
        try:
            held = os.open(by_fd(parent), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        finally:
            os.close(parent)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(held)
                raise HostError(
                    "somebody else keeps a lock on it",
                    errno=errno.EWOULDBLOCK,
                    target=path,
                    remedy="find it with lslocks, end it, and try again",
                ) from error
        except OSError:
            os.close(held)
            raise
        time.sleep(0.002)
