"""What septumd does with a message, and how it keeps an engine: everything but bytes and descriptors."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from septum import __version__
from septum.access import DecisionLog, Engine, ObjectManager, wire
from septum.daemon.connection import Connection
from septum.daemon.desk import Answer, Desk
from septum.daemon.notify import Notifier
from septum.daemon.peer import Peers
from septum.daemon.source import Loader
from septum.errors import EngineGone, MessageError, SeptumError

__all__ = ["Rates", "Service"]

_PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0)  # seconds between attempts to get an engine back


class Rates(NamedTuple):
    """How many questions those may ask who have no right to ask about others: guests.

    Otherwise one guest could fill the decision log until its oldest part is removed. Who asks faster is answered later,
    not refused.

    Attributes:
        second: questions a second, of all connections of one context together.
        burst: that may come at once.
    """

    second: float = 1000.0
    burst: float = 5000.0


class Service:
    """Answers messages.

    Args:
        manager: decides.
        log: that it records in.
        peers: gives clients their contexts.
        loader: opens engines.
        notifier: tells the service manager of reloads.
        rates: see there.
        report: is told what an operator should know.

    Attributes:
        waiting: clients that wait for the policy that is being loaded.
        counts: connections and the like, for `status`; kept by the server.
    """

    def __init__(
        self,
        manager: ObjectManager,
        log: DecisionLog,
        peers: Peers,
        loader: Loader,
        notifier: Notifier,
        rates: Rates,
        report: Callable[[str], None],
    ) -> None:
        self.manager = manager
        self.desk = Desk(manager)
        self.log = log
        self.peers = peers
        self.loader = loader
        self.waiting: list[Connection] = []
        self.counts: dict[str, int] = {"connections": 0, "messages": 0, "questions": 0, "refused": 0}
        self._notifier = notifier
        self._rates = rates
        self._report = report
        self._later: list[Connection] = []
        self._wanted = False
        self._full: dict[str, float] = {}
        self._attempt = 0
        self._revive_at = 0.0
        self._watching: list[tuple[Connection, int]] = []
        self._verbs: dict[str, Callable[[Connection], Answer | None]] = {"status": self._status, "reload": self._reload}

    # Messages

    def answer(self, client: Connection, body: bytes, now: float) -> Answer | None:
        """Answers one message; None for one whose answer comes later.

        Raises:
            SeptumError: the answer is this error; after a `MessageError` the connection ends.
        """
        self.counts["messages"] += 1
        token = self._recognise(client)
        if body.startswith(b"ask\n") and client.greeted:
            answer = self.desk.ask(client.asker, token, body)
            self.counts["questions"] += answer.decisions
            self._charge(client, answer.decisions, now)
            return answer
        verb, *fields = body.decode("ascii", "replace").split("\t")
        if not client.greeted:
            if verb != "hello" or fields != [str(wire.VERSION)]:
                raise MessageError(
                    "the first message is not a hello that is understood here",
                    rule=f"hello and {wire.VERSION}, with a tab between",
                )
            self._charge(client, 1, now)
            return self._hello(client)
        if verb == "watch" and len(fields) == 1 and fields[0].isdecimal():
            self._charge(client, 1, now)
            return self._watch(client, int(fields[0]))
        if fields or verb not in self._verbs:
            raise MessageError(f"{verb[:40]!a} is no message that is understood here")
        self._charge(client, 1, now)
        return self._verbs[verb](client)

    def _recognise(self, client: Connection) -> object:
        """Sees to it that the client is still whom it was taken for: guests end, and their uids are given to others.

        Returns:
            What answers depend on now; None if the engine is gone.
        """
        try:
            token = self.manager.token()
            if token is client.token:
                return token
            if self.peers.asker(client.peer) != client.asker:
                raise MessageError("this process is not any more what it was when it connected", remedy="connect again")
            policy = self.manager.contexts.policy
            client.limited = not self.manager.allowed(client.asker.context, "septum_policy", "check", policy)
            client.token = token
            return token
        except EngineGone:
            # What it asks is decided all the same: denied.
            self.revive()
            return None

    def _hello(self, client: Connection) -> Answer:
        broker = self.manager.contexts.broker
        self.desk.permit(client.asker, "septum_broker", "hello", broker, "ask septumd")
        client.greeted = True
        limits = {"frame": wire.MOST_FRAME, "questions": wire.MOST_QUESTIONS}
        return self.desk.facts({"septumd": __version__, "context": client.asker.context, "most": limits})

    def _status(self, client: Connection) -> Answer:
        self.desk.permit(client.asker, "septum_broker", "introspect", self.manager.contexts.broker, "see its status")
        engine = self.manager.engine
        facts: dict[str, Any] = {
            "seqno": self.manager.seqno,
            "engine": engine.name,
            "fingerprint": engine.fingerprint,
            "alive": _alive(engine),
            "log": {**self.log.head._asdict(), "bytes": self.log.kept},
            **self.counts,
        }
        return self.desk.facts(facts)

    def _reload(self, client: Connection) -> None:
        self.desk.permit(client.asker, "septum_policy", "load", self.manager.contexts.policy, "load a policy")
        client.parked = True
        self._later.append(client)

    # Those who want to know when decisions may have changed

    @property
    def watched(self) -> bool:
        """Somebody waits to be told."""
        return bool(self._watching)

    def _watch(self, client: Connection, seqno: int) -> Answer | None:
        self.desk.permit(client.asker, "septum_broker", "introspect", self.manager.contexts.broker, "watch its policy")
        if seqno != self.manager.seqno:
            return self._number()
        client.parked = True
        self._watching = [(one, told) for one, told in self._watching if one.sock.fileno() >= 0]
        self._watching.append((client, seqno))
        return None

    def changed(self) -> list[tuple[Connection, bytes]]:
        """What to tell to those that watch: their policy is not in force any more, or nothing can be decided.

        The kernel's policy is loaded by others, so it is looked at here.
        """
        if not self._watching:
            return []
        try:
            self.manager.token()
            gone = False
        except SeptumError:
            gone = True
        body = self._number().body
        due = [client for client, seqno in self._watching if gone or seqno != self.manager.seqno]
        self._watching = [(client, seqno) for client, seqno in self._watching if client not in due]
        return [(client, body) for client in due]

    def _number(self) -> Answer:
        return self.desk.facts({"seqno": self.manager.seqno})

    # Rates

    def _charge(self, client: Connection, questions: int, now: float) -> None:
        """Generic cell rate algorithm: `_full` is when a context's bucket would be empty again."""
        if not client.limited:
            return
        context = client.asker.context
        full = max(self._full.get(context, now), now) + questions / self._rates.second
        self._full[context] = full
        client.resume = self.resume(context)

    def resume(self, context: str) -> float:
        """When a message of that context may be answered next. Also for a connection that is new: else connecting again
        would begin with an empty account."""
        return self._full.get(context, 0.0) - self._rates.burst / self._rates.second

    # Policies and engines

    def reload(self) -> None:
        """Loads the policy anew as soon as no engine is being opened."""
        if self.loader.busy:
            self._wanted = True
            return
        self._wanted = False
        self.waiting, self._later = self._later, []
        self._notifier.reloading()
        self.loader.start()

    def begin_reloads(self) -> None:
        """Begins what clients asked for; called once their questions are recorded."""
        if self._later:
            self.reload()

    def refuse_reloads(self) -> list[Connection]:
        """Takes out those whose reload was not begun."""
        refused, self._later = self._later, []
        return refused

    def loaded(self) -> list[tuple[Connection, bytes]]:
        """Takes what the loader has. Between two messages: each is answered under one policy.

        Returns:
            What to tell to those that waited.
        """
        opened = self.loader.take()
        if opened is None:
            return []
        error = opened.error
        if opened.engine is not None:
            try:
                self.manager.swap(opened.engine).close()
                self._attempt = 0
            except SeptumError as refusal:
                error = refusal
                opened.engine.close()
        elif error is not None:
            self.manager.record("policy.refused", {"why": error.what})
        told: list[tuple[Connection, bytes]] = []
        if error is not None:
            what = "the policy stays as it is" if opened.reload else "the engine can't be had back"
            self._report(f"{what}: {error}")
        else:
            self._report(f"policy {self.manager.seqno}: {self.manager.engine.fingerprint}")
        if opened.reload:
            self._notifier.ready(f"policy {self.manager.seqno}")
            facts = {"seqno": self.manager.seqno, "fingerprint": self.manager.engine.fingerprint}
            body = wire.failure(error) if error else self.desk.facts(facts).body
            told = [(client, body) for client in self.waiting]
            self.waiting = []
        if self._wanted or self._later:
            self.reload()
        return told

    def revive(self) -> None:
        """Gets a gone engine back: at once the first time, then after growing pauses."""
        now = time.monotonic()
        if self.loader.busy or now < self._revive_at:
            return
        self._attempt = min(self._attempt + 1, len(_PAUSES) - 1)
        self._revive_at = now + _PAUSES[self._attempt]
        engine = self.manager.engine
        self.manager.record("engine.gone", {"fingerprint": engine.fingerprint})
        self._report(f"the engine {engine.name} is gone: everything is denied until it is back")
        self.loader.start(engine)

    def tick(self, now: float) -> None:
        """What is due every second or so."""
        self._full = {context: full for context, full in self._full.items() if full > now}
        if not _alive(self.manager.engine):
            self.revive()
        self._notifier.alive()


def _alive(engine: Engine) -> bool:
    try:
        engine.generation()
    except EngineGone:
        return False
    return True
