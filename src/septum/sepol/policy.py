"""One binary policy and the decisions that libsepol, the security server in a library, takes from it."""

from __future__ import annotations

import ctypes as c
import os
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import TracebackType
from typing import Final, NamedTuple, Self

from septum.errors import LabelError, PolicyError, UnknownName
from septum.sepol import image
from septum.sepol.library import REASONS, AvDecision, borrow, give_back, libc
from septum.sepol.rules import Rules

__all__ = ["CONTEXT_MAX", "Explanation", "Policy", "Vector"]

CONTEXT_MAX: Final = 4096
"""Bytes of a context that is looked at at all. The kernel's files take less than a page (sel_write_access)."""
_SIDS_MAX: Final = 1 << 12
"""Contexts that libsepol knows at a time. It finds one by looking at each (`sepol_sidtab_search_context` in sidtab.c):
with more than these, loading the policy anew is cheaper."""
_BITS: Final = 32  # of an access vector


class Vector(NamedTuple):
    """What is allowed of one class.

    Attributes:
        allowed: a bit for each permission, in the policy's own order.
    """

    allowed: int


class Explanation(NamedTuple):
    """A decision with its reason.

    Attributes:
        allowed: all permissions that were asked for.
        granted, refused: of those, in the order asked.
        reasons: why any is refused: ``type enforcement``, ``constraint``, ``role``, ``bounds``.
        constraint: the failing constraint with each part's value, as libsepol writes it; "" if none failed.
        rule: the rule that allows, or the rule that is missing or fails, in one line of CIL.
    """

    allowed: bool
    granted: tuple[str, ...]
    refused: tuple[str, ...]
    reasons: tuple[str, ...]
    constraint: str
    rule: str


