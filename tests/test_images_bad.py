"""Headers that a hostile guest could write, each by name: refused, with a message that says which image and why."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from septum.errors import ImageError
from septum.guests.images import Limits, Named, chain
from septum.guests.images.files import HostOpener
from tests import images_build as build


def refusal(path: str, fmt: str, *, allowed: list[str] | None = None, limits: Limits | None = None) -> ImageError:
    """The error, after a check that it names the image and the next step, and that no descriptor was left open."""
    before = build.descriptors()
    with pytest.raises(ImageError) as caught:
        chain(path, fmt, "rw", allowed=allowed or [os.path.dirname(path)], limits=limits, allow_probe=True)
    assert build.descriptors() == before
    error = caught.value
    assert error.target
    assert error.rule
    assert error.remedy
    return error


BAD_HEADERS: dict[str, tuple[str, bytes, str]] = {
    # name: (format, image, part of the message)
    "empty file": ("qcow2", b"", "ends within"),
    "truncated header": ("qcow2", build.qcow2()[:71], "ends within"),
    "truncated version 3 header": ("qcow2", build.qcow2()[:103], "ends within"),
    "another format": ("qcow2", build.qed(b""), "isn't one"),
    "version 1": ("qcow2", build.qcow(b""), "version 1"),
    "version 4": ("qcow2", b"QFI\xfb\0\0\0\4" + build.qcow2()[8:], "version 4"),
    "cluster of 2^8": ("qcow2", build.qcow2(cluster_bits=8), "out of range"),
    "cluster of 2^22": ("qcow2", build.qcow2(cluster_bits=22), "out of range"),
    "cluster of 2^4294967295": ("qcow2", build.qcow2(cluster_bits=0xFFFFFFFF), "out of range"),
    "header length 0": ("qcow2", build.qcow2(header_length=0), "header length"),
    "header length 2^32-1": ("qcow2", build.qcow2(header_length=0xFFFFFFFF), "header length"),
    "unknown incompatible feature": ("qcow2", build.qcow2(incompatible=1 << 40), "incompatible"),
    "backing offset 2^63": ("qcow2", build.qcow2()[:8] + b"\x80" + bytes(7) + build.qcow2()[16:], "outside"),
    "huge extension": ("qcow2", build.qcow2(extensions=build.extension(7, b"", length=0xFFFFFFFF)), "beyond"),
    "long backing format": ("qcow2", build.qcow2(b"x", b"f" * 16), "too long"),
    "backing format with control characters": ("qcow2", build.qcow2(b"x", b"ra\nw"), "control characters"),
    "unknown backing format": ("qcow2", build.qcow2(b"other", b"vvfat"), "'vvfat'"),
    "non-UTF-8 name": ("qcow2", build.qcow2(b"ba\xffse", b"raw"), "not UTF-8"),
    "NUL in name": ("qcow2", build.qcow2(b"ot\0her", b"raw"), "control characters"),
    "newline in name": ("qcow2", build.qcow2(b"ba\nse", b"raw"), "control characters"),
    "backing name of 1024 bytes": ("qcow2", build.qcow2(b"x" * 1024, b"raw"), "too long"),
    "backing name of 2^32-1 bytes": ("qcow2", build.qcow2(b"x", b"raw", backing_size=0xFFFFFFFF), "too long"),
    "backing name of 1023 bytes": ("qcow2", build.qcow2(b"x" * 1023, b"raw"), "name too long"),
    "json: without a parser": ("qcow2", build.qcow2(b'json:{"driver":"file"}', b"raw"), "can't tell"),
    "nbd over a unix socket without a parser": ("qcow2", build.qcow2(b"nbd:unix:/run/x", b"raw"), "can't tell"),
    "a colon in front": ("qcow2", build.qcow2(b":other", b"raw"), "can't tell"),
    "vvfat": ("qcow2", build.qcow2(b"fat:rw:/etc", b"raw"), "can't tell"),
    "missing backing file": ("qcow2", build.qcow2(b"gone", b"raw"), "No such file"),
    "backing file through a file": ("qcow2", build.qcow2(b"other/x", b"raw"), "Not a directory"),
    "directory as backing file": ("qcow2", build.qcow2(b"directory", b"raw"), "a directory"),
    "FIFO as backing file": ("qcow2", build.qcow2(b"fifo", b"raw"), "a FIFO"),
    "/dev/zero as backing file": ("qcow2", build.qcow2(b"/dev/zero", b"raw"), "a character device"),
    "/etc/shadow as backing file": ("qcow2", build.qcow2(b"/etc/shadow", b"raw"), "outside of the allowed"),
    "/etc/shadow in steps": ("qcow2", build.qcow2(b"../" * 40 + b"etc/shadow", b"raw"), "outside of the allowed"),
    "/etc/shadow by file:": ("qcow2", build.qcow2(b"file:///etc/shadow", b"raw"), "outside of the allowed"),
    "/etc/shadow by symlink": ("qcow2", build.qcow2(b"shadow", b"raw"), "outside of the allowed"),
    "sibling with the directory's prefix": ("qcow2", build.qcow2(b"../dir-not/x", b"raw"), "outside of the allowed"),
    "descriptor of the process": ("qcow2", build.qcow2(b"/proc/self/fd/0", b"raw"), "another file to QEMU"),
    "descriptor set": ("qcow2", build.qcow2(b"//dev/./fdset/1", b"raw"), "another file to QEMU"),
    "self as backing file": ("qcow2", build.qcow2(b"top", b"qcow2"), "leads back"),
    "self as raw backing file": ("qcow2", build.qcow2(b"top", b"raw"), "leads back"),
    "self by hard link": ("qcow2", build.qcow2(b"hardlink", b"qcow2"), "leads back"),
    "data file missing in the header": ("qcow2", build.qcow2(incompatible=4), "names none"),
    "/etc/shadow as data file": (
        "qcow2",
        build.qcow2(incompatible=4, extensions=build.extension(build.DATA_FILE, b"/etc/shadow")),
        "outside of the allowed",
    ),
    "json: as data file": (
        "qcow2",
        build.qcow2(incompatible=4, extensions=build.extension(build.DATA_FILE, b'json:{"driver":"file"}')),
        "protocol prefix",
    ),
    "relative data file, working directory unknown": (
        "qcow2",
        build.qcow2(incompatible=4, extensions=build.extension(build.DATA_FILE, b"other")),
        "working directory",
    ),
    "data file name of 1 MiB": (
        "qcow2",
        build.qcow2(
            incompatible=4, cluster_bits=21, extensions=build.extension(build.DATA_FILE, b"/", length=1 << 20)
        ).ljust(2 << 20, b"x"),
        "too long",
    ),
    "qcow: truncated": ("qcow", build.qcow(b"")[:47], "ends within"),
    "qcow: not one": ("qcow", build.qcow2(), "isn't one"),
    "qcow: name of 2^32-1 bytes": ("qcow", build.qcow(b"x", size=0xFFFFFFFF), "too long"),
    "qcow: name at 2^64-1": ("qcow", build.qcow(b"x", offset=(1 << 64) - 1), "ends within"),
    "qed: truncated": ("qed", build.qed(b"")[:63], "ends within"),
    "qed: not one": ("qed", build.qcow2(), "isn't one"),
    "qed: unknown feature": ("qed", build.qed(b"x", features=9), "unknown features"),
    "qed: name beyond the header": ("qed", build.qed(b"x", offset=65536), "outside"),
    "qed: name of 60000 bytes": ("qed", build.qed(b"x", size=60000), "too long"),
    "vmdk: 3 bytes": ("vmdk", b"KDM", "ends within"),
    "vmdk: no createType": ("vmdk", b"# Disk DescriptorFile\nversion=1\n", "createType"),
    "vmdk: unknown createType": ("vmdk", build.descriptor(kind="fullDevice"), "createType"),
    "vmdk: /etc/shadow as extent": ("vmdk", build.descriptor('RW 1 FLAT "/etc/shadow" 0'), "outside of the allowed"),
    "vmdk: name without an end": ("vmdk", build.descriptor('RW 1 VMFS "/etc/shadow'), "outside of the allowed"),
    "vmdk: nbd as extent": ("vmdk", build.descriptor('RW 1 FLAT "nbd:unix:/run/x" 0'), "protocol prefix"),
    "vmdk: self as extent": ("vmdk", build.descriptor('RW 1 FLAT "top" 0'), "leads back"),
    "vmdk: sparse extent that is none": ("vmdk", build.descriptor('RW 1 SPARSE "other"'), "isn't one"),
    "vmdk: extent with extents": ("vmdk", build.descriptor('RW 1 SPARSE "nested"'), "extents of its own"),
    "vmdk: parent without an end": (
        "vmdk",
        build.descriptor() + b'parentFileNameHint="x',
        "does not end",
    ),
    "vmdk: parent is self": ("vmdk", build.descriptor(parent="top"), "leads back"),
    "vmdk: embedded descriptor names /etc/shadow": (
        "vmdk",
        struct.pack("<4sIIQQQ", b"KDMV", 1, 3, 0, 128, 1).ljust(512, b"\0")
        + build.descriptor('RW 1 FLAT "/etc/shadow" 0'),
        "outside of the allowed",
    ),
    "vmdk: embedded descriptor at 2^63": (
        "vmdk",
        struct.pack("<4sIIQQQ", b"KDMV", 1, 3, 0, 128, 1 << 54).ljust(512, b"\0"),
        "createType",
    ),
    "vpc: not one": ("vpc", bytes(1024), "isn't one"),
    "vpc: 8 bytes": ("vpc", b"conectix", "isn't one"),
    "vpc: with a parent": ("vpc", b"conectix".ljust(60, b"\0") + b"\0\0\0\4" + bytes(448), "differencing"),
    "vhdx: not one": ("vhdx", bytes(1024), "isn't one"),
    "vhdx: truncated": ("vhdx", b"vhdxfile", "ends within"),
    "vhdx: 65535 regions": (
        "vhdx",
        b"vhdxfile".ljust(192 << 10, b"\0") + struct.pack("<4sIII", b"regi", 0, 65535, 0),
        "damaged",
    ),
}

REGIONS = (192 << 10, 1 << 20)
METADATA_GUID = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
PARENT_LOCATOR_GUID = bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c")


def vhdx(item: bytes) -> bytes:
    """A VHDX whose metadata table has this item."""
    table, metadata = REGIONS
    image = b"vhdxfile".ljust(table, b"\0") + struct.pack(
        "<4sIII16sQII", b"regi", 0, 1, 0, METADATA_GUID, metadata, 0, 0
    )
    return image.ljust(metadata, b"\0") + struct.pack("<8sHH20x16s16x", b"metadata", 0, 1, item)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of images, with the objects in it that bad names point at."""
    home = tmp_path / "dir"
    home.mkdir()
    (tmp_path / "dir-not").mkdir()
    build.write(tmp_path / "dir-not/x", b"secret")
    build.write(home / "other", bytes(512))
    build.write(home / "nested", struct.pack("<4sIIQQQ", b"KDMV", 1, 3, 0, 128, 1).ljust(512, b"\0"))
    (home / "directory").mkdir()
    os.mkfifo(home / "fifo")
    (home / "shadow").symlink_to("/etc/shadow")
    (home / "top").touch()
    os.link(home / "top", home / "hardlink")
    return home


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_refused(directory: Path, name: str) -> None:
    fmt, image, part = BAD_HEADERS[name]
    error = refusal(build.write(directory / "top", image), fmt)
    assert part.lower() in str(error).lower()


