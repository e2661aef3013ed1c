"""The same for every assignment of categories that the scheme can make, not only for the one that is there.

**Why a finite table proves it.** A decision depends on two ranges only by how their ends stand to one another
(`septum.sepol.memo`). What a label is for says how it stands to every other one, whatever codes were drawn: a guest's
set and that of another guest are incomparable, be it of the same realm or not, since guest codes have one size and
realm codes are incomparable; a realm's code is below its own guests' and beside everybody else's; a label without
categories is below all (`septum.labels.scheme`, whose tests hold this for random codes). So two realms with two guests
each and the platform show every way in which two labels can stand to one another. And two realms are enough for a
way of any length: if it leads from one realm to another, one of its steps leaves the first for a second or the
platform, and the platform's next ones are the same whichever realm was left; exchanging names of realms turns it into
a way between the two.

What the platform's own labels are is fixed; those that have some categories of the scheme's blocks and not all would
stand to different codes differently. They are named, and then nothing is proved.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

from septum.analysis.flows import Edge, Flows
from septum.analysis.goals import Goals, Result, check
from septum.analysis.snapshot import Instance, Snapshot
from septum.errors import LabelError
from septum.labels import CategorySet, Context, Level, Range, RealmScheme, relation_key, relations
from septum.sepol import Memo

__all__ = ["Case", "Proof", "position", "prove"]

_REALMS: Final = ("any realm", "another realm")
_GUESTS: Final = ("one guest", "another guest")


class Case(NamedTuple):
    """A row of the table: what one kind of label may pass to another, when they stand so.

    Attributes:
        source, target: what the labels are for, and their types.
        stand: how their ranges stand: pairs of levels and relations, as ``h1h2 incomparable``.
        edges: by which information passes; () for none.
    """

    source: str
    target: str
    stand: str
    edges: tuple[Edge, ...]


class Proof(NamedTuple):
    """What was found.

    Attributes:
        results: of each goal, over all assignments.
        cases: the table.
        uncovered: instances whose labels are not the scheme's: nothing is proved about them.
    """

    results: tuple[Result, ...]
    cases: tuple[Case, ...]
    uncovered: tuple[str, ...]


def position(categories: Range, scheme: RealmScheme) -> str:
    """What a range is for: ``guest``, ``realm``, ``orchestrator``, ``fixed``; "" if it is none of the scheme's.

    Args:
        categories: the range.
        scheme: how realms and guests are named.
    """
    low, high = categories
    blocks = scheme.realm_block.mask | scheme.guest_block.mask
    if low.sensitivity or high.sensitivity:
        return ""
    used = {level.categories.mask & blocks for level in categories}
    if used <= {0, blocks}:
        return "fixed"
    try:
        if low != high:
            realm = low.categories
            return "orchestrator" if scheme.orchestrator_range(realm) == categories else ""
        if not low.categories.mask & scheme.guest_block.mask:
            scheme.realm_index(low.categories)
            return "realm"
        scheme.split(low.categories)
    except LabelError:
        return ""
    return "guest"


def prove(
    snapshot: Snapshot,
    memos: Mapping[str, Memo],
    goals: Goals,
    scheme: RealmScheme,
    strengths: frozenset[str] = frozenset({"data"}),
) -> Proof:
    """Checks goals between realms for every assignment.

    Args:
        snapshot: says which kinds of labels there are. Channels are left out: what doors open is not the labels' doing.
        memos: mechanism → the opened policy.
        goals: only those about ``realm:*`` and the platform make sense here.
        scheme: how realms and guests are named.
        strengths: what counts as passing information.

    Raises:
        SnapshotError: a goal names nobody in the general platform.
    """
    shapes: dict[tuple[str, ...], Instance] = {}
    uncovered = []
    for instance in snapshot.instances:
        context = Context.parse(instance.context)
        place = position(context.range, scheme) if context.range else "fixed"
        if not place or (place == "fixed" and instance.realm):
            uncovered.append(instance.name)
        fixed = str(context.range) if place == "fixed" else ""
        key = (place, fixed, *context[:3], instance.tclass, instance.mechanism, instance.kind)
        shapes.setdefault(key, instance)
    general = Snapshot(
        f"every assignment of {scheme}",
        snapshot.policies,
        tuple(one for key, instance in shapes.items() if key[0] for one in _placed(key[0], instance, scheme)),
        folder=snapshot.folder,
    )
    flows = Flows(general, memos, strengths)
    results = tuple(check(flows, goals))
    if uncovered:
        results = tuple(
            result._replace(verdict="unknown") if result.verdict == "holds" else result for result in results
        )
    return Proof(results, tuple(_cases(flows)), tuple(uncovered))


def _placed(place: str, instance: Instance, scheme: RealmScheme) -> Iterator[Instance]:
    """An instance of this shape in each realm, for each guest."""
    context = Context.parse(instance.context)
    what = f"{instance.kind} {context.type}"
    if place == "fixed":
        name = f"the platform's {what} {context.range or ''}".rstrip()
        yield instance._replace(name=f"{name} {instance.tclass}", realm="", ruled=False)
        return
    for number, realm in enumerate(_REALMS):
        code = scheme.realm_code(number)
        for guest, label in _labels(place, code, scheme):
            yield instance._replace(
                name=f"{what} {instance.tclass} of {guest}{realm}",
                realm=realm,
                context=str(context._replace(range=label)),
                ruled=False,
            )


def _labels(place: str, code: CategorySet, scheme: RealmScheme) -> list[tuple[str, Range]]:
    if place == "realm":
        return [("", Range(Level(0, code)))]
    if place == "orchestrator":
        return [("", scheme.orchestrator_range(code))]
    return [
        (f"{guest} of ", Range(Level(0, scheme.guest_categories(code, rank)))) for rank, guest in enumerate(_GUESTS)
    ]


def _cases(flows: Flows) -> Iterator[Case]:
    instances = flows.snapshot.instances
    ranges = [Context.parse(instance.context).range for instance in instances]
    met = set()
    for one, other in product(range(len(instances)), repeat=2):
        if one == other or (instances[one].realm == _REALMS[1] and instances[other].realm != _REALMS[0]):
            continue  # the same with names exchanged
        first, second = ranges[one], ranges[other]
        stand = ""
        if first and second:
            found = relations(relation_key(first, second))
            single = first.low == first.high and second.low == second.high
            stand = (
                found["h1h2"]
                if single
                else ", ".join(f"{pair} {found[pair]}" for pair in ("l1l2", "l1h2", "h1l2", "h1h2"))
            )
        key = flows.names[one], flows.names[other], stand
        if key in met:
            continue
        met.add(key)
        passes = flows.out[one] >> other & 1
        yield Case(*key, flows.edges(flows.names[one], flows.names[other]) if passes else ())
