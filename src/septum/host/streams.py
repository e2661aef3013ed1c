"""Which standard streams this process was started without.

Looked at when the module is loaded, before anything of septum's opens a file: a new descriptor takes the lowest free
number, so what septum opens for a moment may look like a standard stream that was there from the start.
"""

from __future__ import annotations

import os


def is_open(fd: int) -> bool:
    """Whether the process has that descriptor now."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


CLOSED = tuple(fd for fd in (0, 1, 2) if not is_open(fd))
