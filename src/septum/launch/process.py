"""The process itself: what it was given at its start, whether one is still alive, and becoming another program.

Python changes what a program started by it would inherit: it ignores SIGPIPE and SIGXFSZ, and under the C locale it
sets LC_CTYPE (PEP 538). Neither may reach QEMU. The environment is therefore taken from /proc/self/environ, which
the kernel keeps as it was at exec, to the byte, also where an entry has no ``=``.
"""

from __future__ import annotations

import errno
import os

from septum.errors import CannotExecute, HostError, NotFound
from septum.host import kernel, streams
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final, NoReturn

_IGNORED_BY_PYTHON: Final = (kernel.SIGPIPE, kernel.SIGXFSZ)


def boot_id() -> str:
    """The running kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """When the process was started, in clock ticks since boot; 0 if there is none (proc(5), field 22 of stat).

    Together with boot id and pid it names a process for ever, which a pid alone does not.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the program's name in parentheses and may itself hold parentheses and blanks.
    fields = text[text.rindex(b")") + 2 :].split()
    state, threads, started = fields[0], int(fields[17]), int(fields[19])
    # A first thread that has ended shows as a zombie while others of the process go on.
    return 0 if state in (b"Z", b"X") and threads <= 1 else started


def alive(boot: str, pid: int, started: int) -> bool:
    """Whether that very process runs now."""
    return bool(pid and started) and boot == boot_id() and start_time(pid) == started


def pids() -> list[int]:
    """All processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def of_uid(uid: int) -> list[int]:
    """The processes that run under a uid (any of the four); zombies don't count.

    Read from `status`, as the owner of /proc/PID is root's for a process that made itself undumpable.
    """
    mark = str(uid).encode()
    found = []
    for pid in pids():
        text = _read(pid, "status")
        at = text.find(b"\nUid:")
        if at >= 0 and mark in text[at + 5 : text.index(b"\n", at + 1)].split() and start_time(pid):
            found.append(pid)
    return found


def of_argv(argv: tuple[str, ...], since: int) -> list[int]:
    """The caller's own processes that show this command line and were started at `since` (clock ticks) or later."""
    line = b"\0".join(os.fsencode(arg) for arg in argv)
    return [
        pid
        for pid in pids()
        if _read(pid, "cmdline").rstrip(b"\0") == line and start_time(pid) >= since and _owner(pid) == os.geteuid()
    ]


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def find_program(name: str, path: str, skip: str = "") -> str:
    """The file that a shell would run for `name`.

    Args:
        name: with a slash it is taken as a path; else it is looked for.
        path: PATH.
        skip: real path of a file that is passed over: septum's own, installed under QEMU's name.

    Raises:
        NotFound: there is none.
        CannotExecute: there is one that may not be executed.
    """
    candidates = [name] if "/" in name else [os.path.join(part or ".", name) for part in path.split(":")]
    refused = ""
    for candidate in candidates:
        if not os.path.isfile(candidate) or (skip and os.path.realpath(candidate) == skip):
            continue
        if os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
        refused = refused or candidate
    if refused:
        raise CannotExecute("it may not be executed", target=refused, remedy="check its mode")
    raise NotFound(
        f"there is no program {name}", remedy="install QEMU (Debian: qemu-system-x86) or give its path after --"
    )


def given_environment() -> list[bytes]:
    """The environment as this process was given it."""
    with open("/proc/self/environ", "rb") as file:
        # Each entry ends with NUL, an empty one too.
        return file.read().split(b"\0")[:-1]


def become(program: str, argv: tuple[str, ...], environment: list[bytes]) -> NoReturn:
    """Replaces this process; returns only by raising.

    Args:
        program: path.
        argv: argv[0] included.
        environment: from `given_environment`, asked for while /proc could still be read.

    Raises:
        NotFound, CannotExecute: the kernel did not execute it.
    """
    for number in _IGNORED_BY_PYTHON:
        kernel.default_action(number)
    for fd in streams.CLOSED:
        # SQLite puts /dev/null, inheritable, where it would have got one of these for its files.
        if streams.is_open(fd):
            os.set_inheritable(fd, False)
    try:
        kernel.execve(os.fsencode(program), [os.fsencode(arg) for arg in argv], environment)
    except HostError as error:
        if error.errno == errno.ENOENT:
            raise NotFound("the program, or its loader, is not there", target=program) from error
        raise CannotExecute("the kernel refused to execute it", target=program, rule=error.what) from error
