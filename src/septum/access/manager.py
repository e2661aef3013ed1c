"""The object manager: questions in, decisions out, each of them recorded before it is given.

What is remembered hangs on one `_Memory`: vectors, and whole answers. It belongs to one engine, one generation of its
policy, one revision of the ledger and one epoch of the log; as soon as one of them moves on, another `_Memory` takes
its place. A decision is only ever stored in the memory that was current when it began, so that an answer from an older
policy can't be found under a newer one, whatever happens meanwhile. What is not allowed is remembered like what is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from septum.access import objects, record
from septum.access.classes import require
from septum.access.engine import Access, Engine, Triple
from septum.access.log import Log
from septum.access.objects import DEFAULT_CONTEXTS, Contexts, Target
from septum.access.question import HIDDEN, Asker, Decision, ObjectQuestion, Question, check
from septum.errors import DecisionLogError, Denied, EngineGone, SeptumError
from septum.ledger.protocol import Ledger

__all__ = ["ObjectManager", "Settled", "unanswered"]

_MOST_VECTORS: Final = 16384
_MOST_ANSWERS: Final = 16384
_MOST_KEPT: Final = 1024  # characters of a question that is remembered
_NOBODY: Final = "who asks about others needs septum_policy { check }"
_ABSENT: Final = "no such object"
_POLICY: Final = "septum_policy"


class Settled(NamedTuple):
    """A decision on its way.

    Attributes:
        decision: with the true reason, as it is recorded.
        shown: as who asked may see it.
        number: of its definition in the log.
        lasting: the same question gets the same answer until `ObjectManager.token` changes.
    """

    decision: Decision
    shown: Decision
    number: str
    lasting: bool


class _Memory:
    """See the module's text."""

    __slots__ = ("answers", "askers", "basis", "targets", "vectors")

    def __init__(self, basis: tuple[object, ...], vectors: dict[Triple, Access]) -> None:
        self.basis = basis
        self.vectors = vectors
        self.answers: dict[tuple[str, Question | ObjectQuestion], Settled] = {}
        self.askers: dict[Asker, str] = {}
        self.targets: dict[str, Target] = {}


