"""Chains, compared with what qemu-img says of the same images."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from septum.guests import parse
from septum.guests.images import chain, would_probe
from septum.launch.images import chains
from septum.launch.plan import Request
from tests import images_build as build

pytestmark = pytest.mark.qemu


def qemu_img(cwd: Path, *arguments: str) -> str:
    run = subprocess.run(["qemu-img", *arguments], cwd=cwd, capture_output=True, text=True, check=True, timeout=60)
    return run.stdout


def create(cwd: Path, fmt: str, name: str, *options: str, size: str = "1M") -> None:
    qemu_img(cwd, "create", "-q", "-f", fmt, *options, name, *([size] if size else []))


def create_luks(cwd: Path, name: str) -> None:
    """QEMU 7.2 measures PBKDF2 against the CPU time of its thread, and gives up where that moves in coarse steps."""
    for attempt in range(100):
        try:
            create(cwd, "luks", name, "--object", "secret,id=s,data=abc", "-o", "key-secret=s,iter-time=10")
            return
        except subprocess.CalledProcessError as error:
            if "accurate CPU usage" not in error.stderr or attempt == 99:
                raise


def reference(cwd: Path, name: str, fmt: str) -> set[tuple[str, str]]:
    """Every file below the image that qemu-img opens, with its format."""
    out = qemu_img(cwd, "info", "-U", "--output=json", "--backing-chain", "-f", fmt, name)
    found = set()
    for depth, image in enumerate(json.loads(out)):
        if depth:
            found.add((image["filename"], image["format"]))
        data = image.get("format-specific", {}).get("data", {})
        if "data-file" in data:
            found.add((data["data-file"], "raw"))
        for extent in data.get("extents", []):
            if extent["filename"] != image["filename"]:
                found.add((extent["filename"], "raw" if extent["format"] == "FLAT" else "vmdk"))
    return {(os.path.realpath(cwd / path), form) for path, form in found}


def ours(cwd: Path, name: str, fmt: str, *, allow_probe: bool = False) -> set[tuple[str, str]]:
    found = chain(str(cwd / name), fmt, "rw", allowed=[str(cwd)], cwd=str(cwd), allow_probe=allow_probe)
    guesses = {finding.path: finding.format for finding in found.findings}
    return {(os.path.realpath(item.path), item.format or guesses[item.path]) for item in found.resources}


@pytest.mark.parametrize("fmt", ["raw", "qcow2", "qcow", "qed", "vmdk", "vhdx", "vpc", "vdi", "parallels"])
def test_an_image_of_its_own(tmp_path: Path, fmt: str) -> None:
    create(tmp_path, fmt, "top")
    assert ours(tmp_path, "top", fmt) == reference(tmp_path, "top", fmt) == set()


def test_luks_has_no_chain(tmp_path: Path) -> None:
    create_luks(tmp_path, "top")
    assert ours(tmp_path, "top", "luks") == set()


def test_fixed_vhd(tmp_path: Path) -> None:
    create(tmp_path, "vpc", "top", "-o", "subformat=fixed")
    assert ours(tmp_path, "top", "vpc") == reference(tmp_path, "top", "vpc") == set()


@pytest.mark.parametrize("top", ["qcow2", "qed", "qcow"])
@pytest.mark.parametrize("base", ["raw", "qcow2", "qed", "vmdk", "vhdx", "vpc", "vdi"])
def test_backing_file(tmp_path: Path, top: str, base: str) -> None:
    create(tmp_path, base, "base")
    create(tmp_path, top, "top", "-b", "base", "-F", base)
    expected = reference(tmp_path, "top", top)
    assert ours(tmp_path, "top", top, allow_probe=True) == expected
    assert len(expected) == 1


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("cluster", ["512", "65536", "2M"])
def test_qcow2_of_both_versions(tmp_path: Path, compat: str, cluster: str) -> None:
    create(tmp_path, "raw", "base")
    create(tmp_path, "qcow2", "top", "-b", "base", "-F", "raw", "-o", f"compat={compat},cluster_size={cluster}")
    assert ours(tmp_path, "top", "qcow2") == reference(tmp_path, "top", "qcow2") != set()


def test_a_long_chain_through_directories(tmp_path: Path) -> None:
    for name in ("a", "a/b", "c"):
        (tmp_path / name).mkdir()
    create(tmp_path / "c", "raw", "base.img")
    create(tmp_path / "a/b", "qcow2", "one", "-b", "../../c/base.img", "-F", "raw", size="")
    create(tmp_path / "a", "qed", "two", "-b", "b/one", "-F", "qcow2", size="")
    create(tmp_path, "qcow2", "top", "-b", "a/two", "-F", "qed", size="")
    expected = reference(tmp_path, "top", "qcow2")
    assert ours(tmp_path, "top", "qcow2", allow_probe=True) == expected
    assert len(expected) == 3


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_absolute_names_and_the_file_prefix(tmp_path: Path, prefix: str) -> None:
    create(tmp_path, "raw", "base")
    create(tmp_path, "qcow2", "top", "-b", f"{prefix}{tmp_path}/base", "-F", "raw")
    assert ours(tmp_path, "top", "qcow2") == reference(tmp_path, "top", "qcow2") != set()


def test_a_relative_name_is_beside_the_symlink_not_beside_its_target(tmp_path: Path) -> None:
    for name in ("real", "link"):
        (tmp_path / name).mkdir()
        create(tmp_path / name, "raw", "base")
    create(tmp_path / "real", "qcow2", "top", "-b", "base", "-F", "raw")
    (tmp_path / "link/top").symlink_to("../real/top")
    expected = {(str(tmp_path / "link/base"), "raw")}
    assert ours(tmp_path, "link/top", "qcow2") == reference(tmp_path, "link/top", "qcow2") == expected


@pytest.mark.parametrize("raw", ["off", "on"])
def test_data_file(tmp_path: Path, raw: str) -> None:
    create(tmp_path, "qcow2", "top", "-o", f"data_file={tmp_path}/data,data_file_raw={raw}")
    assert ours(tmp_path, "top", "qcow2") == reference(tmp_path, "top", "qcow2") == {(str(tmp_path / "data"), "raw")}


def test_data_file_of_a_backing_image(tmp_path: Path) -> None:
    create(tmp_path, "qcow2", "base", "-o", f"data_file={tmp_path}/data")
    create(tmp_path, "qcow2", "top", "-b", "base", "-F", "qcow2", size="")
    expected = reference(tmp_path, "top", "qcow2")
    assert ours(tmp_path, "top", "qcow2") == expected
    assert len(expected) == 2


def test_a_relative_data_file_is_in_the_working_directory(tmp_path: Path) -> None:
    """qemu-img info does not open it, so qemu-io has to tell."""
    (tmp_path / "elsewhere").mkdir()
    create(tmp_path, "qcow2", "top", "-o", "data_file=data")
    write = ["qemu-io", "-f", "qcow2", "-c", "write 0 512", str(tmp_path / "top")]
    assert subprocess.run(write, cwd=tmp_path / "elsewhere", capture_output=True, check=False).returncode != 0
    os.rename(tmp_path / "data", tmp_path / "elsewhere/data")
    assert subprocess.run(write, cwd=tmp_path / "elsewhere", capture_output=True, check=False).returncode == 0
    found = chain(
        str(tmp_path / "top"), "qcow2", "rw", allowed=[str(tmp_path)], cwd=str(tmp_path / "elsewhere")
    ).resources
    assert [item.path for item in found] == [str(tmp_path / "elsewhere/data")]


@pytest.mark.parametrize(
    ("subformat", "extents"),
    [
        ("monolithicSparse", 0),
        ("streamOptimized", 0),
        ("monolithicFlat", 1),
        ("twoGbMaxExtentSparse", 2),
        ("twoGbMaxExtentFlat", 2),
    ],
)
def test_vmdk(tmp_path: Path, subformat: str, extents: int) -> None:
    create(tmp_path, "vmdk", "top.vmdk", "-o", f"subformat={subformat}", size="3G")
    expected = reference(tmp_path, "top.vmdk", "vmdk")
    assert ours(tmp_path, "top.vmdk", "vmdk") == expected
    assert len(expected) == extents


@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_vmdk_with_a_parent(tmp_path: Path, subformat: str) -> None:
    create(tmp_path, "vmdk", "base.vmdk")
    options = ("-b", "base.vmdk", "-F", "vmdk", "-o", f"subformat={subformat}")
    create(tmp_path, "vmdk", "top.vmdk", *options, size="")
    expected = reference(tmp_path, "top.vmdk", "vmdk")
    assert ours(tmp_path, "top.vmdk", "vmdk") == expected
    assert (str(tmp_path / "base.vmdk"), "vmdk") in expected


@pytest.mark.parametrize(
    "line",
    [
        'RW 2048 FLAT "flat" 0',
        '  RW\t2048  FLAT   "flat"   0',
        'RW 2048FLAT "flat" 0',
        'RW 0000000000000000000000002048 FLAT "flat" 0',
        'RW\n2048\nFLAT\n"flat"\n0',
        'RW 2048 VMFS "flat"',
        'RW 2048 VMFS "flat',
        'RW 2048 FLAT "flat" 0\nRDONLY 2048 FLAT "missing" 0',
        'RW 2048 FLAT "flat" 0\nRW 0 FLAT "missing" 0',
        'RW 2048 FLAT "flat" 0\nRWX 1 FLAT "missing" 0',
    ],
)
def test_extent_lines_are_read_as_sscanf_reads_them(tmp_path: Path, line: str) -> None:
    create(tmp_path, "raw", "flat")
    build.write(tmp_path / "top.vmdk", build.descriptor(line, kind="vmfs"))
    expected = {(str(tmp_path / "flat"), "raw")}
    assert {path for path, _ in reference(tmp_path, "top.vmdk", "vmdk")} == {path for path, _ in expected}
    assert ours(tmp_path, "top.vmdk", "vmdk") == expected


CLOOP = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"


@pytest.mark.parametrize(
    "fmt", ["raw", "qcow2", "qcow", "qed", "vmdk", "vhdx", "vpc", "vdi", "parallels", "luks", "text", "empty", "dmg"]
)
def test_the_guess_is_that_of_qemu(tmp_path: Path, fmt: str) -> None:
    image = tmp_path / "image"
    if fmt == "luks":
        create_luks(tmp_path, "image")
    elif fmt == "text":
        create(tmp_path, "vmdk", "image", "-o", "subformat=monolithicFlat")
    elif fmt == "empty":
        image.write_bytes(b"")
    elif fmt == "dmg":
        image = tmp_path / "image.dmg"
        image.write_bytes(bytes(4096))
        refused = subprocess.run(["qemu-img", "info", image], capture_output=True, text=True, check=False)
        assert "dmg file" in refused.stderr
        assert would_probe(str(image)).format == "dmg"
        return
    else:
        create(tmp_path, fmt, "image")
    guess = json.loads(qemu_img(tmp_path, "info", "-U", "--output=json", "image"))["format"]
    assert would_probe(str(image)) == (guess, ())


@pytest.mark.parametrize(
    ("head", "fmt"),
    [
        (CLOOP, "cloop"),
        (CLOOP[:40], "raw"),
        (b"version=1\n", "vmdk"),
        (b"# x\n  \r\nversion=3\r\n", "vmdk"),
        (b"  x\nversion=1\n", "raw"),
        (b"\nversion=1\n", "raw"),
        (b"version=4\n", "raw"),
        (b"version=1", "raw"),
        (b"# no newline", "raw"),
        (b"QFI\xfb\0\0\0\0", "raw"),
        (b"QFI\xfb\0\0\0\x09", "qcow2"),
        (b"conectix", "vpc"),
        (b"\0conectix", "raw"),
        (b"LUKS\xba\xbe\0\2", "raw"),
        (b"vhdxfile", "vhdx"),
    ],
)
def test_the_guess_at_heads_made_by_hand(tmp_path: Path, head: bytes, fmt: str) -> None:
    """QEMU says its guess either as the format, or by the driver's own complaint about the rest of the image."""
    path = build.write(tmp_path / "image", head.ljust(4096, b"\0"))
    assert would_probe(path) == (fmt, ())
    guessed = subprocess.run(["qemu-img", "info", "-U", path], capture_output=True, text=True, check=False)
    declared = subprocess.run(["qemu-img", "info", "-U", "-f", fmt, path], capture_output=True, text=True, check=False)
    assert (guessed.stdout, guessed.stderr) == (declared.stdout, declared.stderr)


