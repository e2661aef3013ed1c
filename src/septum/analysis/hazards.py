"""Labels that invite trouble, by name, each with why and what to do: before anybody uses them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from septum.analysis.directions import directions
from septum.analysis.flows import SUBJECTS
from septum.analysis.snapshot import Instance, Snapshot
from septum.labels import CategorySet, Context, Level, Range
from septum.sepol import Memo

__all__ = ["Hazard", "hazards"]


class Hazard(NamedTuple):
    """One of them.

    Attributes:
        name: of its kind, for filters.
        what: which instances.
        why: what can come of it.
        fix: what to do.
    """

    name: str
    what: str
    why: str
    fix: str


def hazards(snapshot: Snapshot, memos: Mapping[str, Memo]) -> list[Hazard]:
    """Looks for all kinds.

    Args:
        snapshot: of the platform.
        memos: mechanism → the opened policy.
    """
    stale = [one for one in snapshot.instances if not memos[one.mechanism].policy.valid(one.context)]
    sound = [one for one in snapshot.instances if one not in stale]
    ranges = {one.name: Context.parse(one.context).range or Range(Level(0, CategorySet())) for one in sound}
    return [
        *(_stale(one) for one in stale),
        *_comparable(sound, ranges),
        *_one_category(sound, ranges),
        *_writable_by_all(sound, ranges, memos),
        *_mediators(sound, memos),
        *_same_label(sound),
    ]


def _stale(one: Instance) -> Hazard:
    return Hazard(
        "stale-label",
        f"{one.name} has the label {one.context}",
        "the policy does not know it, so the kernel treats it as unlabeled, and so does whoever is allowed that",
        "label it anew, or put the policy that knows it back",
    )


def _guests(instances: list[Instance]) -> list[Instance]:
    return [one for one in instances if one.realm and one.tclass in SUBJECTS]


def _comparable(instances: list[Instance], ranges: Mapping[str, Range]) -> Iterator[Hazard]:
    """Guests of two realms, of which one dominates the other. Sets that differ are not enough."""
    by_high: dict[int, list[Instance]] = defaultdict(list)
    for one in _guests(instances):
        by_high[ranges[one.name].high.categories.mask].append(one)
    masks = sorted(by_high, key=int.bit_count)
    having: dict[int, set[int]] = defaultdict(set)
    for mask in masks:
        for place in CategorySet.from_mask(mask):
            having[place].add(mask)
    for mask in masks:
        above = set(masks) if not mask else set.intersection(*(having[place] for place in CategorySet.from_mask(mask)))
        for other in sorted(above):
            one, two = by_high[mask][0], next((g for g in by_high[other] if g.realm != by_high[mask][0].realm), None)
            if two is not None:
                relation = "equals" if other == mask else "contains"
                yield Hazard(
                    "comparable-labels",
                    f"the label of {two.name} {relation} that of {one.name}",
                    f"{two.name} may read and write what is {one.name}'s: an access is granted to whoever dominates",
                    "give both sets of which neither contains the other: septum allots such",
                )


def _one_category(instances: list[Instance], ranges: Mapping[str, Range]) -> Iterator[Hazard]:
    for one in _guests(instances):
        if ranges[one.name].low == ranges[one.name].high and len(ranges[one.name].high.categories) == 1:
            yield Hazard(
                "one-category-label",
                f"{one.name} has {ranges[one.name].high}",
                "each label with this category and another one dominates it (as in CVE-2021-3631)",
                "start it again with a label of two categories or more",
            )


def _writable_by_all(
    instances: list[Instance], ranges: Mapping[str, Range], memos: Mapping[str, Memo]
) -> Iterator[Hazard]:
    guests: dict[tuple[str, str, str], Instance] = {}
    for one in _guests(instances):
        guests.setdefault((one.mechanism, one.realm, Context.parse(one.context).type), one)
    for thing in instances:
        if thing.tclass in SUBJECTS or len(ranges[thing.name].high.categories) > 1:
            continue
        writers = [
            guest.name
            for guest in guests.values()
            if guest.mechanism == thing.mechanism and _writes(guest, thing, memos[thing.mechanism])
        ]
        if len(writers) > 1:
            yield Hazard(
                "writable-without-categories",
                f"{thing.name} has {ranges[thing.name].high}, and {', '.join(sorted(writers)[:4])} may write it",
                "what one guest writes there, others read: a label without categories, or with a realm's only, is open "
                "to all whom type enforcement lets through",
                "give it the categories of one guest, or a type that guests only read",
            )


def _writes(guest: Instance, thing: Instance, memo: Memo) -> bool:
    names = memo.policy.names(thing.tclass, memo.allowed(guest.context, thing.context, thing.tclass))
    return bool(directions(thing.tclass, names).out)


def _mediators(instances: list[Instance], memos: Mapping[str, Memo]) -> Iterator[Hazard]:
    for one in instances:
        if one.tclass not in SUBJECTS:
            continue
        rules = memos[one.mechanism].policy.rules
        kind = Context.parse(one.context).type
        if kind in rules.permissive:
            yield Hazard(
                "permissive-domain",
                f"{one.name} runs as {kind}",
                "its domain is permissive: the kernel only records what it would refuse",
                f"semanage permissive -d {kind}",
            )
        elif kind in ("unconfined_t", "kernel_t", "init_t", "initrc_t") and one.realm:
            yield Hazard(
                "unconfined-guest",
                f"{one.name} runs as {kind}",
                "nothing keeps this process from others' objects",
                "start it by septum run",
            )


def _same_label(instances: list[Instance]) -> Iterator[Hazard]:
    """Emulators of two guests, whoever started them, that have one label."""
    by_context: dict[str, list[Instance]] = defaultdict(list)
    for one in _guests(instances):
        by_context[one.context].append(one)
    for context, those in by_context.items():
        if len(those) > 1:
            yield Hazard(
                "shared-label",
                f"{', '.join(one.name for one in those[:4])} all have {context}",
                "nothing in the policy tells them apart",
                "start all but one of them again",
            )
