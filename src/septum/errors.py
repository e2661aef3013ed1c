"""Every error that septum raises on purpose.

::

    SeptumError                     exit status 125
    ├── UsageError                  2    the command line of septum itself is wrong
    ├── Denied                           a rule forbids it; broken input denies too, so it fails closed by type
    │   ├── ArgvError                    a QEMU command line that can't be understood or may not be run
    │   ├── ChannelDenied                a channel's memory, or what was asked of a channel, that breaks its rules
    │   │   └── ChannelPoisoned          the other end broke them: the channel is given up
    │   ├── ImageError                   an image or its chain that can't be trusted
    │   ├── LabelError                   a malformed category set, level, range or context
    │   ├── PolicyError                  a policy that does not compile, can't be read, or is none
    │   │   └── PolicyLacks              a policy without a class or a permission that septum decides by
    │   ├── DeclarationError             a platform's declaration that can't be understood, or contradicts itself
    │   ├── SnapshotError                a platform's snapshot, or goals, that can't be understood
    │   ├── Held                         somebody else has it
    │   ├── Changed                      somebody else changed it meanwhile
    │   ├── Exhausted                    none left
    │   │   └── OverQuota                a realm may have no more of it
    │   ├── MessageError                 bytes on septumd's socket that its protocol does not know
    │   ├── Unenforceable                nothing on this host can enforce what was asked
    │   └── UnknownName                  a class, permission or boolean that the policy does not have
    ├── ChannelError                     a channel can't be used now
    │   ├── ChannelBusy                  another thread or task is in it
    │   ├── ChannelClosed                one of its ends was closed
    │   ├── ChannelLost                  the other end is gone without closing, or the channel was cut
    │   └── ChannelTimeout               the other end took too long
    ├── HostError                        the kernel refused a step
    ├── MonitorError                     a guest's monitor can't be used
    │   ├── MonitorBroken                QEMU broke its protocol, or is beyond bounds: the monitor is given up
    │   ├── MonitorGone                  it was closed, or QEMU is gone
    │   ├── MonitorOverflow              events came faster than they were taken
    │   ├── MonitorRefused               QEMU refused a command
    │   └── MonitorTimeout               QEMU took too long: the monitor is given up
    ├── LedgerError                      the ledger can't be used
    │   ├── LedgerCorrupt
    │   └── LedgerTooNew
    ├── DecisionLogError                 decisions can't be recorded, so none is made
    │   └── DecisionLogCorrupt           the record of decisions is damaged
    ├── EngineGone                       the security server that decides is gone
    ├── CannotExecute               126
    └── NotFound                    127

A message says what happened, to which object, who holds it, by which rule, and what to do next.
"""

from __future__ import annotations

from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ArgvError",
    "CannotExecute",
    "Changed",
    "ChannelBusy",
    "ChannelClosed",
    "ChannelDenied",
    "ChannelError",
    "ChannelLost",
    "ChannelPoisoned",
    "ChannelTimeout",
    "DecisionLogCorrupt",
    "DecisionLogError",
    "DeclarationError",
    "Denied",
    "EngineGone",
    "Exhausted",
    "Fault",
    "Held",
    "HostError",
    "ImageError",
    "LabelError",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerTooNew",
    "MessageError",
    "MonitorBroken",
    "MonitorError",
    "MonitorGone",
    "MonitorOverflow",
    "MonitorRefused",
    "MonitorTimeout",
    "NotFound",
    "OverQuota",
    "PolicyError",
    "PolicyLacks",
    "SeptumError",
    "SnapshotError",
    "Unenforceable",
    "UnknownName",
    "UsageError",
]


class SeptumError(Exception):
    """Base of all: what happened, and the parts of a useful refusal.

    Args:
        what: one sentence, without a full stop, that says what happened.
        target: the object it happened to: a path, a guest's name, an option of a command line.
        holder: who has the object, if that is the reason.
        rule: the rule that decided.
        remedy: what the reader can do next.
    """

    exit_status = 125

    def __init__(self, what: str, *, target: str = "", holder: str = "", rule: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.target = target
        self.holder = holder
        self.rule = rule
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.what]
        if self.target and self.target not in self.what:
            parts.append(f"  object: {self.target}")
        if self.holder:
            parts.append(f"  holder: {self.holder}")
        if self.rule:
            parts.append(f"  rule:   {self.rule}")
        if self.remedy:
            parts.append(f"  next:   {self.remedy}")
        return "\n".join(parts)

    def as_dict(self) -> dict[str, str]:
        """The same for ``--json``; empty parts are left out."""
        named = {
            "error": type(self).__name__,
            "what": self.what,
            "object": self.target,
            "holder": self.holder,
            "rule": self.rule,
            "next": self.remedy,
        }
        return {key: value for key, value in named.items() if value}


