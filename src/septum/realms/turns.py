"""One thread that works on the ledger, for all realms in turn.

A ledger's object belongs to one thread, and a commit waits for a disk. So all that verbs do is done here, one job after
the other, and each realm that has jobs waiting gets its turn before any gets a second one: a realm that floods makes
itself wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from septum.errors import Exhausted

__all__ = ["Turns"]

_MOST: Final = 256  # jobs of one realm that wait

C = TypeVar("C")
T = TypeVar("T")


class Turns(Generic[C]):
    """See the module's text.

    Args:
        open_: makes what jobs work on, on the thread.
        close: gives it back there.
        after: is called there after each job.

    Raises:
        Exception: what `open_` raised.
    """

    def __init__(
        self, open_: Callable[[], C], close: Callable[[C], None], after: Callable[[C], None] = lambda _: None
    ) -> None:
        self._waiting: OrderedDict[str, deque[Callable[[C], None]]] = OrderedDict()
        self._condition = threading.Condition()
        self._stopped = False
        self._failure: BaseException | None = None
        self._after = after
        ready = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(open_, close, ready), name="septum-turns", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure

    async def run(self, realm: str, job: Callable[[C], T], *, bounded: bool = True) -> T:
        """Does a job and gives what it returns or raises.

        Args:
            realm: whose turn it takes.
            job: must not wait for anything but the ledger and the decider.
            bounded: it is a caller's. What has to be entered of work that was accepted is never refused.

        Raises:
            Exhausted: too many jobs of this realm wait already.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def work(core: C) -> None:
            try:
                result = job(core)
            except BaseException as error:
                _tell(loop, answer, None, error)
            else:
                _tell(loop, answer, result, None)

        with self._condition:
            queue = self._waiting.setdefault(realm, deque())
            if (bounded and len(queue) >= _MOST) or self._stopped:
                raise Exhausted(
                    "too much of this realm's waits already", target=realm, rule=f"{_MOST} jobs", remedy="try again"
                )
            queue.append(work)
            self._condition.notify()
        return await answer

    def stop(self) -> None:
        """Ends the thread after the job that it is at."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join()

    def _work(self, open_: Callable[[], C], close: Callable[[C], None], ready: threading.Event) -> None:
        try:
            core = open_()
        except BaseException as error:
            self._failure = error
            return
        finally:
            ready.set()
        try:
            while (job := self._next()) is not None:
                job(core)
                self._after(core)
        finally:
            close(core)

    def _next(self) -> Callable[[C], None] | None:
        with self._condition:
            while not self._waiting and not self._stopped:
                self._condition.wait()
            if self._stopped:
                return None
            realm, queue = self._waiting.popitem(last=False)
            job = queue.popleft()
            if queue:
                self._waiting[realm] = queue  # behind all others
            return job


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], result: T | None, error: BaseException | None
) -> None:
    def tell() -> None:
        if answer.done():
            return  # whoever asked has gone away
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(tell)
