"""Putting things back: one guest's journal, from the last step to the first; then what it shared with others.

The watcher, `reconcile` and a launch that failed all come through here, under ``undo.lock``. Every call may be
repeated: a step that was undone is closed in the ledger, one that was not yet is undone again, which does no harm.
"""

from __future__ import annotations

import os

from septum.errors import Denied, HostError
from septum.host import cgroup
from septum.host.driver import Operation, Outcome, Step
from septum.launch import process
from septum.lean import TYPE_CHECKING, NamedTuple
from septum.ledger.protocol import Ledger
from septum.ledger.records import Entry, Guest

if TYPE_CHECKING:
    from collections.abc import Mapping


class Restored(NamedTuple):
    """What came of one step.

    Attributes:
        path: of the object.
        op: of the step.
        outcome: see `host.driver.Outcome`; "failed" if the kernel refused.
        why: the kernel's refusal, or "".
    """

    path: str
    op: str
    outcome: Outcome | str
    why: str


class Report(NamedTuple):
    """What came of one guest.

    Attributes:
        uuid, name, realm: of the guest.
        steps: in the order in which they were undone.
        released: its label, uid and objects are free again.
    """

    uuid: str
    name: str
    realm: str
    steps: tuple[Restored, ...]
    released: bool


def survivors(guest: Guest) -> list[int]:
    """The processes that belong to the guest, its first one or any other.

    Told by its cgroup if it has one, else by its uid: neither ``-daemonize`` nor a fork by a compromised emulator
    gets out of sight. Without either (no root, no cgroup) only what shows the same command line is found.
    """
    if guest.boot_id != process.boot_id():
        return []
    if process.alive(guest.boot_id, guest.pid, guest.started):
        return [guest.pid]
    group = guest.details.get("cgroup", "")
    if group and os.path.isdir(group):
        return cgroup.processes(group)
    if guest.uid > 0:
        return process.of_uid(guest.uid)
    return process.of_argv(guest.argv, guest.started) if guest.details.get("daemonize") else []


def put_back(ledger: Ledger, guest: Guest, operations: Mapping[str, Operation]) -> Report:
    """Undoes all of a guest's steps and releases what it had.

    The caller holds ``undo.lock`` and knows that nothing of the guest runs.

    Raises:
        LedgerError: the ledger can't be written to; nothing is lost, a later call goes on from here.
    """
    ledger.end(guest.uuid, "ending")
    rebooted = guest.boot_id != process.boot_id()
    own = reversed(ledger.journal(guest.uuid))
    steps = [_undo(ledger, entry, operations, rebooted, guest.uuid) for entry in own]
    for key in ledger.orphan(guest.uuid):
        steps += settle_object(ledger, key, operations, rebooted)
    released = all(step.outcome not in ("failed", "foreign") for step in steps)
    if released:
        ledger.release(guest.uuid)
    else:
        ledger.end(guest.uuid, "stuck")
    return Report(guest.uuid, guest.name, guest.realm, tuple(steps), released)


def settle_object(
    ledger: Ledger, key: str, operations: Mapping[str, Operation], rebooted: bool = False
) -> list[Restored]:
    """Undoes what was done to an object that several guests shared, now that the last one is gone."""
    return [_undo(ledger, entry, operations, rebooted) for entry in reversed(ledger.journal(key))]


def _undo(
    ledger: Ledger, entry: Entry, operations: Mapping[str, Operation], rebooted: bool, guest: str = ""
) -> Restored:
    step = Step(entry.op, entry.key, entry.path, "", entry.args)
    if rebooted and entry.key.startswith(("b:", "c:")):
        # Device nodes are made anew at each boot, with the owner and label that the host gives them.
        ledger.settle(entry.id, "gone")
        return Restored(entry.path, entry.op, "gone", "")
    operation = operations.get(entry.op)
    if operation is None:
        return Restored(entry.path, entry.op, "failed", f"no driver here knows how to undo “{entry.op}”")
    try:
        outcome = operation.undo(step, entry.original)
    except (HostError, Denied) as error:
        return Restored(entry.path, entry.op, "failed", error.what)
    if outcome == "foreign" and entry.owner == guest:
        # It stays in the journal: the next attempt looks again, and finds it restored if somebody has seen to it.
        fields = {"entry": entry.id, "owner": entry.owner, "op": entry.op, "path": entry.path}
        ledger.audit("object.foreign", fields)
    else:
        ledger.settle(entry.id, outcome)
    return Restored(entry.path, entry.op, outcome, "")
