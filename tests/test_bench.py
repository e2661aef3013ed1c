"""The parts of `make bench` run and say what they should; nothing here looks at how long anything took."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import (
    access,
    allot,
    analysis,
    argv,
    decide,
    flood,
    ivshmem,
    ledger,
    libvirt,
    machine,
    memory,
    realms,
    ring,
    start,
    transports,
)
from bench.__main__ import main
from bench.figures import BenchError, Figure, Goal, Result, added, ratio, render
from bench.place import Place
from septum.ledger.sqlite import SqliteLedger


def names(result: Result) -> set[str]:
    return {figure.name for figure in result.figures}


def sound(result: Result) -> None:
    """All figures, ratios and goals have values, and there is a text and JSON of them."""
    assert result.figures
    for figure in result.figures:
        lowest, lower, upper = figure.spread
        assert lowest <= lower <= figure.median <= upper <= max(figure.values)
    packed = json.loads(json.dumps(result.as_dict()))
    assert [figure["median"] for figure in packed["figures"]] == [figure.median for figure in result.figures]
    text = render(result)
    assert all(one.name in text for one in (*result.figures, *result.ratios, *result.goals))


def test_median_and_spread() -> None:
    figure = Figure("f", "ms", (5, 1, 2, 4, 3))
    assert (figure.median, figure.spread) == (3, (1, 2, 4))
    assert Figure("f", "ms", (7,)).spread == (7, 7, 7)


def test_what_is_added_is_counted_pair_by_pair() -> None:
    base = Figure("bare", "ms", (10, 100, 20))
    assert added("more", Figure("one", "ms", (15, 101, 40)), base).values == (5, 1, 20)
    assert ratio("times", Figure("one", "ms", (30, 60, 10)), base).value == 1.5


def test_goals_have_a_direction() -> None:
    assert Goal("latency", 44, 45, "ms").met
    assert not Goal("latency", 46, 45, "ms").met
    assert Goal("rate", 18, 17.5, "per s", most=False).met
    assert not Goal("rate", 17, 17.5, "per s", most=False).met
    assert "measured 46: MISSED" in render(Result("part", goals=(Goal("latency", 46, 45, "ms"),)))


def test_access() -> None:
    result = access.bench(2, calls=1000)
    sound(result)
    assert [goal.unit for goal in result.goals] == ["per s", "per s"]
    assert sum("over the socket" in name for name in names(result)) == 2


def test_allot() -> None:
    result = allot.bench(2, total=1000)
    sound(result)
    assert [goal.unit for goal in result.goals] == ["s"]
    assert sum("99.9 % full" in name for name in names(result)) == 3


def test_decide() -> None:
    result = decide.bench(2, whole=False)
    sound(result)
    assert {"first match, first of 1,000 rules", "first match, last of 1,000 rules"} <= names(result)
    assert [goal.unit for goal in result.goals] == ["µs"] * 5


def test_the_peer_takes_the_first_rule_that_matches() -> None:
    rules = [
        decide.Rule("vm1", "@tag:work", "file", False),
        decide.Rule("@anyvm", "vm2", "*", True),
        decide.Rule("@tag:work", "@anyvm", "file", True),
    ]
    engine = decide.FirstMatch(rules, {"vm2": frozenset(("work",)), "vm3": frozenset(("play",))})
    asked = [
        ("vm1", "vm2", "file"),
        ("vm1", "vm2", "audio"),
        ("vm3", "vm2", "file"),
        ("vm2", "vm3", "file"),
        ("vm3", "vm1", "file"),
    ]
    assert [engine.decide(*question) for question in asked] == [False, True, True, True, False]


def test_ledger() -> None:
    result = ledger.bench(1, guests=(2, 5))
    sound(result)
    for count in ("2 guests", "5 guests"):
        assert {f"{count}: {what}" for what in ("lives", "admits", "begin", "release")} <= names(result)


def test_analysis() -> None:
    result = analysis.bench(1, realms=3, guests=4, whole=False)
    assert [figure.name for figure in result.figures] == ["loading 24 instances", "all pairs of their guests"]
    assert result.goals[0].met


def test_argv_is_a_line_that_septum_understands() -> None:
    result = argv.bench(1)
    sound(result)
    read = argv.parse(argv.shlex.split(argv.LINE), cwd="/")
    assert len(read.argv) >= 80
    assert read.unknown == ()


def test_ring() -> None:
    before = len(os.listdir("/proc/self/fd"))
    result = ring.bench(1, sizes=(64, 4096), volume=1 << 20, channels=20)
    sound(result)
    assert {"ring, C, 4,096 B", "ZeroMQ ipc, 64 B", "round trip of 64 B, Python", "20 idle channels"} <= names(result)
    assert len(result.goals) == 7
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_receiver_that_fails_is_said() -> None:
    def broken(_: int) -> transports.Opened:
        return (lambda _: None), (lambda _: os._exit(3)), (lambda: None)

    with pytest.raises(BenchError, match="the receiving process ended with 3"):
        transports.seconds(transports.Way("broken", broken), 1, 1)


@pytest.mark.root
@pytest.mark.qemu
def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> Result:
        raise BenchError("not asked for")

    monkeypatch.setattr(libvirt, "bench", absent)
    result = start.bench(1, guests=2)
    sound(result)
    assert {"ready, bare", "ready, septum landlock", "gone to restored, landlock"} <= names(result)
    assert "libvirt: not measured (not asked for)" in result.notes
    assert len(result.goals) == 4


@pytest.mark.root
@pytest.mark.qemu
def test_memory() -> None:
    result = memory.bench(1, guests=2)
    sound(result)
    assert "watcher with 2 guests, resident" in names(result)


@pytest.mark.root
@pytest.mark.qemu
def test_a_place_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Place() as place:
        folder = Path(place.folder)
        guest = place.start("one", start.EMPTY, place.septum("landlock"))
        (watcher,) = place.watchers(place.state)
        assert os.stat(guest.disk).st_uid != 0
        assert [one.name for one in SqliteLedger(place.state).guests()] == ["one"]
    assert not folder.exists()
    assert guest.process.returncode is not None
    assert not Path(f"/proc/{watcher}/cmdline").exists() or not Path(f"/proc/{watcher}/cmdline").read_bytes()


@pytest.mark.root
@pytest.mark.qemu
def test_what_can_not_start_is_said() -> None:
    with Place() as place, pytest.raises(BenchError, match=r"it ended with 1: .*unsupported machine"):
        place.start("one", ("-machine", "no-such-machine"))


def test_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "NEEDED", ("no-such-program",))
    with pytest.raises(BenchError, match="no no-such-program here"):
        libvirt.bench(Place.__new__(Place), "landlock", 1, 1)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["argv", "--runs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [part["part"] for part in told["parts"]] == ["argv"]
    assert told["machine"]["cores"] >= 1


def test_a_part_that_fails_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: int) -> Result:
        raise BenchError("the disk is away")

    parts: dict[str, Callable[[int], Result]] = {"first": broken, "argv": argv.bench}
    monkeypatch.setattr("bench.__main__.PARTS", parts)
    assert main(["--runs", "1"]) == 1
    told = capsys.readouterr().out
    assert "not measured: the disk is away" in told
    assert "reading to cutting" in told


@pytest.mark.parametrize("words", [["no-such-part"], ["--runs", "0"]])
def test_the_command_refuses(words: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2


def test_a_busy_machine_is_said() -> None:
    facts = machine.describe()
    assert "busy" in machine.line({**facts, "load": 9.0, "busy": True})
    assert "busy" not in machine.line({**facts, "load": 0.0, "busy": False})


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and QEMU")
def test_realms() -> None:
    result = realms.bench(2, many=5, real=1)
    sound(result)
    assert names(result) >= {"list of all", "show", "start, few guests", "start, many guests", "septum run"}
    assert len(result.goals) == 2


@pytest.mark.root
@pytest.mark.qemu
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and QEMU")
def test_flood() -> None:
    result = flood.bench(1, calls=20, connections=20)
    sound(result)
    assert len(result.goals) == 2


@pytest.mark.qemu
def test_ivshmem() -> None:
    result = ivshmem.bench(2, sizes=(64, 4096), volume=1 << 16)
    sound(result)
    assert len(result.ratios) == 2
