"""What a chain says of its members: access, sharing, formats, findings, and what the caller may change."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import septum
from septum.errors import ImageError
from septum.guests.images import Chain, Named, chain, would_probe
from septum.guests.images.model import Role
from septum.guests.images.names import beside, protocol
from septum.guests.resource import Access, Resource, Sharing
from tests import images_build as build

BACKING: tuple[Role, ...] = ("backing file",)
DATA: tuple[Role, ...] = ("data file",)


def data_file(path: Path) -> bytes:
    return build.extension(build.DATA_FILE, str(path).encode())


def test_a_raw_image_is_not_even_looked_at() -> None:
    """Whatever a guest writes into its raw disk, it stays a raw disk."""
    assert chain("/does/not/exist", "raw", "rw") == Chain((), ())


def test_a_member_is_described_as_a_resource(tmp_path: Path) -> None:
    top = build.write(tmp_path / "top", build.qcow2(b"base", b"raw"))
    base = build.write(tmp_path / "base", b"data")
    assert chain(top, "qcow2", "rw", allowed=[str(tmp_path)]) == Chain(
        (Resource(base, "backing", "ro", "shared", f"backing file of {top}", format="raw"),), ()
    )


@pytest.mark.parametrize("access", ["ro", "rw"])
@pytest.mark.parametrize("sharing", ["exclusive", "shared"])
def test_access_and_sharing(tmp_path: Path, access: Access, sharing: Sharing) -> None:
    """A data file is one with its image; what lies below is read-only and shared, data files of backing files too."""
    top = build.qcow2(b"base", extensions=data_file(tmp_path / "data"), incompatible=4)
    build.write(tmp_path / "base", build.qcow2(extensions=data_file(tmp_path / "base-data"), incompatible=4))
    build.write(tmp_path / "data", b"")
    build.write(tmp_path / "base-data", b"")
    found = chain(
        build.write(tmp_path / "top", top), "qcow2", access, sharing=sharing, allowed=[str(tmp_path)]
    ).resources
    assert {(os.path.basename(item.path), item.access, item.sharing) for item in found} == {
        ("base", "ro", "shared"),
        ("base-data", "ro", "shared"),
        ("data", access, sharing),
    }


def test_extents_belong_to_their_image(tmp_path: Path) -> None:
    extents = ('RW 1 FLAT "flat" 0', 'RW 1 SPARSE "sparse"', 'RW 1 FLAT "flat" 1')
    top = build.write(tmp_path / "top", build.descriptor(*extents, parent="parent"))
    build.write(tmp_path / "parent", build.descriptor('RW 1 FLAT "parent-flat" 0'))
    build.write(tmp_path / "flat", b"")
    build.write(tmp_path / "parent-flat", b"")
    build.write(tmp_path / "sparse", b"COWD")
    found = chain(top, "vmdk", "rw", allowed=[str(tmp_path)]).resources
    assert [(os.path.basename(item.path), item.access, item.sharing, item.format) for item in found] == [
        ("flat", "rw", "exclusive", "raw"),
        ("sparse", "rw", "exclusive", "vmdk"),
        ("parent", "ro", "shared", "vmdk"),
        ("parent-flat", "ro", "shared", "raw"),
    ]


def test_what_the_command_line_overrides_is_not_taken_from_the_header(tmp_path: Path) -> None:
    image = build.qcow2(b"/etc/shadow", b"raw", extensions=data_file(Path("/etc/passwd")), incompatible=4)
    top = build.write(tmp_path / "top", image)
    assert chain(top, "qcow2", "rw", overridden=BACKING + DATA) == Chain((), ())
    with pytest.raises(ImageError, match="/etc/passwd"):
        chain(top, "qcow2", "rw", overridden=BACKING)


def test_only_the_top_image_is_overridden(tmp_path: Path) -> None:
    top = build.write(tmp_path / "top", build.qcow2(extensions=data_file(tmp_path / "data"), incompatible=4))
    build.write(tmp_path / "data", b"")
    over = build.write(tmp_path / "over", build.qcow2(b"top"))
    assert len(chain(over, "qcow2", "rw", overridden=DATA, allowed=[str(tmp_path)]).resources) == 2
    assert not chain(top, "qcow2", "rw", overridden=DATA, allowed=[str(tmp_path)]).resources


@pytest.mark.parametrize("image", [build.qcow2(b"base", b""), build.qcow(b"base"), build.qed(b"base")])
def test_a_backing_file_without_a_declared_format(tmp_path: Path, image: bytes) -> None:
    """A finding in any case; followed only if the caller says so."""
    fmt = would_probe(build.write(tmp_path / "top", image)).format
    build.write(tmp_path / "base", build.qcow2(b"deep", b"raw"))
    build.write(tmp_path / "deep", b"")
    top = str(tmp_path / "top")
    careful = chain(top, fmt, "rw", allowed=[str(tmp_path)])
    bold = chain(top, fmt, "rw", allowed=[str(tmp_path)], allow_probe=True)
    assert [os.path.basename(item.path) for item in careful.resources] == ["base"]
    assert [os.path.basename(item.path) for item in bold.resources] == ["base", "deep"]
    assert careful.resources[0].format == bold.resources[0].format == ""
    for found in (careful, bold):
        (finding,) = found.findings
        assert (finding.code, finding.path, finding.holder, finding.format) == (
            "unsafe-probe",
            str(tmp_path / "base"),
            top,
            "qcow2",
        )


def test_qed_knows_one_format(tmp_path: Path) -> None:
    """The flag that forbids to probe means raw."""
    top = build.write(tmp_path / "top", build.qed(b"base", features=5))
    build.write(tmp_path / "base", build.qcow2(b"/etc/shadow", b"raw"))
    found = chain(top, "qed", "rw", allowed=[str(tmp_path)])
    assert [item.format for item in found.resources] == ["raw"]
    assert not found.findings


def test_a_top_image_without_a_declared_format(tmp_path: Path) -> None:
    top = build.write(tmp_path / "top", build.qcow2(b"base", b"raw"))
    build.write(tmp_path / "base", b"")
    careful = chain(top, "", "rw", allowed=[str(tmp_path)])
    assert not careful.resources
    assert [(finding.path, finding.holder, finding.format) for finding in careful.findings] == [(top, "", "qcow2")]
    assert len(chain(top, "", "rw", allowed=[str(tmp_path)], allow_probe=True).resources) == 1


def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    top = build.write(tmp_path / "top", build.qcow2(b"base", b"raw"))
    build.write(tmp_path / "base", b"")
    with pytest.raises(ImageError, match="outside"):
        chain(top, "qcow2", "rw")


def test_a_file_is_allowed_by_name(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    base = build.write(tmp_path / "library/base", b"")
    other = build.write(tmp_path / "library/other", b"")
    top = build.write(tmp_path / "top", build.qcow2(base.encode(), b"raw"))
    allowed = [str(tmp_path / "missing"), base]
    assert [item.path for item in chain(top, "qcow2", "rw", allowed=allowed).resources] == [base]
    with pytest.raises(ImageError, match="outside"):
        chain(build.write(tmp_path / "top", build.qcow2(other.encode(), b"raw")), "qcow2", "rw", allowed=allowed)


def test_a_directory_is_allowed_by_its_symlink_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    build.write(tmp_path / "real/base", b"")
    top = build.write(tmp_path / "real/top", build.qcow2(b"base", b"raw"))
    for path in (top, str(tmp_path / "link/top")):
        for allowed in (tmp_path / "real", tmp_path / "link"):
            assert len(chain(path, "qcow2", "rw", allowed=[str(allowed)]).resources) == 1


@pytest.mark.root
def test_a_block_device_is_allowed_by_its_own_name_only(tmp_path: Path) -> None:
    """A loop device without a file, so that nothing is there to read."""
    device = str(tmp_path / "device")
    os.mknod(device, 0o600 | 0o060000, os.makedev(7, 250))
    top = build.write(tmp_path / "top", build.qcow2(b"device", b"raw"))
    with pytest.raises(ImageError, match="outside"):
        chain(top, "qcow2", "rw", allowed=[str(tmp_path)])
    assert [item.path for item in chain(top, "qcow2", "rw", allowed=[device]).resources] == [device]


@pytest.mark.parametrize(
    "name", ["nbd://host/x", "https://host/x.qcow2", "rbd:pool/x", "iscsi://host/x", "ssh://host/x", "gluster://h/v/x"]
)
def test_a_chain_that_goes_on_elsewhere(tmp_path: Path, name: str) -> None:
    top = build.write(tmp_path / "top", build.qcow2(name.encode(), b"qcow2"))
    found = chain(top, "qcow2", "rw", allowed=[str(tmp_path)])
    assert not found.resources
    assert [(finding.code, finding.path, finding.holder) for finding in found.findings] == [("remote", name, top)]


@pytest.mark.parametrize("prefix", ["file:", "host_device:", "host_cdrom:"])
def test_prefixes_of_paths(tmp_path: Path, prefix: str) -> None:
    """Behind a prefix a relative name is one of QEMU's working directory, not of the image's."""
    (tmp_path / "cwd").mkdir()
    base = build.write(tmp_path / "cwd/base", b"")
    for name in ("base", base):
        top = build.write(tmp_path / "top", build.qcow2(f"{prefix}{name}".encode(), b"raw"))
        found = chain(top, "qcow2", "rw", allowed=[str(tmp_path)], cwd=str(tmp_path / "cwd"))
        assert [item.path for item in found.resources] == [base]


def test_a_json_name_is_explained_by_the_caller(tmp_path: Path) -> None:
    """The declared format is that of the outermost node; the others keep their own, and each is followed."""
    for name, image in (("one", build.qcow2(b"deep", b"raw")), ("two", build.qcow2()), ("deep", b"")):
        build.write(tmp_path / name, image)
    seen = []

    def parse(name: str) -> list[Named]:
        seen.append(name)
        return [Named(str(tmp_path / "one"), "raw", "ro"), Named(str(tmp_path / "two"), "qcow2", "ro")]

    top = build.write(tmp_path / "top", build.qcow2(b'json:{"driver":"quorum"}', b"qcow2"))
    found = chain(top, "qcow2", "rw", allowed=[str(tmp_path)], parse_filename=parse)
    assert seen == ['json:{"driver":"quorum"}']
    assert [(os.path.basename(item.path), item.format) for item in found.resources] == [
        ("one", "qcow2"),
        ("deep", "raw"),
        ("two", "qcow2"),
    ]


def test_a_socket_that_a_name_leads_to(tmp_path: Path) -> None:
    path = str(tmp_path / "nbd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        top = build.write(tmp_path / "top", build.qcow2(f"nbd:unix:{path}".encode(), b"raw"))
        found = chain(
            top,
            "qcow2",
            "rw",
            allowed=[str(tmp_path)],
            parse_filename=lambda _: [Named(path, "", "rw", "peer-socket")],
        )
    assert [(item.path, item.kind, item.access) for item in found.resources] == [(path, "peer-socket", "rw")]


def test_members_that_meet_again_are_listed_once(tmp_path: Path) -> None:
    """Two halves of a mirror on one base: no cycle, and no work done twice."""
    for name in ("one", "two"):
        build.write(tmp_path / name, build.qcow2(b"base"))
    build.write(tmp_path / "base", build.qcow2())
    top = build.write(tmp_path / "top", build.qcow2(b"json:{}", b""))
    halves = [Named(str(tmp_path / name), "qcow2", "ro") for name in ("one", "two")]
    found = chain(top, "qcow2", "rw", allowed=[str(tmp_path)], parse_filename=lambda _: halves)
    assert [os.path.basename(item.path) for item in found.resources] == ["one", "base", "two"]


@pytest.mark.parametrize(
    "image",
    [
        build.qcow2(b"", backing_size=0),
        build.qcow2(b"\0\0", b"raw"),
        build.qcow(b"", offset=48, size=0),
        build.qed(b"x", features=0),
        build.qcow2(extensions=data_file(Path("/etc/shadow"))),
    ],
    ids=["no offset", "NULs", "qcow empty", "qed flag off", "data file flag off"],
)
def test_names_that_qemu_takes_for_none(tmp_path: Path, image: bytes) -> None:
    top = build.write(tmp_path / "top", image)
    assert chain(top, would_probe(top).format, "rw") == Chain((), ())


def test_the_last_of_several_extensions_counts(tmp_path: Path) -> None:
    extensions = b"".join(data_file(tmp_path / name) for name in ("first", "last"))
    top = build.write(tmp_path / "top", build.qcow2(extensions=extensions, incompatible=4))
    build.write(tmp_path / "last", b"")
    found = chain(top, "qcow2", "rw", allowed=[str(tmp_path)]).resources
    assert [item.path for item in found] == [str(tmp_path / "last")]


def test_extensions_beyond_the_first_read(tmp_path: Path) -> None:
    top = build.write(tmp_path / "top", build.qcow2(b"base", b"raw", extensions=build.extension(7, bytes(20000))))
    build.write(tmp_path / "base", b"")
    assert len(chain(top, "qcow2", "rw", allowed=[str(tmp_path)]).resources) == 1


@given(name=st.text(st.sampled_from("ab:/."), min_size=1, max_size=12))
def test_names_are_read_as_qemu_reads_them(name: str) -> None:
    """`path_has_protocol` by its definition: of ``:`` and ``/`` the colon comes first."""
    marks = [char for char in name if char in ":/"]
    assert (protocol(name) is not None) == (marks[:1] == [":"])
    joined = beside("/images/top", name)
    assert joined == (name if name.startswith("/") else "/images/" + name)


def test_a_program_that_only_knows_raw_images_imports_no_format() -> None:
    source = os.path.dirname(os.path.dirname(septum.__file__))
    code = f"import sys; sys.path[:0] = [{source!r}]; import septum.guests.images as images;"
    code += "images.chain('/x', 'raw', 'rw'); print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "septum.guests.images.chain" in out
    assert not [name for name in out if name.rpartition(".")[2] in ("qcow2", "qcow", "qed", "vmdk", "vhdx", "probe")]
    assert not {"subprocess", "hashlib", "dataclasses", "pathlib", "logging"} & set(out)
