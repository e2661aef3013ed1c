"""Attempts on what has a path: images, devices, secrets, the ledger; and the files that a guest can't do without."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from socket import AF_UNIX, socket
from typing import Final

from septum.attack.judge import Predictor
from septum.attack.model import DENIED, Attempt, Expectation
from septum.attack.stage import Object, Stage, Victim, is_object, place_of
from septum.host import kernel

_QUIET: Final = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# What a driver answers once the node itself could be opened.
_DRIVERS_SAY: Final = frozenset(
    {errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.EIO, errno.EINVAL, errno.ENOMEDIUM, errno.EAGAIN, errno.ENOTTY}
)
_IN_USE: Final = frozenset({errno.ETXTBSY, errno.EBUSY})
# EXDEV: Landlock's answer for linking and renaming between directories of different rights.
_NAMES_REFUSED: Final = DENIED | {errno.EXDEV}


def opened(path: str, flags: int) -> Callable[[], None]:
    """Opens and closes; never creates or truncates."""

    def act() -> None:
        os.close(os.open(path, flags | _QUIET))

    return act


def controls(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """What the guest needs. Were it refused, then nothing could be learned from other refusals."""
    title = "its own"
    for item in stage.guest.items:
        path = place_of(item)
        if not path or item.resource.kind in ("socket", "peer-socket", "directory", "memory", "tmpdir", "helper"):
            continue
        if not is_object(item) and item.resource.kind != "shared-device":
            continue
        flags = os.O_RDWR if item.resource.access == "rw" else os.O_RDONLY
        if item.resource.kind in ("log", "pidfile"):
            flags = os.O_WRONLY | os.O_APPEND
        if item.facts is None and item.resource.kind == "shared-device":
            continue
        expectation = judge.must(f"{item.resource.option} names it")
        yield Attempt(title, "open as its command line says", path, expectation, opened(path, flags))
    for path in stage.places["firmware"][:1]:
        yield Attempt(title, "read firmware", path, judge.must("QEMU's data"), opened(path, os.O_RDONLY))
    yield Attempt(title, "write", "/dev/null", judge.must("standard streams"), opened("/dev/null", os.O_RDWR))
    yield Attempt(title, "read", "/dev/urandom", judge.must("random numbers"), opened("/dev/urandom", os.O_RDONLY))
    for folder in _socket_folders(stage):
        why = Expectation("open", "a socket of the command line is made there")
        path = f"{folder}/.{stage.probes.token}-socket"
        yield Attempt(title, "make a socket", folder, why, partial(_bind, path))


def of_other_guests(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """Other guests' images and files, by every way that leads to a file."""
    for victim in stage.victims:
        for number, thing in enumerate(victim.objects):
            yield from _on_object(stage, judge, victim, number, thing)


def _on_object(stage: Stage, judge: Predictor, victim: Victim, number: int, thing: Object) -> Iterator[Attempt]:
    title, path = f"objects of {victim.name}", thing.path
    read, write = judge.file(path, "ro"), judge.file(path, "rw")
    owner = judge.owner(thing.uid)
    folder = judge.file(os.path.dirname(path), "rw")
    acl = bytes.fromhex(thing.acl)
    mine = os.path.dirname(stage.name(""))

    def attempt(
        name: str,
        expectation: Expectation,
        act: Callable[[], object],
        refusals: frozenset[int] = DENIED,
        passed: frozenset[int] = frozenset(),
    ) -> Attempt:
        return Attempt(title, name, path, expectation, act, refusals, passed)

    yield attempt("read", read, opened(path, os.O_RDONLY))
    yield attempt("write", write, opened(path, os.O_RDWR), passed=_IN_USE)
    yield attempt("write through /proc/self/root", write, opened(f"/proc/self/root{path}", os.O_WRONLY))
    yield attempt("write through its QEMU's root", write, opened(f"/proc/{victim.process.pid}/root{path}", os.O_WRONLY))
    linked, pointing = (stage.name(f"{what}-{victim.process.pid}-{number}") for what in ("link", "symlink"))
    yield attempt(
        f"read by a hard link in {mine}", read, lambda: _by(os.link, path, linked, os.O_RDONLY), _NAMES_REFUSED
    )
    yield attempt(f"read by a symlink in {mine}", read, lambda: _by(os.symlink, path, pointing, os.O_RDONLY))
    if judge.names != {"selinux"}:
        # rmdir(2) checks whether the name may go away, and only then that this is no directory (fs/namei.c may_delete).
        # SELinux' check comes later still; `outside.asked` asks for it.
        passed = frozenset({errno.ENOTDIR, errno.EBUSY})
        yield attempt("take its name away", folder, lambda: os.rmdir(path), _NAMES_REFUSED, passed)
    beside = os.path.join(os.path.dirname(path), f".{stage.probes.token}-{number}")
    yield attempt("put a file beside it", folder, lambda: _made(beside))
    yield attempt("chmod to the mode it has", owner, lambda: os.chmod(path, thing.mode))
    yield attempt("chown to the owner it has", owner, lambda: os.chown(path, thing.uid, thing.gid))
    yield attempt("set the ACL it has", owner, lambda: os.setxattr(path, "system.posix_acl_access", acl))
    yield attempt(
        "remove an attribute that it lacks",
        judge.modes(path, "w"),
        lambda: os.removexattr(path, f"user.{stage.probes.token}"),
        passed=frozenset({errno.ENODATA}),
    )
    if thing.handle:
        why = judge.call("open_by_handle_at", "no CAP_DAC_READ_SEARCH")
        yield attempt("open by its handle", why, lambda: _by_handle(thing.handle), passed=frozenset({errno.ESTALE}))


