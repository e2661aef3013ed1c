"""Errors as HTTP says them: RFC 9457, with the parts of `SeptumError`."""

from __future__ import annotations

from typing import Any, Final

from septum.errors import (
    Changed,
    DecisionLogError,
    Denied,
    EngineGone,
    Exhausted,
    Held,
    HostError,
    LedgerError,
    MessageError,
    MonitorRefused,
    NotFound,
    OverQuota,
    SeptumError,
)

__all__ = ["MEDIA_TYPE", "TITLES", "body", "status_of"]

MEDIA_TYPE: Final = "application/problem+json"

TITLES: Final = {
    400: "The request can't be understood",
    403: "A rule forbids it",
    404: "There is no such object",
    405: "The object does not know this method",
    408: "The request took too long to come",
    409: "Somebody else has it",
    412: "It was changed meanwhile",
    413: "The request is too large",
    415: "The body must be JSON",
    422: "The body does not say what was expected",
    428: "Say which version is to be changed",
    429: "Too many requests",
    503: "It can't be done now",
}

_STATUS: Final[tuple[tuple[type[SeptumError], int], ...]] = (
    (NotFound, 404),
    (Held, 409),
    (Changed, 412),
    (OverQuota, 403),
    (Exhausted, 503),
    (MessageError, 400),
    (Denied, 403),
    (EngineGone, 503),
    (LedgerError, 503),
    (DecisionLogError, 503),
    (MonitorRefused, 409),
    (HostError, 503),
)


def status_of(error: SeptumError) -> int:
    """The status for an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 503)


def body(status: int, error: SeptumError) -> dict[str, Any]:
    """The members of a problem; empty ones are left out."""
    parts = error.as_dict()
    found = {
        "type": f"urn:septum:error:{parts['error']}",
        "title": TITLES[status],
        "status": status,
        "detail": error.what,
        "object": error.target,
        "holder": error.holder,
        "rule": error.rule,
        "remedy": error.remedy,
    }
    return {name: value for name, value in found.items() if value}
