"""What is expected of an attempt, and why: computed from the same data that drivers hand to the kernel."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from septum.attack.model import Expectation
from septum.attack.stage import facts_of
from septum.guests.resource import CommandLine
from septum.host import credentials, dac, kernel, namespaces, seccomp
from septum.host.driver import Confinement, Driver, Facts
from septum.host.selinux import SelinuxDriver
from septum.host.selinux_rules import quote

_NOTHING: Final = "no mechanism is known to refuse it"
_SCOPE_ABI: Final = 6  # signals and abstract unix sockets (docs/landlock.md)


class Predictor:
    """Computes expectations.

    Args:
        guest: whose emulator is played.
        drivers: what confines the attacker.
        command: the guest's command line.
        other: the SELinux level of another guest, so that the rule that refuses it can be quoted; "" if there is none.
    """

    def __init__(self, guest: Confinement, drivers: Sequence[Driver], command: CommandLine, other: str = "") -> None:
        self.guest = guest
        self._other = other
        self.drivers = drivers
        self.names = {driver.name for driver in drivers}
        self.abi = kernel.landlock_abi() if "landlock" in self.names else 0
        incoming = any(word.lstrip("-") == "incoming" for word in command.argv)
        io_uring = any("io_uring" in word for word in command.argv)
        refused = seccomp.refusals(guest, incoming=incoming, io_uring=io_uring) if "landlock" in self.names else ()
        self.filtered: Mapping[str, str] = {refusal.call: refusal.why for refusal in refused}
        self.network_is_own = bool(namespaces.flags(guest) & kernel.CLONE_NEWNET) and "landlock" in self.names
        self.mine = {item.facts.path: item.resource for item in guest.items if item.facts is not None}

    def file(self, path: str, access: str, *, of_host: bool = False) -> Expectation:
        """Of opening it: `allowed` if the command line names it, else refused.

        Args:
            path: of the object.
            access: `ro` or `rw`.
            of_host: it belongs to no guest and not to septum, so that the host's SELinux policy may allow it.
        """
        facts, way = facts_of(path)
        if facts is None:
            return Expectation("refused", "it can't be reached")
        resource = self.mine.get(facts.path)
        if resource is not None and not (access == "rw" and resource.access == "ro"):
            return Expectation("allowed", f"{resource.option} names it")
        said = [self._way(way), self._modes(facts, access)]
        said += [(v.mechanism, v.allowed, v.rule) for v in (d.explain(self.guest, facts, access) for d in self.drivers)]
        denied = [f"{mechanism}: {rule}" for mechanism, allowed, rule in said if allowed is False]
        if of_host and not denied and self.names == {"selinux"}:
            return Expectation("gap", f"the host's policy decides, and it does not refuse: {said[-1][2]}")
        return Expectation("refused", "; ".join(dict.fromkeys(denied)) or _NOTHING)

    def modes(self, path: str, access: str) -> Expectation:
        """Of what takes no open, and so is not Landlock's business: extended attributes."""
        facts, way = facts_of(path)
        said = [self._way(way), self._modes(facts, access)] if facts else []
        if "selinux" in self.names:
            return self.rule(self._another_guests)
        if self.guest.uid < 0 and facts is not None and facts.uid == os.geteuid():
            return self.owner(facts.uid)
        return self.rule(next((f"dac: {rule}" for _, allowed, rule in said if allowed is False), _NOTHING))

    def call(self, name: str, otherwise: str = "") -> Expectation:
        """Of a system call.

        Args:
            name: of the call.
            otherwise: what refuses it where no filter does; "" if nothing would.
        """
        reasons = [f"seccomp: {self.filtered[name]}"] if name in self.filtered else []
        reasons += [otherwise] if otherwise else []
        if not reasons and self.names == {"selinux"}:
            return Expectation("gap", "the selinux driver alone filters no system calls")
        return self.rule("; ".join(reasons) or _NOTHING)

    def rule(self, why: str) -> Expectation:
        return Expectation("refused", why)

    def must(self, why: str) -> Expectation:
        return Expectation("allowed", why)

    def owner(self, uid: int) -> Expectation:
        """Of chmod and its like, which take the owner and are not Landlock's business."""
        if "selinux" in self.names:
            return self.rule(self._another_guests)
        if self.guest.uid < 0:
            return Expectation("gap", f"uid {uid} is the caller's, and Landlock sees no such calls")
        return self.rule(f"dac: it is uid {uid}'s" if uid != self.guest.uid else _NOTHING)

    def affinity(self) -> Expectation:
        """Of choosing another process's CPUs."""
        if self.guest.uid < 0 and "selinux" not in self.names:
            return Expectation("gap", "the uid is shared, and QEMU's threads choose each other's CPUs by this call")
        return self.rule("dac: it is another uid's" if self.guest.uid >= 0 else self._another_process)

    def process(self, name: str) -> Expectation:
        """Of looking into another process: ptrace_may_access decides for memory, links and descriptors alike."""
        domain = "landlock: not in the attacker's domain" if self.abi else self._another_process
        return self.rule(f"{name}: {self._uid()}{domain}")

    def signal(self) -> Expectation:
        if "landlock" in self.names and self.guest.uid < 0 and self.abi < _SCOPE_ABI:
            return Expectation("gap", f"Landlock ABI {self.abi} knows no scope for signals, and the uid is shared")
        if self.names == {"selinux"}:
            return Expectation("gap", "policies let any domain see whether a process is there (signull), no more")
        scope = "landlock: signals stay in the domain" if self.abi >= _SCOPE_ABI else ""
        return self.rule(self._uid() + scope)

    def ipc(self, name: str) -> Expectation:
        if self.guest.uid >= 0 and "landlock" in self.names:
            return self.rule("an IPC namespace of the guest's own")
        return self.call(name, self._another_process if "selinux" in self.names else "")

    def abstract(self) -> Expectation:
        if self.network_is_own:
            return self.rule("an empty network namespace")
        if self.abi >= _SCOPE_ABI:
            return self.rule("landlock: abstract sockets stay in the domain")
        if "selinux" in self.names:
            return self.rule(self._another_process)
        return Expectation("gap", f"Landlock ABI {self.abi} knows no scope for abstract sockets")

    def network(self) -> Expectation:
        """Of TCP and UDP to the host's loopback."""
        if self.guest.network:
            return Expectation("open", "the command line asks for the host's network")
        if self.network_is_own:
            return self.rule("an empty network namespace")
        if "socket" in self.filtered:
            return self.rule(f"seccomp: {self.filtered['socket']}")
        return Expectation("gap", "the guest has no network namespace, and the host's policy decides")

    def path_socket(self, path: str, kind: str) -> Expectation:
        """Of talking to a unix socket that has a path.

        Args:
            path: of the socket.
            kind: `stream` (connect) or `dgram` (sendmsg, whose address seccomp can't see).
        """
        facts, way = facts_of(path)
        if facts is not None:
            denied = [rule for _, allowed, rule in (self._way(way), self._modes(facts, "w")) if allowed is False]
            if denied:
                return self.rule(f"dac: {'; '.join(denied)}")
        if kind == "stream" and "connect" in self.filtered:
            return self.rule(f"seccomp: {self.filtered['connect']}")
        if "selinux" in self.names:
            return self.rule(self._another_process)
        why = "the command line opens connections" if kind == "stream" else "sendmsg hides its address from seccomp"
        return Expectation("gap", f"{why}, its mode lets everybody, and Landlock before ABI 9 sees no such sockets")

    def program(self) -> Expectation:
        """Of executing something else than QEMU."""
        if self.guest.executes:
            return Expectation("open", "the command line makes QEMU run helpers")
        if self.names == {"selinux"}:
            return Expectation("gap", "the host's policy decides; it stays in the domain")
        return self.rule("landlock: only QEMU and its loader may be executed")

    @cached_property
    def _another_process(self) -> str:
        rule = self._quoted("process", "ptrace") or "another process's label"
        return f"selinux: {rule}"

    @cached_property
    def _another_guests(self) -> str:
        rule = self._quoted("file", "setattr") or "another guest's label"
        return f"selinux: {rule}"

    def _quoted(self, cls: str, permission: str) -> str:
        """The rule that refuses it on what another guest has."""
        selinux = next((driver for driver in self.drivers if isinstance(driver, SelinuxDriver)), None)
        if selinux is None or not self._other:
            return ""
        target = selinux.types.process if cls == "process" else selinux.types.image
        return quote(selinux.context(self.guest), f"{target}:{self._other}", cls, [permission])

    def _uid(self) -> str:
        return f"uid {self.guest.uid} is nobody else's; " if self.guest.uid >= 0 else ""

    def _way(self, way: Sequence[Facts]) -> tuple[str, bool | None, str]:
        for folder in way:
            allowed, entry = self._decide(folder, dac.EXECUTE)
            if allowed is False:
                return "dac", False, f"may not search {folder.path}: {entry}"
        return "dac", None, ""

    def _modes(self, facts: Facts, access: str) -> tuple[str, bool | None, str]:
        return ("dac", *self._decide(facts, {"ro": dac.READ, "w": dac.WRITE, "rw": dac.READ | dac.WRITE}[access]))

    def _decide(self, facts: Facts, want: int) -> tuple[bool | None, str]:
        uid, gids = self.guest.uid, {self.guest.gid, *credentials.groups(self.guest)}
        if uid < 0:
            uid, gids = os.geteuid(), {os.getegid(), *os.getgroups()}
            if uid == 0:
                return None, "root"
        acl = dac.parse(bytes.fromhex(facts.acl))
        return dac.decide(uid, gids, want, owner=facts.uid, group=facts.gid, mode=facts.mode, acl=acl)
