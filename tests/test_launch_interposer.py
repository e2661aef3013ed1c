"""The program must not notice that septum came first: what the kernel gives it is what the caller gave.

The stand-in for QEMU writes down all it was given; it is started once directly and once through septum.
"""

import fcntl
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from septum.host import kernel
from tests.launchkit import QEMU, World, sections, wait, world

pytestmark = pytest.mark.root

SCRIPT = Path(sys.executable).parent / "septum-qemu"
ENVIRONMENT = (b"PATH=/usr/bin:/bin", b"LC_ALL=C", b"A=1", b"A=2", b"NOTHING", b"", b"=x", b"B=\xff\n=\x01")


@pytest.fixture
def place() -> Iterator[World]:
    yield from world()


class Ended(NamedTuple):
    """A program that ran to its end: its pid, exit status (negative: the signal) and output."""

    pid: int
    status: int
    output: bytes


def spawn(
    argv: Sequence[bytes],
    environment: Sequence[bytes] = ENVIRONMENT,
    setup: Callable[[], object] = lambda: None,
    *,
    given: bytes = b"",
    output: int = 1,
) -> Ended:
    """Executes a program from a child in as plain a state as can be, but for `setup`; reads descriptor `output`."""
    out, into = os.pipe()
    source, feed = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in range(1, 65):
                if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 500) for fd in (source, into)]
            null = os.open(os.devnull, os.O_RDWR)
            for fd, place in ((high[0], 0), (null, 1), (null, 2), (high[1], output)):
                os.dup2(fd, place)
            kernel.close_range(3 if output < 3 else output + 1, 0xFFFFFFFF)
            setup()
            kernel.execve(argv[0], list(argv), list(environment))
        finally:
            os._exit(98)
    os.close(into)
    os.close(source)
    os.write(feed, given)
    os.close(feed)
    with os.fdopen(out, "rb") as stream:
        said = stream.read()
    return Ended(child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)


def septum(place: World, *words: bytes) -> list[bytes]:
    state = os.fsencode(place.state)
    return [os.fsencode(sys.executable), b"-m", b"septum", b"run", b"--state", state, b"--", *words]


def both(
    place: World, setup: Callable[[], object] = lambda: None, words: Sequence[bytes] = (b"-name", b"a")
) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """What the stand-in gets directly, and what it gets through septum."""
    program = os.fsencode(place.program)
    os.chdir("/")
    direct = spawn([program, *words], setup=setup)
    through = spawn(septum(place, program, *words), setup=setup)
    assert (direct.status, through.status) == (0, 0), through
    seen = sections(through.output)
    assert seen["pid"] == str(through.pid).encode(), "another process than the one that the caller started"
    assert int(seen["uid"]) > 1 << 30, "it was not confined"
    return sections(direct.output), seen


@pytest.mark.parametrize(
    "words",
    [
        [b"-name", b"a", b"-append", b"", b"-boot", b"menu=on"],
        [b"-name", b"a", b"-append", b"\xff\xfe\x80 \xc3("],
        [b"-name", b"a", b"-append", "ü\u2028\N{PILE OF POO}".encode(), b"-append", b"\x1b[31m\n\t"],
    ],
    ids=["empty", "not UTF-8", "odd characters"],
)
def test_arguments_arrive_byte_for_byte(place: World, words: list[bytes]) -> None:
    direct, through = both(place, words=words)
    assert through["argv"] == direct["argv"] == b"\0".join([os.fsencode(place.program), *words]) + b"\0"


def test_the_environment_arrives_byte_for_byte(place: World) -> None:
    direct, through = both(place)
    assert through["environment"] == direct["environment"] == b"\0".join(ENVIRONMENT) + b"\0"


def test_an_empty_environment_stays_empty(place: World) -> None:
    program = os.fsencode(place.program)
    assert sections(spawn(septum(place, program, b"-name", b"a"), []).output)["environment"] == b""


@pytest.mark.parametrize("locale", [b"C", b"POSIX", b"C.UTF-8", b"tlh_KX.ISO-8859-1"])
def test_python_coerces_no_locale_for_the_program(place: World, locale: bytes) -> None:
    environment = [b"LC_ALL=" + locale] if locale == b"C" else [b"LANG=" + locale]
    through = spawn(septum(place, os.fsencode(place.program), b"-append", b"\xe4"), environment)
    seen = sections(through.output)
    assert seen["environment"] == environment[0] + b"\0"
    assert seen["argv"].endswith(b"\0\xe4\0")


