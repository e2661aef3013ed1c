"""The driver `selinux`: each guest's process and objects get types of the loaded policy and the guest's categories; the
kernel keeps apart what has incomparable ones.

Two sets of types will do (`selinux_types`): septum's own, which its policy defines (docs/policy.md), and those that
libvirt uses. Unlike libvirt, what a guest alone reads gets its categories too.

Sockets need no label of ours: a process' sockets, and the names it makes for them, carry the process' own level, and
``/proc/…/attr/sockcreate`` would not outlive the exec (`selinux_bprm_creds_for_exec` resets it). Their names are
removed after the guest, as QEMU leaves them behind when it is killed.
"""

from __future__ import annotations

import os

from septum.errors import HostError
from septum.host import selinux_kernel as se
from septum.host.driver import Availability, Confinement, Entry, Facts, Item, Operation, Step, Verdict
from septum.host.ownership import made
from septum.host.selinux_context import Relabel
from septum.host.selinux_rules import quote
from septum.host.selinux_types import SETS, Types, likely, named
from septum.labels import CategorySet, Context, Level, RealmScheme, context_text
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_LEFT_ALONE: Final = frozenset({"shared-device", "helper", "plugin", "sysfs", "tmpdir", "socket", "peer-socket"})
_CLASSES: Final = {
    "file": "file",
    "dir": "dir",
    "block": "blk_file",
    "char": "chr_file",
    "socket": "sock_file",
    "fifo": "fifo_file",
}
_READ: Final = frozenset({"read", "open", "getattr"})
_WRITE: Final = frozenset({"write"})
_FOREIGN_TYPES: Final = frozenset(
    "container_t container_kvm_t container_init_t container_logreader_t openshift_t qemu_t svirt_lxc_net_t "
    "svirt_kvm_net_t svirt_qemu_net_t svirt_prot_exec_t svirt_t svirt_tcg_t".split()
)
_ALL_CATEGORIES: Final = "c0.c1023"


