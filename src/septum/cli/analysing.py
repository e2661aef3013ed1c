"""What the verbs that ask a snapshot share: opening it with its policies, and showing ways."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from septum.analysis import Flows, Hop, Snapshot, read
from septum.cli.common import printable
from septum.errors import PolicyError
from septum.sepol import Memo, Policy

STRENGTHS: Final = {"data": ("data",), "signal": ("data", "signal"), "metadata": ("data", "signal", "metadata")}


def add_strength(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--strength",
        choices=tuple(STRENGTHS),
        default="data",
        help="the least that counts as information: data, that something happened, or names and sizes too "
        "(default: %(default)s)",
    )


def strengths(options: Namespace) -> frozenset[str]:
    """What counts as information."""
    return frozenset(STRENGTHS[options.strength])


@contextmanager
def opened(snapshot: Snapshot) -> Iterator[Mapping[str, Memo]]:
    """The policies of a snapshot.

    Raises:
        PolicyError: one can't be opened, or is not the one that the snapshot was taken with.
    """
    with ExitStack() as stack:
        memos = {}
        for name, file in snapshot.policies.items():
            policy = stack.enter_context(Policy.open(snapshot.policy_path(name)))
            if file.fingerprint and policy.fingerprint != file.fingerprint:
                raise PolicyError(
                    f"the {name} policy is not the one of the snapshot",
                    target=snapshot.policy_path(name),
                    rule=f"expected fingerprint {file.fingerprint}, found {policy.fingerprint}",
                    remedy="take a new snapshot, or put the policy back",
                )
            memos[name] = Memo(policy)
        yield memos


@contextmanager
def flows(path: str, options: Namespace) -> Iterator[Flows]:
    """The edges of a snapshot's file."""
    snapshot = read(path)
    with opened(snapshot) as memos:
        yield Flows(snapshot, memos, strengths(options))


def print_way(hops: Sequence[Hop]) -> None:
    for hop in hops:
        print(f"  {printable(hop.source)} -> {printable(hop.target)}")
        for edge in hop.edges:
            print(f"    {edge.mechanism}: {printable(edge.operation)}\n      {printable(edge.rule)}")


def way_as_data(hops: Sequence[Hop]) -> list[dict[str, Any]]:
    return [
        {"source": hop.source, "target": hop.target, "edges": [edge._asdict() for edge in hop.edges]} for hop in hops
    ]