def test_the_message_names_image_overlay_rule_and_next_step(directory: Path) -> None:
    top = build.write(directory / "top", build.qcow2(b"gone", b"raw"))
    error = refusal(top, "qcow2")
    assert error.target == str(directory / "gone")
    assert top in error.holder
    assert "before it starts" in error.rule
    assert "rebase" in error.remedy


def test_a_cycle_of_two(directory: Path) -> None:
    top = build.write(directory / "top", build.qcow2(b"two"))
    build.write(directory / "two", build.qcow2(b"./top"))
    assert "leads back" in str(refusal(top, "qcow2"))


def test_a_cycle_through_a_symlink(directory: Path) -> None:
    (directory / "again").symlink_to("top")
    top = build.write(directory / "top", build.qcow2(b"two"))
    build.write(directory / "two", build.qcow2(b"again"))
    assert "leads back" in str(refusal(top, "qcow2"))


def test_depth_bomb(directory: Path) -> None:
    for number in range(66):
        build.write(directory / f"n{number}", build.qcow2(b"n%d" % (number + 1)))
    build.write(directory / "n66", build.qcow2())
    assert "below 64 images" in str(refusal(str(directory / "n1"), "qcow2"))
    assert len(chain(str(directory / "n2"), "qcow2", "rw", allowed=[str(directory)]).resources) == 64


