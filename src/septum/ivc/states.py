"""The states of an end, and the calls that are legal in each."""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class State(Enum):
    """Where one end of a channel is. All but `OPEN` are final."""

    OPEN = "open"
    CLOSED = "closed"
    """One of the two ends was closed. A receiver gets here when it has received all that was sent."""
    LOST = "lost"
    """The other end died, or the channel was cut."""
    POISONED = "poisoned"
    """One of the two ends broke the rules."""


def require(*states: State) -> Callable[[F], F]:
    """Says on a method in which states it may be called.

    It costs nothing when the method is called, so that a message of 64 bytes is not half decorator: the core refuses
    every call on an end that is not open, and the refusal is worded from the state. `tests/test_ivc_states.py` calls
    every method in every state.
    """

    def mark(method: F) -> F:
        method.__legal__ = frozenset(states)  # type: ignore[attr-defined]
        return method

    return mark