class Policy:
    """An open policy; see `open`. Use it in a ``with``, or `close` it. Threads may share it.

    Memory: libsepol forgets no context that it was asked about, and loading a policy anew does not free what it keeps
    of them (docs/sepol.md says how much that is). `Memo` asks about few; `septum.sepol.worker` bounds it.

    Attributes:
        name: for messages: the path, or "the policy".
        fingerprint: BLAKE2b-256 of the image as it was given, as hex.
        version: of the binary format.
        mls: whether contexts have levels.
        handle_unknown: what the kernel does about a class or permission that the policy lacks: ``deny``, ``allow`` or
            ``reject``. Here such a question is an error, whatever this says.
    """

    def __init__(self, content: bytes, booleans: Mapping[str, bool], name: str) -> None:
        self.name = name
        self.fingerprint = blake2b(content, digest_size=32).hexdigest()
        self.version, self.handle_unknown = image.header(content, name)
        self._library = borrow()
        self._lock = threading.RLock()
        self._sids: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._permissions: dict[str, dict[str, int]] = {}
        self._compute_av = self._library.sepol_compute_av_reason
        self._decision, self._reason = AvDecision(), c.c_uint()
        self._rules: Rules | None = None
        self._open = True
        try:
            database = image.Database(self._library, content, name)
            try:
                self.mls = database.mls
                for boolean, value in booleans.items():
                    database.set_boolean(boolean, value)
                self._content = database.written() if booleans else content
            finally:
                database.close()
            self._load()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, source: str | bytes, *, booleans: Mapping[str, bool] | None = None) -> Policy:
        """Opens a compiled policy, of SELinux or Xen.

        A policy file is trusted as a program is: libsepol checks what it reads, but is no wall against a file that
        was made to break it. `septum.sepol.worker` puts one between.

        Args:
            source: a path, or the policy itself.
            booleans: values to set, for asking what if.

        Raises:
            PolicyError: it can't be read, or is no policy that libsepol takes.
            UnknownName: the policy has no such boolean.
            Unenforceable: there is no libsepol of version 3.4 or later.
        """
        if isinstance(source, bytes):
            return cls(source, booleans or {}, "the policy")
        return cls(image.read(source), booleans or {}, source)

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                self._sids.clear()
                self._permissions.clear()
                self._classes.clear()  # a name that is not known leads to where it is seen that this is closed
                give_back(self._library)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # decisions

    def compute(self, source: str, target: str, tclass: str) -> Vector:
        """What `source` may do with `target`, nothing cached but numbers for names.

        Raises:
            LabelError: a context that is not valid in this policy.
            UnknownName: the policy has no such class.
        """
        decision = self._decision
        with self._lock:
            number = self._classes.get(tclass) or self._class(tclass)
            try:
                one, other = self._sids[source], self._sids[target]
            except KeyError:
                one, other = self._sid_pair(source, target)
            code = self._compute_av(one, other, number, 0, decision, self._reason)
            if code < 0:
                raise PolicyError(f"{self.name} gives no decision on class {tclass}", target=self.name)
            return Vector(decision.allowed)

    def explain(self, source: str, target: str, tclass: str, permissions: Sequence[str]) -> Explanation:
        """The same with the reason, which takes longer: the rules are looked up in the whole policy.

        Raises:
            LabelError, UnknownName: as `compute`; a permission that the class does not have too.
        """
        wanted = self.mask(tclass, permissions)
        text = c.c_void_p()
        with self._lock:
            number, ends = self._class(tclass), self._sid_pair(source, target)
            code = self._library.sepol_compute_av_reason_buffer(
                *ends, number, wanted, self._decision, self._reason, text, 0
            )
            if code < 0:
                raise PolicyError(f"{self.name} gives no decision on class {tclass}", target=self.name)
            allowed, flags = self._decision.allowed, self._reason.value
            constraint = _constraint(c.string_at(text.value)) if text.value else ""
            libc.free(text)
        granted = tuple(name for name in permissions if self.mask(tclass, [name]) & allowed)
        refused = tuple(name for name in permissions if name not in granted)
        reasons = tuple(word for flag, word in REASONS.items() if flags & flag) if refused else ()
        if refused and "constraint" in reasons and "type enforcement" not in reasons:
            rule = constraint
        else:
            rule = self.rules.quote(source.split(":"), target.split(":"), tclass, granted, refused, reasons)
        return Explanation(not refused, granted, refused, reasons, constraint, rule)

    def valid(self, context: str) -> bool:
        """Whether the policy knows the context: its names, and the user's right to role, type and range."""
        raw = self._encoded(context)
        if raw is None:
            return False
        with self._lock:
            self._check_open()
            return bool(self._library.sepol_check_context(raw) == 0)

    # names

    def mask(self, tclass: str, permissions: Sequence[str]) -> int:
        """The permissions' bits together.

        Raises:
            UnknownName: the policy has no such class, or the class no such permission.
        """
        known, mask = self._known(tclass), 0
        for name in permissions:
            if name not in known:
                raise UnknownName(
                    f"class {tclass} has no permission {name[:100]!r} in {self.name}",
                    target=name[:100],
                    rule=f"it has {', '.join(known)}",
                )
            mask |= known[name]
        return mask

    def names(self, tclass: str, mask: int) -> tuple[str, ...]:
        """The permissions of a mask, in the policy's order; -1 stands for all that the class has.

        Raises:
            UnknownName: the policy has no such class.
        """
        return tuple(name for name, bit in self._known(tclass).items() if mask & bit)

    @property
    def rules(self) -> Rules:
        """The policy's statements, read back from it when first asked for (0.3 s for Debian's whole policy)."""
        with self._lock:
            self._check_open()
            if self._rules is None:
                database = image.Database(self._library, self._content, self.name)
                try:
                    self._rules = Rules(database.cil())
                finally:
                    database.close()
            return self._rules

    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Each class with its permissions."""
        return self.rules.classes

    def types(self) -> frozenset[str]:
        return self.rules.types

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Each attribute with the types that have it."""
        return self.rules.attributes

    def booleans(self) -> Mapping[str, bool]:
        """Each boolean with its value."""
        return self.rules.booleans

    def transition(self, source: str, target: str, tclass: str, name: str = "") -> str:
        """The context of an object or process that `source` makes.

        Args:
            source: of the process.
            target: of the directory, or of the program that is executed.
            tclass: of what is made.
            name: its file name, for transitions that depend on it.

        Raises:
            LabelError, UnknownName: as `compute`; or what would come out is not valid.
            PolicyError: it can't be told exactly: a default range made of both contexts', in a policy whose levels'
                names do not stand for themselves.
        """
        for context in (source, target):
            if not self.valid(context):
                raise self._invalid(context)
        self._class(tclass)
        found = self.rules.transition(source, target, tclass, name)
        if not self.valid(found):
            raise LabelError(f"{source} would make {found}, which is not valid in {self.name}", target=found)
        return found

    # numbers

    def _sid_pair(self, source: str, target: str) -> tuple[int, int]:
        """Numbers of two contexts. Both are of one table: it is never given up between the two."""
        with self._lock:
            self._check_open()
            if len(self._sids) > _SIDS_MAX - 2 and not (source in self._sids and target in self._sids):
                self._load()
            return self._sid(source), self._sid(target)

    def _sid(self, context: str) -> int:
        known = self._sids.get(context)
        if known:
            return known
        raw = self._encoded(context)
        sid = c.c_uint32()
        if raw is None or self._library.sepol_context_to_sid(raw, len(raw) + 1, sid) < 0:
            raise self._invalid(context)
        self._sids[context] = sid.value
        return sid.value

    def _encoded(self, context: str) -> bytes | None:
        """For libsepol; None where it would take what the kernel refuses: a range's second dash and what follows it,
        which it overlooks (`mls_from_string` in mls.c)."""
        if self.mls and context.count("-") > 1 and context.split(":", 3)[-1].count("-") > 1:
            return None
        return _plain(context)

    def _invalid(self, context: str) -> LabelError:
        return LabelError(
            f"{context[:200]!r} is no valid context in {self.name}",
            target=context[:200],
            rule="user, role, type and levels must be defined, and the user allowed the role and the range",
        )

    def _known(self, tclass: str) -> dict[str, int]:
        """A class's permissions with their bits."""
        known = self._permissions.get(tclass)
        if known is None:
            with self._lock:
                number = self._class(tclass)
                spelt = [(self._library.sepol_av_perm_to_string(number, 1 << bit) or b"", bit) for bit in range(_BITS)]
                known = {raw.decode("ascii").strip(): 1 << bit for raw, bit in spelt if raw.strip()}
                self._permissions[tclass] = known
        return known

    def _class(self, name: str) -> int:
        known = self._classes.get(name)
        if known:
            return known
        raw = _plain(name)
        number = c.c_uint16()
        with self._lock:
            self._check_open()
            if raw is None or self._library.sepol_string_to_security_class(raw, number) < 0:
                raise UnknownName(
                    f"{self.name} has no class {name[:100]!r}",
                    target=name[:100],
                    remedy="see `septum policy show` for the classes that are there",
                )
            self._classes[name] = number.value
        return number.value

    def _load(self) -> None:
        self._sids.clear()
        stream = image.stream(self._content)
        try:
            if self._library.sepol_set_policydb_from_file(stream) < 0:
                self._open = False  # what this copy of the library holds now is in no state to be used again
                raise image.refused(self.name)
        finally:
            libc.fclose(stream)

    def _check_open(self) -> None:
        if not self._open:
            raise PolicyError(f"{self.name} is closed", target=self.name)


def _constraint(raw: bytes) -> str:
    """Each failing constraint in libsepol's words, one after another, without its last word on each."""
    text = " ".join(raw.decode("ascii", "replace").split())
    return text.replace("; Constraint DENIED", ";").rstrip("; ")


def _plain(text: str) -> bytes | None:
    """For libsepol, which reads up to a NUL; None where that would be another text, or one that nothing has."""
    if len(text) > CONTEXT_MAX or not text.isascii() or not text.isprintable() or not text:
        return None
    return os.fsencode(text)
