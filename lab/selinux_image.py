"""Builds the SELinux machine: root file system → labelled disk, kernel and initramfs → saved state.

Three artifacts, so that a change of a policy module costs seconds and only a change of the package list a minute.
No loop mounts and no privileged kernel features: policy modules are compiled and files are labelled on the host, and
mke2fs copies the labels into the disk.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lab import agent, cache, debian, guest, initramfs
from septum import policy as shipped

_HERE = Path(__file__).parent
FOR_TESTS = tuple(sorted((_HERE / "cil").glob("*.cil")))
_FILES = _HERE / "files"
_OWN = "septum.cil"

PACKAGES = (
    "linux-image-cloud-amd64",
    "selinux-policy-default",
    "selinux-utils",
    "policycoreutils",
    "python3",
    "qemu-system-x86",
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
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
_DISK_SIZE = "2G"
_GUEST_FOLDER = "usr/share/septum-lab"  # of the nested guest's kernel and initramfs
_AGENT = "usr/local/lib/septum-lab/agent.py"
_INIT = "usr/local/sbin/lab-init"


def policy_modules() -> tuple[Path, ...]:
    """The modules that septum ships and those that tests need, as files for semodule."""
    return (*shipped_modules(), *FOR_TESTS)


def for_tests(modules: Sequence[Path]) -> tuple[Path, ...]:
    """What tests need beside `modules`: some of it only where septum's own types are."""
    own = any(path.name == _OWN for path in modules)
    return tuple(path for path in FOR_TESTS if own or path.stem != "lab_septum")


def shipped_modules() -> tuple[Path, ...]:
    """The modules that septum ships: its policy, and the optional one for libvirt's types."""
    content = {_OWN: shipped.module(), f"{shipped.SVIRT_MODULE}.cil": shipped.svirt().text.encode()}

    def write(target: Path) -> None:
        for name, text in content.items():
            (target / name).write_bytes(text)

    folder = cache.artifact("selinux-modules", cache.recipe(content), write)
    return tuple(folder / name for name in content)


def root() -> Path:
    """A folder with ``root``, the machine's file system as the packages leave it."""
    return cache.artifact("selinux-root", cache.recipe(PACKAGES, debian.CODENAME), _build_root)


def image() -> Path:
    """A folder with ``disk`` (raw), ``vmlinuz``, ``initrd`` and ``policy`` (the machine's compiled policy)."""
    key = cache.recipe(
        root().name,
        *policy_modules(),
        _FILES,
        Path(agent.__file__),
        Path(initramfs.__file__),
        Path(__file__),
        guest.kernel().parent.name,
    )
    return cache.artifact("selinux-image", key, _build_image)


def policy(*modules: Path) -> Path:
    """Debian's policy with modules in it, compiled here, for `Machine.load_policy`.

    Args:
        modules: CIL files; each is a module of the file's name. The machine starts with
            those of `policy_modules`, and needs those of `for_tests`.
    """
    key = cache.recipe(root().name, *modules)
    return cache.artifact("selinux-policy", key, lambda target: _build_policy(target, modules)) / "policy"


def _build_policy(target: Path, modules: Sequence[Path]) -> None:
    work = target.with_name("root")
    for name in ("var/lib/selinux", "etc/selinux"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        cache.run(["cp", "-a", root() / "root" / name, work / name])
    _compile(work, target / "policy", modules)


def _compile(work: Path, target: Path, modules: Sequence[Path]) -> None:
    """Adds modules to the policy store below `work`, and copies the outcome."""
    installed = [word for path in modules for word in ("-i", path)]
    cache.run(["semodule", "-p", work, "-s", "default", "-n", *installed])
    (compiled,) = (work / "etc/selinux/default/policy").iterdir()
    shutil.copy(compiled, target)


def _build_root(target: Path) -> None:
    cache.say("installing Debian with SELinux into a folder (about a minute)")
    debian.bootstrap(target / "root", PACKAGES)


def _build_image(target: Path) -> None:
    work = target.with_name("root")
    cache.run(["cp", "-a", root() / "root", work])
    (modules,) = (work / "usr/lib/modules").iterdir()
    shutil.copy(work / "boot" / f"vmlinuz-{modules.name}", target / "vmlinuz")
    initramfs.write(target / "initrd", _FILES / "initramfs-init", initramfs.module_files(modules, _MODULES))
    _fill(work)
    cache.say("compiling the policy")
    _compile(work, target / "policy", policy_modules())
    cache.say("labelling files, making the disk")
    cache.run(["setfiles", "-m", "-F", "-r", work, work / "etc/selinux/default/contexts/files/file_contexts", work])
    disk = target / "disk"
    journal = ["-J", "size=8"]  # a test may cut the power
    cache.run(
        ["mke2fs", "-q", "-t", "ext4", "-m", "0", *journal, "-E", "lazy_itable_init=0", "-d", work, disk, _DISK_SIZE]
    )


def _fill(work: Path) -> None:
    """Puts our own files into the root file system."""
    for path in (work / "boot").iterdir():
        path.unlink()
    for name, source in ((_AGENT, Path(agent.__file__)), (_INIT, _FILES / "selinux-init")):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, work / name)
        (work / name).chmod(0o755)
    (work / _GUEST_FOLDER).mkdir(parents=True)
    shutil.copy(guest.kernel(), work / _GUEST_FOLDER)
    shutil.copy(guest.initrd(), work / _GUEST_FOLDER)
    (work / "etc/fstab").write_text("")
    (work / "etc/hostname").write_text("lab\n")
    config = work / "etc/selinux/config"
    config.write_text("SELINUX=enforcing\nSELINUXTYPE=default\n")
    local = work / "etc/selinux/default/contexts/files/file_contexts.local"
    local.write_text(f"/{_INIT} -- system_u:object_r:init_exec_t:s0\n")
