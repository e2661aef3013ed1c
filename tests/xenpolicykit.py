"""Xen's own policy, compiled from the source that the lab's hypervisor is built from."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab import xen_source


def stock(change: Callable[[Path], None] = lambda _: None, *, mls: bool = False) -> bytes:
    """The policy as Xen's own Makefile makes it.

    Args:
        change: edits the sources first; it is given the folder ``tools/flask/policy``.
        mls: with ``CONFIG_MLS=y``.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "tools/flask/policy")
        shutil.copytree(xen_source.stock_policy(), source)
        shutil.copytree(xen_source.numbers(), Path(name, "xen/xsm/flask/policy"))
        change(source)
        command = ["make", "-s", "-f", "Makefile.common", f"FLASK_BUILD_DIR={name}", "XEN_FULLVERSION=x"]
        subprocess.run(
            [*command, f"CONFIG_MLS={'y' if mls else 'n'}", "all"],
            cwd=source,
            check=True,
            capture_output=True,
            text=True,
        )
        return Path(name, "xenpolicy-x").read_bytes()
