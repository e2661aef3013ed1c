"""Conditional blocks of a policy's CIL, and what their expressions come to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["Conditional", "conditionals"]


class Conditional(NamedTuple):
    """One branch of a ``booleanif``.

    Attributes:
        start, end: where in the text it stands.
        condition: the expression under which it counts.
        active: it counts, as the booleans are.
    """

    start: int
    end: int
    condition: str
    active: bool


def conditionals(text: str, booleans: Mapping[str, bool]) -> list[Conditional]:
    """All branches, in the order of the text."""
    found = []
    for block in re.finditer(r"^\(booleanif (.*)\n((?: .*\n)*)\)$", text, re.MULTILINE):
        value = evaluate(block[1], booleans)
        for branch in re.finditer(r"^    \((true|false)\n((?:        .*\n)*)    \)$", block[2], re.MULTILINE):
            meant = branch[1] == "true"
            start = block.start(2) + branch.start(2)
            condition = block[1] if meant else f"(not {block[1]})"
            found.append(Conditional(start, start + len(branch[2]), condition, value == meant))
    return found


def evaluate(expression: str, booleans: Mapping[str, bool]) -> bool:
    """The value of an expression of ``and or xor not eq neq`` over booleans' names (CIL's conditional expressions)."""
    words = iter(re.findall(r"[()]|[^\s()]+", expression))
    return _value(next(words), words, booleans)


def _value(word: str, words: Iterator[str], booleans: Mapping[str, bool]) -> bool:
    if word != "(":
        return booleans[word]
    operator = next(words)
    values = []
    for inner in words:
        if inner == ")":
            break
        values.append(_value(inner, words, booleans))
    if operator == "not":
        return not values[0]
    if operator in ("and", "or"):
        return all(values) if operator == "and" else any(values)
    return (values[0] == values[1]) == (operator == "eq")  # xor and neq are the same
