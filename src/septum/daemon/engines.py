"""Which engine the daemon decides by, and how it is opened."""

from typing import Final

from septum.access import Engine
from septum.access.kernel import KernelEngine
from septum.daemon.source import Source
from septum.errors import UsageError
from septum.host import selinux_kernel

__all__ = ["POLICY", "KernelSource", "choose"]

POLICY: Final = "policy"
"""Name of the compiled policy in the state folder."""


class KernelSource:
    """The kernel's loaded policy: whoever loads another one does it for the whole host."""

    def fresh(self) -> Engine:
        return KernelEngine()

    def again(self, engine: Engine) -> Engine:
        return KernelEngine()


def choose(name: str, path: str) -> Source:
    """
    Args:
        name: ``kernel``, ``libsepol``, or ``auto``: the kernel where SELinux enforces.
        path: of the compiled policy for libsepol.

    Raises:
        UsageError: it can't be had here.
    """
    if name == "kernel" or (name == "auto" and selinux_kernel.mounted() and selinux_kernel.enforcing()):
        return KernelSource()
    raise UsageError("no engine", target=path)
