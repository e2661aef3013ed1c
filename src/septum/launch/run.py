"""The launch itself: admit, write the journal, change what has to be changed, confine this process, become QEMU.

Order is everything here. The ledger has each intent before the host changes; the watcher has a pidfd of this process
before the ledger has the guest; the exec context is the last thing that is set. Killed at any line, the watcher (or
`reconcile`) finds in the ledger what to put back. `checkpoint` is called between any two lines that matter, so that
tests can end the process at each of them.
"""

import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from septum.errors import Held, SeptumError
from septum.host import cgroup, ops
from septum.host.driver import Confinement, Driver, Item, Operation, Step
from septum.host.driver import Entry as Action
from septum.host.joining import Joining
from septum.host.objects import look
from septum.labels import CategorySet
from septum.launch import identity, plan, process, state, stored, watch
from septum.launch.drivers import choose
from septum.launch.images import chains
from septum.launch.undo import put_back, survivors
from septum.ledger.protocol import Ledger
from septum.ledger.records import Entry, Guest, Hold
from septum.ledger.sqlite import SqliteLedger

Checkpoint = Callable[[str], None]
_PATIENCE: Final = 3.0  # seconds to wait for an object that is just being put back


class _Stale(Held):
    """What was looked at before the objects were claimed is not so any more; nothing was changed, so look again."""


def nothing(_: str) -> None:
    """The checkpoint of a real launch."""


def run(
    request: plan.Request,
    folder: str,
    moving: Joining | None = None,
    *,
    drivers: Sequence[Driver] | None = None,
    checkpoint: Checkpoint = nothing,
) -> NoReturn:
    """Confines this process and makes it QEMU. Returns only by raising.

    Args:
        request: what the user asked for.
        folder: of the ledger; made if it is missing.
        moving: from `joining.begin`, of which it is best to make use as early as can be.
        drivers: instead of those that `request` names, for tests.
        checkpoint: see the module's text.

    Raises:
        SeptumError: nothing runs, and everything is as it was before.
    """
    environment = process.given_environment()
    try:
        subject = plan.resolve(request, cwd=os.getcwd(), chains=chains)
        chosen: list[Driver] = []
        if drivers is not None:
            chosen = list(drivers)
        elif not subject.command.query:
            chosen = choose(request.drivers, subject.command, moving, unconfined=request.unconfined)
        if subject.command.query:
            if moving is not None:
                moving.leave()
            process.become(subject.program, request.argv, environment)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                actions = _prepare(request, subject, folder, chosen, moving, checkpoint)
                break
            except _Stale:
                # The guest before this one was put back meanwhile, as happens when one is started again at once.
                if time.monotonic() > deadline:
                    raise
                subject = plan.resolve(request, cwd=os.getcwd(), chains=chains)
    except SeptumError:
        if moving is not None:
            moving.leave()
        raise
    # From here on the process loses the power to put things back; if something fails, its death tells the watcher.
    for action in actions:
        checkpoint(f"before {action.what}")
        action.act()
    checkpoint("confined")
    process.become(subject.program, request.argv, environment)


def _prepare(
    request: plan.Request,
    subject: plan.Subject,
    folder: str,
    drivers: Sequence[Driver],
    moving: Joining | None,
    checkpoint: Checkpoint,
) -> list[Action]:
    """Everything up to the confinement of this process; returns what confines it, in order."""
    own_uid = os.geteuid() == 0 and any(driver.name == "landlock" for driver in drivers)
    for warning in (*subject.warnings, plan.needs_root(subject.command) if own_uid else ""):
        if warning:
            print(f"septum: {warning}", file=sys.stderr)
    uuid = subject.uuid.lower() or identity.new_uuid()
    operations = operations_of(drivers)

    def foreign() -> list[CategorySet]:
        return [categories for driver in drivers for categories in driver.foreign()]

    state.make(folder)
    ledger = SqliteLedger(folder)
    checkpoint("before hand-over")
    watch.hand_over(folder, uuid)
    checkpoint("handed over")
    realm = identity.realm_of(ledger, request.realm, foreign, groups=own_uid)
    guest = identity.admit(ledger, subject, uuid, realm, drivers, foreign, own_uid=own_uid)
    checkpoint("admitted")
    try:
        confinement = plan.confine(subject, identity.identity(guest, realm))
        steps = plan.steps_of(drivers, confinement)
        entries = [entry for driver in drivers for entry in driver.entries(confinement)]
        if moving is not None and not any(step.op == "cgroup" for step in steps):
            # No driver asks for it, but by its cgroup a guest is known to be gone with all its processes.
            steps = (cgroup.step(moving.path), *steps)
            entries.append(Action(10, "join the guest's cgroup", moving.wait))
        _apply(ledger, guest, confinement, steps, operations, request.allowed.adopted, checkpoint)
        actions = sorted(entries, key=lambda entry: entry.phase)
        ledger.run(guest.uuid, os.getpid(), guest.started, _details(guest, confinement, steps, subject))
        checkpoint("running")
    except SeptumError as error:
        if moving is not None and not isinstance(error, _Stale):
            moving.leave()
        _give_up(ledger, folder, guest, operations)
        raise
    ledger.close()
    return actions


