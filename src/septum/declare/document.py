"""A TOML text with its values and where they stand; or the fault that keeps it from being one."""

import re
import tomllib
from bisect import bisect_right
from typing import Any, Final

from septum.declare.model import Where
from septum.declare.positions import Path, Puzzled, Refused, scan
from septum.errors import DeclarationError, Fault

__all__ = ["MOST_BYTES", "Document", "document"]

MOST_BYTES: Final = 1 << 18
"""Bytes of one file that are read. A realm's file comes from somebody who may want to keep the platform busy."""

_TOMLLIBS: Final = re.compile(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


class Document:
    """A text that was read.

    Attributes:
        file: its name, for messages.
        values: what tomllib makes of it.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        try:
            self._spans = scan(text)
            self.values: dict[str, Any] = tomllib.loads(text)
        except Refused as refused:
            raise DeclarationError([self._fault(refused.offset, f"{refused.why}, more than is read")]) from None
        except Puzzled as puzzled:
            raise DeclarationError([self._syntax(text, puzzled.offset)]) from None
        except (ValueError, RecursionError) as error:
            raise DeclarationError([self._quoted(error, text)]) from None

    def where(self, path: Path, *, value: bool = False) -> Where:
        """The place of a key, or of its value; for a path that is not there the nearest above it."""
        while path and path not in self._spans:
            path = path[:-1]
        span = self._spans.get(path)
        return self._place((span.value if value else span.key) if span else 0)

    def _place(self, offset: int) -> Where:
        line = bisect_right(self._starts, offset)
        return Where(self.file, line, offset - self._starts[line - 1] + 1)

    def _fault(self, offset: int, what: str) -> Fault:
        return Fault(*self._place(offset), what)

    def _syntax(self, text: str, offset: int) -> Fault:
        # Only as much as was walked: what comes later may be made to take long.
        end = text.find("\n", offset)
        walked = text if end < 0 else text[:end]
        try:
            tomllib.loads(walked)
        except (ValueError, RecursionError) as error:
            return self._quoted(error, walked)
        return self._fault(offset, "this is no TOML that can be read")

    def _quoted(self, error: Exception, text: str) -> Fault:
        match = _TOMLLIBS.match(str(error))
        what = match.group(1) if match else str(error)
        message = f"this is no TOML: {what[:1].lower()}{what[1:]}"
        if match is None:
            return Fault(self.file, 0, 0, message)
        if match.group(2) is None:
            return self._fault(len(text), message)
        return Fault(self.file, int(match.group(2)), int(match.group(3)), message)


def document(file: str, content: bytes) -> Document:
    """Reads a text.

    Args:
        file: its name, for messages.
        content: UTF-8, `MOST_BYTES` at most.

    Raises:
        DeclarationError: it is no such text.
    """
    if len(content) > MOST_BYTES:
        raise DeclarationError([Fault(file, 0, 0, f"the file has more than {MOST_BYTES} bytes, the most that is read")])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise DeclarationError([Fault(file, line, column, "this is no UTF-8")]) from None
    return Document(file, text.replace("\r\n", "\n"))
