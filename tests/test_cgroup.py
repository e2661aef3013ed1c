"""Cgroups: where they may be made, and what the kernel says of those in them."""

import errno
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import HostError
from septum.host import cgroup
from septum.host.driver import Step
from tests.confined import errno_of, inside

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
PURE = "25 24 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HYBRID, ("/sys/fs/cgroup/unified", "/")),
        (PURE, ("/sys/fs/cgroup", "/")),
        ("9 8 0:2 /docker/1 /mnt/a\\040b rw shared:1 master:2 - cgroup2 none rw\n", ("/mnt/a b", "/docker/1")),
        (HYBRID.splitlines()[1], None),
        ("", None),
    ],
)
def test_the_mount_is_found(text: str, found: tuple[str, str] | None) -> None:
    assert cgroup.mount_point(text) == found


@given(st.text(st.sampled_from("ab \t\n\\0134/"), min_size=1))
def test_any_mount_point_survives_the_kernels_escapes(path: str) -> None:
    escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in path)
    assert cgroup.mount_point(f"1 2 0:3 / {escaped} rw - cgroup2 cgroup2 rw") == (path, "/")


def test_the_own_cgroup_is_the_unified_one() -> None:
    assert cgroup.own("4:memory:/a\n0::/user.slice/b:c\n") == "/user.slice/b:c"
    assert cgroup.own("4:memory:/a\n") == ""


@pytest.fixture
def step() -> Iterator[Step]:
    base = cgroup.base()
    assert base, "this host has no cgroup2 that root may write to"
    step = cgroup.step(f"{base}/test-{os.getpid()}")
    yield step
    if os.path.isdir(step.path):
        cgroup.kill(step.path)
        wait_until_empty(step.path)
        os.rmdir(step.path)


def wait_until_empty(path: str) -> None:
    """By the same descriptor that a watcher uses."""
    fd = cgroup.events_fd(path)
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    while cgroup.populated(path):
        os.pread(fd, 4096, 0)
        if cgroup.populated(path):
            assert poll.poll(10_000), "no event within ten seconds"
    os.close(fd)


@pytest.mark.root
def test_made_and_removed(step: Step) -> None:
    operation = cgroup.CgroupOperation()
    original = operation.capture(step)
    operation.apply(step, original)
    assert os.path.exists(f"{step.path}/cgroup.procs")
    assert not cgroup.populated(step.path)
    assert operation.undo(step, original) == "restored"
    assert not os.path.exists(step.path)
    assert operation.undo(step, original) == "gone"


@pytest.mark.root
def test_one_that_was_left_over_is_taken_over(step: Step) -> None:
    operation = cgroup.CgroupOperation()
    os.makedirs(step.path)
    original = operation.capture(step)
    operation.apply(step, original)
    assert operation.undo(step, original) == "restored"
    assert not os.path.isdir(step.path)


@pytest.mark.root
def test_what_a_launch_left_is_swept_once_it_is_old_and_empty(step: Step) -> None:
    base = os.path.dirname(step.path)
    cgroup.make(step.path)
    cgroup.sweep(base)
    assert os.path.isdir(step.path), "a launch may be about to note it down"
    os.utime(step.path, (0, 0))
    cgroup.sweep(base)
    assert not os.path.isdir(step.path)


@pytest.mark.root
def test_everything_in_it_counts_and_is_ended_together(step: Step) -> None:
    operation = cgroup.CgroupOperation()
    original = operation.capture(step)
    operation.apply(step, original)
    script = "(setsid sleep 1000 &) ; setsid setsid sleep 1000 & echo up; exec sleep 1000"
    child = subprocess.Popen(
        ["/bin/sh", "-c", script],
        preexec_fn=lambda: cgroup.join(step.path),
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    assert cgroup.populated(step.path)
    with pytest.raises(HostError, match="still there"):
        operation.undo(step, original)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert cgroup.populated(step.path), "the two that left their parent are still in it"
    cgroup.kill(step.path)
    wait_until_empty(step.path)
    assert operation.undo(step, original) == "restored"
    child.stdout.close()


@pytest.mark.root
def test_joining_early_and_leaving_again(step: Step) -> None:
    operation = cgroup.CgroupOperation()
    original = operation.capture(step)
    operation.apply(step, original)

    def act() -> list[object]:
        joining = cgroup.Joining(step.path)
        joining.wait()
        inside_it = cgroup.own(Path("/proc/self/cgroup").read_text())
        was = cgroup.populated(step.path)
        joining.leave()
        return [inside_it.endswith(os.path.basename(step.path)), was, os.path.isdir(step.path)]

    assert inside(act) == [True, True, False]


@pytest.mark.root
def test_a_cgroup_that_is_not_there_can_not_be_joined(step: Step) -> None:
    def act() -> list[int]:
        return [
            errno_of(lambda: cgroup.join(step.path)),
            errno_of(lambda: cgroup.Joining(step.path).wait()),
            errno_of(lambda: cgroup.events_fd(step.path)),
        ]

    assert inside(act) == [errno.ENOENT] * 3
    assert not cgroup.populated(step.path)
    cgroup.kill(step.path)
