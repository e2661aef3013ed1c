"""What is asked and what is answered, as values."""

from typing import Final, NamedTuple

from septum.errors import Denied

__all__ = [
    "HIDDEN",
    "MOST_CONTEXT",
    "MOST_PERMISSIONS",
    "Asker",
    "Decision",
    "ObjectQuestion",
    "Question",
    "check",
]

MOST_CONTEXT: Final = 4096
"""Bytes of a context, or of an object's name. The kernel takes less than a page (security/selinux/selinuxfs.c,
`sel_write_access`); the longest context of 1,024 categories has about 2,600 bytes."""

MOST_PERMISSIONS: Final = 32
"""An access vector has 32 bits, so no class has more."""

HIDDEN: Final = "not allowed, or there is no such object"
"""The reason that everybody is given for a refusal about an object: it tells nobody which objects there are."""


class Question(NamedTuple):
    """May the subject do this with what bears the target context?

    Attributes:
        subject: context of who would do it; "" is whoever asks.
        target: context.
        tclass: object class.
        permissions: names, at least one; the answer is yes if all of them are granted.
    """

    subject: str
    target: str
    tclass: str
    permissions: tuple[str, ...]


class ObjectQuestion(NamedTuple):
    """The same about an object, whose context and class septum knows: it is never taken from who asks.

    Attributes:
        subject: context of who would do it; "" is whoever asks.
        object: ``guest:red/web``, ``realm:red``, ``policy:`` and the like: see `septum.access.objects`.
        permissions: names, at least one.
    """

    subject: str
    object: str
    permissions: tuple[str, ...]


class Decision(NamedTuple):
    """An answer.

    Attributes:
        allowed: all that was asked for is granted.
        granted: those of the permissions that are.
        reason: "" when it is allowed; else ``type enforcement``, ``constraint``, ``role``, ``bounds``, or what was
            wrong with the question, the engine or the log.
        rule: the rule or the constraint that decided, "" if it isn't known, or not for who asks.
        seqno: number of the policy under which it was decided; it grows with each policy.
        engine: name of the security server.
        permissive: the subject's domain is permissive in the kernel. septum refuses all the same.
    """

    allowed: bool
    granted: tuple[str, ...]
    reason: str
    rule: str
    seqno: int
    engine: str
    permissive: bool = False


class Asker(NamedTuple):
    """Who asks, as the kernel says it.

    Attributes:
        context: its security context.
        uid: its user.
        pid: its process, or 0.
        started: start time of that process in clock ticks since boot (field 22 of /proc/PID/stat), or 0.
    """

    context: str
    uid: int
    pid: int = 0
    started: int = 0


def check(question: Question | ObjectQuestion) -> None:
    """Refuses what can't be a question, before any engine sees it.

    Raises:
        Denied: a part is empty, too long, or has characters that no name or context has.
    """
    subject, *rest, permissions = question
    _check_text("subject", subject, empty=True)
    for name, text in zip(("object",) if len(rest) == 1 else ("target", "class"), rest, strict=True):
        _check_text(name, text, spaces=name == "object")
    if not 0 < len(permissions) <= MOST_PERMISSIONS:
        raise Denied(f"{len(permissions)} permissions were asked for", rule=f"1 to {MOST_PERMISSIONS} in a question")
    for permission in permissions:
        _check_text("permission", permission)


def _check_text(part: str, text: str, *, empty: bool = False, spaces: bool = False) -> None:
    if len(text) > MOST_CONTEXT:
        raise Denied(f"the {part} has {len(text)} characters", rule=f"at most {MOST_CONTEXT}")
    if not text:
        if empty:
            return
        raise Denied(f"the {part} is empty", rule="only the subject may be: it is whoever asks then")
    if not text.isprintable() or (not spaces and (" " in text or not text.isascii())):
        raise Denied(f"the {part} {text[:80]!a} has characters that none can have", rule="printable, no blanks")