def test_extent_bomb(directory: Path) -> None:
    for number in range(20):
        build.write(directory / f"e{number}", b"x")
    top = build.write(directory / "top", build.descriptor(*(f'RW 1 FLAT "e{number}" 0' for number in range(20))))
    assert "more than 19 files" in str(refusal(top, "vmdk", limits=Limits(files=19)))
    assert len(chain(top, "vmdk", "rw", allowed=[str(directory)], limits=Limits(files=20)).resources) == 20


def test_byte_bomb(directory: Path) -> None:
    """Each link of the chain makes septum read a descriptor of 1 MiB."""
    for number in range(12):
        text = build.descriptor(parent=f"n{number + 1}") + b"#" * (1 << 20)
        build.write(directory / f"n{number}", text)
    assert "too large to read" in str(refusal(str(directory / "n0"), "vmdk"))


@pytest.mark.parametrize(
    "filler",
    [b"\n", b"RW\n", b"RW ", b"RW 1 ", b'RW 1 FLAT "', b"createType", b" ", b"1", b"RW 1" + b"1" * 100, b"RW 1 F \n"],
)
def test_a_descriptor_takes_linear_time(directory: Path, filler: bytes) -> None:
    """A regular expression that backtracks would take hours, not a moment, over a MiB of any of these."""
    body = (filler * (1 << 20))[: (1 << 20) - 200]
    top = build.write(directory / "top", build.descriptor() + body + b'\nRW 1 FLAT "gone"')
    error = refusal(top, "vmdk")
    assert "gone" in str(error) or "control characters" in str(error) or "No such" in str(error)


