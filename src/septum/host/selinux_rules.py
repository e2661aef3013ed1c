"""Which rule of the loaded SELinux policy a decision rests on: for people, so off the way of a launch.

The kernel decides and does not say why. So its policy is read back (``/sys/fs/selinux/policy``) and asked again, by
libsepol: the same policy and the same rules give the same answer (tests/test_lab_sepol.py compares them).
"""

from __future__ import annotations

from septum.errors import Denied
from septum.host import selinux_kernel as se
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from septum.sepol import Policy

_opened: list[Policy] = []


def quote(source: str, target: str, cls: str, permissions: Iterable[str]) -> str:
    """The rule or constraint, in one line; "" where it can't be told: no libsepol, or no right to read the policy.

    Args:
        source, target: contexts.
        cls: class of the target.
        permissions: that were asked for. Of several that are refused the reason may differ; one is told.
    """
    from septum.sepol import Policy

    try:
        if not _opened:
            _opened.append(Policy.open(f"{se.FOLDER}/policy"))
        return _opened[0].explain(source, target, cls, sorted(permissions)).rule
    except Denied:
        return ""
