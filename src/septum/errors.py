"""Every error that septum raises on purpose.

::

    SeptumError                     exit status 125
    ├── UsageError                  2    the command line of septum itself is wrong
    ├── Denied                           a rule forbids it; broken input denies too, so it fails closed by type
    │   ├── ArgvError                    a QEMU command line that can't be understood or may not be run
    │   ├── ImageError                   an image or its chain that can't be trusted
    │   ├── LabelError                   a malformed category set, level, range or context
    │   ├── DeclarationError             a platform's declaration that can't be understood, or contradicts itself
    │   ├── PolicyError                  a policy that does not compile, or is not one
    │   ├── Held                         somebody else has it
    │   ├── Exhausted                    none left
    │   ├── Unenforceable                nothing on this host can enforce what was asked
    │   └── UnknownName                  a class, permission or boolean that the policy does not have
    ├── EngineGone                       the security server that decides is gone
    ├── HostError                        the kernel refused a step
    ├── LedgerError                      the ledger can't be used
    │   ├── LedgerCorrupt
    │   └── LedgerTooNew
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
    "NotFound",
    "PolicyError",
    "SeptumError",
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


class Held(Denied):
    """Somebody else has it; `holder` says who."""


class Exhausted(Denied):
    """None left, of what the message names."""


class Unenforceable(Denied):
    """Nothing on this host can enforce what was asked."""


class UnknownName(Denied):
    """A class, permission, boolean or the like that the policy does not have."""


class EngineGone(SeptumError):
    """The security server that decides is gone: all is denied until it is back."""


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


class LedgerError(SeptumError):
    """The ledger can't be used."""


class LedgerCorrupt(LedgerError):
    """The ledger's file or its audit chain is damaged."""


class LedgerTooNew(LedgerError):
    """A later septum wrote this ledger."""


class CannotExecute(SeptumError):
    exit_status = 126


class NotFound(SeptumError):
    exit_status = 127
