"""Verbs on realms."""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import blake2b
from typing import Any

import msgspec

from septum.errors import Changed, Denied, Held
from septum.labels import CategorySet, Level
from septum.launch.identity import enter_realm
from septum.ledger.records import Document, Put, Realm
from septum.realms.caller import Caller, absent
from septum.realms.core import Core, Once, put
from septum.realms.model import Delegates, Enrolment, NewRealm, QuotaBody, RealmView

__all__ = ["create", "delegate", "destroy", "enrol", "get", "invite", "listed", "set_quota"]

_LEFT = ("operation", "key")


def create(core: Core, caller: Caller, new: NewRealm, once: Once | None = None) -> RealmView:
    """Makes a realm: its row, its code, its settings and a one-time key for its orchestrator, all at once.

    A realm whose row is there already, made by `septum run`, gets its settings.

    Raises:
        NotFound: the caller may not.
        Held: there is such a realm.
        Exhausted: no code is left.
    """
    core.permit(caller, ("realms:", "create"))
    if made := core.seen("", once):
        return get(core, caller, made)
    key = base64.urlsafe_b64encode(os.urandom(24)).decode()
    body = {"quota": msgspec.to_builtins(new.quota), "delegates": [], "enrolment": _digest(key), "public_key": ""}
    keys, spends = core.remember("", once, new.name)
    puts = [put("realm", new.name, new.name, 0, body), *keys]
    fields = {"realm": new.name}

    def enter(realm: Realm | None) -> None:
        core.commit(caller.peer, "", "realm.create", fields, puts, spends, realm=realm)

    if core.ledger.realm(new.name) is not None:
        enter(None)
    else:
        enter_realm(core.ledger, new.name, core.foreign, enter, groups=core.groups)
    return msgspec.structs.replace(_view(core, core.document("realm", new.name, new.name)), enrolment_key=key)


def listed(core: Core, caller: Caller) -> list[RealmView]:
    """The realms that the caller may see: one's own, or all."""
    documents = core.ledger.documents("realm", caller.realm or None)
    found = []
    for document in documents:
        core.permit(caller, (f"realm:{document.realm}", "getattr"))
        found.append(_view(core, document))
    return found


