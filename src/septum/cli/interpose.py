"""``septum-qemu``: `septum run` for toolstacks, which call it instead of QEMU and must not notice.

Installed under QEMU's own name earlier in PATH (a symlink will do), it finds the real one further on; as
``septum-qemu`` it takes SEPTUM_QEMU, or the emulator of this machine's architecture. There are no options of its
own, every word is QEMU's: SEPTUM_REALM, SEPTUM_NAME, SEPTUM_DRIVER and SEPTUM_STATE say the rest.
"""

from __future__ import annotations

import os
import sys

from septum.cli.main import guarded
from septum.host import joining
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Entry of the command ``septum-qemu``."""
    guarded(_main)


def _main() -> NoReturn:
    moving = joining.begin()
    # The kernel takes as long to move the process as Python takes to load all this.
    from septum.launch import state
    from septum.launch.inspect import Allowed
    from septum.launch.plan import Request
    from septum.launch.run import run

    environment = os.environ
    called = os.path.basename(sys.argv[0])
    own = os.path.realpath(sys.argv[0])
    program = environment.get("SEPTUM_QEMU", "")
    if not program:
        program = f"qemu-system-{os.uname().machine}" if called.startswith("septum") else called
    folder = state.folder("", environment)
    request = Request(
        argv=(program, *sys.argv[1:]),
        realm=environment.get("SEPTUM_REALM") or "default",
        name=environment.get("SEPTUM_NAME", ""),
        drivers=environment.get("SEPTUM_DRIVER") or "auto",
        allowed=Allowed(forbidden=(os.path.realpath(folder),)),
        path=environment.get("PATH", os.defpath),
        skip=own,
        tmpdir=environment.get("TMPDIR", "/var/tmp"),
    )
    run(request, folder, moving)


if __name__ == "__main__":
    main()