OVERRIDES = {
    "-drive if=none,format=qcow2,file=T": False,
    "-drive if=none,format=qcow2,file=T,backing=": True,
    "-drive if=none,format=qcow2,file=T,backing.file.filename=B": True,
    "-drive if=none,format=qcow2,file=T,backing.driver=qcow2,backing.file.driver=file,backing.file.filename=B": True,
    "-drive if=none,format=qcow2,file=T,backing.read-only=on": False,
    "-blockdev file,node-name=b,filename=B -drive if=none,format=qcow2,file=T,backing=b": True,
    """-blockdev '{"driver":"qcow2","node-name":"n","file":{"driver":"file","filename":"T"},"backing":null}'""": True,
    """-blockdev file,node-name=b,filename=B
    -blockdev '{"driver":"qcow2","node-name":"n","file":{"driver":"file","filename":"T"},"backing":"b"}'""": True,
    "-object throttle-group,id=g -blockdev file,node-name=b,filename=B -blockdev throttle,node-name=t,throttle-group=g,"
    "file.driver=qcow2,file.backing=b,file.file.driver=file,file.file.filename=T": True,
    "-blockdev qcow2,node-name=n,file.driver=file,file.filename=T": False,
}


@pytest.mark.parametrize("line", OVERRIDES)
def test_a_header_that_the_command_line_overrides_is_not_looked_at(tmp_path: Path, line: str) -> None:
    """The header names a file that isn't there, so QEMU starts exactly if it does not look at it."""
    create(tmp_path, "qcow2", "T", "-u", "-F", "raw", "-b", "missing")
    create(tmp_path, "qcow2", "B")
    argv = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    argv += shlex.split(line)
    done = subprocess.run(argv, cwd=tmp_path, input="quit\n", capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) == OVERRIDES[line], done.stderr
    (top,) = (one for one in parse(argv, cwd=str(tmp_path)).resources if one.path == str(tmp_path / "T"))
    assert ("backing file" in top.overrides) == OVERRIDES[line]


