"""The sets of SELinux types that the driver can label with."""

from __future__ import annotations

from septum.errors import HostError
from septum.host import selinux_kernel as se
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final


class Types(NamedTuple):
    """One set: contexts without their level.

    Attributes:
        name: of the set, as it is stored with each guest.
        process: of QEMU.
        image: of what one guest reads and writes.
        content: of what is only read. No guest may write it.
        device: of a device node that belongs to one guest.
        execmem: the boolean that lets QEMU emulate a CPU.
        clearance: the process has its whole realm's: from its code up to that and every guest category.
    """

    name: str
    process: str
    image: str
    content: str
    device: str
    execmem: str
    clearance: bool = False

    @property
    def objects(self) -> tuple[str, str, str]:
        """What a guest's objects get."""
        return self.image, self.content, self.device


OWN: Final = Types(
    name="septum",
    process="system_u:system_r:septum_vm.process",
    image="system_u:object_r:septum_vm.image",
    content="system_u:object_r:septum_vm.content",
    device="system_u:object_r:septum_vm.device",
    execmem="septum_use_execmem",
)
"""Those of septum's policy (policy/cil/shared/guest.cil)."""

SVIRT: Final = Types(
    name="svirt",
    process="system_u:system_r:svirt_t",
    image="system_u:object_r:svirt_image_t",
    content="system_u:object_r:virt_content_t",
    device="system_u:object_r:svirt_image_t",
    execmem="virt_use_execmem",
)
"""libvirt's, as Debian's and Fedora's policies have them (contexts/virtual_domain_context, virtual_image_context)."""

ORCHESTRATOR: Final = Types(
    name="orchestrator",
    process="system_u:system_r:septum_orchestrator.process",
    image="system_u:object_r:septum_orchestrator.image",
    content="system_u:object_r:septum_orchestrator.content",
    device="system_u:object_r:septum_orchestrator.device",
    execmem="septum_use_execmem",
    clearance=True,
)
"""Those of septum's policy for the guest that acts for its realm."""

SETS: Final[Mapping[str, Types]] = {types.name: types for types in (OWN, SVIRT, ORCHESTRATOR)}
"""By name, the preferred one first."""

_OF_ROLE: Final = "role "


def of_role(block: str) -> Types:
    """The set of a declared role.

    Args:
        block: of the policy, which inherits ``septum_guest``: ``septum_realm-red.role-web``.
    """
    return Types(
        name=_OF_ROLE + block,
        process=f"system_u:system_r:{block}.process",
        image=f"system_u:object_r:{block}.image",
        content=f"system_u:object_r:{block}.content",
        device=f"system_u:object_r:{block}.device",
        execmem=OWN.execmem,
    )


def named(name: str) -> Types | None:
    """The set of that name, as it is stored with a guest; None for one that there is not."""
    return of_role(name.removeprefix(_OF_ROLE)) if name.startswith(_OF_ROLE) else SETS.get(name)


LAUNCHER: Final = "septum_launcher_t"
WATCHER: Final = "septum_watcher_t"


def leave_launcher() -> None:
    """Lets the next exec of this process enter the watcher's domain, if it is in the launcher's now.

    Elsewhere, as in an administrator's shell, the watcher stays what its starter is.

    Raises:
        HostError: the kernel refused it.
    """
    if not se.mounted():
        return
    user, role, kind, level = se.current().split(":", 3)
    if kind == LAUNCHER:
        se.write_attribute(se.open_attribute("exec"), f"{user}:{role}:{WATCHER}:{level}")


def defined(types: Types) -> bool:
    """Whether the loaded policy knows all types of the set."""
    try:
        for context in (types.process, *types.objects):
            se.canonical(f"{context}:s0:c0,c1")
    except HostError:
        return False
    return True


def likely() -> Types:
    """The set that will be used, before anybody asks whether it keeps guests apart."""
    if not se.mounted():
        return OWN
    return next((types for types in SETS.values() if defined(types)), OWN)
