"""A platform at one moment, as a file: its policies, what runs and what lies there with which label, its channels.

Everything that is asked is asked of such a file, so it can be kept, compared, sent to somebody else, or written by hand
for a platform that does not exist yet.
"""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from septum.errors import LabelError, NotFound, SnapshotError
from septum.labels import Context

__all__ = ["FORMAT", "Channel", "Instance", "PolicyFile", "Snapshot", "dump", "load", "read", "snapshot_hash"]

FORMAT: Final = 1
MECHANISMS: Final = ("selinux", "flask")
_MOST: Final = 512 << 20  # bytes of a snapshot that is read at all
_DIRECTIONS: Final = ("to", "from", "both")


class PolicyFile(NamedTuple):
    """A compiled policy.

    Attributes:
        path: of the file, as the snapshot names it: relative to the snapshot's own folder.
        fingerprint: BLAKE2b-256 in hex; "" where it is not known.
    """

    path: str
    fingerprint: str = ""


class Instance(NamedTuple):
    """Something with a label: a process, a guest, or an object.

    Attributes:
        name: unique: ``acme/web``, ``/srv/acme/web.img``.
        realm: its owner; "" for what belongs to the platform.
        kind: what it is, for people and for goals: ``guest``, ``emulator``, ``daemon``, ``image``, …
        tclass: object class: ``process`` (or ``domain`` in Xen) for what acts, ``file`` and the like for what lies
            there.
        context: its label.
        mechanism: whose label that is: ``selinux`` or ``flask``.
        ruled: Landlock confines it, by `Snapshot.reaches`: what that does not name it does not reach.
    """

    name: str
    realm: str
    kind: str
    tclass: str
    context: str
    mechanism: str = "selinux"
    ruled: bool = False


class Channel(NamedTuple):
    """A channel, or a door's promise of one.

    Attributes:
        door: its name, for goals.
        source, target: names of instances: the using and the serving one.
        direction: which way messages go: ``to`` the target, ``from`` it, or ``both``.
    """

    door: str
    source: str
    target: str
    direction: str = "both"


class Snapshot(NamedTuple):
    """See the module's text.

    Attributes:
        title: one line.
        policies: mechanism → policy.
        instances: all that has a label.
        channels: between them.
        reaches: names of instances that Landlock confines → names of objects → ``ro`` or ``rw``.
        folder: where the policies' paths begin; not part of the file.
    """

    title: str
    policies: Mapping[str, PolicyFile]
    instances: tuple[Instance, ...]
    channels: tuple[Channel, ...] = ()
    reaches: Mapping[str, Mapping[str, str]] = {}
    folder: str = "."

    def policy_path(self, mechanism: str) -> str:
        """Where the policy is."""
        return os.path.join(self.folder, self.policies[mechanism].path)


