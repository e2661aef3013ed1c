"""How values become what SQLite stores: canonical JSON, and text that may hold a path of any bytes."""

from __future__ import annotations

from septum import jsontext
from septum.errors import LedgerCorrupt, LedgerError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["canonical", "parse", "stored", "text"]

_decode = jsontext.Decoder()


def canonical(value: Any) -> str:
    """JSON with sorted keys, no white space and ASCII only: equal values give equal text.

    ASCII also carries a path that isn't valid UTF-8, as ``\\udcff`` for a byte 0xff.

    Raises:
        LedgerError: the value has no JSON form.
    """
    try:
        return jsontext.canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerError(f"a value can't be written to the ledger as JSON: {error}") from error


def parse(value: str) -> Any:
    """The value of a text that `canonical` wrote.

    Raises:
        LedgerCorrupt: it is no JSON.
    """
    try:
        return _decode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerCorrupt(f"a row of the ledger is damaged: {error}") from error


def stored(value: object) -> object:
    """A parameter as SQLite takes it: a string with undecodable bytes, as `os.fsdecode` gives it, goes in as a BLOB.

    SQLite's TEXT can't hold those. The mapping is one to one, so unique constraints stay exact.

    Raises:
        LedgerError: a string with surrogates that no bytes decode to.
    """
    if type(value) is not str or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise LedgerError(f"{value!r} is no text that the ledger can keep") from error
    return value


def text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as `stored` got it."""
    if bytes in map(type, row):
        return tuple(value.decode("utf-8", "surrogateescape") if type(value) is bytes else value for value in row)
    return row
