"""The watcher: waits for guests to end and puts back what was changed for them. One process for all of a ledger.

It never decides anything: what to undo is in the ledger's journal, and whether a guest is gone the kernel says, by
pidfd, by the cgroup's `populated`, by the processes of the guest's uid. It is started by a launcher (see `watch`),
ends when there was nothing to watch for a while, and may be killed at any time: the next launcher starts another
one, which takes up every guest in the ledger.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from array import array
from socket import CMSG_LEN, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket

from septum.errors import SeptumError
from septum.host import kernel
from septum.launch import drivers, state, watch
from septum.launch.undo import put_back, settle_object, survivors
from septum.lean import TYPE_CHECKING, suppress
from septum.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from typing import Final, NoReturn

_LINGER: Final = 30.0  # seconds without a guest until it ends


class Watcher:
    """The loop and what it watches.

    Args:
        folder: of the ledger.
        listener: descriptor of the listening socket.
    """

    def __init__(self, folder: str, listener: int) -> None:
        self.folder = folder
        # The folder may be removed and made anew while this process lives: what it unlinks must be its own.
        self.place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.listener = socket(fileno=listener)
        self.ledger = SqliteLedger(folder)
        self.operations = drivers.operations()
        self.poll = select.poll()
        self.guests: dict[int, str] = {}
        self.poll.register(listener, select.POLLIN)

    def adopt(self) -> None:
        """Takes up all guests of the ledger that are not watched yet, and what was left half restored."""
        known = set(self.guests.values())
        for guest in self.ledger.guests():
            if guest.uuid not in known and guest.state != "stuck":
                self._watch(guest.uuid)
        if not self.guests:
            with state.undoing(self.folder):
                for key in self.ledger.orphans():
                    settle_object(self.ledger, key, self.operations)

    def run(self) -> None:
        """Until nothing was there to watch for a while."""
        while True:
            ready = self.poll.poll(None if self.guests else _LINGER * 1000)
            if not ready:
                return
            for fd, _ in ready:
                if fd == self.listener.fileno():
                    self._accept()
                else:
                    self._ended(fd)

    def retire(self) -> bool:
        """Stops listening; False if guests came in the last moment, and it listens again.

        The order matters: first no launcher can reach this watcher any more, then what did reach it is looked at.
        A launcher that is refused tries again, and starts another watcher once ``watch.lock`` is free.
        """
        with suppress(FileNotFoundError):
            os.unlink("watch.sock", dir_fd=self.place)
        while any(fd == self.listener.fileno() for fd, _ in self.poll.poll(0)):
            self._accept()
        self.adopt()
        if not self.guests:
            return True
        self.poll.unregister(self.listener.fileno())
        self.listener.close()
        self.listener = socket(fileno=watch.listen(self.folder).detach())
        self.poll.register(self.listener.fileno(), select.POLLIN)
        return False

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            data, ancillary, _, _ = connection.recvmsg(64, CMSG_LEN(4), MSG_CMSG_CLOEXEC)
        except OSError:
            return
        finally:
            connection.close()
        descriptors = array("i")
        for level, kind, payload in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                descriptors.frombytes(payload[: len(payload) // 4 * 4])
        for surplus in descriptors[1:]:
            os.close(surplus)
        if descriptors:
            self._add(descriptors[0], data.decode("ascii", "replace"))

    def _add(self, pidfd: int, uuid: str) -> None:
        # A uuid may be there twice for a moment: one incarnation is just ending, the next one announces itself.
        self.guests[pidfd] = uuid
        self.poll.register(pidfd, select.POLLIN)

    def _ended(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        os.close(pidfd)
        self._watch(self.guests.pop(pidfd))

    def _watch(self, uuid: str) -> None:
        """Waits for one of the guest's processes, as long as there is any; then puts things back."""
        while True:
            guest = self.ledger.guest(uuid)
            if guest is None or guest.state == "stuck":
                return
            living = survivors(guest)
            if not living:
                break
            if uuid in self.guests.values():
                # A start of the same uuid was refused: the guest itself is watched already.
                return
            try:
                self._add(os.pidfd_open(living[0]), uuid)
                return
            except ProcessLookupError:
                continue
        with state.undoing(self.folder):
            guest = self.ledger.guest(uuid)
            # Whoever held the lock before may have finished it, and the next incarnation may be here already.
            if guest is None or survivors(guest):
                return
            report = put_back(self.ledger, guest, self.operations)
        for step in report.steps:
            if step.outcome in ("failed", "foreign"):
                print(f"{guest.realm}/{guest.name}: {step.op} of {step.path}: {step.outcome} {step.why}", flush=True)


def main(folder: str, lock: int, listener: int) -> NoReturn:
    """Entry of the watcher's process.

    Args:
        folder: of the ledger.
        lock: descriptor that holds ``watch.lock``; kept open to the end.
        listener: descriptor of the listening socket.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # One descriptor a guest: the starter's limit says nothing of how many there will be.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.dup2(2, 1)
    kernel.set_name(b"septum-watcher")
    os.set_inheritable(lock, False)
    os.set_inheritable(listener, False)
    try:
        watcher = Watcher(folder, listener)
        watcher.adopt()
        while True:
            watcher.run()
            if watcher.retire():
                sys.exit(0)
    except SeptumError as error:
        print(f"septum-watcher: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
