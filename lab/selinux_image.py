"""Builds the SELinux machine: root file system → labelled disk, kernel and initramfs → saved state.

Three artifacts, so that a change of a policy module costs seconds and only a change of the package list a minute.
See `lab.image` for how.
"""

from collections.abc import Sequence
from pathlib import Path

from lab import cache, debian, guest
from lab import image as image_parts
from septum import policy as shipped

_HERE = Path(__file__).parent
FOR_TESTS = tuple(sorted((_HERE / "cil").glob("*.cil")))
_OWN = "septum.cil"

PACKAGES = ("linux-image-cloud-amd64", *image_parts.BASICS, "qemu-system-x86", "secilc")
_DISK_SIZE = "2G"
_GUEST_FOLDER = "usr/share/septum-lab"  # of the nested guest's kernel and initramfs


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
        *image_parts.SOURCES,
        image_parts.FILES / "selinux-init",
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
    image_parts.compile_policy(work, target / "policy", modules)


def _build_root(target: Path) -> None:
    cache.say("installing Debian with SELinux into a folder (about a minute)")
    debian.bootstrap(target / "root", PACKAGES)


def _build_image(target: Path) -> None:
    work = target.with_name("root")
    cache.run(["cp", "-a", root() / "root", work])
    image_parts.kernel(work, target)
    guest_files = {f"{_GUEST_FOLDER}/{path.name}": path for path in (guest.kernel(), guest.initrd())}
    image_parts.fill(work, image_parts.FILES / "selinux-init", guest_files)
    cache.say("compiling the policy")
    image_parts.compile_policy(work, target / "policy", policy_modules())
    image_parts.disk(work, target / "disk", _DISK_SIZE)
