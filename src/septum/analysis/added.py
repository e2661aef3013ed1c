"""Access that a new policy gives to types that the old one has too: for the gate in front of a policy's change.

Only statements that are new can add access, so only they are looked at: each is expanded to the old types that it
speaks of, and both policies are asked, with levels in each way of standing to one another. What new types may do is
their own business. A change that can't be followed in this way (constraints taken away or changed, roles, ranges,
levels) is named, and then the answer is not known.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from septum.errors import LabelError, UnknownName
from septum.sepol import Memo, Policy

__all__ = ["Access", "Added", "added"]

_ALLOW: Final = re.compile(r"\s*\(allow (\S+) (\S+) \((\S+) \((.*)\)\)\)")
_HARMLESS: Final = re.compile(
    r"\s*\((type|typeattribute|typeattributeset|typealias|typealiasactual|class|classcommon|classorder|common|dontaudit|"
    r"auditallow|neverallow|expandtypeattribute|booleanif|true|false)\b"
)
_OF_ALL: Final = re.compile(
    r"\s*\((user|role|userrole|userlevel|userrange|roleallow|roleattribute|roleattributeset|sensitivity|category|"
    r"sensitivityorder|categoryorder|sensitivitycategory|categoryalias|sensitivityalias|mls|policycap|default\w+|typebounds|typepermissive)\b"
)
_MOST: Final = 300_000
"""Pairs of types that both policies are asked about."""
_LEVELS: Final = (("s0:c1,c2", "s0:c1,c2"), ("s0:c1,c2", "s0:c1"), ("s0:c1", "s0:c1,c2"), ("s0:c1,c2", "s0:c1,c3"))


class Access(NamedTuple):
    """What was added for one pair of types.

    Attributes:
        source, target: types.
        tclass: class.
        permissions: that the new policy allows and the old one does not.
        rule: the new one's, that allows the first of them.
    """

    source: str
    target: str
    tclass: str
    permissions: tuple[str, ...]
    rule: str


class Added(NamedTuple):
    """The answer.

    Attributes:
        accesses: new ones of old types to old types.
        unknown: statements that changed and were not followed.
    """

    accesses: tuple[Access, ...]
    unknown: tuple[str, ...]


def added(old: Policy, new: Policy) -> Added:
    """Compares two policies.

    Raises:
        PolicyError: one of them can't be asked.
    """
    before, after = dict(_statements(old.rules.text)), dict(_statements(new.rules.text))
    unknown = [
        line.strip() for line in before if line.startswith(("(constrain", "(mlsconstrain")) and line not in after
    ]
    values = old.booleans()
    unknown += [
        f"(boolean {name} {value})".lower()
        for name, value in new.booleans().items()
        if values.get(name, value) != value
    ]
    both = old.types() & new.types()
    candidates: set[tuple[str, str, str]] = set()
    members_old, members_new = old.attributes(), new.attributes()
    joined = {
        name: (members_new[name] - members_old.get(name, frozenset())) & both
        for name in members_new
        if (members_new[name] - members_old.get(name, frozenset())) & both
    }
    for line, bare in after.items():
        if line in before and not joined:
            continue
        if found := _ALLOW.fullmatch(bare):
            candidates |= _expanded(found, both, members_new, joined if line in before else None)
        elif line not in before and not _HARMLESS.match(bare) and _concerns(bare, both, new):
            unknown.append(bare.strip())
        if len(candidates) > _MOST:
            return Added(
                (), (*sorted(unknown), f"more than {_MOST} pairs of types are concerned: {line.strip()[:200]}")
            )
    accesses = _asked(Memo(old), Memo(new), sorted(candidates))
    return Added(tuple(accesses), tuple(sorted(unknown)))


def _expanded(
    found: re.Match[str],
    both: frozenset[str],
    members: Mapping[str, frozenset[str]],
    joined: Mapping[str, frozenset[str]] | None,
) -> set[tuple[str, str, str]]:
    """Pairs of old types that a rule speaks of; of an old rule only those that it speaks of since they joined."""
    source, target, tclass = found[1], found[2], found[3]
    sources = members.get(source, frozenset((source,))) & both
    targets = sources if target == "self" else members.get(target, frozenset((target,))) & both
    if joined is None:
        return {(one, other, tclass) for one in sources for other in ((one,) if target == "self" else targets)}
    new_sources, new_targets = joined.get(source, frozenset()), joined.get(target, frozenset())
    if target == "self":
        return {(one, one, tclass) for one in new_sources}
    return {(one, other, tclass) for one in new_sources for other in targets} | {
        (one, other, tclass) for one in sources for other in new_targets
    }


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Each line, with the condition and branch that it stands under; and the line alone."""
    condition = branch = ""
    for line in text.splitlines():
        word = line.lstrip()
        if not line.startswith(" "):
            condition, branch = (word, "") if word.startswith("(booleanif") else ("", "")
        elif word in ("(true", "(false"):
            branch = word
        yield f"{condition}{branch}{word}", line


def _concerns(line: str, both: frozenset[str], new: Policy) -> bool:
    """Whether a new statement can add access of old types to old types in another way than an allow rule does."""
    if _OF_ALL.match(line):
        return True
    if line.lstrip().startswith("(boolean "):
        return False  # a new one; those that changed are named by themselves
    names = re.findall(r"[^\s()]+", line)[1:]
    members, types = new.attributes(), new.types()
    known = [
        name in both or bool(members.get(name, frozenset()) & both)
        for name in names
        if name in types or name in members
    ]
    # A constraint that is new only takes away.
    return bool(known) and all(known) and not line.lstrip().startswith(("(constrain", "(mlsconstrain"))


def _asked(old: Memo, new: Memo, candidates: list[tuple[str, str, str]]) -> Iterator[Access]:
    contexts: dict[str, str] = {}
    for source, target, tclass in candidates:
        one, other = _names(contexts, new.policy, source), _names(contexts, new.policy, target)
        for low, high in _LEVELS:
            ends = (f"{one}:{low}", f"{other}:{high}") if new.policy.mls else (one, other)
            try:
                now = new.policy.names(tclass, new.allowed(*ends, tclass))
            except LabelError:
                continue  # no process or object can have this label
            try:
                then = old.policy.names(tclass, old.allowed(*ends, tclass))
            except (LabelError, UnknownName):
                then = ()
            if more := tuple(name for name in now if name not in then):
                yield Access(source, target, tclass, more, new.explain(*ends, tclass, more[:1]).rule)
                break


def _names(known: dict[str, str], policy: Policy, one: str) -> str:
    """User, role and type of a context that is valid: a process's role where the type has one, else an object's."""
    if one not in known:
        roles = [role for role, types in policy.rules.roles.items() if one in types] or ["object_r"]
        roles.sort(key=lambda role: (role != "system_r", role))
        level = ":s0" if policy.mls else ""
        spelt = [f"{user}:{role}:{one}" for role in roles for user in ("system_u", *sorted(policy.rules.users))]
        known[one] = next((text for text in spelt if policy.valid(text + level)), f"system_u:object_r:{one}")
    return known[one]
