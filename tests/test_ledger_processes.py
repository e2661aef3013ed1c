"""Several processes on one ledger: one winner each, and a process killed at any moment leaves whole changes only."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from septum.errors import Held
from septum.ledger.records import Guest
from septum.ledger.sqlite import SqliteLedger
from tests.ledger_conformance import BASE, claims, guest, named

ROOT = Path(__file__).parent.parent
RACERS, ROUNDS = 4, 1000
KILLS = 25


def racer(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledger_racer", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is such a place: thousands of commits, and durability isn't what is tested."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield path
    shutil.rmtree(path)


def test_of_all_racers_exactly_one_wins(in_memory: Path) -> None:
    # The ledger is not made yet: making it is the first race.
    folder = in_memory / "ledger"
    racers = [racer("race", folder, number, ROUNDS) for number in range(RACERS)]
    for process in racers:
        go(process)
    for number in range(ROUNDS):
        # Each round has another first, and nobody is a round ahead.
        for place in range(RACERS):
            process = racers[(number + place) % RACERS]
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        for place in range(RACERS):
            go(racers[(number + place) % RACERS])
    won = [json.loads(process.communicate(timeout=300)[0]) for process in racers]
    assert [process.returncode for process in racers] == [0] * RACERS
    for kind in ("name", "code", "image"):
        assert sorted(number for one in won for number in one[kind]) == list(range(ROUNDS)), kind
    assert sorted(number for one in won for number in one["realm"]) == list(range(0, ROUNDS, 100))
    assert sorted(number for one in won for number in one["counter"]) == list(range(RACERS * ROUNDS))
    assert sum(1 for one in won if one["image"]) > 1, "they did not race"
    ledger = SqliteLedger(str(folder))
    guests = ledger.guests()
    assert len(guests) == RACERS * ROUNDS
    assert len(ledger.holders(BASE.key)) == ROUNDS
    assert ledger.audit_verify() == 1 + ROUNDS // 100 + len(guests) + ROUNDS
    ledger.check()
    ledger.close()


def test_of_all_who_make_a_ledger_one_does(in_memory: Path) -> None:
    def make(folder: Path) -> tuple[str, bytes, int]:
        together.wait()
        ledger = SqliteLedger(str(folder))
        try:
            return ledger.identity(), ledger.secret(), ledger.advance("x")
        finally:
            ledger.close()

    # Threads meet more closely than processes do, and the lock is between open folders, not between processes.
    together = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            made = list(pool.map(make, [in_memory / str(number)] * 8))
            assert len({(identity, secret) for identity, secret, _ in made}) == 1
            assert sorted(count for _, _, count in made) == list(range(8))
            assert [path.name for path in (in_memory / str(number)).iterdir()] == ["ledger.db"]


def test_a_kill_leaves_whole_changes_only(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    chance = random.Random(2013)
    for number in range(KILLS):
        process = racer("live", folder, number)
        go(process)
        time.sleep(chance.uniform(0.02, 0.15))
        process.send_signal(signal.SIGKILL)
        told, _ = process.communicate(timeout=60)
        ledger = SqliteLedger(str(folder))
        ledger.check()
        ledger.audit_verify()
        there = {one.uuid: one for one in ledger.guests()}
        for one in there.values():
            is_whole(ledger, one)
        has_all_that_was_acknowledged(ledger, there, [line.split() for line in told.splitlines()])
        ledger.close()
    with pytest.raises(Held):
        SqliteLedger(str(folder)).admit(guest(0), [])


def test_a_kill_while_a_ledger_is_made(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / f"ledger{number}"
        process = racer("live", folder, number)
        go(process)
        time.sleep(0.002 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        ledger = SqliteLedger(str(folder))
        ledger.check()
        ledger.audit_verify()
        assert len(ledger.secret()) == 32
        ledger.close()
        assert not list(folder.glob("*.new*"))


def is_whole(ledger: SqliteLedger, one: Guest) -> None:
    """A guest has everything that belongs to its state, and nothing else."""
    for kind, key in claims(one):
        assert ledger.taken(kind, [key]) == {key: named(one)}
    begun = one.state != "admitted"
    assert len(ledger.holds(one.uuid)) == (2 if begun else 0)
    assert ledger.holders(one.name) == ([one.uuid] if begun else [])
    if one.state in ("starting", "running"):
        assert [step.op for step in ledger.journal(one.uuid)] == ["own", "context"]
        assert len(ledger.journal(BASE.key)) == 1


def has_all_that_was_acknowledged(ledger: SqliteLedger, there: dict[str, Guest], told: list[list[str]]) -> None:
    done = {(record.event, record.fields["uuid"]) for record in ledger.audit_records() if "uuid" in record.fields}
    whole = [line for line in told if len(line) == 2 and len(line[1]) == 36]
    for what, uuid in whole:
        assert (f"guest.{what}", uuid) in done
        if what == "release":
            assert uuid not in there
    assert there.keys() <= {uuid for event, uuid in done if event == "guest.admit"}
    assert there.keys().isdisjoint(uuid for event, uuid in done if event == "guest.release")
