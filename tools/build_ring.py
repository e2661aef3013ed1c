"""Hatchling's build hook: compiles the ring core into an extension module for the stable ABI.

One command line, with the compiler that built this Python (or ``CC``) and ``CFLAGS`` after the project's own.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/septum/ivc")
SOURCES = ("ring.c", "py_mapping.c", "py_end.c", "py_tx.c", "py_rx.c", "py_module.c")
MODULE = FOLDER / "_ring.abi3.so"
FLAGS = (
    "-std=c11 -O2 -g -fPIC -shared -fvisibility=hidden -fstack-protector-strong -Wall -Wextra "
    "-D_FORTIFY_SOURCE=2 -DPy_LIMITED_API=0x030B0000 -Wl,-z,relro,-z,now"
)


class BuildRing(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for wheels, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and tells hatchling of the module.

        Raises:
            RuntimeError: there is no compiler, or it refused.
        """
        root = Path(self.root)
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        command = [
            *compiler,
            *shlex.split(FLAGS),
            *shlex.split(os.environ.get("CFLAGS", "")),
            f"-I{sysconfig.get_path('include')}",
            *(str(root / FOLDER / name) for name in SOURCES),
            "-o",
            str(root / MODULE),
        ]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                "the ring core can't be compiled: a C compiler and Python's headers are needed (gcc, python3-dev)"
            ) from error
        build_data["artifacts"].append(f"/{MODULE}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"