def read(path: str) -> Snapshot:
    """Reads a snapshot.

    Raises:
        NotFound: there is no such file, or it can't be read.
        SnapshotError: it is no snapshot; says where and what was expected.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise NotFound(f"the snapshot can't be read: {error.strerror}", target=path) from error
    if len(raw) > _MOST:
        raise SnapshotError(f"{path}: a snapshot has {_MOST >> 20} MiB at most", target=path)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SnapshotError(f"{path}{place}: this is no JSON: {error}", target=path) from error
    return load(document, path)


def load(document: object, path: str = "snapshot") -> Snapshot:
    """A snapshot from what JSON has made of it.

    Args:
        document: the value.
        path: of the file, for messages and for where the policies are.

    Raises:
        SnapshotError: it is no snapshot; says where and what was expected.
    """
    at = _Place(path, "")
    top = at.table(document, ("septum-snapshot", "title", "policies", "instances"), ("channels", "reaches"))
    if top["septum-snapshot"] != FORMAT:
        raise at.under("septum-snapshot").wrong(f"format {FORMAT}, which this version reads")
    policies = {}
    for name, value in at.under("policies").table(top["policies"], None).items():
        here = at.under("policies").under(name)
        if name not in MECHANISMS:
            raise here.wrong(f"one of {', '.join(MECHANISMS)}")
        fields = here.table(value, ("file",), ("fingerprint",))
        policies[name] = PolicyFile(here.text(fields, "file"), here.text(fields, "fingerprint", ""))
    instances = _instances(at.under("instances"), top["instances"], policies)
    names = {instance.name for instance in instances}
    return Snapshot(
        at.text(top, "title"),
        policies,
        instances,
        _channels(at.under("channels"), top.get("channels", []), names),
        _reaches(at.under("reaches"), top.get("reaches", {}), names),
        os.path.dirname(os.path.abspath(path)),
    )


def dump(snapshot: Snapshot) -> str:
    """The text of a snapshot, the same for the same platform."""
    document = {
        "septum-snapshot": FORMAT,
        "title": snapshot.title,
        "policies": {
            name: {"file": policy.path, "fingerprint": policy.fingerprint}
            for name, policy in sorted(snapshot.policies.items())
        },
        "instances": [
            {key: value for key, value in _fields(instance).items() if value not in ("", False)}
            for instance in sorted(snapshot.instances)
        ],
        "channels": [channel._asdict() for channel in sorted(snapshot.channels)],
        "reaches": {name: dict(sorted(objects.items())) for name, objects in sorted(snapshot.reaches.items())},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def snapshot_hash(snapshot: Snapshot) -> str:
    """BLAKE2b-256 of the text, in hex: names exactly this platform, as far as the policies have fingerprints."""
    return blake2b(dump(snapshot).encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _fields(instance: Instance) -> dict[str, Any]:
    fields = instance._asdict()
    fields["class"] = fields.pop("tclass")
    return fields


def _instances(at: "_Place", value: object, policies: Mapping[str, PolicyFile]) -> tuple[Instance, ...]:
    found, names = [], set()
    for place, one in enumerate(at.list(value)):
        here = at.under(str(place))
        fields = here.table(one, ("name", "kind", "class", "context"), ("realm", "mechanism", "ruled"))
        instance = Instance(
            here.text(fields, "name"),
            here.text(fields, "realm", ""),
            here.text(fields, "kind"),
            here.text(fields, "class"),
            here.text(fields, "context"),
            here.text(fields, "mechanism", "selinux"),
            fields.get("ruled", False) is True,
        )
        if instance.mechanism not in policies:
            raise here.under("mechanism").wrong(f"one that has a policy: {', '.join(policies) or 'none has'}")
        if instance.name in names:
            raise here.under("name").wrong(f"another name: {instance.name!r} is there already")
        try:
            Context.parse(instance.context)
        except LabelError as error:
            raise here.under("context").wrong(f"a context: {error.what}") from error
        names.add(instance.name)
        found.append(instance)
    return tuple(found)


def _channels(at: "_Place", value: object, names: set[str]) -> tuple[Channel, ...]:
    found = []
    for place, one in enumerate(at.list(value)):
        here = at.under(str(place))
        fields = here.table(one, ("door", "source", "target"), ("direction",))
        channel = Channel(
            here.text(fields, "door"),
            here.text(fields, "source"),
            here.text(fields, "target"),
            here.text(fields, "direction", "both"),
        )
        for end in ("source", "target"):
            if fields[end] not in names:
                raise here.under(end).wrong(f"the name of an instance, and {fields[end]!r} is none")
        if channel.direction not in _DIRECTIONS:
            raise here.under("direction").wrong(f"one of {', '.join(_DIRECTIONS)}")
        found.append(channel)
    return tuple(found)


def _reaches(at: "_Place", value: object, names: set[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, objects in at.table(value, None).items():
        here = at.under(name)
        if name not in names:
            raise here.wrong("the name of an instance")
        found[name] = {}
        for target, access in here.table(objects, None).items():
            if target not in names or access not in ("ro", "rw"):
                raise here.under(target).wrong("the name of an instance with ro or rw")
            found[name][target] = access
    return found


class _Place(NamedTuple):
    """Where in a file a value stands, for messages."""

    path: str
    where: str

    def under(self, key: str) -> "_Place":
        return _Place(self.path, f"{self.where}/{key}")

    def wrong(self, expected: str) -> SnapshotError:
        return SnapshotError(f"{self.path}: at {self.where or '/'}: expected {expected}", target=self.path)

    def table(self, value: object, needed: Sequence[str] | None, optional: Sequence[str] = ()) -> Mapping[str, Any]:
        """A table; `needed` None stands for any keys."""
        if not isinstance(value, dict):
            raise self.wrong("a table")
        if needed is not None:
            for key in needed:
                if key not in value:
                    raise self.wrong(f"the key {key!r}")
            for key in value:
                if key not in needed and key not in optional:
                    raise self.wrong(f"no key {key!r}: there are {', '.join((*needed, *optional))}")
        return value

    def list(self, value: object) -> Sequence[object]:
        if not isinstance(value, list):
            raise self.wrong("a list")
        return value

    def text(self, table: Mapping[str, Any], key: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            raise self.under(key).wrong("text")
        return value
