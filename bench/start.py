"""A guest's start and end: bare, with septum under each driver, and with libvirt where that is installed.

Measured by turns (bare, septum, bare, septum, …), so that what else the machine does befalls all alike. The guest is
an empty machine that is not started (``-machine none -S``), with a disk that has a backing file.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench import libvirt
from bench.figures import BenchError, Figure, Goal, Result, added, ratio
from bench.place import Place
from septum.launch.drivers import probe_all

EMPTY = ("-machine", "none", "-drive", "file=DISK,format=qcow2,if=none")
PEER_RATE = 3.5  # libvirt 9's paused guests per second, on the machine of the goals
_COLD = 5


def bench(runs: int, *, guests: int = 50) -> Result:
    """Measures.

    Args:
        runs: of each kind.
        guests: paused ones, for the rate.
    """
    drivers = [driver.name for driver, availability in probe_all() if availability.works]
    if not drivers:
        return Result("start", notes=("not measured: no driver works here",))
    kinds = [*drivers, "auto"] if len(drivers) > 1 else drivers
    with Place() as place:
        paired = _paired(place, kinds, runs)
        cold = _cold(place, kinds[-1], min(runs, _COLD))
        serial = _rate(place, "septum, one after another", place.septum(kinds[-1]), guests, 1)
        pairs = _rate(place, "septum, two at a time", place.septum(kinds[-1]), guests, 2)
        bare = _rate(place, "bare, one after another", (), guests, 1)
        bare_pairs = _rate(place, "bare, two at a time", (), guests, 2)
        figures = (*paired.figures, cold, bare, bare_pairs, serial, pairs)
        goals = (*paired.goals, _fast("one after another", serial), _fast("two at a time", pairs))
        ratios = (
            *paired.ratios,
            ratio("rate one after another, septum to bare", serial, bare),
            ratio("rate two at a time, septum to bare", pairs, bare_pairs),
        )
        try:
            peer = libvirt.bench(place, kinds[-1], runs, guests)
        except BenchError as error:
            peer = Result("libvirt", notes=(f"libvirt: not measured ({error})",))
    return Result(
        "start", (*figures, *peer.figures), (*ratios, *peer.ratios), (*goals, *peer.goals), (*paired.notes, *peer.notes)
    )


def _paired(place: Place, kinds: Sequence[str], runs: int) -> Result:
    ready: dict[str, list[float]] = {kind: [] for kind in ("bare", *kinds)}
    restored: dict[str, list[float]] = {kind: [] for kind in kinds}
    released: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in kinds:
        # The first start of all makes ledger, realm and watcher, and fills the page cache.
        place.start("warm", EMPTY, place.septum(kind)).stop()
    for _ in range(runs):
        for kind, times in ready.items():
            guest = place.start("disk", EMPTY, () if kind == "bare" else place.septum(kind))
            times.append(guest.ready)
            stop = guest.stop()
            if kind != "bare":
                restored[kind].append(stop.restored)
                released[kind].append(stop.released)
    figures = {kind: Figure(_name(kind), "ms", tuple(times)) for kind, times in ready.items()}
    more = {kind: added(f"{_name(kind)}, added", figures[kind], figures["bare"]) for kind in kinds}
    gone = {kind: Figure(f"gone to restored, {kind}", "ms", tuple(restored[kind])) for kind in kinds}
    goals = []
    if "landlock" in kinds:
        goals = [
            Goal("time that septum run with landlock adds until ready", more["landlock"].median, 45, "ms"),
            Goal("clean-up after the guest is gone", gone["landlock"].median, 30, "ms"),
        ]
    return Result(
        "start",
        (
            *figures.values(),
            *more.values(),
            *gone.values(),
            *(Figure(f"gone to released, {kind}", "ms", tuple(released[kind])) for kind in kinds),
        ),
        tuple(ratio(f"ready, {kind} to bare", figures[kind], figures["bare"]) for kind in kinds),
        tuple(goals),
    )


def _name(kind: str) -> str:
    return "ready, bare" if kind == "bare" else f"ready, septum {kind}"


def _cold(place: Place, kind: str, runs: int) -> Figure:
    """The first start with a new ledger, which starts the watcher too."""
    times = []
    for _ in range(runs):
        guest = place.start("disk", EMPTY, place.septum(kind, place.fresh_state()))
        times.append(guest.ready)
        guest.stop()
    return Figure("ready, first of a new ledger", "ms", tuple(times))


def _rate(place: Place, name: str, before: Sequence[str], guests: int, together: int) -> Figure:
    """Starts paused guests that all stay; how many a second."""
    names = [f"paused-{number}" for number in range(guests)]
    for one in names:
        place.disk(one)
    begun = time.perf_counter()
    with ThreadPoolExecutor(together) as pool:
        started = list(pool.map(lambda one: place.start(one, EMPTY, before), names))
    seconds = time.perf_counter() - begun
    for guest in started:
        guest.stop()
    return Figure(f"{guests} paused guests, {name}", "per s", (guests / seconds,))


def _fast(how: str, rate: Figure) -> Goal:
    return Goal(f"paused guests {how}, five times libvirt's {PEER_RATE}", rate.median, 5 * PEER_RATE, "per s", False)
