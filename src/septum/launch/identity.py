"""Who a guest is: its realm's code, a label and a uid that nobody else has, all claimed in the ledger at once."""

from __future__ import annotations

import os
import time

from septum.errors import Denied, Exhausted, Held, NotFound
from septum.host.credentials import GUEST_UIDS
from septum.host.driver import Driver
from septum.labels import Allotment, CategorySet, Level, RealmScheme, draw_realm
from septum.launch import process
from septum.launch.plan import Identity, Subject
from septum.launch.undo import survivors
from septum.lean import TYPE_CHECKING
from septum.ledger.protocol import Ledger
from septum.ledger.records import Guest, Realm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final, TypeAlias

SCHEME: Final = RealmScheme()
# The ledger's counter of starts gives label and uid, so each rests as long as possible; the uids begin at a place that
# differs between ledgers.
UID_BASE: Final = GUEST_UIDS.start
UID_COUNT: Final = len(GUEST_UIDS)
_TRIES: Final = 64
_PATIENCE: Final = 3.0  # seconds to wait for an earlier incarnation that is just being put back

Foreign: TypeAlias = "Callable[[], Sequence[CategorySet]]"


def realm_of(ledger: Ledger, name: str, foreign: Foreign, *, groups: bool) -> Realm:
    """The realm of that name; made with a free code if the ledger has none.

    Args:
        ledger: to look in.
        name: letters, digits, ``-``, ``_``, ``.``.
        foreign: labels of others that the code has to avoid.
        groups: the realm gets a group, for what its guests share.

    Raises:
        Denied: the name can't be a realm's.
        Exhausted: no code is left.
    """
    there = ledger.realm(name)
    if there is not None:
        return there
    made: list[Realm] = []
    try:
        enter_realm(ledger, name, foreign, lambda realm: made.append(ledger.add_realm(realm)), groups=groups)
        return made[0]
    except Held:
        there = ledger.realm(name)
        if there is None:
            raise
        return there


def enter_realm(ledger: Ledger, name: str, foreign: Foreign, enter: Callable[[Realm], object], *, groups: bool) -> None:
    """Enters a new realm with a code and a group that nobody else has.

    Args:
        ledger: to look in.
        name: letters, digits, ``-``, ``_``, ``.``.
        foreign: labels of others that the code has to avoid.
        enter: claims all of it; called again with another code where that was taken a moment ago.
        groups: the realm gets a group, for what its guests share.

    Raises:
        Denied: the name can't be a realm's.
        Held: there is such a realm.
        Exhausted: no code is left.
    """
    check_name(name, "realm")
    for _ in range(_TRIES):
        code = draw_realm(SCHEME, lambda keys: ledger.taken("realm-code", keys), foreign())
        try:
            enter(Realm(name, tuple(code), _number(ledger, ledger.advance("starts")) if groups else -1))
            return
        except Held as error:
            if error.target.startswith("realm "):
                raise
    raise Exhausted(f"no code could be claimed for realm {name} in {_TRIES} tries", target=name)


def admit(
    ledger: Ledger,
    subject: Subject,
    uuid: str,
    realm: Realm,
    drivers: Sequence[Driver],
    foreign: Foreign,
    *,
    own_uid: bool,
) -> Guest:
    """Enters a guest with name, label and uid; each is unique or nothing is entered.

    Raises:
        Held: the name or the uuid belongs to a guest that is there.
        Exhausted: no label or uid is left.
    """
    name = subject.name or uuid.split("-", 1)[0]
    check_name(name, "guest")
    code = CategorySet(realm.categories)
    allotment = Allotment(SCHEME, code, ledger.secret())
    deadline = time.monotonic() + _PATIENCE
    tries = 0
    while tries < _TRIES:
        start = ledger.advance("starts")
        categories = allotment.draw(
            start, lambda keys: ledger.taken("code", keys), foreign(), lambda: ledger.population(realm.name)
        )
        uid = _number(ledger, start) if own_uid else -1
        guest = Guest(
            uuid=uuid,
            incarnation=0,
            name=name,
            realm=realm.name,
            state="admitted",
            categories=tuple(categories),
            level=str(Level(0, categories)),
            uid=uid,
            drivers=tuple(driver.name for driver in drivers),
            boot_id=process.boot_id(),
            pid=os.getpid(),
            started=process.start_time(os.getpid()),
            since=time.time(),
            argv=subject.command.argv,
            details={"daemonize": subject.command.daemonize},
        )
        claims = [("name", f"{realm.name}/{name}"), ("uuid", uuid), ("code", str(categories))]
        if own_uid:
            claims.append(("uid", str(uid)))
        try:
            return ledger.admit(guest, claims)
        except Held as error:
            if error.target.split(" ", 1)[0] in ("name", "uuid"):
                if time.monotonic() > deadline or not _ending(ledger, error.target):
                    raise
                time.sleep(0.005)
                continue
            tries += 1
    raise Exhausted(f"no label could be claimed for {name} in {_TRIES} tries", target=name)