def devices(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """Nodes that lead to the host's memory, disks and drivers."""
    own = {place_of(item) for item in stage.guest.items}
    for path in stage.places["device"]:
        if path in own:
            continue
        expectation = judge.file(path, "ro", of_host=True)
        yield Attempt("devices", "open", path, expectation, opened(path, os.O_RDONLY), passed=_DRIVERS_SAY)
    number = os.makedev(1, 1)
    for what, kind in (("character", stat.S_IFCHR), ("block", stat.S_IFBLK)):
        path = stage.name(what)
        expectation = judge.rule("no CAP_MKNOD")
        yield Attempt(
            "devices",
            f"make a {what} device",
            stage.own_folder,
            expectation,
            partial(os.mknod, path, kind | 0o600, number),
        )


def of_the_host(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """The host's secrets, settings and programs."""
    for path in (*stage.places["secret"], *stage.places["readable"], stage.probes.file, stage.probes.shm):
        if path:
            yield Attempt("the host", "read", path, judge.file(path, "ro", of_host=True), opened(path, os.O_RDONLY))
    for path in (*stage.places["writable"], *stage.places["program"], stage.probes.file, stage.probes.shm):
        if path:
            expectation = judge.file(path, "rw", of_host=True)
            yield Attempt("the host", "write", path, expectation, opened(path, os.O_WRONLY), passed=_IN_USE)
    for folder in stage.places["folder"]:
        expectation = judge.file(folder, "rw", of_host=True)
        yield Attempt(
            "the host",
            "make a file in",
            folder,
            expectation,
            partial(_unnamed, folder),
            DENIED | {errno.EROFS},
        )


def of_septum(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """The ledger and the locks: who writes them decides who has which label."""
    yield Attempt(
        "septum", "list", stage.folder, judge.file(stage.folder, "ro", of_host=True), lambda: os.listdir(stage.folder)
    )
    for path in stage.places["ledger"]:
        if path.endswith(".sock"):
            continue
        for name, access, flags in (("read", "ro", os.O_RDONLY), ("write", "rw", os.O_RDWR)):
            yield Attempt("septum", name, path, judge.file(path, access), opened(path, flags))
    for victim in stage.victims:
        for name in ("cgroup.procs", "cgroup.kill"):
            path = f"{victim.cgroup}/{name}"
            if victim.cgroup:
                yield Attempt("septum", "write", path, judge.file(path, "rw"), opened(path, os.O_WRONLY))
    if stage.cgroup:
        path = f"{os.path.dirname(stage.cgroup)}/cgroup.procs"
        yield Attempt("septum", "leave its cgroup", path, judge.file(path, "rw"), opened(path, os.O_WRONLY))


def _socket_folders(stage: Stage) -> list[str]:
    found = [item.parent.path for item in stage.guest.items if item.resource.kind == "socket" and item.parent]
    return list(dict.fromkeys(found))


def _bind(path: str) -> None:
    with closing(socket(AF_UNIX)) as made:
        made.bind(path)


def _by(make: Callable[[str, str], None], path: str, name: str, flags: int) -> None:
    make(path, name)
    os.close(os.open(name, flags | _QUIET))


def _unnamed(folder: str) -> None:
    """A file without a name: it takes the same rights on the directory, and nothing is left (open(2), O_TMPFILE)."""
    os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _made(path: str) -> None:
    """A new and empty file; `probes.sweep` removes it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _by_handle(handle: str) -> None:
    """In the file system of the working directory; for another one's, ESTALE comes after permission."""
    os.close(kernel.open_by_handle(kernel.AT_FDCWD, bytes.fromhex(handle), os.O_RDONLY))
