"""From a declaration to what is in force, all of it or nothing.

What can fail for the declaration's sake is done first and in memory: reading, compiling, checking every neverallow.
Then the declaration is written down as pending. From there on it is carried through: doors close, realms come, the
policy takes the other's place, doors open. Killed in between, or stopped by a full disk, the next `apply` (or `finish`)
carries it through from the first step. If septumd refuses the policy, the one before is put back.

Doors close before anything else and open last, so at no moment does more go through than one of the two declarations
allows. Where only consent changed, the policy's text is the same: nothing is compiled, and booleans alone change.
"""

import fcntl
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from septum.declare import Change, Quota, Taken, again, cil, consents, difference, parse, role_name
from septum.enact.places import Place, Standalone
from septum.errors import Denied, Held, SeptumError
from septum.labels import CategorySet
from septum.launch.identity import enter_realm
from septum.ledger.protocol import Ledger
from septum.ledger.records import Commit, Document, Put, Realm

__all__ = ["Enacted", "Enactor", "in_force", "nothing"]

_KIND: Final = "declaration"
_FORCE, _PENDING = "in-force", "pending"
_LOCK: Final = "declare.lock"


class Enacted(NamedTuple):
    """What an `apply` has done.

    Attributes:
        changes: between the declaration before and this one.
        compiled: the policy was compiled anew; otherwise booleans alone changed, or nothing.
        new_realms: that were entered.
        retired: realms that have a row and are not declared any more: they keep their codes until they are destroyed.
        asked: septumd took the policy; False if none runs, and the next one will.
    """

    changes: tuple[Change, ...]
    compiled: bool
    new_realms: tuple[str, ...]
    retired: tuple[str, ...]
    asked: bool


def nothing() -> Taken:
    """The declaration of a platform where none was ever applied: no realms, no doors."""
    return Taken(parse("nothing", b"", _no_parts), "nothing", b"", {})


def in_force(ledger: Ledger) -> Taken:
    """The declaration that is in force.

    Raises:
        DeclarationError: this version of septum reads it otherwise than the one that applied it.
    """
    document = ledger.document(_KIND, "", _FORCE)
    return _unpacked(document.body) if document else nothing()


