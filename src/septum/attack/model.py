"""What an attack is made of, as data: attempts, what is expected of each, what came of it."""

import errno
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Expected = Literal[
    "refused",  # by a rule
    "allowed",  # the guest can't do without; if it is refused, then refusals prove nothing
    "open",  # the command line leaves it open
    "gap",  # nobody declared it, and it is documented that no mechanism on this host refuses it
]
Outcome = Literal["refused", "allowed", "absent", "inconclusive"]
Verdict = Literal["ok", "ESCAPE", "BROKEN", "open", "gap", "absent", "inconclusive"]

DENIED: Final = frozenset({errno.EPERM, errno.EACCES})
_ABSENT: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP})


class Expectation(NamedTuple):
    """What should happen, and by which rule."""

    expected: Expected
    why: str


class Attempt(NamedTuple):
    """One thing that the attacker tries.

    Attributes:
        category: heading in the table.
        name: what it tries.
        target: the object.
        expectation: see `Expectation`.
        act: does it; OSError or HostError says that the kernel did not.
        refusals: error numbers that count as a refusal.
        passed: error numbers that the kernel gives only to those whom it would have let through.
    """

    category: str
    name: str
    target: str
    expectation: Expectation
    act: Callable[[], object]
    refusals: frozenset[int] = DENIED
    passed: frozenset[int] = frozenset()


class Result(NamedTuple):
    """What came of one attempt.

    Attributes:
        category, name, target: of the attempt.
        expected, why: of its expectation.
        outcome: what the kernel did.
        error: name of the error number, "" for none; or why it is inconclusive.
        asked: the kernel was asked what it would do instead.
    """

    category: str
    name: str
    target: str
    expected: Expected
    why: str
    outcome: Outcome
    error: str = ""
    asked: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.outcome in ("absent", "inconclusive"):
            return "absent" if self.outcome == "absent" else "inconclusive"
        if self.expected == "refused":
            return "ok" if self.outcome == "refused" else "ESCAPE"
        if self.outcome == "refused":
            return "BROKEN" if self.expected == "allowed" else "ok"
        return "gap" if self.expected == "gap" else "open"


def outcome_of(attempt: Attempt, number: int) -> Outcome:
    """What an error number means for an attempt; 0 is success. One that fits nowhere is no proof of anything."""
    if number == 0 or number in attempt.passed:
        return "allowed"
    if number in attempt.refusals:
        return "refused"
    return "absent" if number in _ABSENT else "inconclusive"


def result(attempt: Attempt, outcome: Outcome, error: str) -> Result:
    """The result of an attempt."""
    return Result(attempt.category, attempt.name, attempt.target, *attempt.expectation, outcome, error)
