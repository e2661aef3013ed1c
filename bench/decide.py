"""What a decision takes: libsepol's own, remembered ones, with reasons, from a worker, and of a whole process.

The peer is a list of rules of which the first that matches decides, as in Qubes' qrexec policy: names, ``@anyvm`` and
``@tag:…``. A fair part of it is in how a policy is written; beside it stands what a compiled one takes.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.figures import BenchError, Figure, Goal, Result, ratio
from septum.errors import NotFound
from septum.policy import Store, build, compile_cil
from septum.policy.store import handle_unknown
from septum.sepol import Memo, Policy
from septum.sepol.worker import Worker

_BATCH = 400  # questions of one value
_RULES = 1000
_CATEGORIES = 1024
_ENDS = {
    "septum": ("system_u:system_r:septum_vm.process", "system_u:object_r:septum_vm.image"),
    "debian": ("system_u:system_r:svirt_t", "system_u:object_r:svirt_image_t"),
}
Question = tuple[str, str, str]
_ORCHESTRATOR = "system_u:system_r:septum_orchestrator.process:s0:c1-s0:c1,c256.c1021"


def bench(runs: int, *, whole: bool = True) -> Result:
    """Measures.

    Args:
        runs: of each figure.
        whole: with Debian's whole policy, where that is installed.
    """
    images = {"septum": build("standalone").image}
    notes = [
        "“septum” is the stand-alone policy, “debian” Debian's whole; “of a guest” is a guest's process and an image.",
        "Debian, of a guest: libsepol writes the text of each of Debian's own constraints on files, asked for or not. "
        "Where that policy is in force, the kernel decides.",
        "New contexts are such as were never asked about; of known ones the numbers are known, the pair may be new.",
    ]
    if whole:
        try:
            modules = Store.of_host().modules()
            images["debian"] = compile_cil(modules, handle_unknown=handle_unknown(modules))
        except NotFound as error:
            notes.append(f"debian: not measured ({error.what})")
    figures: dict[str, Figure] = {}
    for name, image in images.items():
        for figure in (*_in_process(name, image, runs), *_worker(name, image, runs), *_process(name, image, runs)):
            figures[figure.name] = figure
    for figure in _peer(runs):
        figures[figure.name] = figure
    cold, again = (
        figures["septum, remembered, a new pair of known contexts"],
        figures["septum, remembered, asked before"],
    )
    return Result(
        "decide",
        tuple(figures.values()),
        (
            ratio("last of 1,000 rules to a remembered decision", figures["first match, last of 1,000 rules"], again),
            ratio("first of 1,000 rules to a remembered decision", figures["first match, first of 1,000 rules"], again),
            ratio("last of 1,000 rules to a new pair", figures["first match, last of 1,000 rules"], cold),
        ),
        (
            *(
                Goal(
                    f"a cold decision of libsepol's, {name}, {kind}",
                    figures[f"{name}, libsepol, {kind}"].median,
                    5,
                    "µs",
                )
                for name, kind in (*((name, "random") for name in images), ("septum", "of a guest"))
            ),
            Goal(
                "a cold decision of libsepol's, septum's own classes",
                figures["septum, libsepol, of septum's own classes"].median,
                5,
                "µs",
            ),
            Goal("a new pair whose relation is known", cold.median, 5, "µs"),
            Goal("a question asked before", again.median, 0.3, "µs"),
        ),
        tuple(notes),
    )


def _in_process(name: str, image: bytes, runs: int) -> Iterator[Figure]:
    choose = random.Random(1)
    yield _milliseconds(f"{name}, opening", runs, lambda: Policy.open(image).close())
    with Policy.open(image) as policy:
        begun = time.perf_counter()
        classes = policy.classes()
        yield Figure(f"{name}, its rules as text, once", "ms", ((time.perf_counter() - begun) * 1e3,))
        valid = [one for kind in sorted(policy.types()) if policy.valid(one := f"system_u:object_r:{kind}:s0")]
        mixed: list[Question] = [
            (choose.choice(valid), choose.choice(valid), choose.choice(sorted(classes))) for _ in range(_BATCH)
        ]
        _ask(policy.compute, mixed)
        yield _questions(f"{name}, libsepol, random", runs, policy.compute, lambda: mixed)
        guests = _guests(name, choose, 40)
        known = [(one, other, "file") for one, _, _ in guests for _, other, _ in guests]
        _ask(policy.compute, known)
        yield _questions(f"{name}, libsepol, of a guest", runs, policy.compute, lambda: choose.sample(known, _BATCH))
        if name == "septum":
            owned = [
                (_ORCHESTRATOR, f"system_u:system_r:septum_vm.process:s0:c1,c{number}", "septum_guest")
                for number in range(300, 340)
            ]
            _ask(policy.compute, owned)
            kind = f"{name}, libsepol, of septum's own classes"
            yield _questions(kind, runs, policy.compute, lambda: choose.choices(owned, k=_BATCH))
        yield _questions(f"{name}, libsepol, new contexts", runs, policy.compute, lambda: _guests(name, choose, _BATCH))
        wanted = ("read", "write")
        policy.explain(*known[0], wanted)
        yield _questions(
            f"{name}, with its reason",
            runs,
            lambda source, target, tclass: policy.explain(source, target, tclass, wanted),
            lambda: choose.sample(known, _BATCH),
        )
        yield from _remembered(name, policy, choose, runs)


def _remembered(name: str, policy: Policy, choose: random.Random, runs: int) -> Iterator[Figure]:
    remembered = Memo(policy)
    fresh = [_guests(name, choose, _BATCH) for _ in range(runs)]
    _ask(remembered.allowed, _guests(name, choose, _BATCH))
    yield _questions(f"{name}, remembered, new contexts", runs, remembered.allowed, iter(fresh).__next__)
    # Each context of `fresh` is known now, and of the pairs only those that were asked.
    pairs = [[(one[0], other[1], "file") for one, other in pairwise(some)] for some in fresh]
    yield _questions(
        f"{name}, remembered, a new pair of known contexts", runs, remembered.allowed, iter(pairs).__next__
    )
    yield _questions(f"{name}, remembered, asked before", runs, remembered.allowed, lambda: fresh[0] * 10)


def _worker(name: str, image: bytes, runs: int) -> Iterator[Figure]:
    choose = random.Random(2)
    with Worker(image) as worker:
        guests = _guests(name, choose, 100)
        many = [(choose.choice(guests)[0], choose.choice(guests)[1], "file") for _ in range(_BATCH * 10)]
        worker.compute_many(many)
        rates = [len(many) / _seconds(lambda: worker.compute_many(many)) for _ in range(runs)]
        yield Figure(f"{name}, a worker, {len(many):,} at a time", "per s", tuple(rates))
        ones = many[:_BATCH]
        rates = [len(ones) / _seconds(lambda: [worker.compute_many([one]) for one in ones]) for _ in range(runs)]
        yield Figure(f"{name}, a worker, one at a time", "per s", tuple(rates))


def _process(name: str, image: bytes, runs: int) -> Iterator[Figure]:
    """The command, with the rule that decides."""
    source, target, tclass = _guests(name, random.Random(3), 1)[0]
    with tempfile.TemporaryDirectory(prefix="septum-bench-") as folder:
        path = Path(folder, "policy")
        path.write_bytes(image)
        command = [sys.executable, "-m", "septum", "decide", "--policy", str(path), source, target, tclass, "read"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent / "src")}

        def run() -> None:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode not in (0, 1):
                raise BenchError(done.stderr)

        yield _milliseconds(f"{name}, septum decide, whole process", runs, run)
    bare = [sys.executable, "-I", "-S", "-c", "pass"]
    yield _milliseconds("Python that does nothing, whole process", runs, lambda: subprocess.run(bare, check=True))


class Rule(NamedTuple):
    source: str
    target: str
    service: str
    allow: bool


class FirstMatch:
    """Rules in order; the first that matches decides."""

    def __init__(self, rules: Sequence[Rule], tags: dict[str, frozenset[str]]) -> None:
        self._rules = rules
        self._tags = tags

    def decide(self, source: str, target: str, service: str) -> bool:
        for rule in self._rules:
            if (
                rule.service in ("*", service)
                and self._matches(rule.source, source)
                and self._matches(rule.target, target)
            ):
                return rule.allow
        return False

    def _matches(self, pattern: str, name: str) -> bool:
        if pattern == "@anyvm":
            return True
        if pattern.startswith("@tag:"):
            return pattern[5:] in self._tags.get(name, ())
        return pattern == name


def _peer(runs: int) -> Iterator[Figure]:
    tags = {f"vm{number}": frozenset((f"tag{number % 10}",)) for number in range(_RULES)}
    kinds = ("vm{}", "@tag:tag{}", "vm{}")
    rules = [
        Rule(kinds[number % 3].format(number), kinds[number % 2].format(number + 1), "file", number % 2 == 0)
        for number in range(_RULES - 1)
    ]
    engine = FirstMatch([*rules, Rule("@anyvm", "@anyvm", "*", True)], tags)
    for name, question in (("first", ("vm0", "vm1", "file")), ("last", ("vm5", "vm900", "audio"))):
        many = [question] * 200
        yield _questions(f"first match, {name} of 1,000 rules", runs, engine.decide, iter([many] * runs).__next__)


def _guests(name: str, choose: random.Random, count: int) -> list[Question]:
    """Guests with two random categories each, and images, one in two the guest's own."""
    found = []
    for _ in range(count):
        levels = [",".join(f"c{one}" for one in sorted(choose.sample(range(_CATEGORIES), 2))) for _ in range(2)]
        process, image = _ENDS[name]
        found.append((f"{process}:s0:{levels[0]}", f"{image}:s0:{levels[choose.randrange(2)]}", "file"))
    return found


def _questions(
    name: str, runs: int, ask: Callable[[str, str, str], object], some: Callable[[], Sequence[Question]]
) -> Figure:
    """Microseconds of one; each value is the mean of a batch."""
    values = []
    for _ in range(runs):
        questions = some()
        values.append(_seconds(lambda: _ask(ask, questions)) / len(questions) * 1e6)  # noqa: B023
    return Figure(name, "µs", tuple(values))


def _ask(ask: Callable[[str, str, str], object], questions: Sequence[Question]) -> None:
    for source, target, tclass in questions:
        ask(source, target, tclass)


def _milliseconds(name: str, runs: int, act: Callable[[], object]) -> Figure:
    return Figure(name, "ms", tuple(_seconds(act) * 1e3 for _ in range(runs)))


def _seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
