"""The grammars that QEMU's options are written in, each read by one function.

- Comma lists, ``key=value,flag,noflag`` with ``,,`` for a comma (QEMU's util/qemu-option.c and util/keyval.c).
- JSON as QEMU reads it: also with strings in single quotes, and without duplicate keys (qobject/json-*.c).
- The configuration file of ``-readconfig`` (util/qemu-config.c).

All give the same shape: pairs of a dotted key and a text, in the order given. ``{"server": {"type": "unix"}}`` and
``server.type=unix`` come out alike, ``true`` as "on", ``null`` as "".
"""

from __future__ import annotations

from septum.errors import ArgvError
from septum.jsontext import Decoder
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator
    from typing import Any, TypeAlias

__all__ = ["MAX_DEPTH", "Pairs", "Section", "is_off", "is_on", "opts", "read", "read_config", "tree"]

Pairs = list[tuple[str, str]]

MAX_DEPTH = 64
"""Nesting that no real command line comes near; deeper is refused, so that nobody's stack is at stake."""


class Section(NamedTuple):
    """``[group "id"]`` of a configuration file, with what follows it."""

    group: str
    pairs: Pairs


def opts(text: str, implied: str = "", *, where: str = "") -> Pairs:
    """Read a comma list.

    Args:
        text: ``file=/a,,b.img,readonly`` and the like.
        implied: the key of the first element if that has none, as ``driver`` in ``-device virtio-rng-pci``.
        where: the option, for the error.

    Raises:
        ArgvError: a doubled comma in a key, which QEMU and a careless reader would cut differently.
    """
    pairs: Pairs = []
    # A doubled comma is taken first from the left, as QEMU does: ",,," is a comma and then a separator.
    # NUL can stand in for it, since no argument has one.
    for position, element in enumerate(text.replace(",,", "\0").split(",")):
        equals, comma = element.find("="), element.find("\0")
        # No key has a slash or a colon: what looks like one is a path or an address with an equals sign in it.
        if 0 <= comma < equals or (position == 0 and implied and ("/" in element[:equals] or ":" in element[:equals])):
            equals = -1
        if equals >= 0:
            pairs.append((element[:equals], element[equals + 1 :].replace("\0", ",")))
        elif position == 0 and implied:
            if element:
                pairs.append((implied, element.replace("\0", ",")))
        elif comma >= 0:
            raise ArgvError("A doubled comma stands where a key belongs", target=f"{where} {text}"[:400])
        elif element.startswith("no") and element != "no":
            pairs += [(element[2:], "off"), (element, "on")] if element in _BEGIN_WITH_NO else [(element[2:], "off")]
        elif element:
            pairs.append((element, "on"))
    return pairs


_BEGIN_WITH_NO = frozenset({"node-name", "nodelay", "non-adaptive", "notify_dev"})


def read(text: str, implied: str = "", *, where: str = "") -> Pairs:
    """Read what may be JSON or a comma list, as ``-blockdev``, ``-object``, ``-device``, ``-netdev`` take it.

    Raises:
        ArgvError: malformed JSON, or nesting beyond `MAX_DEPTH`.
    """
    return from_json(text, where=where) if text.startswith("{") else opts(text, implied, where=where)


def from_json(text: str, *, where: str = "") -> Pairs:
    """Read a JSON object as dotted keys."""
    pairs: Pairs = []
    _flatten(_load(text, where), "", pairs, where, 0)
    return pairs


def _load(text: str, where: str) -> dict[str, Any]:
    decode = Decoder(str, _no_duplicates)
    try:
        try:
            loaded = decode(text)
        except ValueError:
            if "'" not in text:
                raise
            import re

            loaded = decode(re.sub(_JSON_STRING, _double_quoted, text))
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise ArgvError(f"Malformed JSON in {where or 'a value'}: {reason}", target=text[:400]) from None
    if not isinstance(loaded, dict):
        raise ArgvError(f"{where or 'A value'} needs a JSON object", target=text[:400])
    return loaded


# Patterns are texts, and `re` is loaded where one is used: most command lines need none, and loading it costs 4 ms.
_JSON_STRING = r"""(?s)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""


def _double_quoted(found: re.Match[str]) -> str:
    text = found.group()
    if text[0] == '"':
        return text
    return '"' + text[1:-1].replace("\\'", "'").replace('\\"', '"').replace('"', '\\"') + '"'


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _flatten(value: Any, prefix: str, pairs: Pairs, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ArgvError(f"{where or 'A value'} is nested too deeply", target=prefix[:400])
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{prefix}.{key}" if prefix else key, pairs, where, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _flatten(inner, f"{prefix}.{index}", pairs, where, depth + 1)
    elif isinstance(value, str):
        if "\0" in value:
            raise ArgvError(f"{where or 'A value'} has a NUL character", target=prefix[:400])
        pairs.append((prefix, value))
    else:
        pairs.append((prefix, {True: "on", False: "off", None: ""}[value]))


Tree: TypeAlias = "dict[str, Any]"
"""Nested dictionaries; a key that has both a value and members keeps its value under ``""``."""


def tree(pairs: Pairs, *, where: str = "") -> Tree:
    """Nest dotted keys again: ``file.filename=x`` becomes ``{"file": {"filename": "x"}}``.

    Raises:
        ArgvError: nesting beyond `MAX_DEPTH`, or a key like ``file..filename``.
    """
    root: Tree = {}
    for key, value in pairs:
        *path, last = key.split(".")
        if len(path) > MAX_DEPTH:
            raise ArgvError(f"{where or 'A value'} is nested too deeply", target=key[:400])
        if not last or "" in path:
            raise ArgvError(f"A key of {where or 'a value'} has an empty part", target=key[:400])
        at = root
        for part in path:
            step = at.get(part)
            if not isinstance(step, dict):
                at[part] = step = {} if step is None else {"": step}
            at = step
        inner = at.get(last)
        if isinstance(inner, dict):
            inner[""] = value
        else:
            at[last] = value
    return root


_GROUP = r'\[\s*([^\s"\]]+)\s*(?:"([^"]*)")?\s*\]\s*'
_ARGUMENT = r'([^\s=]+)\s*=\s*"([^"]*)"\s*'


def read_config(text: str, *, where: str = "") -> Iterator[Section]:
    """Read a configuration file, section by section; ``[drive "d0"]`` gives an ``id`` as its first pair.

    Raises:
        ArgvError: a line that is neither a section, an argument, a comment nor empty.
    """
    import re

    section: Section | None = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] == "#":
            continue
        if group := re.fullmatch(_GROUP, line):
            if section:
                yield section
            section = Section(group[1], [("id", group[2])] if group[2] else [])
        elif section and (argument := re.fullmatch(_ARGUMENT, line)):
            if "\0" in line:
                raise ArgvError(f"{where}:{number} has a NUL character", target=where)
            section.pairs.append((argument[1], argument[2]))
        else:
            raise ArgvError(
                f"{where}:{number} is neither a section nor an argument",
                target=line[:200],
                remedy='write [group "id"] or key = "value"',
            )
    if section:
        yield section


_ON = frozenset({"on", "yes", "true", "y", "1", "enable"})
_OFF = frozenset({"off", "no", "false", "n", "0", "disable"})


def is_on(value: object) -> bool:
    return isinstance(value, str) and value in _ON


def is_off(value: object) -> bool:
    return isinstance(value, str) and value in _OFF
