"""The classes and permissions that septum decides by. A policy that lacks one of them is refused, never guessed at.

`selinux_check_access()` of libselinux lets unknown classes and permissions through unless the policy says
``deny_unknown``, and allows everything where SELinux is off; that is why nothing here uses it.
"""

from collections.abc import Mapping, Set
from typing import Final

from septum.errors import PolicyLacks

__all__ = ["CLASSES", "require"]

CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "septum_realm": tuple("create destroy suspend getattr setattr delegate set_quota consent audit_read".split()),
    "septum_guest": tuple(
        "create start stop reset pause destroy getattr list set_config migrate_out migrate_in snapshot console"
        " attach detach".split()
    ),
    "septum_image": tuple("create read write clone attach delete relabelfrom relabelto share".split()),
    "septum_device": ("list", "assign", "release"),
    "septum_service": ("register", "unregister", "connect", "accept", "list"),
    "septum_channel": ("create", "accept", "send", "recv", "notify", "getattr", "revoke"),
    "septum_category": ("allocate", "release", "reserve", "query"),
    "septum_policy": ("load", "check", "explain"),
    "septum_broker": ("hello", "introspect", "drain"),
    "septum_audit": ("append", "read", "export"),
}
"""Class → its permissions."""


def require(offered: Mapping[str, Set[str]], policy: str) -> None:
    """
    Args:
        offered: the policy's classes → their permissions.
        policy: its name, for the refusal.

    Raises:
        PolicyLacks: names each class that is missing, and each permission of those that are there.
    """
    classes = [name for name in CLASSES if name not in offered]
    permissions = [
        f"{name} {{ {' '.join(lacking)} }}"
        for name, known in CLASSES.items()
        if name in offered and (lacking := [one for one in known if one not in offered[name]])
    ]
    if classes or permissions:
        raise PolicyLacks(
            f"the policy {policy} lacks "
            + "; ".join(
                [f"the class {name}" for name in classes] + [f"permissions of the class {text}" for text in permissions]
            ),
            target=policy,
            rule="a class that the policy does not know can't be decided by it",
            remedy="load a policy that was built from septum's sources",
        )