def identity(guest: Guest, realm: Realm) -> Identity:
    """The part of a guest's row that drivers need."""
    realm_level = str(Level(0, CategorySet(realm.categories)))
    gid = realm.gid if guest.uid >= 0 else -1
    return Identity(guest.uuid, guest.name, guest.realm, guest.level, realm_level, guest.uid, gid)


def preview(subject: Subject, realm: str, ledger: Ledger | None, *, own_uid: bool) -> Identity:
    """An identity as a start would give, claimed by nobody: for `septum plan`."""
    there = ledger.realm(realm) if ledger else None
    code = CategorySet(there.categories) if there else SCHEME.realm_code(0)
    if ledger and not there:
        code = draw_realm(SCHEME, lambda keys: ledger.taken("realm-code", keys))
    secret = ledger.secret() if ledger else bytes(32)
    taken: Any = (lambda keys: ledger.taken("code", keys)) if ledger else (lambda keys: {})
    population = (lambda: ledger.population(realm)) if ledger else None
    categories = Allotment(SCHEME, code, secret).draw(0, taken, (), population)
    uuid = subject.uuid or "00000000-0000-0000-0000-000000000000"
    return Identity(
        uuid=uuid,
        name=subject.name or "guest",
        realm=realm,
        level=str(Level(0, categories)),
        realm_level=str(Level(0, code)),
        uid=UID_BASE if own_uid else -1,
        realm_gid=(there.gid if there else UID_BASE) if own_uid else -1,
    )


def new_uuid() -> str:
    """A random UUID (RFC 9562, version 4). The `uuid` module costs a start 7 ms."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def check_name(name: str, what: str) -> None:
    """Raises Denied if the name would not be safe to print, to put into a path or a policy."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    # A guest's name comes from whatever manages it, and those allow blanks and any alphabet; a realm's is septum's own.
    safe = plain if what == "realm" else name.isprintable() and "/" not in name and name == name.strip()
    if not name or not safe or len(name) > 64 or name[0] in ".-":
        raise Denied(
            f"{name!r} can't be the name of a {what}",
            target=name,
            rule="up to 64 characters that can be printed, no slash, no blank at its ends, no . or - at its beginning"
            if what == "guest"
            else "1 to 64 of A–Z a–z 0–9 . _ -, not beginning with . or -",
            remedy="choose another with --name" if what == "guest" else "choose another with --realm",
        )

    if what == "realm" and name == "platform":
        raise Denied(
            "'platform' can't be the name of a realm",
            target=name,
            rule="in a declaration it stands for what belongs to no realm",
            remedy="choose another with --realm",
        )


def _ending(ledger: Ledger, claim: str) -> bool:
    """Whether the guest that has this name or uuid is gone, and is only being put back: a restart comes that fast."""
    reference = claim.split(" ", 1)[1]
    guest = ledger.guest(reference)
    return guest is None or (guest.state != "stuck" and not survivors(guest))


def _number(ledger: Ledger, start: int) -> int:
    """A uid or gid that neither a guest nor a realm of this ledger has; no other start has the same number."""
    offset = int.from_bytes(ledger.secret()[:4], "big")
    number = UID_BASE + (offset + start) % UID_COUNT
    # A guest's uid is its gid too: no realm may have that as its group.
    if ledger.taken("uid", [str(number)]) or ledger.taken("gid", [str(number)]):
        return _number(ledger, ledger.advance("starts"))
    return number


def block_of(ledger: Ledger, realm: str, role: str) -> str:
    """The block of the policy that a declared role became; "" for no role.

    Raises:
        NotFound: the declaration in force has no such role.
    """
    if not role:
        return ""
    declaration = ledger.document("declaration", "", "in-force")
    block = declaration.body["roles"].get(f"{realm}/{role}", "") if declaration else ""
    if not block:
        raise NotFound(
            f"realm {realm} has no role {role}",
            target=f"{realm}/{role}",
            rule="roles are those of the declaration that is in force",
            remedy="declare it, and apply the declaration: septum declare apply",
        )
    return str(block)
