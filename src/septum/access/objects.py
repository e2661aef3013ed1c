"""Contexts of septum's own objects and of those who ask, from the ledger alone.

Nothing of a target's context is ever taken from a request: it is named by kind and name, and what it bears is looked
up. (Keystone's CVE-2026-42999 was a merge of the two.) What isn't there is looked up the same way, is decided about the
same way, with a level that nobody's includes, and is denied.

| object | class | who bears the context |
|---|---|---|
| ``guest:REALM/NAME`` | septum_guest | a guest; one that does not run bears its realm's level |
| ``realm:NAME`` | septum_realm | a realm |
| ``image:REALM/NAME``, ``device:REALM/NAME`` | septum_image, septum_device | what a realm keeps: its level |
| ``guests:REALM``, ``images:REALM``, ``devices:REALM`` | the same | all of a kind: what is asked before one is made |
| ``realms:`` | septum_realm | the same for realms |
| ``policy:``, ``category:``, ``broker:``, ``audit:`` | septum_policy, … | the platform: there is one of each |
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from septum.errors import Denied
from septum.labels import CategorySet, Level, RealmScheme
from septum.ledger.protocol import Ledger

__all__ = ["DEFAULT_CONTEXTS", "Contexts", "Target", "of_orchestrator", "of_uid", "resolve"]


class Contexts(NamedTuple):
    """Users, roles and types that the policy has for what septum knows; levels come from the ledger.

    Attributes:
        platform: whole context of whoever administers the host.
        guest, orchestrator: of a guest, and of one that acts for its realm, without a level.
        realm: of a realm, without a level.
        image, device: of what a realm keeps for its guests, without a level.
        realms: whole context of all realms together.
        policy, category, broker, audit: whole contexts of the platform's single objects.
        nothing: a level that no guest, realm or orchestrator includes.
    """

    platform: str = "system_u:system_r:septum_daemon_t:s0-s0:c0.c1023"
    guest: str = "system_u:system_r:septum_vm.process"
    realm: str = "system_u:object_r:septum_realm_t"
    orchestrator: str = "system_u:system_r:septum_orchestrator.process"
    image: str = "system_u:object_r:septum_vm.image"
    device: str = "system_u:object_r:septum_vm.device"
    realms: str = "system_u:object_r:septum_realm_t:s0"
    policy: str = "system_u:object_r:septum_policy_t:s0"
    category: str = "system_u:object_r:septum_category_t:s0"
    broker: str = "system_u:object_r:septum_broker_t:s0"
    audit: str = "system_u:object_r:septum_audit_t:s0"
    nothing: str = "s0:c1022,c1023"


DEFAULT_CONTEXTS: Final = Contexts()


class Target(NamedTuple):
    """What an object's name stands for.

    Attributes:
        context: to decide about.
        tclass: object class.
        there: there is such an object; otherwise the answer is no whatever the policy says.
    """

    context: str
    tclass: str
    there: bool


def resolve(ledger: Ledger, contexts: Contexts, name: str) -> Target:
    """What an object bears.

    Args:
        ledger: the only source.
        contexts: types for it.
        name: ``KIND:NAME``, as in the module's text.

    Raises:
        Denied: there is no such kind of object. (Which kinds there are is no secret.)
        LedgerError: the ledger can't be read.
    """
    kind, colon, rest = name.partition(":")
    found = _KINDS.get(kind) if colon else None
    if found is None or (kind in _SINGLE) != (rest == ""):
        raise Denied(f"{name[:80]!a} names no object", rule=f"one of {', '.join(f'{kind}:…' for kind in _KINDS)}")
    return found(ledger, contexts, rest)


def of_uid(ledger: Ledger, contexts: Contexts, uid: int, platform: int) -> str:
    """The context of a process of that uid, where the kernel has no labels; "" for one that is nobody's.

    Args:
        ledger: knows the guests' uids.
        contexts: types for it.
        uid: as the kernel says it.
        platform: uid of septum itself. Without root, guests that have no uid of their own run under it too: then it
            says nothing.

    Raises:
        LedgerError: the ledger can't be read.
    """
    if uid == 0:
        return contexts.platform
    if uid == platform:
        shared = any(guest.uid < 0 for guest in ledger.guests())
        return "" if shared else contexts.platform
    bearer = ledger.bearer("uid", str(uid))
    guest = ledger.guest(bearer.uuid) if bearer else None
    if bearer is None or guest is None:
        return ""
    # A guest with a declared role has a type of its own.
    type_of_role = guest.details.get("type", "")
    prefix = f"{contexts.guest.rpartition(':')[0]}:{type_of_role}" if type_of_role else contexts.guest
    return f"{prefix}:{bearer.level}"


def of_orchestrator(ledger: Ledger, contexts: Contexts, scheme: RealmScheme, realm: str) -> str:
    """The context of whoever acts for a realm: its clearance is that of the realm's orchestrator.

    Args:
        ledger: knows the realm's code.
        contexts: types for it.
        scheme: of the ledger.
        realm: its name.

    Returns:
        A context; one whose level includes nothing of anybody's where there is no such realm.

    Raises:
        LedgerError: the ledger can't be read.
    """
    there = ledger.realm(realm)
    level = scheme.orchestrator_range(CategorySet(there.categories)) if there else contexts.nothing
    return f"{contexts.orchestrator}:{level}"


def _guest(ledger: Ledger, contexts: Contexts, name: str) -> Target:
    bearer = ledger.bearer("name", name)
    realm, _, own = name.partition("/")
    defined = ledger.document("guest", realm, own)
    code = _level(ledger, contexts, realm if defined else "")
    return Target(
        f"{contexts.guest}:{bearer.level if bearer else code}",
        "septum_guest",
        bearer is not None or defined is not None,
    )


def _realm(ledger: Ledger, contexts: Contexts, name: str) -> Target:
    return Target(f"{contexts.realm}:{_level(ledger, contexts, name)}", "septum_realm", ledger.realm(name) is not None)


def _kept(kind: str) -> Callable[[Ledger, Contexts, str], Target]:
    """What a realm keeps as a document of this kind."""

    def find(ledger: Ledger, contexts: Contexts, name: str) -> Target:
        realm, _, own = name.partition("/")
        there = ledger.document(kind, realm, own) is not None
        level = _level(ledger, contexts, realm if there else "")
        return Target(f"{getattr(contexts, kind)}:{level}", f"septum_{kind}", there)

    return find


def _all(kind: str) -> Callable[[Ledger, Contexts, str], Target]:
    """All of a kind that a realm has."""

    def find(ledger: Ledger, contexts: Contexts, realm: str) -> Target:
        there = ledger.realm(realm) is not None
        return Target(f"{getattr(contexts, kind)}:{_level(ledger, contexts, realm)}", f"septum_{kind}", there)

    return find


def _level(ledger: Ledger, contexts: Contexts, name: str) -> str:
    realm = ledger.realm(name)
    return str(Level(0, CategorySet(realm.categories))) if realm else contexts.nothing


_KINDS: Final[dict[str, Callable[[Ledger, Contexts, str], Target]]] = {
    "guest": _guest,
    "realm": _realm,
    "image": _kept("image"),
    "device": _kept("device"),
    "guests": _all("guest"),
    "images": _all("image"),
    "devices": _all("device"),
    "realms": lambda _, contexts, name: Target(contexts.realms, "septum_realm", True),
    "policy": lambda _, contexts, name: Target(contexts.policy, "septum_policy", True),
    "category": lambda _, contexts, name: Target(contexts.category, "septum_category", True),
    "broker": lambda _, contexts, name: Target(contexts.broker, "septum_broker", True),
    "audit": lambda _, contexts, name: Target(contexts.audit, "septum_audit", True),
}
_SINGLE: Final = frozenset({"realms", "policy", "category", "broker", "audit"})
