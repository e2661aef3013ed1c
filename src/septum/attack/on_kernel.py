"""Attempts on the kernel's own interfaces. Each call gets an argument that would fail anyhow, later than permission."""

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from septum.attack.calls import apart, call
from septum.attack.judge import Predictor
from septum.attack.model import DENIED, Attempt, Expectation
from septum.attack.stage import Stage
from septum.host import kernel

HOST_NAMESPACE: Final = 100  # descriptor of the host's network namespace, which the attacker is given

_TIOCSTI: Final = 0x5412
_AT_FDCWD: Final = -100
_OPEN_TREE_CLONE: Final = 1
_SIGCHLD: Final = 17
# struct perf_event_attr, its first 64 bytes: type PERF_TYPE_SOFTWARE, size, config PERF_COUNT_SW_DUMMY
_SW_DUMMY: Final = struct.pack("@IIQ48x", 1, 64, 9)
_ARGUMENTS_LOOKED_AT: Final = frozenset({errno.EINVAL, errno.EFAULT, errno.E2BIG, errno.ENOENT, errno.EBADF})
# (call, its arguments, errors that come after permission): all of them harmless if they are let through.
_FILTERED: Final[tuple[tuple[str, tuple[int | bytes | None, ...], frozenset[int]], ...]] = (
    ("mount", (b"none\0", b"/\0", b"septum-none\0", 0, None), frozenset({errno.ENODEV})),
    ("umount2", (b"/proc/self\0", 0), frozenset({errno.EINVAL})),
    ("pivot_root", (b"/\0", b"/\0"), frozenset({errno.EBUSY, errno.EINVAL})),
    ("fsopen", (b"septum-none\0", 0), frozenset({errno.ENODEV})),
    ("fspick", (_AT_FDCWD, b"/\0", 0xFFFF), frozenset({errno.EINVAL})),
    ("open_tree", (_AT_FDCWD, b"/\0", _OPEN_TREE_CLONE), frozenset()),
    ("bpf", (0, bytes(8), 8), _ARGUMENTS_LOOKED_AT),
    ("perf_event_open", (_SW_DUMMY, 0, -1, -1, 0), frozenset()),
    ("keyctl", (0, -3, 0), frozenset({errno.ENOKEY})),
    ("add_key", (b"septum-none\0", b"x\0", b"x", 1, -3), frozenset({errno.ENODEV, errno.ENOKEY})),
    ("request_key", (b"user\0", b"septum-none\0", None, 0), frozenset({errno.ENOKEY})),
    ("io_uring_setup", (0, bytes(120)), _ARGUMENTS_LOOKED_AT),
    ("userfaultfd", (0xFFFF,), frozenset({errno.EINVAL})),
)
_ALSO_PRIVILEGED: Final = frozenset("mount umount2 pivot_root fsopen fspick open_tree bpf".split())
# (call, its arguments, errors after permission): the kernel asks for a capability first.
_PRIVILEGED: Final[tuple[tuple[str, tuple[int | bytes | None, ...], frozenset[int]], ...]] = (
    ("init_module", (None, 0, b"\0"), frozenset({errno.ENOEXEC, errno.EFAULT})),
    ("kexec_load", (0, 0, None, 0x80), frozenset({errno.EINVAL})),
    ("reboot", (0x5E, 0x70, 0), frozenset({errno.EINVAL})),
    ("swapon", (b"/proc/self/none\0", 0), frozenset({errno.ENOENT})),
    ("sethostname", (b"\0", -1), frozenset({errno.EINVAL})),
    ("iopl", (3,), frozenset()),
)


def calls(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """System calls that reach beyond the process."""
    for name, arguments, passed in _FILTERED:
        expectation = judge.call(name, "no capability" if name in _ALSO_PRIVILEGED else "")
        if "landlock" in judge.names and name not in judge.filtered and name in ("userfaultfd", "io_uring_setup"):
            expectation = Expectation("open", "refused only to guests that open no connections and do not ask for it")
        yield _attempt(name, "", expectation, _calling(name, arguments), passed=passed)
    for name, arguments, passed in _PRIVILEGED:
        yield _attempt(name, "", judge.call(name, "no capability"), _calling(name, arguments), passed=passed)
    yield from _namespaces(judge)
    yield _attempt(
        "ioctl TIOCSTI",
        "a terminal",
        judge.call("ioctl"),
        lambda: fcntl.ioctl(0, _TIOCSTI, b"x"),
        passed=frozenset({errno.ENOTTY, errno.EIO}),
    )
    yield from _credentials(stage, judge)


def _namespaces(judge: Predictor) -> Iterator[Attempt]:
    new = (("user", kernel.CLONE_NEWUSER), ("mount", kernel.CLONE_NEWNS), ("network", kernel.CLONE_NEWNET))
    for name, flag in new:
        yield _attempt(
            "unshare",
            f"a {name} namespace",
            judge.call("unshare", "" if name == "user" else "no capability"),
            _apart(kernel.unshare, flag),
        )
    flags = kernel.CLONE_NEWUSER | _SIGCHLD
    yield _attempt("clone", "a user namespace", judge.call("clone"), lambda: _clone(flags))
    yield _attempt(
        "clone3",
        "a user namespace",
        judge.call("clone3"),
        lambda: call("clone3", bytes(8), 8),
        DENIED | {errno.ENOSYS},
        frozenset({errno.EINVAL}),
    )
    # EINVAL: SELinux takes descriptors away at exec and leaves /dev/null in their place.
    act = _apart(kernel.setns, HOST_NAMESPACE)
    yield _attempt(
        "setns",
        "the host's network, by a descriptor at hand",
        judge.call("setns", "no capability"),
        act,
        DENIED | {errno.EINVAL},
    )


def _credentials(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    why = judge.rule("no capability")
    yield _attempt("chroot", "/", why, _apart(os.chroot, "/"))
    if stage.guest.uid < 0:
        return
    yield _attempt("setuid", "0", why, _apart(os.setuid, 0))
    yield _attempt("setgid", "0", why, _apart(os.setgid, 0))
    yield _attempt("setgroups", "0", why, _apart(os.setgroups, [0]))
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    yield _attempt("capset", "all capabilities", why, _apart(_calling("capset", (header, b"\xff" * 24))))


def _attempt(
    name: str,
    target: str,
    expectation: Expectation,
    act: Callable[[], object],
    refusals: frozenset[int] = DENIED,
    passed: frozenset[int] = frozenset(),
) -> Attempt:
    return Attempt("kernel", name, target, expectation, act, refusals, passed)


def _calling(name: str, arguments: tuple[int | bytes | None, ...]) -> Callable[[], int]:
    return lambda: call(name, *arguments)


def _apart(act: Callable[..., object], *arguments: object) -> Callable[[], None]:
    return lambda: apart(lambda: act(*arguments))


def _clone(flags: int) -> None:
    child = call("clone", flags, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
