"""Hostile image headers: real images of every format, with bytes changed.

Whatever a header says, only SeptumError may escape from a chain, no descriptor may stay open, no member may lie outside
of the allowed directory, and time and memory stay bounded. For some of the images QEMU is asked as well: what it opens,
septum must have named or refused.
"""

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from typing import NamedTuple

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from septum.errors import SeptumError
from septum.guests.images import Chain, Named, chain

SECONDS_MAX = 2.0
"""For one chain; the largest descriptors take a hundredth of it."""

MEMORY_MAX = 64 << 10
"""KiB by which the process may grow over a whole run."""

IMAGES = (
    ("qcow2", "-b base -F raw"),
    ("qcow2", "-b base.qcow2 -F qcow2 -o compat=0.10"),
    ("qcow2", "-o data_file={home}/data"),
    ("qcow", "-b base -F raw"),
    ("qed", "-b base.qcow2 -F qcow2"),
    ("vmdk", "-b base.vmdk -F vmdk"),
    ("vmdk", "-o subformat=twoGbMaxExtentFlat"),
    ("vmdk", "-o subformat=twoGbMaxExtentSparse"),
    ("vmdk", "-o subformat=streamOptimized"),
    ("vpc", ""),
    ("vhdx", ""),
    ("vdi", ""),
    ("parallels", ""),
)
FORMATS = ("raw", *sorted({fmt for fmt, _ in IMAGES}), "luks", "nonsense", "")

TEXTS = (
    *(b"base", b"base.qcow2", b"top", b"/etc/shadow", b"../../etc/shadow", b"file:base", b"nbd:unix:/x", b"\n\n\n"),
    *(b"json:{", b'json:{"driver":"qcow2","file":{"driver":"file","filename":"/etc/shadow"}}', b"\0", b"\xff"),
    *(b'RW 1 FLAT "base" 0\n', b'RW 1 SPARSE "base.vmdk"\n', b'parentFileNameHint="', b'createType="vmfs"\n'),
    *(b"conectix", b"QFI\xfb", b"KDMV", b"\x7f\x10\xda\xbe", b"DATA\0\0\0\4base", b"\xe2\x79\x2a\xca\0\0\0\3raw"),
)
VALUES = (0, 1, 3, 4, 5, 31, 72, 104, 512, 1023, 1024, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
NUMBERS = tuple(number for value in VALUES for number in (value.to_bytes(4, "big"), value.to_bytes(8, "little")))


class Seed(NamedTuple):
    """A real image.

    Attributes:
        path: of the file that the mutations are written to.
        format: that it has.
        image: its bytes.
        spots: where it has bytes other than zero.
    """

    path: str
    format: str
    image: bytes
    spots: list[int]


class Change(NamedTuple):
    """One mutation: `data` at a spot of the image, counted modulo the spots it has."""

    spot: int
    shift: int
    data: bytes


class Stats:
    """What a run did."""

    def __init__(self) -> None:
        self.chains = 0
        self.refused = 0
        self.members = 0
        self.asked = 0
        self.slowest = 0.0


def seeds(home: str) -> list[Seed]:
    """Make the images, each in a directory of its own with what it may name."""
    found = []
    for number, (fmt, options) in enumerate(IMAGES):
        where = os.path.join(home, str(number))
        os.mkdir(where)
        for line in (
            "-f raw base 1M",
            "-f qcow2 base.qcow2 1M",
            "-f vmdk base.vmdk 1M",
            f"-f {fmt} {options.format(home=where)} top 1M",
        ):
            subprocess.run(["qemu-img", "create", "-q", *line.split()], cwd=where, check=True)
        path = os.path.join(where, "top")
        with open(path, "rb") as file:
            image = file.read()
        found.append(Seed(path, fmt, image, [at for at in range(len(image)) if image[at]] or [0]))
    return found


def mutations() -> st.SearchStrategy[list[Change]]:
    """A few changes at places where the image has content."""
    data = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.binary(min_size=1, max_size=16))
    return st.lists(st.builds(Change, st.integers(0, 4000), st.integers(-8, 8), data), max_size=6)


def apply(source: Seed, changes: list[Change], cut: int | None) -> None:
    """Write the mutated image into the seed's file."""
    with open(source.path, "r+b", buffering=0) as file:
        for change in changes:
            at = max(0, source.spots[change.spot % len(source.spots)] + change.shift)
            os.pwrite(file.fileno(), change.data, at)
        if cut is not None:
            file.truncate(cut % (len(source.image) + 1))