def test_a_header_counts_if_it_does_for_one_of_two_mentions() -> None:
    both = parse(["qemu", "-drive", "if=none,file=/T,backing=", "-drive", "if=none,file=/T"], cwd="/")
    assert [one.overrides for one in both.resources if one.path == "/T"] == [()]


def test_a_backing_node_of_the_command_line_has_a_chain_of_its_own(tmp_path: Path) -> None:
    """As libvirt writes them: every image a node, with or without a word about what is below."""
    create(tmp_path, "qcow2", "deep")
    create(tmp_path, "qcow2", "base", "-F", "qcow2", "-b", "deep", size="")
    create(tmp_path, "qcow2", "T", "-u", "-F", "raw", "-b", "missing")
    base = '{"driver":"qcow2","node-name":"b","file":{"driver":"file","filename":"base"}%s}'
    top = '{"driver":"qcow2","node-name":"t","file":{"driver":"file","filename":"T"},"backing":"b"}'
    request = Request(("qemu-system-x86_64", "-blockdev", base % "", "-blockdev", top))
    found = chains(parse(request.argv, cwd=str(tmp_path)).resources, request, None)[0]
    assert {(os.path.basename(one.path), one.kind, one.access) for one in found} == {
        ("T", "image", "rw"),
        ("base", "backing", "ro"),
        ("deep", "backing", "ro"),
    }
    request = request._replace(argv=("qemu-system-x86_64", "-blockdev", base % ',"backing":null', "-blockdev", top))
    found = chains(parse(request.argv, cwd=str(tmp_path)).resources, request, None)[0]
    assert {os.path.basename(one.path) for one in found} == {"T", "base"}
