"""The attack on one guest, from outside: set the stage, start the attacker, believe only its numbers, clean up."""

import errno
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

from septum.attack import inside, outside, probes
from septum.attack.catalogue import attempts
from septum.attack.judge import Predictor
from septum.attack.model import Attempt, Result, outcome_of, result
from septum.attack.on_kernel import HOST_NAMESPACE
from septum.attack.stage import Stage, as_json, survey
from septum.errors import Denied, HostError
from septum.guests import parse
from septum.guests.resource import CommandLine
from septum.host import kernel
from septum.host.driver import Driver
from septum.launch import drivers as known_drivers
from septum.launch.undo import survivors
from septum.ledger.protocol import Ledger
from septum.ledger.records import Guest

Mode = Literal[
    "attempted",  # the kernel refused or allowed it
    "attempted without SELinux",  # the domain can't be entered: the other drivers were attempted, SELinux was asked
    "asked",  # SELinux was asked what it would do
    "unconfined",
]
SECONDS: Final = 5.0  # for all attempts on one guest
_MOST: Final = 1 << 20  # bytes of an attacker's report


class Report(NamedTuple):
    """What came of the attack on one guest.

    Attributes:
        guest: realm/name.
        mode: see `Mode`.
        note: what was left out, or "".
        results: in the order of the table.
    """

    guest: str
    mode: Mode
    note: str
    results: tuple[Result, ...]

    def count(self, *verdicts: str) -> int:
        return sum(result.verdict in verdicts for result in self.results)


class _Failed(Exception):
    """The attacker could not take its place."""


def attack(ledger: Ledger, guest: Guest, folder: str, *, drivers: Sequence[Driver] | None = None) -> Report:
    """Plays a compromised emulator of a running guest.

    Args:
        ledger: that the guest is in.
        guest: whose emulator is played.
        folder: of the ledger.
        drivers: instead of the guest's own, for tests.

    Raises:
        Denied: the guest does not run.
        HostError: the attacker could not be confined as the guest is; no attempt was made.
    """
    name = f"{guest.realm}/{guest.name}"
    living = survivors(guest)
    if not living or "confinement" not in guest.details:
        raise Denied(f"{name} does not run", target=name, remedy="`septum ps` lists guests that do")
    command = parse(guest.argv, cwd="/")
    chosen = list(drivers) if drivers is not None else known_drivers.make(guest.drivers, command)
    if not chosen:
        return Report(name, "unconfined", "", (outside.unconfined(name),))
    with probes.made() as made:
        stage = survey(guest, living[0], ledger.guests(), folder, made)
        try:
            return _attack(name, stage, command, chosen)
        finally:
            for place in stage.touched():
                probes.sweep(place, made.token)


def _attack(name: str, stage: Stage, command: CommandLine, chosen: Sequence[Driver]) -> Report:
    names = {driver.name for driver in chosen}
    # A domain is entered by exec, which Landlock allows for QEMU alone: next to Landlock, SELinux can only be asked.
    tried = [driver for driver in chosen if driver.name != "selinux" or len(names) == 1]
    levels = (victim.process.context.split(":", 3)[3:] for victim in stage.victims)
    other = next((level for found in levels for level in found), "")
    tries = list(attempts(stage, Predictor(stage.guest, tried, command, other)))
    mode: Mode = "attempted"
    notes = [f"{stage.more} more guests run and were left alone"] if stage.more else []
    asked = outside.asked(stage, chosen) if "selinux" in names else []
    if names == {"selinux"}:
        try:
            found = _play(stage, chosen, tries, argv=command.argv)
        except _Failed as error:
            mode, found = "asked", []
            notes.append(
                f"its domain can't be entered with a program other than QEMU, so nothing was attempted: {error}"
            )
    else:
        found = _play(stage, tried, tries)
        if "selinux" in names:
            mode = "attempted without SELinux"
            notes.append("what SELinux refuses was asked of the kernel, not attempted")
    return Report(name, mode, "; ".join(notes), (*outside.descriptors(stage, chosen), *found, *asked))


def _play(stage: Stage, chosen: Sequence[Driver], tries: Sequence[Attempt], argv: Sequence[str] = ()) -> list[Result]:
    """Starts an attacker and listens. With `argv`, the guest's, it is executed anew: that is how to enter a domain."""
    entering = [entry for driver in chosen for entry in driver.entries(stage.guest)]
    report, said = os.pipe2(os.O_CLOEXEC)
    heard, go = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become(said, heard)
        if argv:
            inside.executed(stage.pid, entering)
        inside.attacker(stage.pid, entering, tries)
    os.close(said)
    os.close(heard)
    try:
        if argv:
            with suppress(BrokenPipeError):
                os.write(
                    go,
                    json.dumps(
                        {"stage": as_json(stage), "argv": list(argv), "drivers": [driver.name for driver in chosen]}
                    ).encode()
                    + b"\n",
                )
        messages = _messages(report)
        start = next(messages, {})
        if "ready" not in start:
            message = str(start.get("failed", "it ended"))
            if argv:
                raise _Failed(message)
            raise HostError("the attacker can't be confined as the guest is", target=str(stage.pid), rule=message)
        standing = outside.standing(child, stage.pid)
        os.write(go, b"!")
        return [standing, *_results(messages, tries)]
    finally:
        os.close(report)
        os.close(go)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _become(said: int, heard: int) -> None:
    """Leaves the attacker nothing of this process's descriptors but the two pipes."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, HOST_NAMESPACE) for fd in (null, null, null, said, heard)]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=place < inside.REPORT)
    kernel.close_range(inside.GO + 1, 0xFFFFFFFF)
    os.chdir("/")


def _messages(report: int) -> Iterator[dict[str, Any]]:
    """The attacker's lines, until it ends, says too much or nonsense, or its time is up."""
    deadline, text, size = time.monotonic() + SECONDS, b"", 0
    while size < _MOST:
        line, newline, rest = text.partition(b"\n")
        if newline:
            text = rest
            try:
                message = json.loads(line)
            except ValueError:
                return
            if not isinstance(message, dict):
                return
            yield message
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([report], [], [], left)[0]:
            return
        read = os.read(report, 1 << 16)
        if not read:
            return
        text, size = text + read, size + len(read)


def _results(messages: Iterator[dict[str, Any]], tries: Sequence[Attempt]) -> list[Result]:
    """One result for each attempt; those that were not reported are inconclusive."""
    said: dict[tuple[str, ...], int] = {}
    for message in messages:
        key, number = message.get("key"), message.get("errno")
        if isinstance(key, list) and isinstance(number, int):
            said[tuple(str(part) for part in key)] = number
    return [_result(attempt, said.get(attempt[:3])) for attempt in tries]


def _result(attempt: Attempt, number: int | None) -> Result:
    if number is None or number < 0:
        why = "it took too long" if number is not None else "the attacker did not get to it"
        return result(attempt, "inconclusive", why)
    return result(attempt, outcome_of(attempt, number), errno.errorcode.get(number, str(number)) if number else "")
