"""From texts to a declaration: the platform's file, then each realm's own. Pure, but for who fetches the texts."""

from collections.abc import Callable
from typing import NamedTuple

from septum.declare.document import document
from septum.declare.doors import join_doors
from septum.declare.model import ANY, PLATFORM, Declaration, Denial, Device, End, Quota, Realm, Where
from septum.declare.part import Part, Speaker, read_part
from septum.declare.reading import Entry, Reading
from septum.errors import DeclarationError, Fault

__all__ = ["Fetched", "Unfetched", "parse"]

_PARTS = ("role", "service", "image", "offer", "use")
_BUSES = ("pci", "usb", "path")


class Fetched(NamedTuple):
    """A realm's file.

    Attributes:
        name: for messages.
        content: of the file.
        identity: the same for two names of one file.
    """

    name: str
    content: bytes
    identity: object


class Unfetched(Exception):
    """A realm's file can't be had, or may not be taken.

    Args:
        why: in words, for whoever named the file.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def parse(file: str, content: bytes, fetch: Callable[[str], Fetched]) -> Declaration:
    """Reads and checks a whole declaration.

    Args:
        file: name of the platform's file, for messages.
        content: of it.
        fetch: gives a realm's file by its path relative to the platform's folder; raises `Unfetched`.

    Raises:
        DeclarationError: with all faults of all files.
    """
    reader = _Platform(Reading(document(file, content)), fetch)
    declaration = reader.read()
    if reader.faults:
        raise DeclarationError(reader.faults)
    return Declaration(
        *declaration[:-1],
        join_doors(declaration.uses, declaration.offers, declaration.denials, declaration.services),
    )


class _Platform:
    def __init__(self, reading: Reading, fetch: Callable[[str], Fetched]) -> None:
        self.reading = reading
        self.fetch = fetch
        self.of_files: list[Fault] = []
        self.sources: dict[object, str] = {}
        self.unsure: set[str] = set()  # realms whose quota is not understood: nothing is held against it

    @property
    def faults(self) -> list[Fault]:
        """The platform's file comes first; each file's in the order of its lines."""
        return sorted(self.reading.faults, key=lambda fault: (fault.line, fault.column)) + self.of_files

    def read(self) -> Declaration:
        """All but the doors."""
        reading = self.reading
        reading.top("the platform's file")
        entries = reading.entries((), "realm")
        realms = {entry.name: self.realm(entry) for entry in entries if self.may_name(entry)}
        devices = {entry.name: self.device(entry, realms) for entry in reading.entries((), "device")}
        self.check_addresses(devices)
        platforms = reading.entries((), "platform")
        self.check_folders(realms, "".join(entry.values["images"] for entry in platforms))
        parts: list[tuple[str, Part]] = []
        denials: tuple[Denial, ...] = ()
        for entry in platforms:
            speaker = Speaker(PLATFORM, None, self.folder(entry), devices)
            parts.append((PLATFORM, read_part(reading, entry.path, speaker)))
            denials = self.denials(entry, realms)
        for entry in entries:
            if entry.name in realms:
                realm = realms[entry.name]
                quota = None if realm.name in self.unsure else realm.quota
                part = self.part(entry, Speaker(realm.name, quota, self.folder(entry), devices))
                if part is not None:
                    parts.append((realm.name, part))
        return Declaration(
            realms,
            {End(realm, role.name): role for realm, part in parts for role in part.roles},
            {End(realm, service.name): service for realm, part in parts for service in part.services},
            {End(realm, image.name): image for realm, part in parts for image in part.images},
            devices,
            tuple(offer for _, part in parts for offer in part.offers),
            tuple(use for _, part in parts for use in part.uses),
            denials,
            (),
        )

    def may_name(self, entry: Entry) -> bool:
        if entry.name != PLATFORM:
            return True
        self.reading.fault(
            entry.where, f"no realm may have the name {PLATFORM}: it stands for what belongs to no realm"
        )
        return False

    def realm(self, entry: Entry) -> Realm:
        before = len(self.reading.faults)
        quotas = self.reading.entries(entry.path, "quota")
        if not quotas:
            if self.reading.at((*entry.path, "quota")) is None:
                what = f"realm {entry.name} lacks quota: expected a table [realm.{entry.name}.quota]"
                self.reading.fault(entry.where, what)
            quota = Quota(0, 0, 0, 0, 0, 0, entry.where)
        else:
            quota = Quota(where=quotas[0].where, **quotas[0].values)
        if len(self.reading.faults) > before:
            self.unsure.add(entry.name)
        return Realm(entry.name, quota, entry.values["file"], entry.values["images"], entry.where)

    def folder(self, entry: Entry) -> str:
        """Of images; where it was not understood any, so that the images in it are no faults too."""
        given: str = entry.values["images"]
        return given or ("" if self.reading.at((*entry.path, "images")) is None else "/")

    def part(self, entry: Entry, speaker: Speaker) -> Part | None:
        """The realm's part, from where it stands."""
        name = entry.values["file"]
        if not name:
            return read_part(self.reading, entry.path, speaker)
        for key in _PARTS:
            if self.reading.at((*entry.path, key)) is not None:
                what = f"realm {entry.name} speaks for itself in {name}: {key} may not stand here too"
                self.reading.fault(self.reading.document.where((*entry.path, key)), what)
        where = self.reading.document.where((*entry.path, "file"), value=True)
        try:
            fetched = self.fetch(name)
        except Unfetched as unfetched:
            self.reading.fault(where, f"realm {entry.name}: file: {unfetched.why}")
            return None
        if fetched.identity in self.sources:
            what = f"realm {entry.name}: file: {name} is the part of realm {self.sources[fetched.identity]} already"
            self.reading.fault(where, what)
            return None
        self.sources[fetched.identity] = entry.name
        try:
            reading = Reading(document(fetched.name, fetched.content))
        except DeclarationError as error:
            self.of_files += error.faults
            return None
        reading.top("a realm's file")
        part = read_part(reading, (), speaker)
        self.of_files += sorted(reading.faults, key=lambda fault: (fault.line, fault.column))
        return part

    def device(self, entry: Entry, realms: dict[str, Realm]) -> Device:
        owner: End = entry.values["owner"]
        self.check_realm(entry, "owner", owner, realms)
        given = [bus for bus in _BUSES if self.reading.at((*entry.path, bus)) is not None]
        if len(given) != 1:
            what = f"device {entry.name} has {' and '.join(given) or 'no address'}: expected one of {', '.join(_BUSES)}"
            self.reading.fault(entry.where, what)
        bus = given[0] if given else _BUSES[0]
        return Device(entry.name, bus, entry.values[bus], owner, entry.where)

    def check_addresses(self, devices: dict[str, Device]) -> None:
        first: dict[tuple[str, str], str] = {}
        for device in devices.values():
            other = first.setdefault((device.bus, device.address), device.name)
            if device.address and other != device.name:
                what = f"device {device.name} has the address of device {other}, {device.address}"
                self.reading.fault(self.value(("device", device.name, device.bus)), what)

    def check_folders(self, realms: dict[str, Realm], platform: str) -> None:
        """One owner's folder of images in another's would be a way between them."""
        folders: list[tuple[str, tuple[str, ...]]] = [
            (f"{realm.images}/", ("realm", realm.name)) for realm in realms.values() if realm.images
        ]
        folders += [(f"{platform}/", (PLATFORM,))] if platform else []
        outer, holder = "", ""
        for folder, path in sorted(folders):  # what lies in a folder comes right after it
            name = " ".join(path)
            if outer and folder.startswith(outer):
                what = f"{name}: images: {folder[:-1]} is in the folder of {holder}, {outer[:-1]}"
                self.reading.fault(self.value((*path, "images")), what, "give each a folder of its own")
            else:
                outer, holder = folder, name

    def denials(self, platform: Entry, realms: dict[str, Realm]) -> tuple[Denial, ...]:
        made = []
        for entry in self.reading.entries(platform.path, "deny"):
            for side in ("role", "service"):
                self.check_realm(entry, side, entry.values[side], realms)
            made.append(Denial(entry.values["role"], entry.values["service"], entry.where))
        return tuple(made)

    def check_realm(self, entry: Entry, key: str, end: End, realms: dict[str, Realm]) -> None:
        """Whom the platform names must be there: a denial with a slip of the pen would deny nothing."""
        if end.realm and end.realm not in (ANY, PLATFORM) and end.realm not in realms:
            known = [PLATFORM, *realms]
            self.reading.unknown(
                self.value((*entry.path, key)), f"{key}: there is no realm {end.realm}", end.realm, known
            )

    def value(self, path: tuple[str | int, ...]) -> Where:
        return self.reading.document.where(path, value=True)
