"""JSON on the way of a launch: the C code behind the `json` module, without that module, which loads `re` and `enum`.

`json.JSONDecoder` and `json.JSONEncoder` call the same two functions with the same arguments (Lib/json/scanner.py,
Lib/json/encoder.py of CPython 3.11); what is accepted, printed and refused is the same.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Decoder", "canonical"]

_SPACE = " \t\n\r"


class Decoder:
    """Reads JSON texts.

    Args:
        number: makes a value of a number's text, an integer's too; left out, numbers are int and float.
        pairs: makes a value of an object's pairs; left out, a dict.
    """

    # What the scanner reads of its `context`, by these names.
    strict = True
    object_hook = None

    def __init__(
        self,
        number: Callable[[str], Any] | None = None,
        pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    ) -> None:
        self.object_pairs_hook = pairs
        self.parse_float = number or float
        self.parse_int = number or int
        self.parse_constant = number or float
        scanner: Any = make_scanner  # typeshed wants a scanner as the context of one
        self._scan = scanner(self)

    def __call__(self, text: str) -> Any:
        """The value of a whole text.

        Raises:
            ValueError: it is no JSON.
            RecursionError: it is nested too deeply.
        """
        start = len(text) - len(text.lstrip(_SPACE))
        try:
            try:
                value, end = self._scan(text, start)
            except SystemError:
                # Malformed: the scanner takes its error from this module, and up to 3.11 does not load it for that
                # (raise_errmsg in Modules/_json.c).
                __import__("json.decoder")
                value, end = self._scan(text, start)
        except StopIteration as stop:
            raise ValueError(f"Expecting value: char {stop.value}") from None
        if text[end:].strip(_SPACE):
            raise ValueError(f"Extra data: char {end}")
        return value


def canonical(value: Any) -> str:
    """JSON with sorted keys, no white space, and ASCII only: equal values give equal texts.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: a float that is no number, or a value that holds itself.
        RecursionError: it is nested too deeply.
    """
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, ":", ",", True, False, False)
    return "".join(encode(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
