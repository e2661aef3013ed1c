"""What a change adds: reachability that came or went between two snapshots, and access that a new policy adds."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from septum.analysis.flows import Flows, Hop
from septum.analysis.levels import bits
from septum.analysis.reach import Reach, closure, way

__all__ = ["Change", "compare"]


class Change(NamedTuple):
    """What came, or went, between two owners.

    Attributes:
        kind: ``added`` or ``removed``.
        source, target: names of realms, "" for the platform.
        pairs: how many pairs of instances.
        witness: a shortest way for one of them, in the state that has it.
    """

    kind: str
    source: str
    target: str
    pairs: int
    witness: tuple[Hop, ...]


def compare(old: Flows, new: Flows) -> list[Change]:
    """Who reaches whom now and did not before, and the other way round, among instances that are in both by name.

    Returns:
        Changes by owner, what was added first.
    """
    both = sorted(set(old.names) & set(new.names))
    before, after = closure(old.out, old.back), closure(new.out, new.back)
    found = []
    for kind, flows, reach, other_flows, other_reach in (
        ("added", new, after, old, before),
        ("removed", old, before, new, after),
    ):
        found += list(_more(kind, both, (flows, reach), (other_flows, other_reach)))
    return found


def _more(kind: str, names: Sequence[str], here: tuple[Flows, Reach], there: tuple[Flows, Reach]) -> Iterator[Change]:
    flows, reach = here
    other, other_reach = there
    numbers = {name: flows.number(name) for name in names}
    translated = {number: other.number(name) for name, number in numbers.items()}
    mask = sum(1 << number for number in numbers.values())
    pairs: dict[tuple[str, str], tuple[int, int, int]] = {}
    same = {number: number for number in translated} == translated
    for name in names:
        node = numbers[name]
        now = reach.of(node) & mask & ~(1 << node)
        then = other_reach.of(translated[node])
        more = now & ~then if same else sum(1 << far for far in bits(now) if not then >> translated[far] & 1)
        for far in bits(more):
            key = flows.snapshot.instances[node].realm, flows.snapshot.instances[far].realm
            count, first, last = pairs.get(key, (0, node, far))
            pairs[key] = count + 1, first, last
    for (source, target), (count, first, last) in sorted(pairs.items()):
        path = way(flows.out, 1 << first, 1 << last)
        yield Change(kind, source, target, count, flows.hops(path))
