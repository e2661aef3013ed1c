"""Reading CIL in tests: just enough of its syntax to find statements and where they begin."""

import re
from collections.abc import Iterator

from septum.policy import Target, sources

Expression = str | list["Expression"]

_TOKEN = re.compile(r';[^\n]*|"[^"]*"|[()]|[^\s()";]+')


def statements(text: str) -> Iterator[tuple[int, list[Expression]]]:
    """Every statement with the line it begins on; those in blocks too, after the block itself."""
    stack: list[tuple[int, list[Expression]]] = []
    found = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token.startswith(";"):
            continue
        if token == "(":
            opened: tuple[int, list[Expression]] = (text.count("\n", 0, match.start()) + 1, [])
            if stack:
                stack[-1][1].append(opened[1])
            stack.append(opened)
        elif token == ")":
            closed = stack.pop()
            if not stack or stack[-1][1][:1] in (["block"], ["in"], ["optional"], ["true"], ["false"]):
                found.append(closed)
        else:
            stack[-1][1].append(token)
    assert not stack, "unbalanced"
    yield from sorted(found, key=lambda one: one[0])


def written(expression: Expression) -> str:
    """One spelling for each statement."""
    return expression if isinstance(expression, str) else f"({' '.join(written(part) for part in expression)})"


def pairs(text: str) -> dict[str, str]:
    """Each neverallow of a list → the rule after it, which breaks it."""
    texts = [written(statement) for _, statement in statements(text)]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def neverallows(target: Target) -> dict[str, str]:
    """Each neverallow of a build → where it is written."""
    return {
        written(statement): f"{source.name}:{line}"
        for source in sources(target)
        for line, statement in statements(source.text)
        if statement[0] == "neverallow"
    }
