"""The tiny guest really boots, obeys its command line, and reads its disk."""

import subprocess
from pathlib import Path

import pytest

from lab import guest

pytestmark = pytest.mark.qemu


def boot(append: str, *more: str) -> str:
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg", "-m", "128"]
    argv += ["-display", "none", "-no-reboot", "-serial", "stdio", "-append", append]
    argv += ["-kernel", str(guest.kernel()), "-initrd", str(guest.initrd()), *more]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_prints_the_marker_and_powers_off() -> None:
    assert "hello from blue\n" in boot(guest.append("hello from blue", then="poweroff")).replace("\r", "")


def test_reads_its_disk_before_it_prints_the_marker(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"the first line\n".ljust(1 << 20, b"\0"))
    output = boot(
        guest.append("read it", then="reboot", show="vda"),
        *("-drive", f"if=none,id=d,format=raw,file={disk}", "-device", "virtio-blk-pci,drive=d"),
    )
    assert output.replace("\r", "").index("vda: the first line\n") < output.index("read it")
