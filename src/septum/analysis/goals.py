"""What a platform is meant to hold to, one goal a line, and whether it does.

::

    never  realm:acme -> realm:blue
    never  realm:* -> realm:*                  # between any two different ones
    only   realm:acme -> realm:blue via door:mail
    trust  process:virtd_t because "mediates; reviewed 2026-11"

Who is named: ``realm:NAME``, ``platform``, ``kind:KIND``, ``process:TYPE`` (all that acts with that type),
``object:NAME`` and ``guest:NAME`` (one instance); ``door:NAME`` after ``via`` (the channels of a door).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from septum.analysis.flows import SUBJECTS, Flows, Hop
from septum.analysis.levels import bits
from septum.analysis.reach import way
from septum.errors import SnapshotError
from septum.labels import Context

__all__ = ["Goal", "Goals", "Result", "Trust", "Verdict", "check", "parse"]

Verdict = Literal["holds", "violated", "unknown"]
_WHO: Final = r"(?:(?:realm|kind|process|object|guest|door):[^\s,#]+|platform)"
_GOAL: Final = re.compile(
    rf"(?P<sort>never|only)\s+(?P<source>{_WHO})\s*->\s*(?P<target>{_WHO})(?:\s+via\s+(?P<via>{_WHO}(?:\s*,\s*{_WHO})*))?"
)
_TRUST: Final = re.compile(rf'trust\s+(?P<who>{_WHO})\s+because\s+"(?P<why>[^"]+)"')


class Goal(NamedTuple):
    """One goal.

    Attributes:
        line: where it stands, from 1.
        source, target: who must not reach whom.
        via: ways that are meant.
    """

    line: int
    source: str
    target: str
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        via = f" via {', '.join(self.via)}" if self.via else ""
        return f"{'only' if self.via else 'never'} {self.source} -> {self.target}{via}"


class Trust(NamedTuple):
    """Somebody who is relied upon to pass nothing on.

    Attributes:
        line: where it stands, from 1.
        who: as in goals.
        why: the reason that was given.
    """

    line: int
    who: str
    why: str


class Goals(NamedTuple):
    """A file of them."""

    goals: tuple[Goal, ...]
    trusts: tuple[Trust, ...]


class Result(NamedTuple):
    """What became of one goal.

    Attributes:
        goal: the goal.
        verdict: ``holds``, ``violated`` or ``unknown``.
        witness: a shortest way, if it is violated.
        trusts: those that the verdict rests on: without them there would be a way.
        unknown: what the answer can't be told for: permissions whose direction is not known.
    """

    goal: Goal
    verdict: Verdict
    witness: tuple[Hop, ...] = ()
    trusts: tuple[Trust, ...] = ()
    unknown: tuple[str, ...] = ()


def parse(text: str, path: str = "goals") -> Goals:
    """Reads goals.

    Raises:
        SnapshotError: a line is none; says which and what was expected.
    """
    goals, trusts = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = _without_comment(line).strip()
        if not words:
            continue
        if found := _TRUST.fullmatch(words):
            trusts.append(Trust(number, found["who"], found["why"]))
        elif (found := _GOAL.fullmatch(words)) and (found["sort"] == "only") == bool(found["via"]):
            via = tuple(re.split(r"\s*,\s*", found["via"])) if found["via"] else ()
            goals.append(Goal(number, found["source"], found["target"], via))
        else:
            raise SnapshotError(
                f"{path}:{number}: this is no goal: {words[:100]!r}",
                target=path,
                rule='expected "never WHO -> WHO", "only WHO -> WHO via WHO, …" or \'trust WHO because "…"\'',
            )
    if not goals:
        raise SnapshotError(f"{path}: there is no goal in it", target=path)
    return Goals(tuple(goals), tuple(trusts))


def check(flows: Flows, goals: Goals, path: str = "goals") -> list[Result]:
    """Whether each goal holds.

    Raises:
        SnapshotError: a goal names nobody that is there; says which and where.
    """
    trusted = [(trust, selected(flows, trust.who, f"{path}:{trust.line}")) for trust in goals.trusts]
    return [_check(flows, goal, trusted, f"{path}:{goal.line}") for goal in goals.goals]


def selected(flows: Flows, who: str, place: str) -> int:
    """The instances that are meant, as a bit set.

    Raises:
        SnapshotError: there are none: a goal about nobody would always hold.
    """
    sort, _, name = who.partition(":")
    found = 0
    for number, one in enumerate(flows.snapshot.instances):
        meant = {
            "realm": bool(one.realm) and name in ("*", one.realm),
            "platform": not one.realm,
            "kind": one.kind == name,
            "process": one.tclass in SUBJECTS and Context.parse(one.context).type == name,
            "object": one.tclass not in SUBJECTS and one.name == name,
            "guest": one.tclass in SUBJECTS and one.name == name,
        }.get(sort, False)
        if meant:
            found |= 1 << number
    if not found:
        raise SnapshotError(
            f"{place}: {who} is nobody in this snapshot", target=who, rule="a goal about nobody would hold whatever is"
        )
    return found


def _check(flows: Flows, goal: Goal, trusted: Sequence[tuple[Trust, int]], place: str) -> Result:
    doors = frozenset(via.partition(":")[2] for via in goal.via if via.startswith("door:"))
    passed = _union(selected(flows, via, place) for via in goal.via if not via.startswith("door:"))
    out = _without_doors(flows, doors) if doors else flows.out
    pairs = list(_pairs(flows, goal, place))
    if path := _first_way(out, pairs, passed | _union(nodes for _, nodes in trusted)):
        return Result(goal, "violated", flows.hops(path))
    used = tuple(
        trust
        for trust, nodes in trusted
        if _first_way(out, pairs, passed | _union(others for other, others in trusted if other is not trust) & ~nodes)
    )
    unknown = tuple(sorted(flows.unknown))
    return Result(goal, "unknown" if unknown else "holds", (), used, unknown)


def _first_way(out: Sequence[int], pairs: Iterable[tuple[int, int]], stopping: int) -> list[int]:
    """A way between one of the pairs that leads through none of the nodes in `stopping`, but may begin or end there."""
    stopped = _stopped(out, stopping)
    for sources, targets in pairs:
        rows: Sequence[int] = stopped if not sources & stopping else _stopped(out, stopping & ~sources)
        if path := way(rows, sources, targets):
            return path
    return []


def _pairs(flows: Flows, goal: Goal, place: str) -> Iterator[tuple[int, int]]:
    """Whose reach is looked at. ``realm:* -> realm:*`` stands for any two different realms."""
    if "realm:*" not in (goal.source, goal.target):
        yield selected(flows, goal.source, place), selected(flows, goal.target, place)
        return
    realms: dict[str, int] = {}
    for number, one in enumerate(flows.snapshot.instances):
        if one.realm:
            realms[one.realm] = realms.get(one.realm, 0) | 1 << number
    source = selected(flows, goal.source, place)
    target = selected(flows, goal.target, place)
    for _, members in sorted(realms.items()):
        if goal.source == "realm:*":
            yield members, target & ~members
        else:
            yield source & ~members, members


def _union(sets: Iterable[int]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found


def _stopped(out: Sequence[int], nodes: int) -> list[int]:
    """Rows of which some nodes pass nothing on."""
    rows = list(out)
    for node in bits(nodes):
        rows[node] = 0
    return rows


def _without_doors(flows: Flows, doors: frozenset[str]) -> list[int]:
    kept = tuple(channel for channel in flows.snapshot.channels if channel.door not in doors)
    return flows.with_channels(kept)[0]


def _without_comment(line: str) -> str:
    """Up to a ``#`` that is in no quotes."""
    quoted = False
    for place, one in enumerate(line):
        if one == '"':
            quoted = not quoted
        elif one == "#" and not quoted:
            return line[:place]
    return line
