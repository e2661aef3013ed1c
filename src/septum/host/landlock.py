"""The `landlock` driver: a Landlock ruleset, a uid, a cgroup, namespaces and a system call filter for each guest.

It needs no policy on the host and, in its weaker form, no privilege. The pieces are pure where they can be
(`ruleset`, `ownership`, `seccomp.refusals`, `namespaces.flags`); this module puts them in order and hands them to the
kernel. docs/landlock.md says what they do not cover.
"""

from __future__ import annotations

import errno
import os
import stat

from septum.errors import HostError, Unenforceable
from septum.host import cgroup, credentials, dac, kernel, namespaces, ownership, ruleset, seccomp
from septum.host.driver import Availability, Confinement, Entry, Facts, Operation, Step, Verdict
from septum.host.joining import Joining
from septum.host.objects import open_object
from septum.labels import CategorySet
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class LandlockDriver:
    """Implements `host.driver.Driver` for one guest's launch.

    Args:
        no_new_privs: set it before exec. Not if another driver's transition or a setuid helper needs it off; without
            root it is set in any case, as Landlock asks for it.
        group: path of the guest's cgroup, "" to go without.
        joining: begun by this process already, for that cgroup.
        incoming: the command line has ``-incoming``.
        io_uring: the command line has ``aio=io_uring``.
        abi: Landlock ABI to plan for; asks the kernel when it is first needed unless given.
    """

    name = "landlock"

    def __init__(
        self,
        *,
        no_new_privs: bool,
        group: str = "",
        joining: Joining | None = None,
        incoming: bool = False,
        io_uring: bool = False,
        abi: int | None = None,
    ) -> None:
        self._no_new_privs = no_new_privs
        self._group = joining.path if joining else group
        self._incoming = incoming
        self._io_uring = io_uring
        self._abi = abi
        self._joining = joining

    def probe(self) -> Availability:
        try:
            abi = kernel.landlock_abi()
        except HostError as error:
            return Availability(False, f"{error.what}; {error.remedy}", {})
        machine = os.uname().machine
        if machine not in seccomp.NUMBERS:
            return Availability(False, f"septum has no system call filter for {machine}", {})
        weaker = list(ruleset.weaker(abi))
        if os.geteuid() != 0:
            weaker.append("without root: guests share the caller's uid, and Landlock alone keeps them apart")
            weaker.append("without root: no network namespace; a setuid helper (qemu-bridge-helper) gains nothing")
        if not self._group:
            weaker.append("no usable cgroup2: a guest counts as gone when its first process is, forks unseen")
        weaker.append("unix sockets with a path: only modes and, for a guest without connections, seccomp")
        details = {"abi": str(abi), "cgroup": os.path.dirname(self._group) or "none", "uid": str(os.geteuid())}
        return Availability(True, "", details, tuple(weaker))

    def operations(self) -> Mapping[str, Operation]:
        """Its own; those of `host.ops` belong to no driver."""
        return {"cgroup": cgroup.CgroupOperation()}

    def steps(self, guest: Confinement) -> list[Step]:
        found = [cgroup.step(self._group)] if self._group else []
        return found + ownership.steps(guest)

    def foreign(self) -> list[CategorySet]:
        """None: this driver gives out no categories."""
        return []

    def entries(self, guest: Confinement) -> list[Entry]:
        found: list[Entry] = []
        if self._joining is not None:
            found.append(Entry(10, "join the guest's cgroup", self._joining.wait))
        elif self._group:
            found.append(cgroup.entry(self._group))
        found += [
            *namespaces.entries(guest),
            Entry(40, "restrict itself with Landlock", lambda: self._restrict(guest)),
            *credentials.entries(guest),
            self._filter(guest),
        ]
        return found

    def rules(self, guest: Confinement) -> ruleset.Ruleset:
        """What `entries` will hand to the kernel; for `show` and `attack`."""
        if self._abi is None:
            self._abi = kernel.landlock_abi()
        return ruleset.resolved(ruleset.ruleset(guest, self._abi))

    def explain(self, guest: Confinement, facts: Facts, access: str) -> Verdict:
        rules = self.rules(guest)
        if facts.type == "dir":
            rights = ruleset.READ_DIR | (ruleset.MAKE_REG if access == "rw" else 0)
        else:
            rights = ruleset.READ_FILE | (ruleset.WRITE_FILE if access == "rw" else 0)
        grants = [rule for rule in ruleset.granting(rules, facts.path, facts.key) if rule.rights & rights]
        said = "; ".join(f"{rule.path}: {ruleset.names(rule.rights)} – {rule.why}" for rule in grants)
        if not ruleset.allowed(rules, facts.path, rights, facts.key):
            return Verdict("landlock", False, said or "no rule names it or a directory above it")
        if guest.uid >= 0:
            gids = {guest.gid, *credentials.groups(guest)}
            want = dac.bits("rw" if access == "rw" else "r")
            acl = dac.parse(bytes.fromhex(facts.acl))
            reached, entry = dac.decide(
                guest.uid, gids, want, owner=facts.uid, group=facts.gid, mode=facts.mode, acl=acl
            )
            if not reached:
                return Verdict("dac", False, entry)
        return Verdict("landlock", True, said)

    def _restrict(self, guest: Confinement) -> None:
        if guest.uid < 0:
            kernel.set_no_new_privs()
        restrict(self.rules(guest))

    def _filter(self, guest: Confinement) -> Entry:
        refused = seccomp.refusals(guest, incoming=self._incoming, io_uring=self._io_uring)
        program = seccomp.program(refused, os.uname().machine)

        def act() -> None:
            if self._no_new_privs or guest.uid < 0:
                kernel.set_no_new_privs()
            kernel.seccomp_filter(program)

        # Without no_new_privs a filter takes CAP_SYS_ADMIN, which is gone from phase 50 on.
        phase = 60 if self._no_new_privs or guest.uid < 0 else 49
        return Entry(phase, f"refuse {len(refused)} kinds of system calls", act)


def restrict(rules: ruleset.Ruleset) -> None:
    """Confines the calling thread and all that it starts, for good.

    Args:
        rules: from `ruleset.resolved`.

    Raises:
        Unenforceable: the kernel lacks a right that the ruleset needs.
        HostError: the kernel refused, or an object is not the one that was planned for.
    """
    abi = kernel.landlock_abi()
    if abi < rules.abi:
        raise Unenforceable(
            f"this kernel's Landlock has ABI {abi}, and the guest was planned for {rules.abi}",
            target="landlock",
            remedy="plan it again on this kernel",
        )
    fd = kernel.landlock_create_ruleset(rules.handled_fs, rules.handled_net, rules.scoped)
    try:
        for rule in rules.rules:
            _add(fd, rule)
        # Refusals of QEMU itself are news; by default the log stops at exec (Documentation/userspace-api/landlock.rst).
        kernel.landlock_restrict_self(fd, kernel.LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON if rules.abi >= 7 else 0)
    finally:
        os.close(fd)


def _add(fd: int, rule: ruleset.Rule) -> None:
    try:
        target = (
            open_object(rule.path, rule.key)
            if rule.key
            else os.open(rule.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        )
    except OSError as error:
        raise kernel.oserror("opening it for its Landlock rule", error.errno or 0, target=rule.path) from error
    try:
        # O_PATH with O_NOFOLLOW opens a symlink itself, and the kernel takes a rule on it.
        if stat.S_ISLNK(os.fstat(target).st_mode):
            raise HostError("it became a symlink meanwhile", errno=errno.ELOOP, target=rule.path)
        kernel.landlock_add_path(fd, target, rule.rights, rule.path)
    finally:
        os.close(target)