class ObjectManager:
    """Decides, remembers and records; for one thread.

    Args:
        engine: the security server. It must know all of septum's classes.
        ledger: where objects' contexts come from.
        log: where decisions are recorded.
        number: gives each policy its sequence number; it must grow. By default the ledger's own counter, which also
            grows across restarts.
        contexts: the policy's names for septum's objects.

    Raises:
        PolicyLacks: the engine's policy lacks classes or permissions.
        EngineGone: the engine can't answer.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        log: Log,
        *,
        number: Callable[[], int] | None = None,
        contexts: Contexts = DEFAULT_CONTEXTS,
    ) -> None:
        require(engine.classes(), engine.name)
        self.engine = engine
        self.contexts = contexts
        self._ledger = ledger
        self._log = log
        self._number = number or (lambda: ledger.advance("policy") + 1)
        self._generation = engine.generation()
        self.seqno = self._number()
        self._memory = _Memory((), {})
        self._record_policy("policy.loaded")

    def swap(self, engine: Engine) -> Engine:
        """Decides by another engine from the next question on.

        Args:
            engine: that was opened and is ready.

        Returns:
            The engine before, for the caller to close.

        Raises:
            PolicyLacks: the new policy lacks classes or permissions. The old one stays.
            EngineGone: the new engine is gone already. The old one stays.
            LedgerError: no sequence number could be had. The old one stays.
        """
        try:
            require(engine.classes(), engine.name)
            generation = engine.generation()
            seqno = self._number()
        except SeptumError as error:
            self.record("policy.refused", {"why": error.what, "fingerprint": engine.fingerprint})
            raise
        before, self.engine = self.engine, engine
        self._generation, self.seqno = generation, seqno
        self._memory = _Memory((), {})
        self._record_policy("policy.loaded")
        return before

    def record(self, event: str, fields: Mapping[str, object]) -> None:
        """Notes an event of the service in the log; it is written with the next decisions, or by `commit`."""
        self._log.event(event, {**fields, "seqno": self.seqno, "engine": self.engine.name})

    def decide(self, asker: Asker, questions: Sequence[Question | ObjectQuestion]) -> list[Decision]:
        """Decides and records. Never raises: whatever stands in the way is the reason of a refusal.

        Args:
            asker: who asks; not necessarily whom the questions are about.
            questions: any number; they are all decided under one policy.

        Returns:
            One decision for each, as the asker may see it.
        """
        settled = self.settle(asker, questions)
        self.note(asker, [one.number for one in settled])
        try:
            self._log.commit()
        except DecisionLogError as error:
            return [unanswered(error, self.seqno, self.engine.name) for _ in questions]
        return [one.shown for one in settled]

    def allowed(self, context: str, tclass: str, permission: str, target: str) -> bool:
        """Whether the policy gives this, unrecorded: for what the service asks on its own behalf before it acts.

        Raises:
            EngineGone
        """
        return permission in self._vectors(self.token(), [Triple(context, target, tclass)])[0].allowed

    def token(self) -> "_Memory":
        """Stands for all that answers depend on: while the same object is returned, they are the same.

        Raises:
            EngineGone, LedgerError, PolicyLacks: nothing can be decided.
        """
        engine, memory = self.engine, self._memory
        generation = engine.generation()
        if generation != self._generation:
            # Somebody else loaded another policy, into the kernel.
            require(engine.classes(), engine.name)
            seqno = self._number()
            self._generation, self.seqno = generation, seqno
            self._record_policy("policy.changed")
        basis = (engine, self.seqno, self._ledger.revision(), self._log.epoch)
        if memory.basis != basis:
            kept = memory.vectors if memory.basis[:2] == basis[:2] else {}
            self._memory = memory = _Memory(basis, kept)
        return memory

    def settle(self, asker: Asker, questions: Sequence[Question | ObjectQuestion]) -> list[Settled]:
        """Decides without recording: for callers that record many askers' decisions in one block (`note`, and the
        log's `commit`), and answer afterwards. Never raises."""
        try:
            while True:
                memory = self.token()
                answers, context = memory.answers, asker.context
                found = [answers.get((context, question)) for question in questions]
                missing = [question for question, there in zip(questions, found, strict=True) if there is None]
                if not missing:
                    return [one for one in found if one is not None]
                fresh = dict(zip(missing, self._settle(memory, asker, missing), strict=True))
                # The kernel's policy may have been replaced meanwhile: then nobody knows which one answered.
                if self.engine.generation() == self._generation:
                    return [one or fresh[question] for one, question in zip(found, questions, strict=True)]
        except SeptumError as error:
            reason = "engine gone" if isinstance(error, EngineGone) else "nothing can be decided"
            decision = Decision(False, (), reason, error.what, self.seqno, self.engine.name)
            return [self._refuse(asker, question, decision) for question in questions]

    def malformed(self, asker: Asker, text: str, why: Denied) -> Settled:
        """A refusal of what is no question at all.

        Args:
            asker: who sent it.
            text: what was sent; its beginning is recorded.
            why: what is wrong with it.
        """
        decision = Decision(False, (), f"malformed: {why.what}", why.rule, self.seqno, self.engine.name)
        return self._refuse(asker, Question("", text[:200], "", ()), decision)

    def note(self, asker: Asker, numbers: Sequence[str]) -> None:
        """Hands decisions to the log, by their numbers; they are written by its `commit`."""
        if self._memory.basis[3:] != (self._log.epoch,):
            self._memory = _Memory((), {})
        known = self._memory.askers.get(asker)
        if known is None:
            known = self._memory.askers[asker] = self._log.define(record.of_asker(asker))
        self._log.note(known, numbers)

    # Inside

    def _settle(
        self, memory: _Memory, asker: Asker, questions: Sequence[Question | ObjectQuestion]
    ) -> Iterable[Settled]:
        cases = [self._case(memory, asker, question) for question in questions]
        rights = Triple(asker.context, self.contexts.policy, _POLICY)
        vectors = self._vectors(memory, [rights, *(case.triple for case in cases)])
        mine = vectors[0].allowed
        decided = [_decide(case, access, "check" in mine) for case, access in zip(cases, vectors[1:], strict=True)]
        unexplained = [
            at
            for at, (case, access, decision) in enumerate(zip(cases, vectors[1:], decided, strict=True))
            if not decision.allowed and (not decision.reason or _as_denied(case, access, decision))
        ]
        asked = [Question(*cases[at].triple, cases[at].question.permissions) for at in unexplained]
        for at, why in zip(unexplained, self.engine.explain(asked) if asked else (), strict=True):
            if not decided[at].reason:
                decided[at] = decided[at]._replace(reason=why.reason, rule=why.rule)
        if len(memory.answers) + len(cases) > _MOST_ANSWERS:
            memory.answers.clear()
        for case, decision in zip(cases, decided, strict=True):
            decision = decision._replace(seqno=self.seqno, engine=self.engine.name)
            number = self._log.define(record.of_decision(case.question, *case.triple[1:], decision))
            settled = Settled(decision, _shown(case.question, decision, "explain" in mine), number, case.lasting)
            if case.lasting:
                memory.answers[asker.context, case.asked] = settled
            yield settled

    def _case(self, memory: _Memory, asker: Asker, asked: Question | ObjectQuestion) -> "_Case":
        question = asked if asked.subject else asked._replace(subject=asker.context)
        own = question.subject == asker.context
        lasting = len(asked.subject) + len(asked[1]) <= _MOST_KEPT
        try:
            check(question)
            if isinstance(question, Question):
                triple = Triple(question.subject, question.target, question.tclass)
                return _Case(asked, question, triple, own, True, "", lasting)
            target = memory.targets.get(question.object)
            if target is None:
                target = objects.resolve(self._ledger, self.contexts, question.object)
                if len(memory.targets) >= _MOST_ANSWERS:
                    memory.targets.clear()
                memory.targets[question.object] = target
        except Denied as error:
            nothing = Triple(asker.context, self.contexts.policy, _POLICY)
            return _Case(asked, question, nothing, own, True, f"malformed: {error.what}", False)
        triple = Triple(question.subject, target.context, target.tclass)
        return _Case(asked, question, triple, own, target.there, "", lasting)

    def _vectors(self, memory: _Memory, triples: Sequence[Triple]) -> list[Access]:
        vectors = memory.vectors
        missing = list({triple: None for triple in triples if triple not in vectors})
        if missing:
            if len(vectors) + len(missing) > _MOST_VECTORS:
                vectors.clear()
                missing = list(dict.fromkeys(triples))
            vectors.update(zip(missing, self.engine.compute(missing), strict=True))
        found = [vectors[triple] for triple in triples]
        for triple in missing:
            if len(triple.source) + len(triple.target) > 2 * _MOST_KEPT:
                del vectors[triple]
        return found

    def _refuse(self, asker: Asker, question: Question | ObjectQuestion, decision: Decision) -> Settled:
        named = question if question.subject else question._replace(subject=asker.context)
        clipped = named._replace(permissions=named.permissions[:32])
        target = clipped.target if isinstance(clipped, Question) else ""
        tclass = clipped.tclass if isinstance(clipped, Question) else ""
        number = self._log.define(record.of_decision(clipped, target, tclass, decision))
        return Settled(decision, decision, number, False)

    def _record_policy(self, event: str) -> None:
        self.record(event, {"fingerprint": self.engine.fingerprint})


