"""The launch itself: admit, write the journal, change what has to be changed, confine this process, become QEMU.

Order is everything here. The ledger has each intent before the host changes; the watcher has a pidfd of this process
before the ledger has the guest; the exec context is the last thing that is set. Killed at any line, the watcher (or
`reconcile`) finds in the ledger what to put back. `checkpoint` is called between any two lines that matter, so that
tests can end the process at each of them.
"""

from __future__ import annotations

import os
import sys
import time

from septum.errors import SeptumError
from septum.host import cgroup, ops
from septum.host.driver import Confinement, Driver, Operation, Step
from septum.host.driver import Entry as Action
from septum.host.joining import Joining
from septum.labels import CategorySet
from septum.launch import identity, plan, process, state, stored, watch
from septum.launch.claim import Stale, claim
from septum.launch.drivers import choose, types_of
from septum.launch.images import chains
from septum.launch.undo import put_back
from septum.lean import TYPE_CHECKING
from septum.ledger.protocol import Ledger
from septum.ledger.records import Guest
from septum.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Final, NoReturn, TypeAlias

_WITHOUT_ROOT: Final = (
    "without root this is weaker: the guest shares its caller's uid, and Landlock with a system call filter alone "
    "keeps it apart; see `septum doctor`"
)
Checkpoint: TypeAlias = "Callable[[str], None]"
_PATIENCE: Final = 3.0  # seconds to wait for an object that is just being put back


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
        if os.geteuid() != 0 and chosen:
            subject = subject._replace(warnings=(*subject.warnings, _WITHOUT_ROOT))
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                actions = _prepare(request, subject, folder, chosen, moving, checkpoint)
                break
            except Stale:
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
        block = identity.block_of(ledger, request.realm, request.role)
        confinement = plan.confine(subject, identity.identity(guest, realm))._replace(types=types_of(drivers, block))
        steps = plan.steps_of(drivers, confinement)
        entries = [entry for driver in drivers for entry in driver.entries(confinement)]
        if moving is not None and not any(step.op == "cgroup" for step in steps):
            # No driver asks for it, but by its cgroup a guest is known to be gone with all its processes.
            steps = (cgroup.step(moving.path), *steps)
            entries.append(Action(10, "join the guest's cgroup", moving.wait))
        claim(ledger, guest, confinement, steps, operations, request.allowed.adopted, checkpoint)
        actions = sorted(entries, key=lambda entry: entry.phase)
        ledger.run(
            guest.uuid, os.getpid(), guest.started, _details(guest, confinement, steps, subject, request.role, block)
        )
        checkpoint("running")
    except SeptumError as error:
        if moving is not None and not isinstance(error, Stale):
            moving.leave()
        _give_up(ledger, folder, guest, operations)
        raise
    ledger.close()
    return actions


def _give_up(ledger: Ledger, folder: str, guest: Guest, operations: Mapping[str, Operation]) -> None:
    with state.undoing(folder):
        put_back(ledger, guest, operations)


def operations_of(drivers: Iterable[Driver]) -> Mapping[str, Operation]:
    known: dict[str, Operation] = {**ops.OPERATIONS, "cgroup": cgroup.CgroupOperation()}
    for driver in drivers:
        known.update(driver.operations())
    return known


def _details(
    guest: Guest, confinement: Confinement, steps: Sequence[Step], subject: plan.Subject, role: str, block: str
) -> dict[str, Any]:
    """What `show`, `explain`, `attack` and the watcher need later."""
    return {
        **({"role": role, "type": f"{block}.process"} if role else {}),
        **guest.details,
        "cgroup": next((step.path for step in steps if step.op == "cgroup"), ""),
        "confinement": stored.pack(confinement),
        "network": list(subject.command.network),
        "warnings": list(subject.warnings),
    }