def restore(source: Seed, changes: list[Change], cut: int | None) -> None:
    """Undo `apply`."""
    with open(source.path, "r+b", buffering=0) as file:
        if cut is not None:
            os.pwrite(file.fileno(), source.image, 0)
        for change in changes:
            at = max(0, source.spots[change.spot % len(source.spots)] + change.shift)
            os.pwrite(file.fileno(), source.image[at : at + len(change.data)], at)
        file.truncate(len(source.image))


def exercise(path: str, fmt: str, *, allow_probe: bool, parse: bool, stats: Stats) -> Chain | None:
    """Follow one chain and check what must hold of any; None if it was refused."""
    home = os.path.dirname(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    started = time.process_time()
    found = None
    try:
        found = chain(
            path,
            fmt,
            "rw",
            allowed=[home],
            allow_probe=allow_probe,
            cwd=home,
            parse_filename=(lambda _: [Named("/etc/shadow", "", "ro")]) if parse else None,
        )
    except SeptumError as error:
        str(error)
        stats.refused += 1
    took = time.process_time() - started
    stats.chains += 1
    stats.slowest = max(stats.slowest, took)
    assert took < SECONDS_MAX, f"{took:.1f} s"
    assert len(os.listdir("/proc/self/fd")) == descriptors, "a descriptor was left open"
    for member in found.resources if found else ():
        stats.members += 1
        assert os.path.realpath(member.path).startswith(home + "/"), member
        assert member.path.isprintable(), member
    return found


def ask_qemu(path: str, fmt: str, found: Chain, stats: Stats) -> None:
    """What qemu-img opens for this image is in the chain."""
    command = ["qemu-img", "info", "-U", "--output=json", "--backing-chain", "-f", fmt, path]
    run = subprocess.run(command, cwd=os.path.dirname(path), capture_output=True, check=False, timeout=60)
    stats.asked += 1
    if run.returncode:
        return
    named = {os.path.realpath(member.path) for member in found.resources} | {path}
    for image in json.loads(run.stdout):
        extents = image.get("format-specific", {}).get("data", {}).get("extents", [])
        for name in (image["filename"], *(extent["filename"] for extent in extents)):
            assert os.path.realpath(os.path.join(os.path.dirname(path), name)) in named, (name, named)


def run(seconds: float) -> None:
    """Fuzz for about this long, and print what was done.

    Raises:
        AssertionError: something that must hold of any image did not.
    """
    stats = Stats()
    home = os.path.realpath(tempfile.mkdtemp(prefix="septum-fuzz-"))
    try:
        _run(seeds(home), time.monotonic() + seconds, stats)
    finally:
        shutil.rmtree(home)
    print(
        f"images: {stats.chains} chains, {stats.refused} refused, {stats.members} members, "
        f"{stats.asked} compared with QEMU, slowest {stats.slowest * 1000:.1f} ms"
    )


def _run(images: list[Seed], end: float, stats: Stats) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    round_number = 0
    while time.monotonic() < end:
        round_number += 1

        @seed(round_number)
        @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(
            source=st.sampled_from(images),
            changes=mutations(),
            cut=st.one_of(st.none(), st.none(), st.integers(0, 1 << 20)),
            declared=st.one_of(st.none(), st.none(), st.none(), st.sampled_from(FORMATS)),
            allow_probe=st.booleans(),
            parse=st.booleans(),
            ask=st.sampled_from((False,) * 9 + (True,)),
        )
        def check(
            source: Seed,
            changes: list[Change],
            cut: int | None,
            declared: str | None,
            allow_probe: bool,
            parse: bool,
            ask: bool,
        ) -> None:
            if time.monotonic() >= end:
                return
            fmt = source.format if declared is None else declared
            apply(source, changes, cut)
            try:
                found = exercise(source.path, fmt, allow_probe=allow_probe, parse=parse, stats=stats)
                if ask and found and fmt == source.format and (allow_probe or not found.findings):
                    ask_qemu(source.path, fmt, found, stats)
            finally:
                restore(source, changes, cut)

        check()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert grown < MEMORY_MAX, f"{grown} KiB"
