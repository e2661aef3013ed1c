"""What changes between two declarations, in the order in which it is to be shown and done: first what takes away."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from septum.declare.model import Declaration, Door
from septum.declare.shown import plain

__all__ = ["Change", "difference"]

Act = Literal["remove", "change", "add"]
_KINDS: Final = ("realm", "role", "service", "image", "device")


class Change(NamedTuple):
    """One thing that changes.

    Attributes:
        act: what happens to it.
        kind: realm, role, service, image, device, denial or door.
        name: of it.
        text: the change in words.
        before, after: the fields that differ, or all of what goes or comes; of JSON's types.
    """

    act: Act
    kind: str
    name: str
    text: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def difference(old: Declaration, new: Declaration) -> tuple[Change, ...]:
    """The changes that lead from one declaration to the other; none where only places or order in the files differ.

    Doors that close come first, then what is removed, changed and added, and doors that open last: at no moment does
    more go through than one of the two declarations allows.
    """
    doors = list(_doors(old, new))
    closing = [change for change in doors if not _opens(change)]
    things = [change for kind in _KINDS for change in _things(kind, _named(old, kind), _named(new, kind))]
    things += _things("denial", _denials(old), _denials(new))
    removed = [change for change in reversed(things) if change.act == "remove"]
    rest = [change for act in ("change", "add") for change in things if change.act == act]
    return (*closing, *removed, *rest, *(change for change in doors if _opens(change)))


def _doors(old: Declaration, new: Declaration) -> Iterable[Change]:
    return _things("door", _by_ends(old), _by_ends(new))


def _opens(change: Change) -> bool:
    """Whether more may go through afterwards; where that is not plain, it counts as yes."""
    return change.act == "add" or (change.act == "change" and change.after.get("state", "open") == "open")


def _named(declaration: Declaration, kind: str) -> dict[str, dict[str, Any]]:
    things: dict[str, Mapping[Any, Any]] = {
        "realm": declaration.realms,
        "role": declaration.roles,
        "service": declaration.services,
        "image": declaration.images,
        "device": declaration.devices,
    }
    return {str(name): _fields(thing) for name, thing in things[kind].items()}


def _by_ends(declaration: Declaration) -> dict[str, dict[str, Any]]:
    return {_door_name(door): _fields(door) for door in declaration.doors}


def _door_name(door: Door) -> str:
    return f"{door.role} to {door.service}"


def _denials(declaration: Declaration) -> dict[str, dict[str, Any]]:
    return {f"{denial.role} to {denial.service}": _fields(denial) for denial in declaration.denials}


def _fields(thing: Any) -> dict[str, Any]:
    """All but where it stands; what is in it (a quota) field by field."""
    flat: dict[str, Any] = {}
    for name, value in plain(thing).items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": one for key, one in value.items() if key != "where"})
        elif name not in ("where", "file"):
            flat[name] = value
    return flat


def _things(kind: str, old: Mapping[str, dict[str, Any]], new: Mapping[str, dict[str, Any]]) -> list[Change]:
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None:
            after = after or {}
            changes.append(Change("add", kind, name, f"{kind} {name} is added{_state(after)}", {}, after))
        elif after is None:
            changes.append(Change("remove", kind, name, f"{kind} {name} is removed", before, {}))
        else:
            differing = [field for field in after if before[field] != after[field]]
            words = ", ".join(f"{field} from {_word(before[field])} to {_word(after[field])}" for field in differing)
            changes.append(
                Change(
                    "change",
                    kind,
                    name,
                    f"{kind} {name} changes: {words}",
                    {field: before[field] for field in differing},
                    {field: after[field] for field in differing},
                )
            )
    return changes


def _state(fields: Mapping[str, Any]) -> str:
    if "state" not in fields:
        return ""
    return f", {fields['state']}{': ' if fields['reason'] else ''}{fields['reason']}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if value != "" else "none"
