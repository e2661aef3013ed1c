"""Claiming a guest's objects: holds and journal in one write, a second look, and only then the changes.

Between the look that a plan is made from and the claim, another guest may have been put back, or a person may have
changed something. What the journal keeps as the original must be what was there before *this* guest, so everything is
compared once more when nobody else can have it.
"""

from __future__ import annotations

import time

from septum.errors import Held, SeptumError
from septum.host.driver import Confinement, Facts, Item, Operation, Step
from septum.host.objects import Gone, Replaced, look
from septum.launch import plan
from septum.launch.undo import survivors
from septum.lean import TYPE_CHECKING
from septum.ledger.protocol import Ledger
from septum.ledger.records import Entry, Guest, Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from typing import Any, Final

_PATIENCE: Final = 3.0  # seconds to wait for an object that is just being put back
_NOT_OURS: Final = frozenset({"helper", "plugin", "sysfs", "tmpdir", "memory", "peer-socket", "shared-device"})


class Stale(Held):
    """What was looked at before the objects were claimed is not so any more; nothing was changed, so look again."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was changed while it was being claimed",
            target=path,
            rule="what is put back at the end must be what was there before the guest",
            remedy="run the command again",
        )


def claim(
    ledger: Ledger,
    guest: Guest,
    confinement: Confinement,
    steps: Sequence[Step],
    operations: Mapping[str, Operation],
    adopted: Container[str],
    checkpoint: Callable[[str], None],
) -> None:
    """Claims the objects, writes the journal, makes the changes.

    Raises:
        Held: somebody else has one of them.
        Stale: something changed meanwhile.
        HostError: the kernel refused a step; the journal says what to undo.
    """
    holds = plan.holds_of(confinement.items, steps, adopted)
    deadline = time.monotonic() + _PATIENCE
    while True:
        entries = [_entry(guest, step, _capture(operations, step)) for step in steps]
        try:
            written = ledger.begin(guest.uuid, holds, entries)
            break
        except Held as error:
            waits = "being restored" in error.holder or _soon_free(ledger, guest, holds)
            if not waits or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    changed = _changed(ledger, guest, confinement.items, steps, written, operations)
    if changed:
        ledger.end(guest.uuid)
        ledger.orphan(guest.uuid)
        for entry in written:
            ledger.settle(entry.id, "untouched")
        raise Stale(changed)
    checkpoint("begun")
    journals = {owner: ledger.journal(owner) for owner in {step.scope or guest.uuid for step in steps}}
    for step in steps:
        original = _original(journals[step.scope or guest.uuid], step)
        checkpoint(f"before {step.op} {step.path}")
        operations[step.op].apply(step, original)
        checkpoint(f"after {step.op} {step.path}")


def _capture(operations: Mapping[str, Operation], step: Step) -> Mapping[str, Any]:
    try:
        return operations[step.op].capture(step)
    except Replaced:
        raise
    except Gone as error:
        raise Stale(step.path) from error


def _changed(
    ledger: Ledger,
    guest: Guest,
    items: Iterable[Item],
    steps: Sequence[Step],
    written: Sequence[Entry],
    operations: Mapping[str, Operation],
) -> str:
    """The path of an object that is not as it was planned for and journaled; "" if all are."""
    for item in items:
        mine = item.resource.sharing == "exclusive" and not item.platform and item.resource.kind not in _NOT_OURS
        if item.facts is not None and mine and _now(item.facts) != item.facts:
            return item.facts.path
    for entry in written:
        step = next(s for s in steps if (s.op, s.key, s.path) == (entry.op, entry.key, entry.path))
        # Who shares the object may have done the step already, by this very entry.
        alone = not step.scope or ledger.holders(step.scope) == [guest.uuid]
        if alone and dict(_capture(operations, step)) != dict(entry.original):
            return entry.path
    return ""


def _now(facts: Facts) -> Facts | None:
    """The same object's facts at this moment, None if it is gone.

    Raises:
        Replaced: another object has its name. That is no restart of a guest: somebody swaps files.
    """
    try:
        now = look(facts.path).facts
    except Gone:
        return None
    if now is not None and now.key != facts.key:
        raise Replaced("another object has this name now", target=facts.path)
    return now


def _soon_free(ledger: Ledger, guest: Guest, holds: Iterable[Hold]) -> bool:
    """Whether somebody who holds one of these objects is gone, and is only being put back."""
    for hold in holds:
        for uuid in ledger.holders(hold.key):
            holder = ledger.guest(uuid) if uuid != guest.uuid else None
            if holder is not None and holder.state != "stuck" and not survivors(holder):
                return True
    return False


def _entry(guest: Guest, step: Step, original: Mapping[str, Any]) -> Entry:
    owner = step.scope or guest.uuid
    return Entry(0, owner, step.op, step.key, step.path, dict(step.args), dict(original), "")


def _original(journal: Iterable[Entry], step: Step) -> Mapping[str, Any]:
    """What the journal says was there before: for a shared object the first holder knows, not this guest."""
    for entry in journal:
        if (entry.op, entry.key, entry.path, dict(entry.args)) == (step.op, step.key, step.path, dict(step.args)):
            return entry.original
    raise SeptumError("a step is not in the journal", target=step.path, rule="write down first, then act")
