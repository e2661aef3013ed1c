"""Image headers made by hand, for what no tool would write."""

import os
import struct
from pathlib import Path

BACKING_FORMAT = 0xE2792ACA
DATA_FILE = 0x44415441


def extension(kind: int, data: bytes, *, length: int | None = None) -> bytes:
    """A qcow2 header extension; `length` lies about its size."""
    return struct.pack(">II", kind, len(data) if length is None else length) + data + bytes(-len(data) % 8)


def qcow2(
    backing: bytes = b"",
    fmt: bytes = b"qcow2",
    *,
    extensions: bytes = b"",
    incompatible: int = 0,
    version: int = 3,
    cluster_bits: int = 16,
    header_length: int = 104,
    backing_size: int | None = None,
) -> bytes:
    """A qcow2 header with its extensions and backing name, padded to one cluster of 64 KiB."""
    if fmt and backing:
        extensions = extension(BACKING_FORMAT, fmt) + extensions
    extensions += extension(0, b"")
    start = 104 if version == 3 else 72
    offset = start + len(extensions) if backing else 0
    size = len(backing) if backing_size is None else backing_size
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, offset, size, cluster_bits, 1 << 20, 0, 1, 0, 0, 0, 0, 0)
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, 4, header_length)
    return (head + extensions + backing).ljust(65536, b"\0")


def qcow(backing: bytes, *, size: int | None = None, offset: int = 48) -> bytes:
    """A qcow (version 1) header and its backing name."""
    size = len(backing) if size is None else size
    head = struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, offset, size, 0, 1 << 20, 12, 9, 0, 0, 48)
    return (head + backing).ljust(4096, b"\0")


def qed(backing: bytes, *, features: int = 1, offset: int = 64, size: int | None = None) -> bytes:
    """A QED header and its backing name."""
    size = len(backing) if size is None else size
    head = struct.pack("<4sIIIQQQQQII", b"QED\0", 65536, 4, 1, features, 0, 0, 65536, 1 << 20, offset, size)
    return (head + backing).ljust(65536, b"\0")


def descriptor(*extents: str, kind: str = "twoGbMaxExtentFlat", parent: str = "") -> bytes:
    """A VMDK descriptor file."""
    hint = f'parentFileNameHint="{parent}"\n' if parent else ""
    body = "\n".join(extents)
    return (
        f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="{kind}"\n{hint}\n{body}\n'.encode()
    )


def write(path: Path, data: bytes) -> str:
    """Write and return the path as text."""
    path.write_bytes(data)
    return str(path)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
