"""What all verbs share: a ledger, a decider, one commit for each change. Nothing here touches the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from septum.access.objects import DEFAULT_CONTEXTS, Contexts
from septum.errors import Changed, Denied, Held
from septum.labels import CategorySet
from septum.launch.identity import new_uuid
from septum.ledger.protocol import Ledger
from septum.ledger.records import Commit, Document, Happening, Put, Spend
from septum.realms.caller import Caller, Decider, absent, permit
from septum.realms.model import Failure, OperationView, QuotaBody

__all__ = ["Core", "Once", "Signer", "busy", "operation_view", "put"]

_PLATFORM_EVENTS: Final = 10_000
_KEYS_A_REALM: Final = 10_000  # idempotency keys that are remembered at a time
_OPERATIONS_A_REALM: Final = 10_000  # the same of operations: `septum.realms.sweep` sees to both
_INNER: Final = ("keys", "operations")


class Once(NamedTuple):
    """A caller's word that a request with this key is one request, however often it is sent.

    Attributes:
        key: the caller's.
        digest: of the request, so that a key is not used for another one.
    """

    key: str
    digest: str


class Signer(Protocol):
    """Signs in the platform's name.

    Attributes:
        public: its public key, Ed25519, base64.
    """

    @property
    def public(self) -> str: ...

    def sign(self, text: bytes) -> str:
        """The signature, base64."""


class Core(NamedTuple):
    """What verbs work on.

    Attributes:
        ledger: where everything is.
        decider: takes the decisions.
        foreign: labels of others, which a new realm's code has to avoid.
        groups: realms get a group: guests have uids of their own.
        contexts: the policy's names.
        signer: signs evidence.
        policy: facts about the policy that decides.
    """

    ledger: Ledger
    decider: Decider
    foreign: Callable[[], Sequence[CategorySet]] = lambda: ()
    groups: bool = False
    contexts: Contexts = DEFAULT_CONTEXTS
    signer: Signer | None = None
    policy: Callable[[], Mapping[str, Any]] = dict

    def permit(self, caller: Caller, *wanted: tuple[str, str]) -> None:
        """See `septum.realms.caller.permit`."""
        permit(self.decider, caller, *wanted)

    def document(self, kind: str, realm: str, name: str) -> Document:
        """
        Raises:
            NotFound: there is none.
        """
        found = self.ledger.document(kind, realm, name)
        if found is None:
            raise absent()
        return found

    def used(self, realm: str) -> dict[str, int]:
        """What a realm has of its quota."""
        return {what: amount for what, amount in self.ledger.spent(realm).items() if what not in _INNER}

    def quota(self, realm: str) -> QuotaBody:
        """What a realm may have; a realm that was made by `septum run` alone has the defaults."""
        document = self.ledger.document("realm", realm, realm)
        return msgspec.convert(document.body["quota"], QuotaBody) if document else QuotaBody()

    def commit(
        self,
        caller: str,
        owner: str,
        event: str,
        fields: Mapping[str, Any],
        puts: Sequence[Put] = (),
        spends: Sequence[Spend] = (),
        **more: Any,
    ) -> list[Document]:
        """One change: documents, sums, an event for who follows the realm's, and a record in the audit chain.

        Args:
            caller: who, for the record.
            owner: whose event it is, "" for the platform's.
            event: what happened: ``guest.start``.
            fields: of event and record.
            puts, spends, more: see `septum.ledger.records.Commit`.

        Raises:
            Held: there is such an object already.
            Changed, OverQuota: see `Ledger.commit`.
        """
        keep = self.quota(owner).events if owner else _PLATFORM_EVENTS
        told = Happening(owner, event, fields, keep)
        record = (event, {"by": caller, "in": owner, **fields})
        try:
            return self.ledger.commit(
                Commit(tuple(puts), spends=tuple(spends), happenings=(told,), audit=(record,), **more)
            )
        except Changed as error:
            if any(one.expected == 0 and f"/{one.id}" in f"/{error.target}" for one in puts) and not error.rule:
                raise Held(error.what, target=error.target, rule="names are unique", remedy=error.remedy) from error
            raise

    # Idempotency

    def seen(self, realm: str, once: Once | None) -> str:
        """The id of what an earlier request with this key made, or "".

        Raises:
            Denied: the key was used for another request.
        """
        document = self.ledger.document("key", realm, once.key) if once else None
        if document is None or once is None:
            return ""
        if document.body["digest"] != once.digest:
            raise Denied(
                "this idempotency key was used for another request",
                target=once.key,
                rule="a key stands for one request",
                remedy="choose a new key",
            )
        return str(document.body["made"])

    def remember(self, realm: str, once: Once | None, made: str) -> tuple[list[Put], list[Spend]]:
        """What to commit with the object that a request makes, so that it is made once."""
        if once is None:
            return [], []
        body = {"digest": once.digest, "made": made, "time": time.time()}
        return [put("key", realm, once.key, 0, body)], [Spend(realm, "keys", 1, _KEYS_A_REALM)]

    # Operations

    def accept(
        self,
        caller: Caller,
        realm: str,
        verb: str,
        target: str,
        arguments: Mapping[str, Any],
        puts: Sequence[Put] = (),
        spends: Sequence[Spend] = (),
        once: Once | None = None,
    ) -> OperationView:
        """Enters an operation, with what it claims; nothing has been done yet.

        Raises:
            Held: another operation is at work on the same object.
            Changed, OverQuota: see `Ledger.commit`.
        """
        name = new_uuid()
        body = {
            "verb": verb,
            "target": target,
            "state": "accepted",
            "step": "",
            "created": time.time(),
            "arguments": dict(arguments),
            "by": caller.peer,
        }
        entry = Put("operation", realm, name, 0, body, busy(realm, target))
        keys, more = self.remember(realm, once, name)
        fields = {"operation": name, "target": target}
        counted = Spend(realm, "operations", 1, _OPERATIONS_A_REALM)
        made = self.commit(caller.peer, realm, verb, fields, [entry, *puts, *keys], [*spends, *more, counted])
        return operation_view(made[0])

    def operation(self, caller: Caller, realm: str, name: str) -> OperationView:
        """
        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        self.permit(caller, (f"realm:{realm}", "getattr"))
        return operation_view(self.document("operation", realm, name))

    def operations(self, caller: Caller, realm: str) -> list[OperationView]:
        """
        Raises:
            NotFound: the realm is not the caller's.
        """
        self.permit(caller, (f"realm:{realm}", "getattr"))
        return [operation_view(one) for one in self.ledger.documents("operation", realm)]


def put(kind: str, realm: str, name: str, expected: int, body: Mapping[str, Any] | None) -> Put:
    """A change of a document without claims."""
    return Put(kind, realm, name, expected, body)


def busy(realm: str, target: str) -> tuple[tuple[str, str], ...]:
    """The claim that lets one operation at a time work on an object."""
    return (("busy", f"{realm}/{target}"),)


def operation_view(document: Document) -> OperationView:
    """An operation as callers see it."""
    body = document.body
    failure = body.get("failure")
    return OperationView(
        id=document.id,
        realm=document.realm,
        verb=body["verb"],
        target=body["target"],
        state=body["state"],
        step=body["step"],
        created=body["created"],
        version=document.version,
        failure=msgspec.convert(failure, Failure) if failure else None,
    )
