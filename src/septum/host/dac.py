"""POSIX permission bits and access ACLs, as pure data: parse, print, decide, add and take away one entry.

The layout is that of ``system.posix_acl_access``: a u32 version (2), then entries of u16 tag, u16 perm, u32 id, all
little-endian, sorted by tag and id (include/uapi/linux/posix_acl_xattr.h). The decision is POSIX 1003.1e draft 17's,
as in fs/posix_acl.c `posix_acl_permission`.
"""

from __future__ import annotations

import struct

from septum.errors import HostError
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

XATTR: Final = "system.posix_acl_access"
READ, WRITE, EXECUTE = 4, 2, 1

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_VERSION = 2
_NO_ID = 0xFFFFFFFF
_TAGS: Final = {"user": _USER, "group": _GROUP}


class AclEntry(NamedTuple):
    tag: int
    id: int
    perms: int


Acl = tuple[AclEntry, ...]


def parse(blob: bytes) -> Acl:
    """The entries of a raw ACL; () for an empty one.

    Raises:
        HostError: not an ACL of a version that is known here.
    """
    if not blob:
        return ()
    if len(blob) < 4 or (len(blob) - 4) % 8 or struct.unpack_from("<I", blob)[0] != _VERSION:
        raise HostError("an ACL has an unknown layout", rule="posix_acl_xattr version 2")
    found = [struct.unpack_from("<HHI", blob, at) for at in range(4, len(blob), 8)]
    return tuple(AclEntry(tag, qualifier, perms) for tag, perms, qualifier in found)


def pack(acl: Acl) -> bytes:
    """The raw form; b"" for ()."""
    if not acl:
        return b""
    rows = sorted(acl, key=lambda entry: (entry.tag, entry.id))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", e.tag, e.perms, e.id) for e in rows)


def bits(perms: str) -> int:
    """``rwx`` letters → bits."""
    return sum({"r": READ, "w": WRITE, "x": EXECUTE}[letter] for letter in perms)


def letters(perms: int) -> str:
    """The lowest three bits as ``rwx`` with ``-`` for what is not there."""
    return "".join(letter if perms & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)))


def decide(
    uid: int, gids: Collection[int], want: int, *, owner: int, group: int, mode: int, acl: Acl = ()
) -> tuple[bool, str]:
    """Whether a process without capabilities gets `want` bits of an object, and the entry that decided.

    Args:
        uid: of the process.
        gids: all its groups.
        want: bits out of READ, WRITE, EXECUTE.
        owner: uid of the object.
        group: gid of the object.
        mode: its permission bits.
        acl: its access ACL, () if it has none.
    """
    if not mode & 0o070:
        # With nothing in the mask the kernel never looks at the ACL, and whom it names counts among the others
        # (fs/namei.c `acl_permission_check`).
        acl = ()
    if uid == owner:
        return (mode >> 6) & want == want, f"owner {letters(mode >> 6)}"
    mask = next((entry.perms for entry in acl if entry.tag == _MASK), 7)
    for entry in acl:
        if entry.tag == _USER and entry.id == uid:
            return entry.perms & mask & want == want, f"acl user:{uid}:{letters(entry.perms & mask)}"
    matched = False
    group_perms = next((entry.perms for entry in acl if entry.tag == _GROUP_OBJ), (mode >> 3) & 7)
    candidates = [(group, group_perms)] + [(entry.id, entry.perms) for entry in acl if entry.tag == _GROUP]
    for gid, perms in candidates:
        if gid in gids:
            matched = True
            if perms & mask & want == want:
                return True, f"group {gid}:{letters(perms & mask)}"
    if matched:
        return False, "its groups' entries"
    return mode & want == want, f"others {letters(mode)}"


def base(mode: int) -> Acl:
    """The three entries that permission bits alone amount to."""
    return (
        AclEntry(_USER_OBJ, _NO_ID, (mode >> 6) & 7),
        AclEntry(_GROUP_OBJ, _NO_ID, (mode >> 3) & 7),
        AclEntry(_OTHER, _NO_ID, mode & 7),
    )


def entry(acl: Acl, tag: str, qualifier: int) -> int | None:
    """The permission bits of a named entry, or None."""
    return next((e.perms for e in acl if e.tag == _TAGS[tag] and e.id == qualifier), None)


def grant(acl: Acl, mode: int, tag: str, qualifier: int, perms: int) -> Acl:
    """With a named entry set to `perms`.

    An object without an ACL gets one whose mask leaves everybody else's rights as they are. Where there is a mask
    already it is not widened, since that would give rights to the other entries as well.

    Raises:
        HostError: the mask that is there withholds what is asked.
    """
    if not acl:
        acl = (*base(mode), AclEntry(_MASK, _NO_ID, (mode >> 3) & 7 | perms))
    kept = tuple(e for e in acl if not (e.tag == _TAGS[tag] and e.id == qualifier))
    mask = next((e.perms for e in kept if e.tag == _MASK), None)
    if mask is None:
        return grant((), mode, tag, qualifier, perms)
    if perms & ~mask:
        if _masks_nothing(kept, mask):
            kept = (*(e for e in kept if e.tag != _MASK), AclEntry(_MASK, _NO_ID, mask | perms))
        else:
            raise HostError("the object's ACL mask withholds what the guest needs", rule=f"mask {letters(mask)}")
    return (*kept, AclEntry(_TAGS[tag], qualifier, perms))


def spare(acl: Acl) -> int:
    """The bits of the mask that no entry makes use of; 0 without a mask."""
    return next((entry.perms for entry in acl if entry.tag == _MASK), 0) & ~_needed(acl)


def revoke(acl: Acl, tag: str, qualifier: int, spared: int = 0) -> Acl:
    """Without that named entry; () once nothing but the permission bits' own meaning is left.

    Args:
        acl: from which it is taken.
        tag, qualifier: of the entry.
        spared: what `spare` said before the entry came.
    """
    kept = tuple(e for e in acl if not (e.tag == _TAGS[tag] and e.id == qualifier))
    mask = next((e.perms for e in kept if e.tag == _MASK), None)
    if mask is None or not _masks_nothing(kept, mask):
        return kept
    if not any(e.tag in (_USER, _GROUP) for e in kept):
        return ()
    mask = _needed(kept) | spare(acl) | spared
    return (*(e for e in kept if e.tag != _MASK), AclEntry(_MASK, _NO_ID, mask))


def plain_mode(acl: Acl, mode: int) -> int:
    """The mode an object goes back to when `revoke` has left it without an ACL: group bits from the group's entry."""
    group = next((e.perms for e in acl if e.tag == _GROUP_OBJ), (mode >> 3) & 7)
    return (mode & ~0o070) | group << 3


def _needed(acl: Acl) -> int:
    need = 0
    for governed in acl:
        if governed.tag in (_USER, _GROUP, _GROUP_OBJ):
            need |= governed.perms
    return need


def _masks_nothing(acl: Acl, mask: int) -> bool:
    """The mask takes no right from any entry that it governs, so that moving it changes nobody's rights."""
    return _needed(acl) & ~mask == 0
