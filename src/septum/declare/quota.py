"""Sums of what a part declares, against its realm's quota; sizes as people write them."""

from typing import Final

from septum.declare.model import Quota

__all__ = ["Spent", "over_quota", "size_text"]

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZES: Final = ("memory", "disk")

Spent = dict[str, int]
"""What was declared so far, by the quota's field."""


def over_quota(spent: Spent, quota: Quota | None, field: str, amount: int, title: str) -> str:
    """Adds to what was declared; a complaint where that goes beyond the quota for the first time.

    Args:
        spent: is changed.
        quota: None for no bounds.
        field: of `Quota`.
        amount: in its unit.
        title: what is being added, for the complaint.
    """
    before = spent.get(field, 0)
    spent[field] = before + amount
    most: int | None = getattr(quota, field, None)
    if most is None or before > most or spent[field] <= most:
        return ""
    shown = size_text if field in _SIZES else str
    return f"{title}: {field} of the realm would come to {shown(spent[field])}, more than its quota of {shown(most)}"


def size_text(size: int) -> str:
    """Bytes, exactly, in the largest unit that gives a whole number."""
    power = 0
    while size and size % 1024 == 0 and power < len(_UNITS) - 1:
        size //= 1024
        power += 1
    return f"{size} {_UNITS[power]}"
