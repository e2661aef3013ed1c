"""From one image to every file that QEMU opens for it.

The formats are the *declared* ones, of the command line for the top image and of each header for the next, and never a
guess (CVE-2010-2237, CVE-2010-2238, CVE-2011-2178). A guest may have written any header of its own images, so what a
header names is opened in a way that has no effect, must be a regular file or a block device, and must lie where images
are allowed to be, after symlinks: or else a guest had septum label ``/etc/shadow`` for it (CVE-2024-4467 and
CVE-2024-32498 are of this family).

Between this reading and QEMU's own nobody else may write the images: the guest does not run yet, and what is
exclusive is held in the ledger by then.
"""

from __future__ import annotations

import os

from septum.guests.images import names
from septum.guests.images.files import HostOpener
from septum.guests.images.header import Budget, Header
from septum.guests.images.model import Chain, Finding, Limits, Link, Opener, ParseFilename
from septum.guests.images.place import Key, Member, Places
from septum.guests.resource import Access, Resource, Sharing
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from septum.guests.images.probe import Probe

    _T = TypeVar("_T")

_LEAVES = frozenset(
    ("raw", "file", "host_device", "host_cdrom", "vdi", "luks", "parallels", "bochs", "cloop", "dmg"),
)
"""Formats and protocols that QEMU reads without opening anything else. QEMU refuses a VDI that has a parent."""


def chain(
    path: str,
    format: str,  # noqa: A002 - the word of QEMU's options
    access: Access,
    *,
    sharing: Sharing = "exclusive",
    opener: Opener | None = None,
    parse_filename: ParseFilename | None = None,
    allowed: Collection[str] = (),
    overridden: Collection[str] = (),
    allow_probe: bool = False,
    cwd: str = "",
    limits: Limits | None = None,
) -> Chain:
    """Every file that QEMU opens below the image `path`.

    Args:
        path: absolute path of the top image, which the user named: it may lie anywhere.
        format: declared for it; "" if none is. A raw image is not even looked at.
        access: of the top image; its data file and extents have the same, all else is read-only.
        sharing: of the top image; its data file and extents have the same, all else is shared.
        opener: how files are reached; those of this host by default.
        parse_filename: explains names with a protocol prefix. Without it prefixes that mean a path or another host
            are understood, and the rest, ``json:`` among it, is refused.
        allowed: absolute paths: directories whose files a header may name, and single files. A block device must be
            named singly, since the devices of a host have but one directory.
        overridden: links that the command line sets itself (``backing=``, ``data-file=``), so that QEMU does not
            take them from the header of the top image.
        allow_probe: where no format is declared, follow the one that QEMU would pick. Otherwise such an image is a
            member whose own chain stays unknown. A finding says so in both cases.
        cwd: QEMU's working directory, for the few names that depend on it; "" refuses them.
        limits: for one chain.

    Raises:
        ImageError: the chain can't be known or trusted.
    """
    places = Places(opener or HostOpener(), allowed)
    walk = _Walk(places, parse_filename, allow_probe, cwd, limits or Limits())
    walk.follow(Member(path, format, access, sharing, "image"), overridden)
    return Chain(tuple(walk.resources.values()), tuple(walk.findings))


def would_probe(path: str, *, opener: Opener | None = None) -> Probe:
    """The format that QEMU would guess for an image whose format nobody declares. Never a reason to trust it.

    Raises:
        ImageError: it can't be read.
    """
    walk = _Walk(Places(opener or HostOpener(), ()), None, False, "", Limits())
    member = Member(path, "", "ro", "exclusive", "image")
    fd, _ = walk.places.locate(member)
    try:
        return walk.probe(member, fd)
    finally:
        os.close(fd)


def _reader(declared: str) -> Callable[[Header], list[Link]] | None:
    """What reads the links of a format, imported when the format occurs; None if there is no such format."""
    if declared == "qcow2":
        from septum.guests.images import qcow2

        return qcow2.links
    if declared == "qcow":
        from septum.guests.images import qcow

        return qcow.links
    if declared == "qed":
        from septum.guests.images import qed

        return qed.links
    if declared in ("vmdk", "vmdk-extent"):
        from septum.guests.images import vmdk

        return vmdk.links if declared == "vmdk" else vmdk.extent_links
    if declared == "vpc":
        from septum.guests.images import vpc

        return vpc.links
    if declared == "vhdx":
        from septum.guests.images import vhdx

        return vhdx.links
    return None