class Enactor:
    """Applies declarations to a host.

    Args:
        ledger: of the host.
        folder: the state folder.
        place: where the policy is put in force; None stands for septumd's own file in the state folder.
        foreign: labels of others on the host, which a new realm's code has to avoid.
        groups: realms get a group: guests have uids of their own.
        checkpoint: is called between any two steps that matter, so that tests can end the process there.
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: str,
        place: Place | None = None,
        *,
        foreign: Callable[[], Sequence[CategorySet]] = lambda: (),
        groups: bool = False,
        checkpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._place = place or Standalone(folder)
        self._foreign = foreign
        self._groups = groups
        self._checkpoint = checkpoint

    def changes(self, new: Taken) -> tuple[Change, ...]:
        """What `apply` would change, without changing it."""
        return difference(in_force(self._ledger).declaration, new.declaration)

    def apply(self, new: Taken) -> Enacted:
        """Puts a declaration in force.

        Raises:
            Held: another process is applying one.
            PolicyError: what it becomes does not compile, or septumd refuses it; the one before stays in force.
            HostError, LedgerError: there is no room, or the like. What was not finished is finished by the next call.
        """
        with self._alone():
            self._finish()
            return self._apply(new)

    def finish(self) -> bool:
        """Carries through what an `apply` that was killed had begun; False if there is nothing.

        Raises:
            Held: another process is applying a declaration.
            PolicyError, HostError, LedgerError: as `apply`.
        """
        with self._alone():
            return self._finish()

    def again(self) -> None:
        """Sets the doors of the declaration in force once more: booleans of the kernel don't outlive a boot.

        Raises:
            Held, PolicyError, HostError: as `apply`.
        """
        with self._alone():
            taken = in_force(self._ledger)
            if self._ledger.document(_KIND, "", _FORCE) is not None:
                self._place.put(self._place.current(), consents(taken.declaration))

    def _apply(self, new: Taken) -> Enacted:
        old = in_force(self._ledger)
        changes = difference(old.declaration, new.declaration)
        before = self._place.current()
        known = self._ledger.document(_KIND, "", _FORCE)
        same = bool(before) and known is not None and known.body["text"] == _digest(cil(new.declaration))
        image = before if same else self._place.compiled(cil(new.declaration))
        self._checkpoint("compiled")
        # Written down before anything changes; the old image too, for if septumd refuses the new one.
        body = {**_packed(new), "image": b64encode(image).decode(), "before": b64encode(before).decode()}
        self._ledger.commit(Commit((Put(_KIND, "", _PENDING, 0, body),)))
        self._checkpoint("pending")
        return self._carry(new, old, image, before, changes, compiled=not same)

    def _finish(self) -> bool:
        pending = self._ledger.document(_KIND, "", _PENDING)
        if pending is None:
            return False
        new, old = _unpacked(pending.body), in_force(self._ledger)
        image, before = b64decode(pending.body["image"]), b64decode(pending.body["before"])
        self._carry(new, old, image, before, (), compiled=True)
        return True

    def _carry(
        self,
        new: Taken,
        old: Taken,
        image: bytes,
        before: bytes,
        changes: tuple[Change, ...],
        *,
        compiled: bool,
    ) -> Enacted:
        open_before = {name for name, value in consents(old.declaration).items() if value}
        open_after = {name for name, value in consents(new.declaration).items() if value}
        closing, staying = open_before - open_after, open_before & open_after
        try:
            if closing and before:
                self._place.put(before, dict.fromkeys(closing, False))
                self._checkpoint("closed")
            new_realms = self._enter(new)
            self._checkpoint("realms")
            values = {name: name in staying for name in consents(new.declaration)}
            asked = self._place.put(image, values)
            self._checkpoint("policy")
            if open_after - staying:
                asked = self._place.put(image, {name: name in open_after for name in values})
                self._checkpoint("opened")
        except Denied:
            self._put_back(before)
            raise
        self._settle(new)
        self._checkpoint("settled")
        declared = set(new.declaration.realms)
        retired = tuple(sorted(realm.name for realm in self._ledger.realms() if realm.name not in declared))
        return Enacted(changes, compiled, new_realms, retired, asked)

    # steps

    def _enter(self, new: Taken) -> tuple[str, ...]:
        """Rows, codes and quotas of the declared realms."""
        entered = []
        for name, realm in sorted(new.declaration.realms.items()):
            document = self._ledger.document("realm", name, name)
            quota = _quota(realm.quota, document)
            if document is not None:
                if document.body["quota"] != quota:
                    body = {**document.body, "quota": quota}
                    self._ledger.commit(Commit((Put("realm", name, name, document.version, body),)))
                continue
            body = {"quota": quota, "delegates": [], "enrolment": "", "public_key": ""}
            put = Put("realm", name, name, 0, body)
            record = ("realm.create", {"by": "declaration", "realm": name})

            def enter(row: Realm | None, put: Put = put, record: tuple[str, Mapping[str, Any]] = record) -> None:
                self._ledger.commit(Commit((put,), realm=row, audit=(record,)))

            if self._ledger.realm(name) is not None:
                enter(None)
            else:
                enter_realm(self._ledger, name, self._foreign, enter, groups=self._groups)
                entered.append(name)
        return tuple(entered)

    def _put_back(self, before: bytes) -> None:
        """What was in force stays: septumd still decides by it, and its file comes back."""
        self._place.put_back(before)
        pending = self._ledger.document(_KIND, "", _PENDING)
        if pending is not None:
            self._ledger.commit(
                Commit((Put(_KIND, "", _PENDING, pending.version, None),), audit=(("declaration.refused", {}),))
            )

    def _settle(self, new: Taken) -> None:
        """One commit: this is in force, nothing is pending."""
        now, pending = (self._ledger.document(_KIND, "", name) for name in (_FORCE, _PENDING))
        body = _packed(new)
        puts = [Put(_KIND, "", _FORCE, now.version if now else 0, body)]
        if pending is not None:
            puts.append(Put(_KIND, "", _PENDING, pending.version, None))
        record = ("declaration.applied", {"fingerprint": body["fingerprint"], "file": new.file})
        self._ledger.commit(Commit(tuple(puts), audit=(record,)))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = os.path.join(self._folder, _LOCK)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Held(
                    "another process is applying a declaration",
                    target=path,
                    rule="one at a time",
                    remedy="wait for it, and look at the difference again",
                ) from error
            yield
        finally:
            os.close(fd)


def _quota(declared: Quota, document: Document | None) -> dict[str, Any]:
    """The realms service's own form; what a declaration does not speak of stays."""
    kept = dict(document.body["quota"]) if document else {}
    fields = {name: value for name, value in declared._asdict().items() if name != "where"}
    return {**kept, **fields}


def _packed(taken: Taken) -> dict[str, Any]:
    parts = {name: b64encode(content).decode() for name, content in sorted(taken.parts.items())}
    content = b64encode(taken.content).decode()
    return {
        "file": taken.file,
        "content": content,
        "parts": parts,
        "text": _digest(cil(taken.declaration)),
        "roles": {str(end): role_name(end) for end in sorted(taken.declaration.roles)},
        "fingerprint": _digest(repr((content, parts))),
    }


def _unpacked(body: Mapping[str, Any]) -> Taken:
    parts = {name: b64decode(content) for name, content in body["parts"].items()}
    return again(body["file"], b64decode(body["content"]), parts)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=32).hexdigest()


def _no_parts(name: str) -> Any:
    raise SeptumError(f"nothing has no file {name}")
