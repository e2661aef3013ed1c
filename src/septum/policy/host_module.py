"""Septum's module in the host's policy: checked as a whole first, then installed by semodule."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from septum.errors import PolicyError
from septum.policy.compile import Built, build, run
from septum.policy.sources import SVIRT_MODULE, Source, module, svirt
from septum.policy.store import DECLARED, MODULE, Store

_COMMANDS: Final = ("septum", "septum-qemu", "septumd")
_FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/opt/septum/bin")
LABELLED: Final = (
    *(f"{folder}/{name}" for folder in _FOLDERS for name in _COMMANDS),
    "/var/lib/septum",
    "/run/septum",
)
"""Paths that the module has types for (``filecon`` in policy/cil/debian/launcher.cil)."""

_QUOTED: Final = 2000


def relabel(paths: Sequence[str]) -> None:
    """Gives what is at these paths the types that the policy now has for it (``restorecon``); what is missing is left
    out.

    Raises:
        PolicyError: it was refused.
        NotFound: restorecon is not installed.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if not there:
        return
    done = run(["restorecon", "-RF", *there])
    if done.returncode != 0:
        raise PolicyError(
            "the policy is in force, but septum's own files did not get its types",
            target=" ".join(there),
            rule=(done.stderr or done.stdout).strip()[:_QUOTED],
            remedy=f"restorecon -RF {' '.join(there)}",
        )


def load_module(*, with_svirt: bool = False, store: Store | None = None, reload: bool = True) -> Built:
    """Installs the module `septum` and makes the host's policy anew.

    Args:
        with_svirt: the optional module for libvirt's types, too.
        store: None stands for the host's own.
        reload: tell the kernel; otherwise it takes the new policy at the next boot.

    Returns:
        What the compiler made of the same sources, with every check.

    Raises:
        PolicyError: a rule of the host's policy breaks one of septum's neverallows, or semodule refused it; nothing
            was changed.
        NotFound: a tool, or the host's policy, is missing.
    """
    store = store if store is not None else Store.of_host()
    extra = [svirt()] if with_svirt else []
    built = build("module", store=store, extra=[Source(f"host/{source.name}", source.text) for source in extra])
    texts = {MODULE: module()}
    if with_svirt:
        texts[SVIRT_MODULE] = svirt().text.encode()
    _semodule(store, texts, reload=reload)
    return built


def load_declared(text: str, *, store: Store | None = None) -> None:
    """Installs what a declaration became as a module beside septum's, and makes the host's policy anew.

    Args:
        text: its CIL.
        store: None stands for the host's own.

    Raises:
        PolicyError: semodule refused it; nothing was changed.
        NotFound: a tool, or the host's policy, is missing.
    """
    _semodule(store if store is not None else Store.of_host(), {DECLARED: text.encode()}, reload=True)


def _semodule(store: Store, texts: Mapping[str, bytes], *, reload: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="septum-policy-") as folder:
        command = ["semodule", "-s", store.name]
        command += ["-p", store.root] if store.root != "/" else []
        command += [] if reload else ["-n"]
        for name, text in texts.items():
            # semodule names a module by its file.
            path = Path(folder, f"{name}.cil")
            path.write_bytes(text)
            command += ["-i", str(path)]
        done = run(command)
    if done.returncode != 0:
        raise PolicyError(
            "semodule did not take the module",
            target=str(store.folder),
            rule=(done.stderr or done.stdout).strip()[:_QUOTED],
            remedy="nothing was changed; correct what it names and try again",
        )
