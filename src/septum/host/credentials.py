"""The way down: from root to the guest's uid and gid, with no capability left and no promise to the caller lost."""

from __future__ import annotations

import os

from septum.errors import HostError
from septum.host import kernel
from septum.host.driver import Confinement, Entry
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

# One for each guest: a range that systemd's UIDS-GIDS document lists as unused, above its container range.
GUEST_UIDS: Final = range(0x7000_0000, 0x7100_0000)


def entries(guest: Confinement) -> list[Entry]:
    """Changes uid, gid and groups; nothing where the process keeps its caller's."""
    if guest.uid < 0:
        return []
    return [Entry(50, f"become uid {guest.uid}, gid {guest.gid}", lambda: drop(guest))]


def groups(guest: Confinement) -> list[int]:
    """The supplementary groups: those of shared devices and, if there is one, that of the realm."""
    return [*guest.groups, *([guest.realm_gid] if guest.realm_gid >= 0 else [])]


def drop(guest: Confinement) -> None:
    """Becomes the guest's uid for good.

    The parent-death signal survives: the kernel clears it whenever credentials change (prctl(2)), and a toolstack that
    set it counts on it. If the parent ended in between, the signal is due and is sent here.

    Raises:
        HostError: the kernel refused, or a capability is left.
    """
    parent, signal = os.getppid(), kernel.parent_death_signal()
    if guest.memlock:
        # Root locks memory without limit thanks to CAP_IPC_LOCK, which goes away here.
        kernel.set_limit(kernel.RLIMIT_MEMLOCK, kernel.RLIM_INFINITY, kernel.RLIM_INFINITY)
    try:
        os.setgroups(groups(guest))
        os.setresgid(guest.gid, guest.gid, guest.gid)
        os.setresuid(guest.uid, guest.uid, guest.uid)
    except OSError as error:
        raise kernel.oserror(f"becoming uid {guest.uid}", error.errno or 0) from error
    # setresuid clears all sets but the inheritable one, and that only unless securebits say otherwise.
    kernel.drop_capabilities()
    left = kernel.capabilities()
    if any(left) or os.getresuid() != (guest.uid,) * 3 or os.getresgid() != (guest.gid,) * 3:
        raise HostError(
            f"the process kept privileges after it became uid {guest.uid}",
            rule=f"capabilities {left}, uids {os.getresuid()}, gids {os.getresgid()}",
        )
    if signal:
        kernel.set_parent_death_signal(signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal)