def get(core: Core, caller: Caller, realm: str) -> RealmView:
    """
    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    core.permit(caller, (f"realm:{realm}", "getattr"))
    return _view(core, core.document("realm", realm, realm))


def set_quota(core: Core, caller: Caller, realm: str, quota: QuotaBody, expected: int) -> RealmView:
    """What is used already stays, also beyond a lower quota.

    Raises:
        NotFound: the caller may not.
        Changed: the realm is not at version `expected`.
    """
    core.permit(caller, (f"realm:{realm}", "set_quota"))
    return _change(core, caller, realm, expected, "realm.set_quota", {"quota": msgspec.to_builtins(quota)})


def delegate(core: Core, caller: Caller, realm: str, delegates: Delegates, expected: int) -> RealmView:
    """Says which users of the host act for the realm.

    Raises:
        NotFound: the caller may not.
        Changed: the realm is not at version `expected`.
    """
    core.permit(caller, (f"realm:{realm}", "delegate"))
    return _change(core, caller, realm, expected, "realm.delegate", {"delegates": sorted(set(delegates.uids))})


def enrol(core: Core, caller: Caller, realm: str, enrolment: Enrolment) -> RealmView:
    """An orchestrator makes its public key known; the one-time key burns in the same commit.

    Raises:
        NotFound: the realm is not the caller's, or the key is not the one that it was given, or was used.
        Denied: the public key is none.
    """
    core.permit(caller, (f"realm:{realm}", "getattr"))
    document = core.document("realm", realm, realm)
    if caller.realm != realm:
        raise absent()
    try:
        raw = base64.b64decode(enrolment.public_key, validate=True)
    except ValueError as error:
        raise Denied("the public key is not base64", rule="Ed25519, 32 bytes, base64") from error
    if len(raw) != 32:
        raise Denied(f"a public key of {len(raw)} bytes", rule="Ed25519, 32 bytes, base64")
    if not hmac.compare_digest(document.body["enrolment"] or "-", _digest(enrolment.key)):
        raise Denied(
            "this enrolment key does not work",
            target=realm,
            rule="it works once, for the realm that it was made with",
            remedy="the platform makes a realm anew, or enrols it",
        )
    changes = {"enrolment": "", "public_key": enrolment.public_key}
    return _change(core, caller, realm, document.version, "realm.enrol", changes, shown={})


def invite(core: Core, caller: Caller, realm: str, expected: int) -> RealmView:
    """Gives a realm a new one-time key, in place of the one before: a declaration makes realms without.

    Raises:
        NotFound: the caller may not.
        Changed: the realm is not at version `expected`.
    """
    core.permit(caller, (f"realm:{realm}", "delegate"))
    key = base64.urlsafe_b64encode(os.urandom(24)).decode()
    found = _change(core, caller, realm, expected, "realm.invite", {"enrolment": _digest(key)}, shown={})
    return msgspec.structs.replace(found, enrolment_key=key)


def destroy(core: Core, caller: Caller, realm: str, expected: int) -> None:
    """Takes a realm out, with its code. It must have no guests, images or devices any more.

    Raises:
        NotFound: the caller may not.
        Changed: the realm is not at version `expected`.
        Held: something of it is left.
    """
    core.permit(caller, (f"realm:{realm}", "destroy"))
    document = core.document("realm", realm, realm)
    if expected and expected != document.version:
        raise Changed(f"realm {realm} was changed meanwhile", target=realm, remedy="read it again")
    for kind in ("guest", "image", "snapshot", "device"):
        if left := core.ledger.documents(kind, realm):
            raise Held(
                f"realm {realm} has {len(left)} {kind}s still",
                target=realm,
                holder=f"{kind} {left[0].id}",
                remedy="destroy them first",
            )
    running = core.ledger.guests(realm=realm)
    if running:
        raise Held(f"realm {realm} has guests still", target=realm, holder=running[0].name, remedy="stop them first")
    rest = [one for kind in _LEFT for one in core.ledger.documents(kind, realm)]
    busy = [one for one in rest if one.kind == "operation" and one.body["state"] in ("accepted", "running")]
    if busy:
        raise Held(f"an operation of realm {realm} is at work", target=realm, holder=busy[0].id, remedy="wait for it")
    puts = [Put(one.kind, one.realm, one.id, one.version, None) for one in [document, *rest]]
    core.commit(caller.peer, "", "realm.destroy", {"realm": realm}, puts, drop=realm)


def _change(
    core: Core,
    caller: Caller,
    realm: str,
    expected: int,
    event: str,
    changes: dict[str, Any],
    shown: dict[str, Any] | None = None,
) -> RealmView:
    document = core.document("realm", realm, realm)
    body = {**document.body, **changes}
    entry = put("realm", realm, realm, expected, body)
    fields = {"realm": realm, **(changes if shown is None else shown)}
    return _view(core, core.commit(caller.peer, realm, event, fields, [entry])[0])


def _view(core: Core, document: Document) -> RealmView:
    realm = core.ledger.realm(document.realm)
    if realm is None:
        raise absent()
    return RealmView(
        name=document.realm,
        version=document.version,
        level=str(Level(0, CategorySet(realm.categories))),
        quota=msgspec.convert(document.body["quota"], QuotaBody),
        used=core.used(document.realm),
        delegates=list(document.body["delegates"]),
        enrolled=bool(document.body["public_key"]),
        platform_key=core.signer.public if core.signer else "",
    )


def _digest(key: str) -> str:
    return blake2b(key.encode(), digest_size=32, person=b"septum enrolment").hexdigest()