class SelinuxDriver:
    """Implements `host.driver.Driver`.

    Args:
        types: what to label with; None stands for septum's own where the loaded policy has them and keeps guests apart
            by them, else libvirt's.
        permissive: work although the kernel only records what it would refuse; for trying a policy out.
    """

    name = "selinux"

    def __init__(self, types: Types | None = None, *, permissive: bool = False) -> None:
        self._types = types
        self._given = types is not None
        self._permissive = permissive

    @property
    def types(self) -> Types:
        """What it labels with: decided by `probe`, or before that by what the loaded policy knows."""
        if self._types is None:
            self._types = likely()
        return self._types

    def probe(self) -> Availability:
        if not se.mounted():
            return Availability(False, "SELinux is not running in this kernel", {})
        from septum.host.selinux_probe import choose, probe

        if self._given:
            return probe(self.types, permissive=self._permissive)
        self._types, availability = choose(permissive=self._permissive)
        return availability

    def operations(self) -> Mapping[str, Operation]:
        # A journal may have been written with another set than is in use now.
        contexts = {context for types in (*SETS.values(), self.types) for context in types.objects}
        return {"context": Relabel({context.split(":")[2] for context in contexts})}

    def steps(self, guest: Confinement) -> list[Step]:
        """One label for each object; a file that QEMU would make is made with its label.

        A directory gets its label itself, and what the guest makes in it inherits that; what is in it already keeps
        its own, so that a guest reaches nothing that nobody looked at.
        """
        found = []
        for item in guest.items:
            for step in made(guest, item):
                if step.op == "mkfile":
                    step = step._replace(args={**step.args, "context": f"{self.types.image}:{guest.level}"})
                found.append(step)
            if item.facts is not None and not _left_alone(item, item.facts):
                found.append(self._label(guest, item, item.facts))
        return found

    def _label(self, guest: Confinement, item: Item, facts: Facts) -> Step:
        types = self._of(guest)
        shared = item.resource.sharing == "shared"
        level = guest.realm_level if shared else guest.level
        if item.resource.kind == "device" or (facts.type == "char" and not shared):
            prefix = types.device
        else:
            prefix = types.image if item.resource.access == "rw" else types.content
        scope = facts.key if shared else ""
        return Step("context", facts.key, facts.path, scope, {"context": f"{prefix}:{level}"})

    def entries(self, guest: Confinement) -> list[Entry]:
        context = self.context(guest)
        opened: list[int] = []

        def open_it() -> None:
            opened.append(se.open_attribute("exec"))

        def set_it() -> None:
            se.write_attribute(opened[0], context)

        return [
            Entry(30, "open the attribute that holds the context for exec", open_it),
            Entry(70, f"enter {context} at exec", set_it),
        ]

    def context(self, guest: Confinement) -> str:
        """The context of the guest's process."""
        types = self._of(guest)
        level = _clearance(guest.realm_level) if types.clearance else guest.level
        return f"{types.process}:{level}"

    def explain(self, guest: Confinement, facts: Facts, access: str) -> Verdict:
        if not facts.context:
            return Verdict(self.name, None, "the object has no SELinux context")
        source = self.context(guest)
        cls = _CLASSES[facts.type]
        wanted = _READ | _WRITE if access == "rw" else _READ
        try:
            decision = se.decide(source, facts.context, cls, wanted)
            if not decision.refused:
                rule = quote(source, facts.context, cls, wanted)
                return Verdict(self.name, True, rule or f"allow {source} {facts.context}:{cls} {_braced(wanted)}")
            at_own_level = se.decide(source, f"{_without_level(facts.context)}:{guest.level}", cls, wanted)
        except HostError as error:
            return Verdict(self.name, None, error.what)
        rule = quote(source, facts.context, cls, decision.refused)
        if not at_own_level.refused:
            categories = f"its categories {_level(facts.context)} are not within the guest's {guest.level}"
            rule = f"{categories}: {rule}" if rule else categories
        elif not rule:
            rule = f"no rule allows {source} {facts.context}:{cls} {_braced(decision.refused)}"
        return Verdict(self.name, decision.permissive, rule)

    def foreign(self) -> list[CategorySet]:
        """Categories of the guests and containers that run now, whoever started them.

        A process without categories, or with all of them, is left out: no label avoids those.

        Raises:
            HostError: a process' label can't be read, so that it can't be avoided.
            LabelError: a guest's or container's label is malformed.
        """
        own = {types.process.split(":")[2] for types in (*SETS.values(), self.types)}
        found = {self._categories(pid, _FOREIGN_TYPES | own) for pid in os.listdir("/proc") if pid.isdigit()}
        return sorted((one for one in found if one), key=str)

    def _of(self, guest: Confinement) -> Types:
        """The set that the guest was started with, or that it would be."""
        return (named(guest.types) if guest.types else None) or self.types

    @staticmethod
    def _categories(pid: str, types: frozenset[str]) -> CategorySet:
        try:
            with open(f"/proc/{pid}/attr/current", "rb", buffering=0) as file:
                text = context_text(file.read())
        except (FileNotFoundError, ProcessLookupError):
            return CategorySet()
        except OSError as error:
            raise HostError(
                f"the label of process {pid} can't be read: {error.strerror}",
                errno=error.errno or 0,
                rule="a new guest's categories must differ from those of every guest and container",
                remedy="run septum as root, in a domain that may read /proc of all processes",
            ) from error
        parts = text.split(":")
        # Every role of septum's policy, and whatever else inherits a block of its policy, calls its process so.
        guest = len(parts) > 3 and (parts[2] in types or parts[2].endswith(".process"))
        if not guest or text.endswith(_ALL_CATEGORIES):
            return CategorySet()
        found = Context.parse(text).range
        if found is None or (found.low != found.high and parts[2].endswith(".process")):
            return CategorySet()  # an orchestrator includes its realm's guests, as it should
        return found.high.categories


def _left_alone(item: Item, facts: Facts) -> bool:
    kind = item.resource.kind
    return item.platform or kind in _LEFT_ALONE or (kind == "memory" and facts.type == "dir")


def _clearance(realm_level: str) -> str:
    """The range of an orchestrator; the ledger's realms have the default scheme's codes."""
    return str(RealmScheme().orchestrator_range(Level.parse(realm_level).categories))


def _without_level(context: str) -> str:
    return ":".join(context.split(":", 3)[:3])


def _level(context: str) -> str:
    return context.split(":", 3)[3]


def _braced(permissions: frozenset[str]) -> str:
    return "{ " + " ".join(sorted(permissions)) + " }"