class _Walk:
    """The state of one call: what was found, and what it may still cost."""

    def __init__(
        self, places: Places, parse_filename: ParseFilename | None, allow_probe: bool, cwd: str, limits: Limits
    ) -> None:
        self.places = places
        self.parse_filename = parse_filename
        self.allow_probe = allow_probe
        self.cwd = cwd
        self.limits = limits
        self.budget = Budget(limits.bytes)
        self.resources: dict[Key, Resource] = {}
        self.findings: list[Finding] = []

    def follow(self, top: Member, overridden: Collection[str]) -> None:
        """Walk the tree below `top`, the members of one image in the order in which QEMU opens them."""
        if top.format in _LEAVES:
            return
        pending = [top]
        while pending:
            member = pending.pop()
            fd, key = self.places.locate(member)
            try:
                links = self.links(member, fd) if self.is_new(member, key) else []
            finally:
                os.close(fd)
            if member.role is None:
                links = [link for link in links if link.role not in overridden]
            ancestors = (*member.ancestors, key)
            if links and len(ancestors) > self.limits.depth:
                raise member.refuse(
                    f"the chain goes on below {self.limits.depth} images",
                    rule="the depth of a chain is limited, as QEMU keeps each image open",
                    remedy="shorten the chain with `qemu-img commit` or `qemu-img rebase`",
                )
            below = [found for link in links for found in self.below(member, link, ancestors)]
            pending.extend(reversed(below))

    def is_new(self, member: Member, key: Key) -> bool:
        """Note the member; False if it is known already and need not be read again."""
        if key in member.ancestors:
            raise member.refuse(
                "the chain leads back to this image",
                rule="a chain has an end",
                remedy="give the overlay its real backing file with `qemu-img rebase -u`",
            )
        if member.role is None:
            return True
        known = self.resources.get(key)
        found = Resource(
            path=member.path,
            kind=member.kind,
            access=member.access,
            sharing=member.sharing,
            option=f"{member.role} of {member.holder}",
            format="vmdk" if member.format == "vmdk-extent" else member.format,
        )
        if known is None:
            if len(self.resources) >= self.limits.files:
                raise member.refuse(f"a chain of more than {self.limits.files} files", rule="their number is limited")
            self.resources[key] = found
            return True
        if (known.access, known.sharing, known.format) != (found.access, found.sharing, found.format):
            raise member.refuse(
                f"it is the {known.option} too, used in another way ({known.access}, {known.format or 'probed'})",
                rule="a file has one use within a chain",
            )
        return False

    def links(self, member: Member, fd: int) -> list[Link]:
        """What the member's header names."""
        if member.kind == "peer-socket":
            return []
        declared = member.format or self.undeclared(member, fd)
        if not declared or declared in _LEAVES:
            return []
        reader = _reader(declared)
        if reader is None:
            raise member.refuse(f"septum does not know which files the format {declared!r} opens")
        return self.read(member, fd, reader)

    def undeclared(self, member: Member, fd: int) -> str:
        """The format to go on with where none is declared, "" for none; a finding in any case."""
        guess = self.probe(member, fd)
        fits = " or ".join((guess.format, *guess.rivals))
        self.findings.append(
            Finding(
                "unsafe-probe",
                member.path,
                member.holder,
                guess.format,
                f"no format is declared for {member.role or 'image'} {member.path!r}: by bytes that a guest may have "
                f"written, QEMU would take it for {fits}",
            )
        )
        if not self.allow_probe:
            return ""
        if guess.rivals:
            raise member.refuse(f"no format is declared, and it fits {fits}", remedy="declare the format that it has")
        return guess.format

    def probe(self, member: Member, fd: int) -> Probe:
        """What QEMU would take the member for."""
        from septum.guests.images.probe import PROBE_SIZE, probe

        return self.read(member, fd, lambda header: probe(header.read(0, PROBE_SIZE), member.path))

    def read(self, member: Member, fd: int, reader: Callable[[Header], _T]) -> _T:
        """Hand the header of a located member to `reader`."""
        try:
            readable = self.places.opener.read(fd)
        except OSError as error:
            raise member.refuse(f"it can't be read: {error.strerror}") from error
        try:
            return reader(Header(readable, member.path, member.holder, self.budget))
        finally:
            os.close(readable)

    def below(self, holder: Member, link: Link, ancestors: tuple[Key, ...]) -> list[Member]:
        """The images that a link leads to."""
        backing = link.role == "backing file"
        sharing: Sharing = "shared" if backing else holder.sharing
        access: Access = "ro" if backing else holder.access
        found = names.resolve(link, holder.path, self.cwd, self.parse_filename)
        if not found:
            what = (
                f"the {link.role} {link.name!r} of {holder.path!r} is elsewhere: what its own header names is unknown"
            )
            self.findings.append(Finding("remote", link.name, holder.path, link.format, what))
        return [
            Member(
                named.path,
                named.format,
                "rw" if named.kind == "peer-socket" else access,
                sharing,
                named.kind,
                link.role,
                holder.path,
                ancestors,
            )
            for named in found
        ]
