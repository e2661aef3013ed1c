"""Which instance can pass information to which: edges of all mechanisms, what they come to, and the rules behind them.

Nodes are instances with labels, not types: over types, all guests are one node. A decision depends on a label's range
only by how it stands to the other one (`septum.sepol.memo` says why), so nodes are taken together by the rest of
their label and asked for once for each way in which ranges stand to one another; rows of bits do the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from septum.analysis.directions import directions
from septum.analysis.levels import Levels, bits
from septum.analysis.snapshot import Channel, Instance, Snapshot
from septum.errors import LabelError, SnapshotError, UnknownName
from septum.labels import CategorySet, Context, Level, Range
from septum.sepol import Memo

__all__ = ["SUBJECTS", "Edge", "Flows", "Hop"]

SUBJECTS: Final = ("process", "domain")
"""Classes of what acts."""
_OF_PROCESSES: Final = (
    "process", "unix_stream_socket", "unix_dgram_socket", "fifo_file", "file", "dir", "lnk_file", "shm", "sem", "msgq",
    "msg", "key", "dbus", "binder", "bpf", "perf_event", "anon_inode", "fd",
)  # fmt: skip
"""Classes of what has the label of a process: its sockets, pipes, queues, and its files in /proc."""
_OF_DOMAINS: Final = ("domain", "domain2", "grant", "event", "argo", "mmu", "hvm", "resource")
_T = TypeVar("_T")
_NONE: Final = Range(Level(0, CategorySet()))
_MIRRORED: Final = (0, 2, 1, 3)  # relations, seen from the other end


class Edge(NamedTuple):
    """One permission by which information passes.

    Attributes:
        mechanism: ``selinux``, ``flask`` or ``channel``.
        operation: class and permissions: ``file write append``.
        rule: what allows it.
    """

    mechanism: str
    operation: str
    rule: str


class Hop(NamedTuple):
    """A step of a way: from one instance to another, by any of the edges."""

    source: str
    target: str
    edges: tuple[Edge, ...]


class _Kind(NamedTuple):
    """All of a label but the four relations; see `_kinds`."""

    user: str
    role: str
    type: str
    tclass: str
    mechanism: str
    spread: bool


class _Opened:
    """What is known of one kind and one way in which ranges stand.

    Attributes:
        there, here: members of kinds to which, and from which, information passes.
        open: kinds that nothing is known of yet.
    """

    __slots__ = ("here", "open", "there")

    def __init__(self, kinds: list[_Kind]) -> None:
        self.there = self.here = 0
        self.open = kinds


class Flows:
    """The edges of a snapshot.

    Args:
        snapshot: of the platform.
        memos: mechanism → the opened policy.
        strengths: what counts as passing information.

    Attributes:
        names: of all instances, by their number.
        out: for each node, to whom it can pass information in one step: a bit set.
        back: for each node, who can pass information to it in one step.
        unknown: permissions that were met and have no direction: ``class:permission``.

    Raises:
        SnapshotError: an instance has a label that its policy does not know.
    """

    def __init__(
        self, snapshot: Snapshot, memos: Mapping[str, Memo], strengths: frozenset[str] = frozenset({"data"})
    ) -> None:
        self.snapshot = snapshot
        self.strengths = strengths
        self.names = [instance.name for instance in snapshot.instances]
        self.unknown: set[str] = set()
        self._memos = memos
        self._number = {name: number for number, name in enumerate(self.names)}
        self._instances: Sequence[Instance] = snapshot.instances
        self._contexts = [Context.parse(instance.context) for instance in snapshot.instances]
        self._ranges = [context.range or _NONE for context in self._contexts]
        self._classes = {name: frozenset(memo.policy.classes()) for name, memo in memos.items()}
        self._passing: dict[tuple[_Kind, _Kind, int], bool] = {}
        for instance in snapshot.instances:
            if not memos[instance.mechanism].policy.valid(instance.context):
                raise SnapshotError(
                    f"the label of {instance.name} is not valid in the {instance.mechanism} policy",
                    target=instance.name,
                    rule=instance.context,
                    remedy="the label is stale, or the snapshot has another policy than the host",
                )
        self._labelled = self._rows()
        self.out, self.back = self.with_channels(snapshot.channels)

    def number(self, name: str) -> int:
        """Of an instance.

        Raises:
            UnknownName: there is none of that name.
        """
        try:
            return self._number[name]
        except KeyError:
            raise UnknownName(f"the snapshot has no instance {name!r}", target=name) from None

    def with_channels(self, channels: Iterable[Channel]) -> tuple[list[int], list[int]]:
        """Rows as in `out` and `back`, with these channels instead of the snapshot's."""
        out, back = list(self._labelled[0]), list(self._labelled[1])
        for channel in channels:
            for one, other in _ways(channel.direction, self._number[channel.source], self._number[channel.target]):
                out[one] |= 1 << other
                back[other] |= 1 << one
        return out, back

    def edges(self, source: str, target: str) -> tuple[Edge, ...]:
        """All by which information passes from one instance to another in one step, with their rules."""
        one, other = self._instances[self.number(source)], self._instances[self.number(target)]
        found = list(self._channel_edges(source, target))
        if self._joined(one, other):
            found += self._used(one, other, to_object=True)
            found += self._used(other, one, to_object=False)
        return tuple(found)

    def hops(self, path: Sequence[int]) -> tuple[Hop, ...]:
        """A way, with the rules of each step."""
        named = [self.names[number] for number in path]
        return tuple(Hop(one, other, self.edges(one, other)) for one, other in pairwise(named))

    # rows

    def _rows(self) -> tuple[list[int], list[int]]:
        kinds = self._kinds()
        members: dict[_Kind, int] = {}
        for number, kind in enumerate(kinds):
            members[kind] = members.get(kind, 0) | 1 << number
        levels = Levels(self._ranges)
        out, back = [], []
        opened: dict[tuple[_Kind, int], _Opened] = {}
        for number, kind in enumerate(kinds):
            there = here = 0
            for key, nodes in levels.cells(self._ranges[number]):
                found = opened.setdefault((kind, key), _Opened(list(members)))
                if found.open:
                    self._open(found, kind, key, number, nodes, members)
                there |= nodes & found.there
                here |= nodes & found.here
            itself = ~(1 << number)
            out.append(there & itself)
            back.append(here & itself)
        self._rule_out(out, back)
        return out, back

    def _kinds(self) -> list[_Kind]:
        return [
            _Kind(*context[:3], instance.tclass, instance.mechanism, one.low != one.high)
            for context, instance, one in zip(self._contexts, self._instances, self._ranges, strict=True)
        ]

    def _open(
        self, found: "_Opened", kind: _Kind, key: int, number: int, nodes: int, members: Mapping[_Kind, int]
    ) -> None:
        """Settles to which kinds, and from which, information passes if ranges stand in this way.

        Any node of the cell stands for all of its kind. Where none of a kind is in it, another kind's range is lent, if
        it is spread or not in the same way: nothing else of it counts. Where that can't be, or the kind's user may not
        have the range, the kind stays open until one of it is there.
        """
        spare = self._ranges[next(bits(nodes))]
        left = []
        for other in found.open:
            met = nodes & members[other]
            lent = self._ranges[next(bits(met))] if met else spare
            if other.mechanism != kind.mechanism:
                continue
            if other.spread != (lent.low != lent.high):
                left.append(other)
                continue
            mine = self._ranges[number]
            try:
                there = self._passes(kind, mine, other, lent, key)
                here = self._passes(other, lent, kind, mine, _mirror(key))
            except LabelError:
                left.append(other)
                continue
            found.there |= members[other] if there else 0
            found.here |= members[other] if here else 0
        found.open = left

    def _passes(self, source: _Kind, one: Range, target: _Kind, other: Range, key: int) -> bool:
        at = source, target, key
        known = self._passing.get(at)
        if known is None:
            texts = self._text(source, one), self._text(target, other)
            known = self._passing[at] = bool(
                any(self._masked(source.mechanism, texts[0], texts[1], source.tclass, target.tclass, out=True))
                or any(self._masked(source.mechanism, texts[1], texts[0], target.tclass, source.tclass, out=False))
            )
        return known

    def _masked(
        self, mechanism: str, subject: str, target: str, acts: str, tclass: str, *, out: bool
    ) -> Iterable[tuple[str, tuple[str, ...]]]:
        """What of a subject's permissions lets information pass to the target, or from it, by class."""
        if acts not in SUBJECTS:
            return
        memo = self._memos[mechanism]
        for one in self._classes_of(mechanism, tclass):
            if one == "event" and tclass == "domain":
                names = self._bound(memo, subject, target)
            else:
                names = memo.policy.names(one, memo.allowed(subject, target, one))
            found = directions(one, names, self.strengths)
            self.unknown.update(f"{one}:{name}" for name in found.unknown)
            if chosen := found.out if out else found.back:
                yield one, chosen

    def _bound(self, memo: Memo, subject: str, target: str) -> tuple[str, ...]:
        """What a domain can do with an event channel to another one.

        The channel has a label of its own: the domain needs the right to create such a one, and the channel that to be
        bound to the other domain (`flask_evtchn_interdomain` in xen/xsm/flask/hooks.c).
        """
        channel = _channel(memo, subject, target)
        mine = memo.policy.names("event", memo.allowed(subject, channel, "event"))
        bound = "bind" in memo.policy.names("event", memo.allowed(channel, target, "event"))
        if not bound or "create" not in mine:
            return ()
        return (*(name for name in mine if name != "bind"), "bind")

    def _text(self, kind: _Kind, one: Range) -> str:
        names = f"{kind.user}:{kind.role}:{kind.type}"
        return f"{names}:{one}" if self._memos[kind.mechanism].policy.mls else names

    def _classes_of(self, mechanism: str, tclass: str) -> Sequence[str]:
        wanted = {"process": _OF_PROCESSES, "domain": _OF_DOMAINS}.get(tclass, (tclass,))
        return [one for one in wanted if one in self._classes[mechanism] or one == tclass]

    def _rule_out(self, out: list[int], back: list[int]) -> None:
        """Takes out what Landlock does not let through: it confines beside SELinux, so both have to allow."""
        ruled = [number for number, instance in enumerate(self._instances) if instance.ruled]
        if not ruled:
            return
        objects = sum(1 << number for number, one in enumerate(self._instances) if one.tclass not in SUBJECTS)
        for number in ruled:
            reaches = self.snapshot.reaches.get(self.names[number], {})
            readable = sum(1 << self._number[name] for name in reaches)
            writable = sum(1 << self._number[name] for name, access in reaches.items() if access == "rw")
            for far in bits(out[number] & objects & ~writable):
                back[far] &= ~(1 << number)
            for far in bits(back[number] & objects & ~readable):
                out[far] &= ~(1 << number)
            out[number] &= ~objects | writable
            back[number] &= ~objects | readable

    # evidence

    def _joined(self, one: Instance, other: Instance) -> bool:
        return one.mechanism == other.mechanism

    def _used(self, subject: Instance, target: Instance, *, to_object: bool) -> Iterable[Edge]:
        if subject.tclass not in SUBJECTS or not self._ruled_in(subject, target, writing=to_object):
            return
        memo = self._memos[subject.mechanism]
        for tclass, names in self._masked(
            subject.mechanism, subject.context, target.context, subject.tclass, target.tclass, out=to_object
        ):
            acts = subject.context
            if tclass == "event" and target.tclass == "domain":
                acts, names = _channel(memo, acts, target.context), ("bind",)
            rule = memo.explain(acts, target.context, tclass, names).rule
            verb = "by" if to_object else "to"
            yield Edge(subject.mechanism, f"{tclass} {' '.join(names)} ({verb} {subject.name})", rule)

    def _ruled_in(self, subject: Instance, target: Instance, *, writing: bool) -> bool:
        if not subject.ruled or target.tclass in SUBJECTS:
            return True
        access = self.snapshot.reaches.get(subject.name, {}).get(target.name, "")
        return access == "rw" or (access == "ro" and not writing)

    def _channel_edges(self, source: str, target: str) -> Iterable[Edge]:
        for channel in self.snapshot.channels:
            if (source, target) in _ways(channel.direction, channel.source, channel.target):
                yield Edge(
                    "channel", f"door {channel.door}", f"{channel.source} uses {channel.door} of {channel.target}"
                )


def _channel(memo: Memo, subject: str, target: str) -> str:
    """The label of an event channel between two domains."""
    return memo.policy.transition(subject, target, "event")


def _ways(direction: str, source: _T, target: _T) -> list[tuple[_T, _T]]:
    there, back = (source, target), (target, source)
    return {"to": [there], "from": [back], "both": [there, back]}[direction]


def _mirror(key: int) -> int:
    """The key of the same two ranges, asked from the other end: low with high changes places too."""
    first, second, third, fourth = (_MIRRORED[key >> place & 3] for place in (0, 2, 4, 6))
    return first | third << 2 | second << 4 | fourth << 6
