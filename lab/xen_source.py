"""The hypervisor of the Xen machine, from Debian's source package: Debian's own build of it has no XSM."""

import os
import shutil
from pathlib import Path

from lab import cache
from lab.debian import CODENAME, Apt

_CONFIG = Path(__file__).parent / "files" / "xen-config"
_PACKAGE = "xen"
_STOCK = "tools/flask/policy"
_NUMBERS = "xen/xsm/flask/policy"


def hypervisor() -> Path:
    """The hypervisor with FLASK, SILO and Argo; built (minutes) if it is not in the cache."""
    return _built() / "xen"


def stock_policy() -> Path:
    """The folder ``tools/flask/policy`` of the source that `hypervisor` was built from: Xen's own policy."""
    return _built() / "stock"


def numbers() -> Path:
    """Its folder ``xen/xsm/flask/policy``, whose order of classes, permissions and initial SIDs numbers them."""
    return _built() / "numbers"


def version() -> str:
    """The version of the source package."""
    return (_built() / "version").read_text()


def _built() -> Path:
    return cache.artifact("xen-hypervisor", cache.recipe(_CONFIG, _PACKAGE, CODENAME, _STOCK, _NUMBERS), _build)


def _build(target: Path) -> None:
    work = target.with_name("work")
    source = work / "source"
    cache.say("fetching Xen's source")
    found = Apt(work, ("deb", "deb-src")).source(_PACKAGE, source)
    (target / "version").write_text(found)
    shutil.copytree(source / _STOCK, target / "stock")
    shutil.copytree(source / _NUMBERS, target / "numbers")
    cache.say(f"compiling the hypervisor {found} (about two minutes)")
    # olddefconfig takes what .config says and fills in the rest; XEN_CONFIG_EXPERT would only open further questions.
    make: list[str | os.PathLike[str]] = [
        "make",
        "-C",
        source / "xen",
        f"-j{os.cpu_count()}",
        "XEN_BUILD_DATE=lab",
        "XEN_WHOAMI=lab",
    ]
    shutil.copy(_CONFIG, source / "xen" / ".config")
    cache.run([*make, "olddefconfig"])
    cache.run([*make, "xen"])
    shutil.copy(source / "xen" / "xen", target / "xen")
    _check(source / "xen" / ".config")


def _check(config: Path) -> None:
    """What was asked for and is not there depends on something that changed in Xen."""
    missing = set(_CONFIG.read_text().split("\n")) - set(config.read_text().split("\n"))
    if missing:
        raise cache.LabError(f"Xen's configuration did not take {sorted(missing)}")
