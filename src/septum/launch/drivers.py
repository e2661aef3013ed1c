"""Which drivers enforce: what works here, strongest first."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from septum.errors import Unenforceable, UsageError
from septum.host import ops
from septum.host.driver import Availability, Driver, Operation

NAMES: Final = ("selinux", "landlock")  # strongest first
_SELINUXFS: Final = "/sys/fs/selinux"


def make(names: Sequence[str]) -> list[Driver]:
    """The drivers of these names. Their modules are loaded only here, as a start pays for each."""
    made: list[Driver] = []
    if "selinux" in names:
        from septum.host.selinux import SelinuxDriver

        made.append(SelinuxDriver())
    if "landlock" in names:
        from septum.host.landlock import LandlockDriver

        # With SELinux a no_new_privs process could not enter its own domain.
        made.append(LandlockDriver(no_new_privs="selinux" not in names))
    return made


def operations() -> Mapping[str, Operation]:
    """All operations that a journal on this host may hold."""
    known: dict[str, Operation] = dict(ops.OPERATIONS)
    for driver in make(NAMES if os.path.isdir(_SELINUXFS) else ("landlock",)):
        known.update(driver.operations())
    return known


def choose(wanted: str, *, unconfined: bool = False) -> list[Driver]:
    """The drivers for a new guest.

    Args:
        wanted: `auto` takes all that work; else names joined by commas, each of which must work.
        unconfined: go on with none at all.

    Raises:
        UsageError: there is no such driver.
        Unenforceable: one that was named doesn't work, or none does.
    """
    if wanted == "auto":
        found = [driver for driver, availability in probe_all() if availability.works]
        if not found and not unconfined:
            reasons = "; ".join(f"{driver.name}: {availability.reason}" for driver, availability in probe_all())
            raise Unenforceable(
                "nothing on this host can keep guests apart",
                rule=reasons,
                remedy="see `septum doctor`; to run without any confinement: --unconfined",
            )
        return found
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in NAMES:
            raise UsageError(f"there is no driver {name}", remedy=f"one or more of {', '.join(NAMES)}, or auto")
    chosen = make(names)
    for driver in chosen:
        availability = driver.probe()
        if not availability.works:
            raise Unenforceable(
                f"the driver {driver.name} does not work here",
                rule=availability.reason,
                remedy="see `septum doctor`, or choose another with --driver",
            )
    return chosen


def probe_all() -> list[tuple[Driver, Availability]]:
    """Every driver with what it can do here, strongest first."""
    names = NAMES if os.path.isdir(_SELINUXFS) else ("landlock",)
    found: list[tuple[Driver, Availability]] = [(driver, driver.probe()) for driver in make(names)]
    return found
