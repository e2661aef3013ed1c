"""Security contexts: user, role, type and, in a policy with levels, a range."""

from __future__ import annotations

from septum.errors import LabelError
from septum.labels.categories import DEFAULT_BOUNDS, Bounds
from septum.labels.level import Range
from septum.lean import NamedTuple

__all__ = ["Context", "context_text"]


class Context(NamedTuple):
    """A security context.

    Attributes:
        user: SELinux user.
        role: role.
        type: type, of a process also called its domain.
        range: None where the policy has no levels.
    """

    user: str
    role: str
    type: str
    range: Range | None = None

    @classmethod
    def parse(cls, text: str, bounds: Bounds = DEFAULT_BOUNDS) -> Context:
        """Reads ``user:role:type`` or ``user:role:type:range``, split as `string_to_context_struct` of
        security/selinux/ss/services.c does it. What comes from the kernel goes through `context_text` first.

        Raises:
            LabelError: a part is missing, empty, or has a character that no name can have; or the range is malformed.
        """
        parts = text.split(":", 3)
        names = parts[:3]
        if len(names) < 3 or not all(_is_name(name) for name in names):
            raise LabelError(f"{text!r} is no security context: expected user:role:type or user:role:type:range")
        try:
            found = Range.parse(parts[3], bounds) if len(parts) == 4 else None
        except LabelError as error:
            raise LabelError(
                f"the range of the context {text!r} is malformed: {error.what}", target=text, rule=error.rule
            ) from error
        return cls(names[0], names[1], names[2], found)

    def __str__(self) -> str:
        names = f"{self.user}:{self.role}:{self.type}"
        return names if self.range is None else f"{names}:{self.range}"


def context_text(raw: bytes) -> str:
    """The text of a context as the kernel hands it out: /proc/PID/attr/* and extended attributes may end in a NUL,
    and a person's pipe in a newline.

    Raises:
        LabelError: a NUL or newline stands elsewhere, or it isn't ASCII.
    """
    text = raw.removesuffix(b"\n").removesuffix(b"\0").decode("ascii", "replace")
    if not text.isprintable() or "\ufffd" in text:
        raise LabelError(f"{raw!r} is no security context: expected printable ASCII, with one NUL or newline at most")
    return text


def _is_name(name: str) -> bool:
    return name.isascii() and name.isprintable() and name != "" and " " not in name
