"""Why a decision came out as it did: the rules that it rests on, in one line that people can look for in a policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from septum.sepol.rules import Rules

__all__ = ["Constraint", "Decision", "constraints", "quote"]


class Constraint(NamedTuple):
    """A constraint that failed.

    Attributes:
        permissions: what it is about.
        text: the whole, as libsepol writes it.
    """

    permissions: frozenset[str]
    text: str


def constraints(raw: bytes) -> tuple[Constraint, ...]:
    """Those of libsepol's report (`constraint_expr_eval_reason` in services.c), which ends each with its outcome."""
    text = " ".join(raw.decode("ascii", "replace").split())
    parts = [part.strip() for part in text.split("; Constraint DENIED")]
    return tuple(
        Constraint(frozenset(words[1].split()), part)
        for part in parts
        if (words := re.match(r"\w+ \S+ \{ (.*?) ?\}", part))
    )


class Decision(NamedTuple):
    """What libsepol said.

    Attributes:
        source, target: contexts, split at colons.
        tclass, granted, refused, reasons: as of `Explanation`.
        failed: constraints that refuse anything of the class, asked for or not.
    """

    source: Sequence[str]
    target: Sequence[str]
    tclass: str
    granted: Sequence[str]
    refused: Sequence[str]
    reasons: Sequence[str]
    failed: Sequence[Constraint]

    def failed_of(self, permissions: Sequence[str]) -> list[str]:
        """The constraints that are about any of these permissions, if constraints had a say at all."""
        if "constraint" not in self.reasons:
            return []
        return [one.text for one in self.failed if one.permissions & set(permissions)]


def quote(rules: Rules, decision: Decision) -> str:
    """What a decision rests on.

    Args:
        rules: of the policy.
        decision: any of its.

    Returns:
        If all is allowed, the rules that do; else everything that stands against it.
    """
    if not decision.refused:
        return "; ".join(_granting(rules, decision))
    parts = [*_refusing(rules, decision)]
    source = rules.aliases.get(decision.source[2], decision.source[2])
    if source in rules.permissive:
        parts.append(f"(typepermissive {source}): the kernel only records it")
    return "; ".join(parts)


def _granting(rules: Rules, decision: Decision) -> Iterator[str]:
    """As few rules as are seen to suffice."""
    found = [rule for rule in rules.allows(decision.source[2], decision.target[2], decision.tclass) if rule.active]
    wanted = set(decision.granted)
    while found and wanted:
        best = max(found, key=lambda rule: len(wanted & set(rule.permissions)))
        if wanted.isdisjoint(best.permissions):
            return
        yield str(best)
        wanted.difference_update(best.permissions)


def _refusing(rules: Rules, decision: Decision) -> Iterator[str]:
    source, target = decision.source, decision.target
    found = list(rules.allows(source[2], target[2], decision.tclass))
    ruled = {permission for rule in found if rule.active for permission in rule.permissions}
    missing = [name for name in decision.refused if name not in ruled]
    rest = [name for name in decision.refused if name in ruled]
    if missing:
        yield f"there is no (allow {source[2]} {target[2]} ({decision.tclass} ({' '.join(missing)})))"
        switched_off = [rule for rule in found if not rule.active and not set(missing).isdisjoint(rule.permissions)]
        if switched_off:
            yield f"switched off: {switched_off[0]}"
    failed = decision.failed_of(rest)
    yield from failed
    constrained = {name for one in decision.failed if one.text in failed for name in one.permissions}
    rest = [name for name in rest if name not in constrained]
    if rest and "role" in decision.reasons:
        yield f"there is no (roleallow {source[1]} {target[1]})"
        rest = [name for name in rest if name not in ("transition", "dyntransition")]
    if rest and "bounds" in decision.reasons:
        yield f"the type that bounds {source[2]} may not {{ {' '.join(rest)} }} {decision.tclass} of {target[2]}"
