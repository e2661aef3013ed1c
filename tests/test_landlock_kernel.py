"""The kernel against the prediction: every access, to every object, as `ruleset.allowed` says."""

import errno
import os
import socket
import stat
import termios
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from septum.errors import SeptumError
from septum.host import kernel, landlock
from septum.host import ruleset as rs
from septum.host.driver import Confinement, Item
from septum.host.landlock import LandlockDriver
from tests.confined import errno_of, found, guest, inside

pytestmark = pytest.mark.root


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def _ioctl(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ioctl(fd, termios.TCGETS, bytes(64))
    except OSError as error:
        if error.errno == errno.EACCES:
            raise
    finally:
        os.close(fd)


def _execute(path: str) -> None:
    child = os.fork()
    if child == 0:
        os._exit(errno_of(lambda: os.execv(path, [path])))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code))


def _bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


# access → (rights on the object, or on its directory for what makes and removes names; how to try it)
ON_FILES: dict[str, tuple[int, Callable[[str], None]]] = {
    "read": (rs.READ_FILE, lambda path: _open(path, os.O_RDONLY)),
    "write": (rs.WRITE_FILE, lambda path: _open(path, os.O_WRONLY)),
    "both": (rs.READ_FILE | rs.WRITE_FILE, lambda path: _open(path, os.O_RDWR)),
}
ON_REGULAR: dict[str, tuple[int, Callable[[str], None]]] = {
    "truncate": (rs.TRUNCATE, lambda path: os.truncate(path, 0)),
    "open-truncate": (rs.WRITE_FILE | rs.TRUNCATE, lambda path: _open(path, os.O_WRONLY | os.O_TRUNC)),
}
IN_FOLDERS: dict[str, tuple[int, Callable[[str], None]]] = {
    "list": (rs.READ_DIR, lambda path: os.scandir(path).close()),
    "file": (rs.MAKE_REG, lambda path: os.mknod(f"{path}/new-file", stat.S_IFREG | 0o600)),
    "fifo": (rs.MAKE_FIFO, lambda path: os.mkfifo(f"{path}/new-fifo")),
    "folder": (rs.MAKE_DIR, lambda path: os.mkdir(f"{path}/new-dir")),
    "symlink": (rs.MAKE_SYM, lambda path: os.symlink("nowhere", f"{path}/new-link")),
    "socket": (rs.MAKE_SOCK, lambda path: _bind(f"{path}/new-socket")),
    "device": (rs.MAKE_CHAR, lambda path: os.mknod(f"{path}/new-null", stat.S_IFCHR | 0o600, os.makedev(1, 3))),
    "unlink": (rs.REMOVE_FILE, lambda path: os.unlink(f"{path}/victim")),
    "rmdir": (rs.REMOVE_DIR, lambda path: os.rmdir(f"{path}/victims")),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders with a file, a program, something to remove, and a folder of the same below."""
    for name in ("shared-rw", "shared-ro", "memory", "sockets", "run", "images", "foreign"):
        for folder in (tmp_path / name, tmp_path / name / "below"):
            folder.mkdir()
            (folder / "file").write_text("content")
            (folder / "victim").write_text("")
            (folder / "victims").mkdir()
    for name in ("rw", "ro", "neither"):
        (tmp_path / "images" / name).write_text("image")
    (tmp_path / "images" / "other-name").hardlink_to(tmp_path / "images" / "ro")
    for name in ("helper", "program"):
        (tmp_path / name).write_bytes(Path("/bin/true").read_bytes())
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def subject(tree: Path) -> Confinement:
    return guest(
        [
            found(tree / "images" / "rw"),
            found(tree / "images" / "ro", access="ro"),
            found(tree / "shared-rw", "directory"),
            found(tree / "shared-ro", "directory", "ro"),
            found(tree / "memory", "memory"),
            found(tree / "sockets" / "qmp", "socket"),
            found(tree / "sockets" / "below" / "peer", "peer-socket"),
            found(tree / "helper", "helper", "ro"),
            found("/dev/tty", "device"),
        ],
        run_dir=str(tree / "run"),
    )


def cases(tree: Path) -> Iterator[tuple[str, str, int, Callable[[str], None]]]:
    folders = [tree / name for name in ("shared-rw", "shared-ro", "memory", "sockets", "run", "images", "foreign")]
    for folder in [*folders, *(folder / "below" for folder in folders)]:
        for access, (rights, act) in IN_FOLDERS.items():
            yield access, str(folder), rights, act
    files = [folder / "file" for folder in [*folders, *(folder / "below" for folder in folders)]]
    files += [tree / "images" / name for name in ("rw", "ro", "neither", "other-name")]
    for path in files:
        for access, (rights, act) in {**ON_FILES, **ON_REGULAR}.items():
            yield access, str(path), rights, act
    outside = ("/etc/passwd", "/etc/shadow", "/dev/null", "/dev/zero", "/dev/full", "/proc/self/maps", "/sys/kernel")
    for name in (*outside, "/usr/lib/os-release", "/usr/bin/env", "/usr/bin/qemu-system-x86_64"):
        if os.path.isdir(name):
            yield "list", name, rs.READ_DIR, IN_FOLDERS["list"][1]
        else:
            yield "read", name, rs.READ_FILE, ON_FILES["read"][1]
    for name in ("/dev/null", "/dev/zero", "/dev/random"):
        yield "write", name, rs.WRITE_FILE, ON_FILES["write"][1]
    for name in ("/dev/null", "/dev/zero", "/dev/urandom"):
        yield "ioctl", name, rs.READ_FILE | rs.IOCTL_DEV, _ioctl
    for path in (tree / "helper", tree / "program", Path("/bin/true"), Path("/bin/sh")):
        yield "execute", os.path.realpath(path), rs.EXECUTE | rs.READ_FILE, _execute


def test_the_kernel_does_what_the_ruleset_predicts(tree: Path, subject: Confinement) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(subject)
    plan = list(cases(tree))
    # What is to be made is tried last in every folder, so that no try stands in another's way.
    predicted = [
        rs.allowed(rules, path, rights, found(path).facts.key)  # type: ignore[union-attr]  # all of them exist
        for _, path, rights, _ in plan
    ]

    def act() -> list[int]:
        landlock.restrict(rules)
        return [errno_of(lambda act=act, path=path: act(path)) for _, path, _, act in plan]  # type: ignore[misc]

    answers = inside(act)
    wrong = [
        f"{access} {path}: predicted {'allowed' if yes else 'refused'}, errno {answer}"
        for (access, path, _, _), yes, answer in zip(plan, predicted, answers, strict=True)
        if answer != (0 if yes else errno.EACCES)
    ]
    assert not wrong, "\n".join(wrong)
    assert len(plan) > 200
    assert 40 < sum(predicted) < len(plan) - 40


def test_moving_between_trees_needs_refer_on_both(tree: Path, subject: Confinement) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(subject)
    moves = [("shared-rw", "run"), ("shared-rw", "foreign"), ("shared-ro", "shared-rw"), ("memory", "run")]

    def act() -> list[int]:
        landlock.restrict(rules)
        return [
            errno_of(lambda one=one, other=other: os.rename(tree / one / "file", tree / other / "moved"))  # type: ignore[misc]
            for one, other in moves
        ]

    assert [bool(number) for number in inside(act)] == [False, True, True, True]


def test_tcp_abstract_sockets_and_signals_stay_inside(tree: Path) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(guest())
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0septum-test-{os.getpid()}")
    abstract.listen()
    parent = os.getpid()

    def connect(family: int, address: object) -> None:
        with socket.socket(family) as client:
            client.connect(address)  # type: ignore[arg-type]  # either family's

    def act() -> list[int]:
        landlock.restrict(rules)
        return [
            errno_of(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
            errno_of(lambda: socket.create_server(("127.0.0.1", 0)).close()),
            errno_of(lambda: connect(socket.AF_UNIX, f"\0septum-test-{parent}")),
            errno_of(lambda: os.kill(parent, 0)),
            errno_of(lambda: os.kill(os.getpid(), 0)),
        ]

    try:
        assert inside(act) == [errno.EACCES, errno.EACCES, errno.EPERM, errno.EPERM, 0]
    finally:
        listening.close()
        abstract.close()


def test_a_unix_socket_with_a_path_is_not_covered(tree: Path) -> None:
    """Documented as a gap: should a kernel close it one day, the documentation has to change."""
    path = str(tree / "foreign" / "qmp")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def act() -> int:
        landlock.restrict(LandlockDriver(no_new_privs=True).rules(guest()))
        with socket.socket(socket.AF_UNIX) as client:
            return errno_of(lambda: client.connect(path))

    try:
        assert inside(act) == 0
    finally:
        server.close()


def refusal(rules: rs.Ruleset) -> str:
    """Type and text of what `restrict` says, in a process of its own should it say nothing."""

    def act() -> str:
        try:
            landlock.restrict(rules)
        except SeptumError as error:
            return f"{type(error).__name__} {error}"
        return "nothing"

    return str(inside(act))


def test_an_object_that_was_exchanged_is_refused(tree: Path) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(guest([found(tree / "images" / "rw")]))
    (tree / "images" / "neither").rename(tree / "images" / "rw")
    assert "another object" in refusal(rules)


def test_an_object_that_became_a_symlink_is_refused(tree: Path) -> None:
    item = found(tree / "images" / "made", "log")
    assert item.facts is None
    rules = LandlockDriver(no_new_privs=True).rules(guest([item]))
    (tree / "images" / "made").symlink_to("/etc")
    assert "symlink" in refusal(rules)


def test_a_file_that_should_have_been_made_is_missed(tree: Path) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(guest([found(tree / "images" / "made", "log")]))
    said = refusal(rules)
    assert "ENOENT" in said
    assert str(tree / "images" / "made") in said


def test_a_right_that_the_kernel_lacks_is_an_error(subject: Confinement) -> None:
    rules = LandlockDriver(no_new_privs=True).rules(subject)
    assert refusal(rules._replace(abi=kernel.landlock_abi() + 1)).startswith("Unenforceable")
    assert "EINVAL" in refusal(rules._replace(handled_fs=rules.handled_fs | 1 << 40))


def test_a_plan_for_an_older_kernel_holds_as_well(tree: Path) -> None:
    items: list[Item] = [found(tree / "images" / "rw")]
    for abi in range(1, kernel.landlock_abi() + 1):
        rules = LandlockDriver(no_new_privs=True, abi=abi).rules(guest(items))

        def act(rules: rs.Ruleset = rules) -> list[int]:
            landlock.restrict(rules)
            return [
                errno_of(lambda: _open(str(tree / "images" / "rw"), os.O_RDWR)),
                errno_of(lambda: _open(str(tree / "images" / "ro"), os.O_RDONLY)),
            ]

        assert inside(act) == [0, errno.EACCES], abi
