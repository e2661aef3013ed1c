"""Which drivers enforce: what works here, strongest first."""

from __future__ import annotations

import os

from septum.errors import PolicyError, Unenforceable, UsageError
from septum.guests.resource import CommandLine
from septum.host import cgroup, ops
from septum.host.driver import Availability, Driver, Operation
from septum.host.joining import Joining, fresh
from septum.launch.state import SELINUXFS
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from septum.host.selinux_types import Types

NAMES: Final = ("selinux", "landlock")  # strongest first


def make(names: Sequence[str], command: CommandLine | None = None, joining: Joining | None = None) -> list[Driver]:
    """The drivers of these names. Their modules are loaded only here, as a start pays for each.

    Args:
        names: out of NAMES.
        command: of the guest to be started, if one is.
        joining: of this process into that guest's cgroup, if it was begun.
    """
    made: list[Driver] = []
    if "selinux" in names:
        from septum.host.selinux import SelinuxDriver

        made.append(SelinuxDriver(_types()))
    if "landlock" in names:
        from septum.host.landlock import LandlockDriver

        argv = command.argv if command else ()
        made.append(
            LandlockDriver(
                # With it a process can't enter its SELinux domain, and a setuid helper gains nothing.
                no_new_privs="selinux" not in names and not (command and command.executes),
                group=_group() if joining is None else "",
                joining=joining,
                incoming=any(word.lstrip("-") == "incoming" for word in argv),
                io_uring=any("io_uring" in word for word in argv),
            )
        )
    return made


def types_of(drivers: Sequence[Driver], block: str = "") -> str:
    """The name of the set of SELinux types that these drivers label with, or "".

    Args:
        drivers: of the guest.
        block: of the policy, for the guest's role; "" for none.

    Raises:
        PolicyError: the loaded policy has no such role.
    """
    if all(driver.name != "selinux" for driver in drivers):
        return ""
    from septum.host.selinux import SelinuxDriver

    if block:
        from septum.host.selinux_types import defined, of_role

        if not defined(of_role(block)):
            raise PolicyError(
                "the loaded policy does not know this role",
                target=block,
                rule="a role's guests have types of their own",
                remedy="put the declaration into the host's policy: septum declare show --cil",
            )
        return of_role(block).name
    return next((driver.types.name for driver in drivers if isinstance(driver, SelinuxDriver)), "")


def _types() -> Types | None:
    """The set of SELinux types that SEPTUM_SELINUX_TYPES names; None for the best that works.

    Raises:
        UsageError: there is no such set.
    """
    from septum.host.selinux_types import SETS

    name = os.environ.get("SEPTUM_SELINUX_TYPES") or "auto"
    if name != "auto" and name not in SETS:
        raise UsageError(
            f"there is no set of SELinux types {name}",
            target="SEPTUM_SELINUX_TYPES",
            remedy=f"one of {', '.join(SETS)}, or auto",
        )
    return SETS.get(name)


def _group() -> str:
    """A cgroup for a guest that is not known yet; "" where none can be made."""
    folder = cgroup.base()
    return fresh(folder) if folder else ""


def operations() -> Mapping[str, Operation]:
    """All operations that a journal on this host may hold."""
    known: dict[str, Operation] = dict(ops.OPERATIONS)
    for driver in make(NAMES if os.path.isdir(SELINUXFS) else ("landlock",)):
        known.update(driver.operations())
    return known


def choose(
    wanted: str,
    command: CommandLine | None = None,
    joining: Joining | None = None,
    *,
    unconfined: bool = False,
) -> list[Driver]:
    """The drivers for a new guest.

    Args:
        wanted: `auto` takes all that work; else names joined by commas, each of which must work.
        command, joining: see `make`.
        unconfined: go on with none at all.

    Raises:
        UsageError: there is no such driver.
        Unenforceable: one that was named doesn't work, or none does.
    """
    if wanted == "auto":
        probed = probe_all(command, joining)
        found = [driver for driver, availability in probed if availability.works]
        if not found and not unconfined:
            reasons = "; ".join(f"{driver.name}: {availability.reason}" for driver, availability in probed)
            raise Unenforceable(
                "nothing on this host can keep guests apart",
                rule=reasons,
                remedy="see `septum doctor`; to run without any confinement: --unconfined",
            )
        return found
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in NAMES:
            raise UsageError(f"there is no driver {name}", remedy=f"one or more of {', '.join(NAMES)}, or auto")
    chosen = make(names, command, joining)
    for driver in chosen:
        availability = driver.probe()
        if not availability.works:
            raise Unenforceable(
                f"the driver {driver.name} does not work here",
                rule=availability.reason,
                remedy="see `septum doctor`, or choose another with --driver",
            )
    return chosen


def probe_all(command: CommandLine | None = None, joining: Joining | None = None) -> list[tuple[Driver, Availability]]:
    """Every driver with what it can do here, strongest first."""
    names = NAMES if os.path.isdir(SELINUXFS) else ("landlock",)
    found: list[tuple[Driver, Availability]] = [(driver, driver.probe()) for driver in make(names, command, joining)]
    return found
