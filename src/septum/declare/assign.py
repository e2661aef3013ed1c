"""Which realm has which code: what has one keeps it, what is new gets one that nobody has or had."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from septum.declare.model import Declaration
from septum.errors import Denied
from septum.labels import CategorySet, RealmScheme, draw_realm

__all__ = ["Assignment", "assign"]


class Assignment(NamedTuple):
    """Realm codes by realm name.

    Attributes:
        realms: those that are declared.
        retired: those that had a code and are no longer declared. Their codes stay theirs until the ledger, which knows
            whether all that bore them was put back, forgets the realm.
    """

    realms: Mapping[str, CategorySet]
    retired: Mapping[str, CategorySet]


def assign(
    existing: Mapping[str, CategorySet],
    declaration: Declaration,
    scheme: RealmScheme,
    foreign: Iterable[CategorySet] = (),
) -> Assignment:
    """The codes of all declared realms. Pure: the ledger commits what comes of it, or refuses it.

    New realms take codes in the order of their names, by the ledger's own rule (`labels.draw_realm`), so that the
    order in a file doesn't matter.

    Args:
        existing: every code that the ledger holds, also of realms that are gone.
        declaration: says which realms there are.
        scheme: of the ledger.
        foreign: sets of others on the host, which a new code must not be comparable with.

    Raises:
        Exhausted: there are more realms than codes.
        LabelError: an existing code is none of the scheme's.
        Denied: two realms of `existing` have one code.
    """
    holders: dict[str, str] = {}
    for name, code in existing.items():
        scheme.realm_index(code)
        other = holders.setdefault(str(code), name)
        if other != name:
            raise Denied(
                f"realms {other} and {name} have the same code", target=str(code), rule="a code names one realm"
            )
    others = list(foreign)
    realms = {name: existing[name] for name in declaration.realms if name in existing}
    for name in sorted(declaration.realms.keys() - existing.keys()):
        realms[name] = draw_realm(scheme, lambda _: holders, others)
        holders[str(realms[name])] = name
    retired = {name: code for name, code in existing.items() if name not in declaration.realms}
    return Assignment(realms, retired)