class _Case(NamedTuple):
    """A question on its way through `_settle`.

    Attributes:
        asked: as it came.
        question: with the subject filled in.
        triple: to compute.
        own: it is about who asks.
        there: the object exists.
        flaw: why it is no question.
        lasting: it may be remembered.
    """

    asked: Question | ObjectQuestion
    question: Question | ObjectQuestion
    triple: Triple
    own: bool
    there: bool
    flaw: str
    lasting: bool


def _decide(case: _Case, access: Access, others: bool) -> Decision:
    """The decision, with an empty reason where the engine has to give it."""
    if case.flaw:
        return _no(case.flaw)
    if not case.own and not others:
        return _no("not yours to ask", rule=_NOBODY)
    if access.flaw:
        return _no(access.flaw)
    if not case.there:
        return _no(_ABSENT)
    permissions = case.question.permissions
    granted = tuple(one for one in permissions if one in access.allowed)
    return Decision(len(granted) == len(permissions), granted, "", "", 0, "", access.permissive)


def _as_denied(case: _Case, access: Access, decision: Decision) -> bool:
    """Whether it is refused as absent, and would be refused as forbidden too: then it has to take as long."""
    return decision.reason == _ABSENT and not access.flaw and not access.allowed.issuperset(case.question.permissions)


def _no(reason: str, rule: str = "") -> Decision:
    return Decision(False, (), reason, rule, 0, "")


def _shown(question: Question | ObjectQuestion, decision: Decision, explain: bool) -> Decision:
    """What who asked may see of a decision: reasons are for those who may have them explained, and nobody is told
    whether an object is missing or forbidden."""
    if decision.allowed or decision.reason.startswith(("malformed", "not yours")):
        return decision
    if isinstance(question, ObjectQuestion):
        return decision._replace(granted=(), reason=HIDDEN, rule="")
    return decision if explain else decision._replace(reason="not allowed", rule="")


def unanswered(error: DecisionLogError, seqno: int, engine: str) -> Decision:
    """The refusal in place of a decision that could not be recorded."""
    return Decision(False, (), "decisions can't be recorded", error.what, seqno, engine)
