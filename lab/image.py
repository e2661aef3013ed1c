"""What the machines' disks have in common: a policy store that is compiled here, files that are labelled here, and
mke2fs, which copies the labels into the disk. No loop mounts and no privileged kernel features."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab import agent, cache, initramfs

FILES = Path(__file__).parent / "files"
BASICS = (
    "selinux-policy-default",
    "selinux-utils",
    "policycoreutils",
    "python3",
    "qemu-utils",
    "seabios",
    "busybox-static",
    "attr",
    "acl",
    "kmod",
    "procps",
    "iproute2",
    "strace",
    "e2fsprogs",
)
AGENT = "usr/local/lib/septum-lab/agent.py"
INIT = "usr/local/sbin/lab-init"
# ext4 asks for crc32c by name, which no dependency of its module's tells.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4")
SOURCES = (Path(__file__), Path(agent.__file__), Path(initramfs.__file__), FILES / "initramfs-init")
"""What every image's recipe has to name."""


def compile_policy(work: Path, target: Path, modules: Sequence[Path]) -> None:
    """Adds modules to the policy store below `work`, and copies the compiled policy."""
    installed = [word for path in modules for word in ("-i", path)]
    cache.run(["semodule", "-p", work, "-s", "default", "-n", *installed])
    (compiled,) = (work / "etc/selinux/default/policy").iterdir()
    shutil.copy(compiled, target)


def kernel(work: Path, target: Path) -> Path:
    """Puts the kernel and an initramfs for it beside the disk.

    Returns:
        The folder of its modules.
    """
    (modules,) = (work / "usr/lib/modules").iterdir()
    shutil.copy(work / "boot" / f"vmlinuz-{modules.name}", target / "vmlinuz")
    initramfs.write(target / "initrd", FILES / "initramfs-init", initramfs.module_files(modules, MODULES))
    for path in (work / "boot").iterdir():
        path.unlink()
    return modules


def fill(work: Path, init: Path, extra: Mapping[str, Path], contexts: Iterable[str] = ()) -> None:
    """Puts our own files into the root file system.

    Args:
        work: the root.
        init: the first program.
        extra: further files, by the path that they get.
        contexts: further lines for ``file_contexts.local``.
    """
    for name, source in {AGENT: Path(agent.__file__), INIT: init, **extra}.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, work / name)
        (work / name).chmod(0o755)
    (work / "etc/fstab").write_text("")
    (work / "etc/hostname").write_text("lab\n")
    (work / "etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=default\n")
    local = work / "etc/selinux/default/contexts/files/file_contexts.local"
    local.write_text("".join(f"{line}\n" for line in (f"/{INIT} -- system_u:object_r:init_exec_t:s0", *contexts)))


def disk(work: Path, target: Path, size: str) -> None:
    """Labels the files below `work` and makes a disk of them."""
    cache.say("labelling files, making the disk")
    cache.run(["setfiles", "-m", "-F", "-r", work, work / "etc/selinux/default/contexts/files/file_contexts", work])
    journal = ["-J", "size=8"]  # a test may cut the power
    cache.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", *journal, "-E", "lazy_itable_init=0", "-d", work, target, size])