def _surroundings() -> None:
    os.chdir("/usr/share")
    os.umask(0o137)
    os.nice(7)
    resource.setrlimit(resource.RLIMIT_NOFILE, (77, 99))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 12345))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 26))


def _signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH))


def _descriptors() -> None:
    for number, path, flags in ((3, "/dev/null", os.O_RDWR), (9, "/", os.O_RDONLY), (42, "/dev/zero", os.O_RDONLY)):
        fd = os.open(path, flags)
        os.dup2(fd, number)
        if fd != number:
            os.close(fd)
    os.set_blocking(42, False)
    os.dup2(9, 50)
    os.set_inheritable(50, False)


def _session() -> None:
    os.setsid()
    kernel.set_parent_death_signal(signal.SIGUSR1)


def _no_input() -> None:
    os.close(0)


def _no_output_for_errors() -> None:
    os.close(2)


@pytest.mark.parametrize(
    "setup", [_surroundings, _signals, _descriptors, _session, _no_input, _no_output_for_errors],
    ids=lambda setup: setup.__name__[1:],
)  # fmt: skip
def test_what_a_process_inherits_arrives(place: World, setup: Callable[[], object]) -> None:
    direct, through = both(place, setup)
    for name in ("cwd", "umask", "nice", "limits", "blocked", "ignored", "pdeathsig", "ppid", "tty"):
        assert (name, through[name]) == (name, direct[name])
    assert (through["sid"] == through["pid"]) is (direct["sid"] == direct["pid"])
    assert (through["pgid"] == through["pid"]) is (direct["pgid"] == direct["pid"])
    assert _files(through) == _files(direct)


def test_its_terminal_stays_its_own(place: World) -> None:
    master, slave = pty.openpty()
    name = os.ttyname(slave)

    def setup() -> None:
        os.setsid()
        terminal = os.open(name, os.O_RDWR)
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        os.dup2(terminal, 0)
        os.close(terminal)

    for dump in both(place, setup):
        assert dump["tty"] == dump["pid"] == dump["sid"]
    os.close(master)
    os.close(slave)


def _files(dump: Mapping[str, bytes]) -> list[bytes]:
    """Descriptors with what they lead to; the pipes of two runs differ."""
    rows = [row.split(b" ") for row in dump["descriptors"].splitlines()]
    return [b" ".join(row if row[3] != b"1" else [row[0], *row[3:]]) for row in rows]


ENDS = [("exit:0", 0), ("exit:1", 1), ("exit:255", 255), ("kill:9", -9), ("kill:11", -11)]
QUESTIONS = [["-version"], ["--version"], ["-device", "help"], ["-machine", "help"], ["-cpu", "?"]]


@pytest.mark.parametrize(("then", "status"), ENDS)
def test_the_end_is_the_programs_own(place: World, then: str, status: int) -> None:
    environment = [b"FAKE_THEN=" + then.encode()]
    assert spawn(septum(place, os.fsencode(place.program), b"-name", b"a"), environment).status == status


def test_standard_input_is_read_by_nobody_else(place: World) -> None:
    ended = spawn(septum(place, os.fsencode(place.program), b"-name", b"a"), [b"FAKE_THEN=echo"], given=b"line\n\0x")
    assert ended.output.endswith(b"line\n\0x")


def test_the_parents_death_is_not_missed(place: World) -> None:
    """The kernel forgets the signal when the uid changes; QEMU under libvirt or a shell counts on it."""
    out, into = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            kernel.set_parent_death_signal(signal.SIGKILL)
            os.dup2(into, 1)
            kernel.close_range(3, 0xFFFFFFFF)
            program = os.fsencode(place.program)
            kernel.execve(os.fsencode(sys.executable), septum(place, program, b"-name", b"a"), [b"FAKE_THEN=sleep"])
        signal.pause()
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        head = stream.readline()
        assert head.startswith(b"argv ")
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        stream.read()  # ends when the last writer is gone
    place.wait_empty()


def symlinked(place: World) -> dict[bytes, bytes]:
    early = place.folder / "early"
    early.mkdir()
    (early / "qemu-system-x86_64").symlink_to(SCRIPT)
    path = f"{early}:{place.program.parent}:/usr/bin:/bin"
    return {b"PATH": path.encode(), b"SEPTUM_STATE": os.fsencode(place.state), b"SEPTUM_REALM": b"blue"}


