"""Memory of the watcher, the one process that septum keeps, without guests and with many."""

import time
from typing import Final

from bench.figures import BenchError, Figure, Result
from bench.place import Place, wait
from bench.start import EMPTY
from septum.launch.drivers import probe_all

_FIELDS: Final = {"Rss": "resident", "Pss": "its share of it"}


def bench(runs: int, *, guests: int = 50) -> Result:
    """Measures.

    Args:
        runs: how often it is looked at.
        guests: that it watches.
    """
    kinds = [driver.name for driver, availability in probe_all() if availability.works]
    if not kinds:
        return Result("memory", notes=("not measured: no driver works here",))
    with Place() as place:
        before = place.septum(kinds[-1])
        place.start("first", EMPTY, before).stop()
        wait(lambda: len(place.watchers(place.state)) == 1, "the watcher")
        watcher = place.watchers(place.state)[0]
        empty = _look(watcher, runs, "watcher without guests")
        for number in range(guests):
            place.start(f"guest-{number}", EMPTY, before)
        full = _look(watcher, runs, f"watcher with {guests} guests")
        grown = (full[0].median - empty[0].median) * 1024 / guests
    return Result("memory", (*empty, *full, Figure("resident, for each guest", "KiB", (grown,))))


def _look(pid: int, runs: int, name: str) -> list[Figure]:
    seen: dict[str, list[float]] = {field: [] for field in _FIELDS}
    for _ in range(runs):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                field, _, rest = line.partition(":")
                if field in seen:
                    seen[field].append(int(rest.split()[0]) / 1024)
        time.sleep(0.01)
    if not all(seen.values()):
        raise BenchError(f"/proc/{pid}/smaps_rollup tells no {' or '.join(_FIELDS)}")
    return [Figure(f"{name}, {_FIELDS[field]}", "MiB", tuple(values)) for field, values in seen.items()]
