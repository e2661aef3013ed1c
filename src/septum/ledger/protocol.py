"""What septum asks of a ledger, whatever engine keeps it.

Each call is one atomic and durable change: it is on disk (or agreed on by the cluster) when the call returns, and
after a crash it is there whole or not at all. Some calls may reach the disk only with the next one that must, as a
power cut in between harms nobody: `advance` and `admit`, since the host is not changed before `begin`; `run` and all
that is about channels, since after a power cut nothing runs. Nothing here needs more than compare-and-set on keys, so
that a shared engine (etcd) fits behind the same Protocol: no cursors, no transactions held open by the caller, no SQL.

The rule that makes double claims impossible: whatever may have one holder only is claimed under a unique
(kind, key). Kinds that septum uses: ``name`` (key: realm/name), ``uuid``, ``code`` (key: categories of the guest,
realm code included, as the kernel prints them), ``realm`` (key: its name), ``realm-code``, ``uid``, ``gid``.
"""

from __future__ import annotations

from septum.lean import TYPE_CHECKING, Protocol
from septum.ledger.records import (
    AuditRecord,
    Bearer,
    Channel,
    Commit,
    Document,
    Entry,
    Event,
    Guest,
    Hold,
    Life,
    Realm,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any


class Ledger(Protocol):
    """See the module's text. Every method may raise LedgerError."""

    def close(self) -> None: ...

    def identity(self) -> str:
        """A random name, made with the ledger; keys for derived secrets and sockets hang on it."""

    def secret(self) -> bytes:
        """32 random bytes, made with the ledger: the key that makes allotment unpredictable."""

    def revision(self) -> tuple[int, ...]:
        """Another value after each change of the ledger, whoever made it; it may also differ without one. Values of
        different objects can't be compared. Cheap: what was read may be kept until it differs.
        """

    # realms

    def realm(self, name: str) -> Realm | None: ...

    def realms(self) -> list[Realm]: ...

    def add_realm(self, realm: Realm) -> Realm:
        """Claims its name, code and gid.

        Raises:
            Held: by the realm that the error names as holder; `target` says which of the three.
        """

    # counters and claims

    def advance(self, counter: str) -> int:
        """The counter's value before this call, from 0; no two calls get the same one."""

    def taken(self, kind: str, keys: Iterable[str] | None = None) -> dict[str, str]:
        """Those of `keys` (or all) that are claimed or in quarantine → holder."""

    def population(self, realm: str) -> int:
        """How many guests the realm has, those in quarantine among them: each has one code of the realm."""

    def quarantined(self, kind: str) -> dict[str, str]:
        """Keys in quarantine → the guest whose restore is not verified yet."""

    # guests

    def admit(self, guest: Guest, claims: Sequence[tuple[str, str]]) -> Guest:
        """Enters the guest with all of `claims`, or nothing; its name and uuid are always claimed. Fills in
        `incarnation`.

        Raises:
            Held: `target` is ``kind key``, `holder` the guest that has it.
        """

    def guests(self, states: Sequence[State] | None = None, realm: str | None = None) -> list[Guest]:
        """Those in `states`, of one realm; left out, all. One realm's guests take no longer for the others'."""

    def lives(self, realm: str) -> list[Life]:
        """One realm's guests, in short."""

    def guest(self, reference: str) -> Guest | None:
        """By uuid, ``realm/name``, or a name that only one realm uses.

        Raises:
            Denied: several guests have the name.
        """

    def bearer(self, kind: str, key: str) -> Bearer | None:
        """The guest that has this claim. It takes as long whether there is one or not."""

    def begin(self, uuid: str, holds: Sequence[Hold], entries: Sequence[Entry]) -> list[Entry]:
        """`admitted` → `starting`: takes all holds and writes the journal, or does nothing.

        Entries whose owner is a shared object's key are written by the first holder that needs them: where the same
        step (op, key, path, args) is in force on the object, its entry is left out, as the original is known. Two
        holds of one object count as one, the stronger. Returns the entries that were written, with ids.

        An object that a guest held as `lasting` belongs to that guest's realm afterwards.

        Raises:
            Held: `target` is the path, `holder` the guest, or the realm that the object belongs to; also while the
                object is being restored, with ``septum: being restored`` as the holder.
        """

    def run(self, uuid: str, pid: int, started: int, details: Mapping[str, Any]) -> None:
        """`starting` → `running`; adds `details` to those that it was admitted with."""

    def end(self, uuid: str, state: State = "ending") -> None:
        """Any state → `ending` or `stuck`."""

    def holds(self, uuid: str) -> list[Hold]: ...

    def holders(self, key: str) -> list[str]:
        """uuids of those who hold the object."""

    def journal(self, owner: str) -> list[Entry]:
        """Entries in force, oldest first."""

    def orphan(self, uuid: str) -> list[str]:
        """Drops the shared holds of a guest that is ending or stuck; returns the keys that have no holder
        left and an entry in the journal.

        Such a key counts as being restored, also in a later call for any guest, until `settle` has closed its entries.
        """

    def orphans(self) -> list[str]:
        """All keys that are being restored."""

    def settle(self, entry: int, outcome: str) -> None:
        """Closes one entry; of several calls the first outcome stands.

        Raises:
            LedgerError: a shared object's entry, while guests hold the object; or there never was such an entry.
        """

    def release(self, uuid: str) -> None:
        """Takes out an ending or stuck guest whose entries are all closed as restored, untouched or gone: frees its
        claims and holds.

        Raises:
            LedgerError: an entry is still open, or closed as foreign: the claims stay in quarantine.
        """

    def forget(self, uuid: str) -> None:
        """Takes out a stuck guest on a person's word, foreign entries included; frees its claims."""

    # channels

    def open_channels(self, channels: Sequence[Channel], most: Mapping[str, int]) -> list[Channel]:
        """Enters all of them, or none, and fills in `id`.

        Args:
            channels: with any `id`.
            most: realm → how many channels it may have afterwards, counting those of either end.

        Raises:
            OverQuota: a realm would have more.
            LedgerError: an end is no guest that is there with this incarnation.
        """

    def channels(self, realm: str | None = None) -> list[Channel]:
        """All, or those with an end in the realm, oldest first."""

    def move_channels(self, ids: Iterable[int], before: str, after: str) -> int:
        """Changes the state of those that are in `before`; how many were."""

    def close_channels(self, ids: Iterable[int]) -> int:
        """Takes them out; how many were there."""

    # facts

    def remember(self, key: str, value: str) -> None:
        """Keeps a small fact about this host for later processes, in place of the one before; "" forgets it."""

    def recall(self, key: str) -> str:
        """The fact of that key, or ""."""

    # documents

    def commit(self, commit: Commit) -> list[Document]:
        """Makes all of the changes, durably, or none of them.

        Returns:
            The documents of `puts` that are there afterwards, in that order.

        Raises:
            Changed: a document is not the one that the caller has seen, or there is one where none was.
            Held: somebody else has a claim; `target` is ``kind key``, `holder` who has it.
            OverQuota: a sum would come to more than it may.
            LedgerError: the realm to drop has guests or documents.
        """

    def document(self, kind: str, realm: str, name: str) -> Document | None:
        """By kind, owner and id. It takes as long whether there is one or not."""

    def documents(self, kind: str, realm: str | None = None) -> list[Document]:
        """All of a kind, of one realm or of all, in the order of realm and id."""

    def claimants(self, kind: str, key: str | None = None) -> list[Document]:
        """The documents that have a claim of that kind, or the one that has it under that key."""

    def spent(self, realm: str) -> dict[str, int]:
        """A realm's sums by name; what is not there is 0."""

    def events(self, realm: str, after: int = 0, most: int = 1000) -> list[Event]:
        """A realm's events with a higher number than `after`, oldest first."""

    def last_event(self, realm: str) -> int:
        """The number of a realm's newest event, 0 if there was none yet."""

    # audit

    def audit(self, event: str, fields: Mapping[str, Any]) -> None: ...

    def audit_records(self, after: int = 0) -> list[AuditRecord]: ...

    def audit_head(self) -> tuple[int, str]:
        """Number and digest of the newest record, (0, zeros) if there is none."""

    def audit_verify(self) -> int:
        """The number of records, all of them intact.

        Raises:
            LedgerCorrupt: names the first record that does not fit.
        """