def test_a_json_name_with_a_nesting_bomb_never_reaches_the_parser(directory: Path) -> None:
    called: list[str] = []

    def parse(name: str) -> list[Named]:
        called.append(name)
        return []

    top = build.write(directory / "top", build.qcow2(b"json:" + b'{"a":' * 200, b"raw"))
    with pytest.raises(ImageError, match="nested too deeply"):
        chain(top, "qcow2", "rw", allowed=[str(directory)], parse_filename=parse)
    assert not called


@pytest.mark.parametrize(
    ("named", "part"),
    [
        (Named("/etc/shadow", "raw", "ro"), "outside of the allowed"),
        (Named("/etc/shadow\0x", "raw", "ro"), "null byte"),
        (Named("/tmp/\ud800", "raw", "ro"), "can't encode"),
        (Named("other", "raw", "ro"), "working directory"),
        (Named("/x", "raw", "rw"), "asks to write"),
        (Named("/etc/shadow", "", "rw", "peer-socket"), "no socket"),
    ],
)
def test_what_a_json_name_leads_to_is_checked_too(directory: Path, named: Named, part: str) -> None:
    top = build.write(directory / "top", build.qcow2(b'json:{"driver":"raw"}', b"raw"))
    with pytest.raises(ImageError) as caught:
        chain(top, "qcow2", "rw", allowed=[str(directory)], parse_filename=lambda _: [named])
    assert part in str(caught.value)


