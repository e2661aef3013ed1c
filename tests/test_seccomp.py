"""The system call filter: what it says by an interpreter of its instructions, and what the kernel does with it."""

import ctypes
import errno
import os
import re
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import Unenforceable
from septum.host import kernel, seccomp
from septum.host.driver import Confinement
from tests.confined import guest, inside

ALLOW = seccomp.SECCOMP_RET_ALLOW
EPERM = seccomp.SECCOMP_RET_ERRNO | errno.EPERM
MACHINES = ("x86_64", "aarch64")


def run(program: bytes, nr: int, args: tuple[int, ...] = (), arch: int | None = None, machine: str = "x86_64") -> int:
    """Interprets classic BPF as Documentation/networking/filter.rst defines it, as far as filters here use it."""
    data = struct.pack(
        "<IIQ6Q", nr, seccomp.AUDIT_ARCH[machine] if arch is None else arch, 0, *(*args, *[0] * (6 - len(args)))
    )
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        operation, jt, jf, k = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x15:
            at += jt if accumulator == k else jf
        elif operation == 0x45:
            at += jt if accumulator & k else jf
        elif operation == 0x06:
            return int(k)
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


def reference(refused: tuple[seccomp.Refusal, ...], nr: int, args: tuple[int, ...], machine: str) -> int:
    for refusal in refused:
        if seccomp.number(refusal.call, machine) != nr:
            continue
        test = refusal.argument
        if test is not None:
            low = args[test.position] & 0xFFFFFFFF
            met = {"eq": low == test.value, "any": bool(low & test.value), "nonzero": args[test.position] != 0}
            if not met[test.test]:
                continue
        return seccomp.SECCOMP_RET_ERRNO | refusal.error
    return ALLOW


GUESTS = st.builds(
    lambda network, connects, uid: guest(network=network, connects=connects, uid=uid),
    st.booleans(),
    st.booleans(),
    st.sampled_from([-1, 70001]),
)
KNOWN = sorted({*seccomp.NUMBERS["x86_64"].values(), *seccomp.NUMBERS["aarch64"].values(), 425, 435, 438, 442, 467})
WORDS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 40, 0x5412, 0x541C, 0x10000000, 1 << 32, (1 << 32) | 0x5412, (1 << 32) | 40]),
)


@given(
    GUESTS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(MACHINES),
    st.one_of(st.sampled_from(KNOWN), st.integers(0, 600)),
    st.tuples(*[WORDS] * 6),
)
def test_the_program_says_what_the_refusals_say(
    subject: Confinement, incoming: bool, io_uring: bool, machine: str, nr: int, args: tuple[int, ...]
) -> None:
    refused = seccomp.refusals(subject, incoming=incoming, io_uring=io_uring)
    program = seccomp.program(refused, machine)
    assert run(program, nr, args, machine=machine) == reference(refused, nr, args, machine)


