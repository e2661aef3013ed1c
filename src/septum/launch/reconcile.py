"""After a crash or a reboot: find every guest of the ledger that is gone, and put things back."""

from __future__ import annotations

from septum.errors import Denied, NotFound
from septum.host import cgroup
from septum.launch import drivers, state
from septum.launch.undo import Report, Restored, put_back, settle_object, survivors
from septum.lean import TYPE_CHECKING
from septum.ledger.protocol import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable


def reconcile(ledger: Ledger, folder: str, *, forget: Iterable[str] = ()) -> list[Report]:
    """Undoes what guests that are gone have left; guests that live are not touched. May be repeated.

    Args:
        ledger: to work on.
        folder: of the ledger.
        forget: guests to give up on, whatever could not be restored.

    Raises:
        NotFound: a guest to forget is not there.
        Denied: it is still alive.
    """
    operations = drivers.operations()
    with state.undoing(folder):
        reports = [put_back(ledger, guest, operations) for guest in ledger.guests() if not survivors(guest)]
        loose: list[Restored] = []
        for key in ledger.orphans():
            loose += settle_object(ledger, key, operations)
        if loose:
            done = all(step.outcome not in ("failed", "foreign") for step in loose)
            reports.append(Report("", "shared objects", "-", tuple(loose), done))
        cgroup.sweep(cgroup.base())
        for reference in forget:
            guest = ledger.guest(reference)
            if guest is None:
                raise NotFound(
                    f"there is no guest {reference}", target=reference, remedy="`septum ps --all` lists them"
                )
            if survivors(guest):
                raise Denied("a guest that lives can't be forgotten", target=reference, remedy="end it first")
            ledger.forget(guest.uuid)
            reports = [report for report in reports if report.uuid != guest.uuid]
    return reports