def test_one_file_in_two_roles(directory: Path) -> None:
    """QEMU would write to the image's own backing file."""
    data = build.extension(build.DATA_FILE, str(directory / "other").encode())
    top = build.write(directory / "top", build.qcow2(b"other", b"raw", incompatible=4, extensions=data))
    assert "used in another way" in str(refusal(top, "qcow2"))


def test_a_format_that_fits_twice(directory: Path) -> None:
    """Which of two drivers QEMU takes depends on how it was linked."""
    image = bytearray(build.qcow2())
    image[64:68] = b"\x7f\x10\xda\xbe"
    error = refusal(build.write(directory / "top", bytes(image)), "")
    assert "qcow2 or vdi" in str(error)


def _top_is(make: Callable[[Path], None]) -> Callable[[Path], str]:
    def top(directory: Path) -> str:
        make(directory / "odd")
        return str(directory / "odd")

    return top


@pytest.mark.parametrize("fmt", ["qcow2", ""])
@pytest.mark.parametrize(
    "top",
    [_top_is(os.mkfifo), _top_is(os.mkdir), _top_is(lambda path: path.symlink_to(path)), _top_is(lambda path: None)],
    ids=["fifo", "directory", "symlink loop", "missing"],
)
def test_a_top_image_that_is_none(directory: Path, top: Callable[[Path], str], fmt: str) -> None:
    refusal(top(directory), fmt)


def test_a_vhdx_with_a_parent(directory: Path) -> None:
    top = build.write(directory / "top", vhdx(PARENT_LOCATOR_GUID))
    assert "differencing" in str(refusal(top, "vhdx"))
    assert not chain(build.write(directory / "top", vhdx(METADATA_GUID)), "vhdx", "rw").resources


def test_reading_never_waits_for_a_writer(directory: Path) -> None:
    """If a FIFO took the place of an image, reading it must not hang the start of a guest."""
    opener = HostOpener()
    located = opener.locate(str(directory / "fifo"))
    readable = opener.read(located)
    assert os.read(readable, 1) == b""
    os.close(readable)
    os.close(located)


class Unreadable:
    """An opener for whom one path can't be read, as for a caller without the right to."""

    def __init__(self, step: str) -> None:
        self.step = step

    def locate(self, path: str) -> int:
        self._fail("locate", path)
        return os.open(path, os.O_PATH)

    def real(self, fd: int) -> str:
        path = os.readlink(f"/proc/self/fd/{fd}")
        self._fail("real", path)
        return path

    def read(self, fd: int) -> int:
        self._fail("read", os.readlink(f"/proc/self/fd/{fd}"))
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)

    def _fail(self, step: str, path: str) -> None:
        if step == self.step and path.endswith("two"):
            raise PermissionError(13, "Permission denied", path)


@pytest.mark.parametrize("step", ["locate", "real", "read"])
def test_unreadable(directory: Path, step: str) -> None:
    top = build.write(directory / "top", build.qcow2(b"two"))
    build.write(directory / "two", build.qcow2())
    before = build.descriptors()
    with pytest.raises(ImageError, match="Permission denied") as caught:
        chain(top, "qcow2", "rw", allowed=[str(directory)], opener=Unreadable(step))
    assert caught.value.target == str(directory / "two")
    assert top in caught.value.holder
    assert build.descriptors() == before
