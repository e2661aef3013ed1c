"""Which engine the daemon decides by, and how it is opened."""

from typing import Final

from septum.access import Engine
from septum.access.kernel import KernelEngine
from septum.access.worker import WorkerEngine
from septum.daemon.source import Source
from septum.errors import PolicyError
from septum.host import selinux_kernel

__all__ = ["FileSource", "KernelSource", "choose"]

_MOST: Final = 64 << 20


class KernelSource:
    """The kernel's loaded policy: whoever loads another one does it for the whole host."""

    def fresh(self) -> Engine:
        return KernelEngine()

    def again(self, engine: Engine) -> Engine:
        return KernelEngine()


class FileSource:
    """A compiled policy in a file, decided by libsepol in a process of its own.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def fresh(self) -> Engine:
        try:
            with open(self._path, "rb") as file:
                image = file.read(_MOST + 1)
        except OSError as error:
            raise PolicyError(
                f"there is no policy to decide by: {error.strerror}",
                target=self._path,
                remedy="septum policy load --target standalone, or name a file with --policy",
            ) from error
        if len(image) > _MOST:
            raise PolicyError("this is no policy", target=self._path, rule=f"at most {_MOST} bytes")
        return WorkerEngine(image)

    def again(self, engine: Engine) -> Engine:
        # Not the file: another policy may be in it by now, and nobody has asked for that one.
        return WorkerEngine(engine.image) if isinstance(engine, WorkerEngine) else self.fresh()


def choose(name: str, path: str) -> Source:
    """
    Args:
        name: ``kernel``, ``libsepol``, or ``auto``: the kernel where SELinux enforces.
        path: of the compiled policy for libsepol.
    """
    if name == "kernel" or (name == "auto" and selinux_kernel.mounted() and selinux_kernel.enforcing()):
        return KernelSource()
    return FileSource(path)
