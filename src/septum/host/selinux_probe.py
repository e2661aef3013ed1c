"""Whether SELinux, with the policy that is loaded now, keeps guests apart: asked, not assumed.

What matters is not that a type is there, but that the kernel's security server gives the answers on which the driver
relies: own objects reachable, another guest's not, shared content not writable.
"""

from __future__ import annotations

from septum.errors import HostError
from septum.host import selinux_kernel as se
from septum.host.driver import Availability
from septum.host.selinux_types import OWN, SVIRT, Types, defined
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_OWN: Final = "s0:c0,c1"
_OTHER: Final = "s0:c0,c2"
_REALM: Final = "s0:c0"
_PLAIN: Final = "s0"


class _Rule(NamedTuple):
    """An answer on which the driver relies.

    Attributes:
        source, target: contexts.
        cls: class.
        permissions: all of them are allowed, or none is.
        allowed: which of the two.
        says: the sentence for people if it is otherwise.
    """

    source: str
    target: str
    cls: str
    permissions: frozenset[str]
    allowed: bool
    says: str


def choose(*, permissive: bool) -> tuple[Types, Availability]:
    """The set to label with, septum's own if it can be, and what comes of it. selinuxfs is mounted."""
    own = probe(OWN, permissive=permissive)
    if own.works:
        return OWN, own
    svirt = probe(SVIRT, permissive=permissive)
    if not svirt.works:
        # Where septum's policy is loaded, what is wrong with it is what the reader has to know.
        return (OWN, own) if defined(OWN) else (SVIRT, svirt)
    says = f"libvirt's types are used, which allow more than septum's own ({own.reason}): septum policy load"
    return SVIRT, svirt._replace(weaker=(says, *svirt.weaker))


def probe(types: Types, *, permissive: bool) -> Availability:
    """See `host.driver.Driver.probe`; selinuxfs is mounted."""
    enforcing = se.enforcing()
    details = {"mode": "enforcing" if enforcing else "permissive", "types": types.name, "guest": types.process}
    try:
        details["policy format"] = se.policy_version()
        details["own context"] = current = se.current()
        if not enforcing and not permissive:
            return Availability(False, "SELinux is permissive: it records what it would refuse", details)
        for context in (types.process, *types.objects):
            se.canonical(f"{context}:{_OWN}")
        for rule in (*_separation(types), *_launching(types, current)):
            decision = se.decide(rule.source, rule.target, rule.cls, rule.permissions)
            if decision.permissive and not permissive:
                return Availability(False, f"the domain of {rule.source} is permissive in this policy", details)
            if decision.refused if rule.allowed else decision.allowed:
                return Availability(False, rule.says, details)
        weaker = tuple(rule.says for rule in _comfort(types, current) if _broken(rule))
    except HostError as error:
        return Availability(False, f"{error.what} ({error.target})" if error.target else error.what, details)
    if current.split(":", 3)[3:] != [_PLAIN]:
        weaker += (
            f"septum runs as {current}: a guest can't write to pipes made at that range, so its output may be lost",
        )
    if not enforcing:
        weaker += ("SELinux is permissive: nothing is refused",)
    return Availability(True, "", details, weaker)


def _broken(rule: _Rule) -> bool:
    decision = se.decide(rule.source, rule.target, rule.cls, rule.permissions)
    return bool(decision.refused if rule.allowed else decision.allowed)


def _separation(types: Types) -> Iterator[_Rule]:
    own, other = f"{types.process}:{_OWN}", f"{types.process}:{_OTHER}"
    use, write = frozenset({"read", "write", "open"}), frozenset({"write", "append", "create"})
    yield _Rule(own, f"{types.image}:{_OWN}", "file", use, True, "the policy does not let a guest use its own image")
    yield _Rule(
        own,
        f"{types.image}:{_OTHER}",
        "file",
        frozenset({"read", "write"}),
        False,
        f"the policy does not keep categories apart: {types.process} is not an mcs_constrained_type",
    )
    for level in (_OWN, _REALM):
        yield _Rule(
            own,
            f"{types.content}:{level}",
            "file",
            frozenset({"read", "open"}),
            True,
            "the policy does not let a guest read shared content",
        )
    yield _Rule(own, f"{types.content}:{_REALM}", "file", write, False, "the policy lets guests write shared content")
    yield _Rule(
        own, f"{types.content}:s0:c0,c2", "file", frozenset({"read"}), False, "categories do not protect content"
    )
    yield _Rule(
        own,
        other,
        "process",
        frozenset({"ptrace", "sigkill", "signal"}),
        False,
        "guests can reach each other's process",
    )
    yield _Rule(
        own, other, "unix_stream_socket", frozenset({"connectto"}), False, "guests can reach each other's sockets"
    )


def _launching(types: Types, current: str) -> Iterator[_Rule]:
    yield _Rule(
        current,
        f"{types.process}:{_OWN}",
        "process",
        frozenset({"transition"}),
        True,
        f"the policy does not let {current} start guests as {types.process}: a policy module must allow it",
    )
    relabel = frozenset({"relabelto", "relabelfrom"})
    for target in dict.fromkeys(types.objects):
        says = f"the policy does not let {current} label files {target}"
        yield _Rule(current, f"{target}:{_OWN}", "file", relabel, True, says)


def _comfort(types: Types, current: str) -> Iterator[_Rule]:
    """What QEMU or its caller would miss."""
    own = f"{types.process}:{_OWN}"
    image, content = f"{types.image}:{_OWN}", f"{types.content}:{_OWN}"
    rows = (
        (current, own, "process", "siginh", "the signal mask of septum's caller does not reach QEMU"),
        (current, own, "process", "rlimitinh", "resource limits of septum's caller do not reach QEMU"),
        (own, current, "fd", "use", "QEMU can't use descriptors that septum's caller hands to it"),
        (own, current, "fifo_file", "write", "QEMU can't write to its caller's pipes"),
        (own, own, "process", "execmem", f"QEMU can't emulate a CPU (boolean {types.execmem}); KVM works"),
        (own, own, "anon_inode", "create", "QEMU can't use io_uring (aio=io_uring)"),
        (own, own, "unix_stream_socket", "connectto", "a guest can't connect to its own sockets"),
        (own, image, "file", "map", "QEMU can't map files that it writes (memory-backend-file)"),
        (own, content, "file", "map", "QEMU can't map files that it reads (-initrd)"),
    )
    for source, target, cls, permission, says in rows:
        yield _Rule(source, target, cls, frozenset({permission}), True, says)
