"""What carrying out an operation works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from septum.errors import HostError, SeptumError
from septum.launch.undo import survivors
from septum.ledger.records import Document, Put, Spend
from septum.realms import host, operations
from septum.realms.core import Core
from septum.realms.host import Launcher, Place
from septum.realms.live import Live
from septum.realms.turns import Turns

__all__ = ["ENDING", "Hands", "until"]

T = TypeVar("T")

ENDING: Final = 30.0  # seconds that an emulator may take to end when it is told to
_LOOK: Final = 0.01  # seconds between looks at the ledger, while a guest is put back


class Hands(NamedTuple):
    """See the module's text.

    Attributes:
        turns: works on the ledger.
        place: where things are on the host.
        launcher: starts guests.
        live: guests that run.
        checkpoint: is called between any two steps that matter.
        report: is told what an operator should know.
    """

    turns: Turns[Core]
    place: Place
    launcher: Launcher
    live: Live
    checkpoint: Callable[[str], None]
    report: Callable[[str], None]

    async def enter(self, realm: str, job: Callable[[Core], T]) -> T:
        """Works on the ledger."""
        return await self.turns.run(realm, job, bounded=False)

    async def document(self, kind: str, realm: str, name: str) -> Document:
        """
        Raises:
            NotFound: there is none.
        """
        return await self.enter(realm, lambda core: core.document(kind, realm, name))

    async def step(self, operation: Document, step: str) -> Document:
        """Writes down what is begun; returns the operation as it is now."""
        done = await self.enter(operation.realm, lambda core: operations.advance(core, operation, step))
        self.checkpoint(f"{operation.body['verb']} {step}")
        return done

    async def done(self, operation: Document, changes: Callable[[Core], tuple[Sequence[Put], Sequence[Spend]]]) -> None:
        """It has succeeded; `changes` are what that brings about, in the same commit."""
        self.checkpoint(f"{operation.body['verb']} at its end")
        await self.enter(operation.realm, lambda core: operations.done(core, operation, *changes(core)))

    async def failed(
        self, operation: Document, error: SeptumError, changes: Callable[[Core], tuple[Sequence[Put], Sequence[Spend]]]
    ) -> None:
        """It has not; `changes` are what its undoing brings about."""
        self.checkpoint(f"{operation.body['verb']} undone")
        await self.enter(operation.realm, lambda core: operations.failed(core, operation, error, *changes(core)))

    async def gone(self, realm: str, uuid: str) -> None:
        """Waits until nothing of a guest runs and all was put back, as far as it could be.

        Raises:
            HostError: something of it runs on.
        """

        def there(core: Core) -> bool:
            row = core.ledger.guest(uuid)
            return row is not None and (row.state != "stuck" or bool(survivors(row)))

        for _ in range(int(ENDING / _LOOK)):
            if host.deserted(self.place.monitor(uuid)) and not await self.enter(realm, there):
                return
            await asyncio.sleep(_LOOK)
        raise HostError(
            "the guest does not end",
            target=uuid,
            rule="its label and images are free only when nothing of it runs",
            remedy="septum ps --all; septum reconcile",
        )


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; whether it came to pass."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_LOOK)
    return True