@given(GUESTS, st.sampled_from(MACHINES), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_calls_of_other_architectures_are_refused(subject: Confinement, machine: str, nr: int, arch: int) -> None:
    program = seccomp.program(seccomp.refusals(subject), machine)
    if arch != seccomp.AUDIT_ARCH[machine]:
        assert run(program, nr, arch=arch) == EPERM
    assert run(seccomp.program((), "x86_64"), nr | 0x40000000) == EPERM


def test_a_machine_without_a_table_is_an_error() -> None:
    with pytest.raises(Unenforceable, match="riscv64"):
        seccomp.program(seccomp.refusals(guest()), "riscv64")


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    text = Path(header).read_text()
    defined = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    calls = {refusal.call for refusal in seccomp.refusals(guest())} | {"shmget", "semget", "msgget"}
    newer = calls - set(defined)
    assert newer <= {"open_tree_attr"}
    assert {call: seccomp.number(call, machine) for call in calls - newer} == {c: defined[c] for c in calls - newer}


def calls(**of_guest: Any) -> set[str]:
    return {refusal.call for refusal in seccomp.refusals(guest(**of_guest))}


def test_connections_follow_the_command_line() -> None:
    assert {"connect", "sendto", "io_uring_setup", "socket"} <= calls()
    assert not {"connect", "sendto", "io_uring_setup"} & calls(connects=True)
    assert not {"connect", "sendto", "io_uring_setup", "socket"} & calls(network=True, connects=True)
    assert "io_uring_setup" not in {r.call for r in seccomp.refusals(guest(), io_uring=True)}


def test_postcopy_and_ipc_follow_the_guest() -> None:
    assert "userfaultfd" in calls()
    assert "userfaultfd" not in {r.call for r in seccomp.refusals(guest(), incoming=True)}
    assert "shmget" in calls(uid=-1)
    assert "shmget" not in calls(uid=70001)


def test_what_a_uid_or_a_namespace_would_refuse_the_filter_does() -> None:
    shared, own = calls(uid=-1), calls(uid=70001)
    assert shared - own == {"shmget", "semget", "msgget", "prlimit64", "setpriority", "ioprio_set"}


@pytest.mark.root
def test_a_shared_uid_is_no_way_to_other_processes_or_the_network() -> None:
    parent, inet, datagram = os.getpid(), socket.AF_INET, socket.SOCK_DGRAM
    tries: list[tuple[str, tuple[int, ...]]] = [
        ("prlimit64", (parent, 0, 0, 0)),
        ("setpriority", (os.PRIO_PROCESS, parent, 0)),
        ("setpriority", (os.PRIO_USER, 0, 0)),
        ("ioprio_set", (1, parent, 0)),
        ("ioprio_set", (3, 0, 0)),
        ("socket", (inet, datagram, 0)),
        ("socket", (socket.AF_INET6, datagram, 0)),
        # Of the process itself they go on working.
        ("prlimit64", (0, 0, 0, 0)),
        ("setpriority", (os.PRIO_PROCESS, 0, 0)),
        ("ioprio_set", (1, 0, 0)),
    ]
    assert filtered(*tries, uid=-1) == [errno.EPERM] * 7 + [0] * 3
    assert filtered(("socket", (inet, datagram, 0)), uid=-1, network=True) == [0]


_libc = ctypes.CDLL(None, use_errno=True)


def attempt(call: str, *args: int) -> int:
    """The errno of a raw call, 0 if it works."""
    number = seccomp.number(call, os.uname().machine)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
    if result < 0:
        return ctypes.get_errno()
    return 0


def filtered(*attempts: tuple[str, tuple[int, ...]], **of_guest: Any) -> list[int]:
    program = seccomp.program(seccomp.refusals(guest(**of_guest)), os.uname().machine)

    def act() -> list[int]:
        kernel.set_no_new_privs()
        kernel.seccomp_filter(program)
        return [attempt(call, *args) for call, args in attempts]

    return [int(answer) for answer in inside(act)]


@pytest.mark.root
def test_the_kernel_refuses_what_it_grants_root_otherwise() -> None:
    newuser, new = kernel.CLONE_NEWUSER, kernel.CLONE_NEWIPC
    tries: list[tuple[str, tuple[int, ...]]] = [
        ("unshare", (new,)),
        ("keyctl", (0, -3, 0)),
        ("shmget", (0, 4096, 0o600 | 0o1000)),
        ("semget", (0, 1, 0o600 | 0o1000)),
        ("socket", (socket.AF_VSOCK, socket.SOCK_STREAM, 0)),
        ("io_uring_setup", (1, 0)),
        ("clone", (newuser | 17, 0, 0, 0, 0)),
        ("clone3", (0, 0)),
        ("ioctl", (0, 0x5412, 0)),
        ("ioctl", (0, 0x5412 | 1 << 32, 0)),
        ("socket", (socket.AF_UNIX, socket.SOCK_STREAM, 0)),
    ]
    assert filtered(*tries) == [errno.EPERM] * 7 + [errno.ENOSYS] + [errno.EPERM] * 2 + [0]


@pytest.mark.root
def test_connect_is_refused_and_a_connected_socket_still_sends(tmp_path: Path) -> None:
    path = str(tmp_path / "peer")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(path + "-d")

    def act() -> list[object]:
        one, other = socket.socketpair()
        kernel.set_no_new_privs()
        kernel.seccomp_filter(seccomp.program(seccomp.refusals(guest()), os.uname().machine))
        found: list[object] = []
        for kind, address in ((socket.SOCK_STREAM, path), (socket.SOCK_DGRAM, path + "-d")):
            with socket.socket(socket.AF_UNIX, kind) as client:
                try:
                    if kind == socket.SOCK_STREAM:
                        client.connect(address)
                    else:
                        client.sendto(b"x", address)
                    found.append(0)
                except OSError as error:
                    found.append(error.errno)
        one.send(b"hello")
        found.append(other.recv(5).decode())
        return found

    try:
        assert inside(act) == [errno.EPERM, errno.EPERM, "hello"]
    finally:
        server.close()
        datagrams.close()


@pytest.mark.root
def test_threads_and_programs_start_under_the_filter() -> None:
    """clone3 fails with ENOSYS, and the C library takes clone instead."""

    def act() -> list[object]:
        kernel.set_no_new_privs()
        kernel.seccomp_filter(seccomp.program(seccomp.refusals(guest()), os.uname().machine))
        script = "import threading, os; t = threading.Thread(target=os.getpid); t.start(); t.join(); print('ran')"
        done = subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True, check=False)
        nested = subprocess.run(["/usr/bin/unshare", "-U", "true"], capture_output=True, text=True, check=False)
        return [done.stdout, nested.returncode, "not permitted" in nested.stderr]

    assert inside(act) == ["ran\n", 1, True]
