"""The host's own policy, as libsemanage keeps it: modules in a store, of which semodule makes the loaded policy.

Layout: ``/var/lib/selinux/TYPE/active/modules/PRIORITY/NAME/{cil,lang_ext}`` (libsemanage/src/semanage_store.c); of
modules of one name the highest priority counts, and names in ``modules/disabled`` don't count at all. ``cil`` is
compressed by bzip2 unless semanage.conf says otherwise.
"""

import bz2
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from septum.errors import NotFound, PolicyError
from septum.policy.sources import Source

MODULE: Final = "septum"
DECLARED: Final = "septum_declared"
"""The module that a platform's declaration becomes."""
_BZIP2: Final = b"BZh"
_MOST: Final = 64 << 20  # bytes of one module, unpacked
_CONFIG: Final = "etc/selinux/config"
_TYPE: Final = re.compile(r"^\s*SELINUXTYPE\s*=\s*([A-Za-z0-9_.-]+)\s*$", re.MULTILINE)
_UNKNOWN: Final = re.compile(r"^\(handleunknown (allow|deny|reject)\)", re.MULTILINE)
_PRIORITY: Final = re.compile(r"[0-9]{1,3}")


class Store(NamedTuple):
    """One store.

    Attributes:
        root: the folder that stands for ``/``.
        name: SELINUXTYPE: ``default`` on Debian, ``targeted`` on Fedora.
    """

    root: str
    name: str

    @classmethod
    def of_host(cls, root: str = "/") -> "Store":
        """The store that ``/etc/selinux/config`` names.

        Raises:
            NotFound: SELinux is not set up on this host.
        """
        path = os.path.join(root, _CONFIG)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = _TYPE.search(file.read(1 << 16))
        except OSError as error:
            raise NotFound(
                f"there is no SELinux policy on this host: {path} can't be read ({error.strerror})",
                target=path,
                remedy="apt install selinux-policy-default; or build the other one: --target standalone",
            ) from error
        return cls(root, found[1] if found else "targeted")

    @property
    def folder(self) -> Path:
        return Path(self.root, "var/lib/selinux", self.name, "active/modules")

    def modules(self) -> list[Source]:
        """The CIL of every module that is in force, but septum's own, and what was declared.

        Raises:
            NotFound: there is no such store.
            PolicyError: a module can't be read, or is not CIL.
        """
        chosen: dict[str, tuple[int, Path]] = {}
        try:
            off = {path.name for path in (self.folder / "disabled").glob("*")}
            for priority in self.folder.iterdir():
                if _PRIORITY.fullmatch(priority.name):
                    for path in priority.iterdir():
                        rank = (int(priority.name), path)
                        chosen[path.name] = max(chosen.get(path.name, rank), rank)
        except OSError as error:
            raise NotFound(
                f"the policy store {self.folder} can't be read: {error.strerror}",
                target=str(self.folder),
                remedy="run it as root on a host with an SELinux policy, or build the other one: --target standalone",
            ) from error
        if not chosen:
            raise NotFound(f"the policy store {self.folder} is empty", target=str(self.folder))
        names = sorted(chosen.keys() - off - {MODULE, DECLARED})
        return [Source(f"host/{name}.cil", _cil(chosen[name][1] / "cil")) for name in names]

    def installed(self) -> str:
        """The CIL of septum's module in the store, or "" if it is not there."""
        return self._module(MODULE)

    def declared(self) -> str:
        """The CIL of the declaration's module in the store, or "" if it is not there."""
        return self._module(DECLARED)

    def _module(self, name: str) -> str:
        found = [path for path in self.folder.glob(f"*/{name}/cil") if path.parts[-3] != "disabled"]
        return _cil(max(found, key=lambda path: int(path.parts[-3]))) if found else ""


def handle_unknown(modules: Sequence[Source]) -> str:
    """What the host's policy does with classes that it lacks: ``allow``, ``deny`` or ``reject``."""
    base = next((module.text for module in modules if module.name == "host/base.cil"), "")
    found = _UNKNOWN.search(base)
    return found[1] if found else "deny"


def _cil(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content.startswith(_BZIP2):
            unpacker = bz2.BZ2Decompressor()
            content = unpacker.decompress(content, _MOST)
            if not unpacker.eof:
                raise PolicyError("a module of the host's policy is cut off, or larger than any", target=str(path))
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise PolicyError(f"a module of the host's policy can't be read: {error}", target=str(path)) from error
