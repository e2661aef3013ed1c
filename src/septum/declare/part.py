"""One speaker's part of a declaration: a realm's, or the platform's own. What is in it can be wrong only by itself."""

from collections.abc import Mapping
from typing import NamedTuple

from septum.declare.model import PLATFORM, Device, End, Image, Limits, Offer, Quota, Role, Service, Use, Where
from septum.declare.positions import Path
from septum.declare.quota import Spent, over_quota
from septum.declare.reading import Entry, Reading

__all__ = ["Part", "Speaker", "read_part"]


class Speaker(NamedTuple):
    """Who speaks in a part, and what the platform has given him.

    Attributes:
        realm: its name, or `PLATFORM`.
        quota: None for the platform, which has no bounds.
        images: folder of images, "" for none.
        devices: all of the host, by name.
    """

    realm: str
    quota: Quota | None
    images: str
    devices: Mapping[str, Device]

    def own_devices(self) -> dict[str, Device]:
        """Those that its guests may have."""
        return {name: device for name, device in self.devices.items() if device.owner.realm == self.realm}


class Part(NamedTuple):
    """What a speaker says."""

    roles: tuple[Role, ...]
    services: tuple[Service, ...]
    images: tuple[Image, ...]
    offers: tuple[Offer, ...]
    uses: tuple[Use, ...]


def read_part(reading: Reading, above: Path, speaker: Speaker) -> Part:
    """Reads the part that stands in the table at `above`; faults are noted in `reading`."""
    reader = _Reader(reading, above, speaker)
    return Part(reader.roles(), reader.services(), reader.images(), reader.offers(), reader.uses())


class _Reader:
    def __init__(self, reading: Reading, above: Path, speaker: Speaker) -> None:
        self.reading = reading
        self.speaker = speaker
        self.realm = speaker.realm
        self.entries = {
            name: reading.entries(above, name) for name in ("role", "service", "image", "offer", "use")
        }  # read once, since reading notes faults
        self.names = {name: {entry.name: None for entry in entries} for name, entries in self.entries.items()}
        self.devices = speaker.own_devices()
        self.spent = Spent()

    def place(self, entry: Entry, *key: str | int) -> Where:
        return self.reading.document.where((*entry.path, *key), value=True)

    def check_name(self, entry: Entry, key: str, name: str, of: str) -> None:
        if name and name not in self.names[of]:
            what = f"{key}: there is no {of} {name} in this part"
            self.reading.unknown(self.place(entry, key), what, name, list(self.names[of]))

    def charge(self, what: str, amount: int, entry: Entry, key: str, title: str) -> None:
        complaint = over_quota(self.spent, self.speaker.quota, what, amount, title)
        if complaint:
            self.reading.fault(self.place(entry, key), complaint)

    def roles(self) -> tuple[Role, ...]:
        made = []
        orchestrator = ""
        taken: dict[str, str] = {}
        for entry in self.entries["role"]:
            role = Role(self.realm, entry.name, where=entry.where, **entry.values)
            title = f"role {role.name}"
            guests = f"{role.guests} guest{'s' if role.guests > 1 else ''} of {title}"
            self.charge("guests", role.guests, entry, "guests", guests)
            self.charge("memory", role.guests * role.memory, entry, "memory", guests)
            self.charge("disk", role.guests * role.disk, entry, "disk", guests)
            for number, image in enumerate(role.images):
                if image not in self.names["image"]:
                    what = f"{title}: there is no image {image} in this part"
                    self.reading.unknown(self.place(entry, "images", number), what, image, list(self.names["image"]))
            for number, device in enumerate(role.devices):
                self.check_device(entry, role, device, number, taken)
            if role.orchestrator:
                self.check_orchestrator(entry, role, orchestrator)
                orchestrator = orchestrator or role.name
            made.append(role)
        return tuple(made)

    def check_device(self, entry: Entry, role: Role, name: str, number: int, taken: dict[str, str]) -> None:
        where = self.place(entry, "devices", number)
        # That another realm has a device of this name is not for this one to know.
        allowed = [one for one, device in self.devices.items() if device.owner.name in ("", role.name)]
        if name not in allowed:
            self.reading.unknown(where, f"role {role.name} may not have a device {name}", name, allowed)
        elif name in taken:
            self.reading.fault(where, f"device {name} is given to one guest, and role {taken[name]} has it already")
        elif role.guests != 1:
            self.reading.fault(where, f"device {name} is given to one guest, and role {role.name} has {role.guests}")
        taken.setdefault(name, role.name)

    def check_orchestrator(self, entry: Entry, role: Role, other: str) -> None:
        where = self.place(entry, "orchestrator")
        if self.realm == PLATFORM:
            self.reading.fault(where, f"role {role.name}: the platform has no orchestrator; it is for realms")
        elif other:
            self.reading.fault(where, f"role {role.name}: a realm has one orchestrator, and role {other} is it already")
        elif role.guests != 1:
            self.reading.fault(where, f"role {role.name}: a realm has one orchestrator, not {role.guests} guests")

    def services(self) -> tuple[Service, ...]:
        for entry in self.entries["service"]:
            self.check_name(entry, "role", entry.values["role"], "role")
        return tuple(
            Service(self.realm, entry.name, where=entry.where, **entry.values) for entry in self.entries["service"]
        )

    def images(self) -> tuple[Image, ...]:
        made = []
        for entry in self.entries["image"]:
            if not self.speaker.images:
                owner = "the platform" if self.realm == PLATFORM else f"realm {self.realm}"
                self.reading.fault(
                    entry.where, f"image {entry.name}: {owner} has no folder of images", "the platform sets `images`"
                )
            self.charge("disk", entry.values["size"], entry, "size", f"image {entry.name}")
            path = f"{self.speaker.images}/{entry.values['file']}"
            made.append(Image(self.realm, entry.name, path, entry.values["size"], entry.where))
        return tuple(made)

    def offers(self) -> tuple[Offer, ...]:
        made: dict[tuple[str, End], Offer] = {}
        for entry in self.entries["offer"]:
            service, to = entry.values["service"], entry.values["to"]
            self.check_name(entry, "service", service, "service")
            if to.realm == self.realm:
                what = "to: within a realm a door takes no offer; a [[use]] is enough"
                self.reading.fault(self.place(entry, "to"), what)
            self.once(entry, (service, to), made, f"service {service} is offered to {to}")
            made[service, to] = Offer(
                End(self.realm, service), to, entry.values["direction"], _limits(entry), entry.where
            )
        return tuple(made.values())

    def uses(self) -> tuple[Use, ...]:
        made: dict[tuple[str, End], Use] = {}
        for entry in self.entries["use"]:
            role, service = entry.values["role"], entry.values["service"]
            self.check_name(entry, "role", role, "role")
            if service.realm in ("", self.realm):
                service = End(self.realm, service.name)
                self.check_name(entry, "service", service.name, "service")
            self.charge("channels", entry.values["channels"], entry, "channels", f"the use of {service} by role {role}")
            self.once(entry, (role, service), made, f"role {role} uses {service}")
            made[role, service] = Use(
                End(self.realm, role), service, entry.values["direction"], _limits(entry), entry.where
            )
        return tuple(made.values())

    def once(self, entry: Entry, key: tuple[str, End], made: Mapping[tuple[str, End], Offer | Use], what: str) -> None:
        if key in made and key[0] and key[1].realm:
            self.reading.fault(entry.where, f"{what} twice; first in line {made[key].where.line}")


def _limits(entry: Entry) -> Limits:
    return Limits(*(entry.values[name] for name in Limits._fields))
