"""What septum asks of a security server, be it the kernel's, libsepol's in this process or another, or a fake.

An engine answers from the one policy that it was opened with. It keeps no promise about speed: `ObjectManager` asks
once and remembers. It may be asked from one thread at a time.
"""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from septum.access.question import Question

__all__ = ["Access", "Engine", "Triple", "Why"]


class Triple(NamedTuple):
    """What an access vector is computed for: two contexts and an object class."""

    source: str
    target: str
    tclass: str


class Access(NamedTuple):
    """An access vector, with names in place of bits: bits are a policy's own.

    Attributes:
        allowed: all permissions of the class that the policy allows.
        flaw: why there is no vector: a context or class that the policy doesn't know. Nothing is allowed then.
        permissive: the source's domain is permissive.
    """

    allowed: frozenset[str]
    flaw: str = ""
    permissive: bool = False


class Why(NamedTuple):
    """Why something is refused.

    Attributes:
        reason: ``type enforcement``, ``constraint``, ``role`` or ``bounds``; several are joined by a comma.
        rule: one line that can be quoted, or "".
    """

    reason: str
    rule: str


class Engine(Protocol):
    """See the module's text.

    Attributes:
        name: ``kernel``, ``libsepol``, …
        fingerprint: BLAKE2b-256 of its policy in hex; "" where it can't be read.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def classes(self) -> Mapping[str, Set[str]]:
        """The policy's classes → their permissions, those of an inherited common included.

        Raises:
            EngineGone
        """

    def generation(self) -> int:
        """Another number when the policy behind the engine has changed under it. Must be cheap: it is asked before each
        batch of answers.

        Raises:
            EngineGone: it can't answer any more, or its answers are not enforced (SELinux was set permissive).
        """

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        """One vector for each.

        Raises:
            EngineGone
        """

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        """Why each is refused, as far as the engine can tell.

        Raises:
            EngineGone
        """

    def fileno(self) -> int:
        """A descriptor that becomes readable when the engine is gone; -1 if it can't go."""

    def close(self) -> None: ...