class UsageError(SeptumError):
    exit_status = 2


class Denied(SeptumError):
    """A rule forbids it."""


class ArgvError(Denied):
    """A QEMU command line that can't be understood, or that may not be run."""


class ChannelDenied(Denied):
    """A channel's memory, or what was asked of a channel, that breaks its rules."""


class ChannelPoisoned(ChannelDenied):
    """The other end of a channel broke its rules: the channel is given up, for good."""


class ImageError(Denied):
    """An image, or the chain it starts, that can't be trusted."""


class LabelError(Denied):
    """A malformed category set, level, range or context."""


class Fault(NamedTuple):
    """One thing that is wrong with a text.

    Attributes:
        file: as the reader was given it.
        line, column: from 1, in characters; 0 where it is about the file as a whole.
        what: what stands there, and what was expected.
        remedy: what the reader can do, "" if that is plain.
    """

    file: str
    line: int
    column: int
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """As compilers print it."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


class DeclarationError(Denied):
    """A platform's declaration that can't be understood, or that contradicts itself.

    Args:
        faults: all that was found, in the order in which it stands in the files; at least one.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(
            f"the declaration has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            target=first.file,
            remedy="correct them and run `septum declare check` again",
        )
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {fault}" for fault in self.faults)])

    def as_dict(self) -> dict[str, str]:
        return {**super().as_dict(), "faults": "\n".join(map(str, self.faults))}


class PolicyError(Denied):
    """A policy that does not compile, can't be loaded, or is none."""


class PolicyLacks(PolicyError):
    """A policy without a class or a permission that septum decides by; the message names each."""


class SnapshotError(Denied):
    """A platform's snapshot, or goals, that can't be understood."""


class Held(Denied):
    """Somebody else has it; `holder` says who."""


class Exhausted(Denied):
    """None left, of what the message names."""


class OverQuota(Exhausted):
    """A realm may have no more of it; `rule` says how much it may have."""


class Changed(Denied):
    """It is not any more what the caller has seen: somebody else changed it meanwhile."""


class MessageError(Denied):
    """Bytes on septumd's socket that its protocol does not know, or that are beyond its bounds."""


class Unenforceable(Denied):
    """Nothing on this host can enforce what was asked."""


class UnknownName(Denied):
    """A class, permission, boolean or the like that the policy does not have."""


class ChannelError(SeptumError):
    """A channel can't be used now."""


class ChannelBusy(ChannelError):
    """Another thread or task is in this end of the channel."""


class ChannelClosed(ChannelError):
    """One of the channel's ends was closed in order; everything sent before was received."""


class ChannelLost(ChannelError):
    """The other end is gone without closing, or the channel was cut."""


class ChannelTimeout(ChannelError):
    """The other end took longer than the caller would wait."""


class HostError(SeptumError):
    """The kernel refused a step.

    Args:
        errno: the kernel's error number, or 0.
    """

    def __init__(
        self, what: str, *, errno: int = 0, target: str = "", holder: str = "", rule: str = "", remedy: str = ""
    ) -> None:
        super().__init__(what, target=target, holder=holder, rule=rule, remedy=remedy)
        self.errno = errno


class MonitorError(SeptumError):
    """A guest's monitor can't be used; `target` is its socket."""


class MonitorBroken(MonitorError):
    """QEMU sent what its protocol does not know, or more than is borne: the monitor is given up."""


class MonitorGone(MonitorError):
    """The monitor was closed, by either side."""


class MonitorOverflow(MonitorError):
    """More events came than were taken, and some were dropped."""


class MonitorRefused(MonitorError):
    """QEMU refused a command.

    Args:
        kind: QMP's class of the error: ``GenericError``, ``DeviceNotFound`` and the like.
    """

    def __init__(
        self, what: str, *, kind: str = "", target: str = "", holder: str = "", rule: str = "", remedy: str = ""
    ) -> None:
        super().__init__(what, target=target, holder=holder, rule=rule, remedy=remedy)
        self.kind = kind


class MonitorTimeout(MonitorError):
    """QEMU took longer than is borne. Whether it did what it was asked is unknown."""


class LedgerError(SeptumError):
    """The ledger can't be used."""


class LedgerCorrupt(LedgerError):
    """The ledger's file or its audit chain is damaged."""


class LedgerTooNew(LedgerError):
    """A later septum wrote this ledger."""


class DecisionLogError(SeptumError):
    """Decisions can't be recorded, so none is made."""


class DecisionLogCorrupt(DecisionLogError):
    """The record of decisions is damaged; the message names the first block that does not fit."""


class EngineGone(SeptumError):
    """The security server that decides is gone: all is denied until it is back."""


class CannotExecute(SeptumError):
    exit_status = 126


class NotFound(SeptumError):
    exit_status = 127