def _apply(
    ledger: Ledger,
    guest: Guest,
    confinement: Confinement,
    steps: Sequence[Step],
    operations: Mapping[str, Operation],
    adopted: Container[str],
    checkpoint: Checkpoint,
) -> None:
    """Claims the objects, writes the journal, makes the changes."""
    holds = plan.holds_of(confinement.items, steps, adopted)
    deadline = time.monotonic() + _PATIENCE
    while True:
        entries = [_entry(guest, step, operations[step.op].capture(step)) for step in steps]
        try:
            written = ledger.begin(guest.uuid, holds, entries)
            break
        except Held as error:
            if time.monotonic() > deadline or not (
                "being restored" in error.holder or _soon_free(ledger, guest, holds)
            ):
                raise
            time.sleep(0.005)
    _refuse_stale(ledger, guest, confinement.items, steps, written, operations)
    checkpoint("begun")
    for step in steps:
        original = _original(ledger, guest, step)
        checkpoint(f"before {step.op} {step.path}")
        operations[step.op].apply(step, original)
        checkpoint(f"after {step.op} {step.path}")


def _soon_free(ledger: Ledger, guest: Guest, holds: Iterable[Hold]) -> bool:
    """Whether somebody who holds one of these objects is gone, and is only being put back."""
    for hold in holds:
        for uuid in ledger.holders(hold.key):
            holder = ledger.guest(uuid) if uuid != guest.uuid else None
            if holder is not None and holder.state != "stuck" and not survivors(holder):
                return True
    return False


def _refuse_stale(
    ledger: Ledger,
    guest: Guest,
    items: Iterable[Item],
    steps: Sequence[Step],
    written: Sequence[Entry],
    operations: Mapping[str, Operation],
) -> None:
    """Makes sure that what was looked at before the objects were claimed is still so, now that nobody else has them.

    Otherwise the journal could hold another guest's label as the original: that guest was put back in between.

    Raises:
        _Stale: something changed. The journal is closed, as nothing was applied yet.
    """
    stale = next(
        (
            item.facts.path
            for item in items
            if item.facts is not None
            and item.resource.sharing == "exclusive"
            and not item.platform
            and item.resource.kind not in ("helper", "plugin", "sysfs", "tmpdir", "memory", "peer-socket")
            and look(item.facts.path).facts != item.facts
        ),
        "",
    )
    for entry in written if not stale else ():
        step = next(s for s in steps if (s.op, s.key, s.path) == (entry.op, entry.key, entry.path))
        if dict(operations[step.op].capture(step)) != dict(entry.original):
            stale = entry.path
            break
    if not stale:
        return
    ledger.end(guest.uuid)
    ledger.orphan(guest.uuid)
    for entry in written:
        ledger.settle(entry.id, "untouched")
    raise _Stale(
        f"{stale} was changed while it was being claimed",
        target=stale,
        rule="what is put back at the end must be what was there before the guest",
        remedy="run the command again",
    )


def _entry(guest: Guest, step: Step, original: Mapping[str, Any]) -> Entry:
    owner = step.scope or guest.uuid
    return Entry(0, owner, step.op, step.key, step.path, dict(step.args), dict(original), "")


def _original(ledger: Ledger, guest: Guest, step: Step) -> Mapping[str, Any]:
    """What the journal says was there before: for a shared object the first holder knows, not this guest."""
    for entry in ledger.journal(step.scope or guest.uuid):
        if (entry.op, entry.key, entry.path, dict(entry.args)) == (step.op, step.key, step.path, dict(step.args)):
            return entry.original
    raise SeptumError("a step is not in the journal", target=step.path, rule="write down first, then act")


def _give_up(ledger: Ledger, folder: str, guest: Guest, operations: Mapping[str, Operation]) -> None:
    with state.undoing(folder):
        put_back(ledger, guest, operations)


def operations_of(drivers: Iterable[Driver]) -> Mapping[str, Operation]:
    known: dict[str, Operation] = {**ops.OPERATIONS, "cgroup": cgroup.CgroupOperation()}
    for driver in drivers:
        known.update(driver.operations())
    return known


def _details(guest: Guest, confinement: Confinement, steps: Sequence[Step], subject: plan.Subject) -> dict[str, Any]:
    """What `show`, `explain`, `attack` and the watcher need later."""
    return {
        **guest.details,
        "cgroup": next((step.path for step in steps if step.op == "cgroup"), ""),
        "confinement": stored.pack(confinement),
        "network": list(subject.command.network),
        "warnings": list(subject.warnings),
    }