def pairs(environment: Mapping[bytes, bytes]) -> list[bytes]:
    return [name + b"=" + value for name, value in environment.items()]


def test_under_qemus_name_it_finds_the_one_further_on(place: World) -> None:
    environment = symlinked(place)
    early = os.fsencode(place.folder / "early" / "qemu-system-x86_64")
    ended = spawn([early, b"-name", b"a,debug-threads=on", b"-append", b"--", b"-S"], pairs(environment))
    seen = sections(ended.output)
    assert ended.status == 0
    assert seen["argv"] == b"qemu-system-x86_64\0-name\0a,debug-threads=on\0-append\0--\0-S\0"
    assert seen["environment"].split(b"\0")[:-1] == pairs(environment)
    assert seen["pid"] == str(ended.pid).encode()
    started = [record.fields for record in place.audit() if record.event == "guest.admit"]
    assert [(fields["realm"], fields["name"]) for fields in started] == [("blue", "a")]


def test_as_septum_qemu_it_takes_the_one_that_it_is_told(place: World) -> None:
    environment = {
        b"SEPTUM_STATE": os.fsencode(place.state),
        b"SEPTUM_QEMU": os.fsencode(place.program),
        b"SEPTUM_NAME": b"n",
    }
    ended = spawn([os.fsencode(SCRIPT), b"-S"], pairs(environment))
    assert sections(ended.output)["argv"] == os.fsencode(place.program) + b"\0-S\0"
    assert "n" in {record.fields.get("name") for record in place.audit()}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([b"-drive", b"file=/nonexistent/a.img,format=raw"], 125),
        ([b"-drive", b"file=/etc/shadow,format=raw"], 125),
    ],
)
def test_a_refusal_of_the_interposer_looks_like_no_status_of_qemu(
    place: World, words: list[bytes], status: int
) -> None:
    ended = spawn([os.fsencode(SCRIPT), *words], pairs(symlinked(place)), output=2)
    assert (ended.status, ended.output[:8]) == (status, b"septum: ")


def test_without_another_qemu_in_path_it_says_so(place: World) -> None:
    environment = symlinked(place)
    early = os.fsencode(place.folder / "early")
    environment[b"PATH"] = early + b":/bin"
    (place.folder / "early" / "qemu-system-none").symlink_to(SCRIPT)
    ended = spawn([early + b"/qemu-system-none"], pairs(environment), output=2)
    assert ended.status == 127
    assert b"no program qemu-system-none" in ended.output


def test_a_defect_of_the_interposer_does_not_look_like_qemus_status(place: World) -> None:
    environment = symlinked(place)
    environment[b"SEPTUM_STATE"] = b"/dev/null/x"
    ended = spawn([os.fsencode(SCRIPT), b"-S"], pairs(environment))
    assert ended.status == 125


@pytest.mark.qemu
@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_questions_to_qemu_pass_through_and_leave_no_trace(place: World, words: list[str]) -> None:
    os.rmdir(place.state)
    direct = subprocess.run([QEMU, *words], capture_output=True, check=False)
    through = subprocess.run(
        [SCRIPT, *words], env={**place.environment, "SEPTUM_QEMU": QEMU}, capture_output=True, check=False
    )
    assert (through.returncode, through.stdout, through.stderr) == (direct.returncode, direct.stdout, direct.stderr)
    assert direct.stdout
    assert not place.state.exists()


@pytest.mark.qemu
def test_a_real_qemu_starts_under_its_own_name_and_everything_is_put_back(place: World) -> None:
    environment = symlinked(place)
    image = place.qcow2("disk.qcow2")
    early = place.folder / "early" / "qemu-system-x86_64"
    process = subprocess.Popen(
        [early, "-name", "vm", "-machine", "none", "-display", "none", "-monitor", "stdio",
         "-drive", f"file={image},format=qcow2,if=none"],
        env={**os.environ, "SEPTUM_STATE": os.fsdecode(place.state), "PATH": f"{early.parent}:/usr/bin:/bin"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    place.started.append(process)
    assert environment
    assert place.wait_running("vm") == process.pid
    assert image.stat().st_uid > 1 << 30
    output, _ = process.communicate(b"quit\n", timeout=20)
    assert process.returncode == 0
    assert b"QEMU 7" in output or b"QEMU" in output
    wait(lambda: image.stat().st_uid == 0)
    place.wait_empty()
