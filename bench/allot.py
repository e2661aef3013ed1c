"""Allotments a second, with a free realm and with one that is 99.9 % full.

The peer is what libvirt and container engines do: draw two of 1024 categories at random until the pair is free.
"""

import random
import time
from collections.abc import Callable, Iterable

from bench.figures import Figure, Goal, Result, ratio
from septum.labels import Allotment, CategorySet, Pool, RealmScheme

MILLION = 1_000_000
_SECRET = bytes(32)
_FULL = 0.999
_CATEGORIES = 1024  # as in the default policies, c0 to c1023
_BATCH = 200


def bench(runs: int, *, total: int = MILLION) -> Result:
    """Measures.

    Args:
        runs: batches where a process allots one at a time.
        total: allotments of the run that goes through several realms.
    """
    scheme = RealmScheme()
    seconds = _many(scheme, total)
    realm = scheme.realm_code(0)
    allotment = Allotment(scheme, realm, _SECRET)
    order = random.Random(2)
    # Guests end in any order, so what is free lies anywhere in the walk.
    held = [allotment.at(place) for place in order.sample(range(allotment.size), int(allotment.size * _FULL))]
    names = {str(one) for one in held}
    pool = Pool(allotment, held)
    pooled = _rates("a pool, 99.9 % full", min(_BATCH, pool.left // runs), runs, lambda _: pool.take())
    free = _rates("one at a time, free", _BATCH, runs, lambda number: allotment.draw(number, lambda _: ()))
    last = _rates(
        "one at a time, 99.9 % full",
        10,
        runs,
        lambda _: allotment.draw(order.randrange(allotment.size), lambda keys: _held(names, keys)),
    )
    pairs = _rates("random until free, free", _BATCH, runs, _Random(0.0))
    packed = _rates("random until free, 99.9 % full", 10, runs, _Random(_FULL))
    whole = Figure(f"{total:,} in all, realm after realm", "per s", (total / seconds,))
    return Result(
        "allot",
        (whole, pooled, free, last, pairs, packed),
        (
            ratio("free, one at a time to random", free, pairs),
            ratio("99.9 % full, one at a time to random", last, packed),
            ratio("99.9 % full, a pool to random", pooled, packed),
        ),
        (Goal("a million allotments, “in seconds”", MILLION / whole.median, 10, "s"),),
        (
            f"A realm has room for {allotment.size:,} guests, pairs for {_CATEGORIES * (_CATEGORIES - 1) // 2:,}.",
            "One at a time asks a set in memory what is taken; what a disk adds is in `ledger`.",
        ),
    )


def _many(scheme: RealmScheme, total: int) -> float:
    begun = time.perf_counter()
    done = 0
    for number in range(scheme.capacity.realms):
        pool = Pool(Allotment(scheme, scheme.realm_code(number), _SECRET))
        for _ in range(min(total - done, pool.left)):
            pool.take()
            done += 1
        if done == total:
            break
    return time.perf_counter() - begun


def _held(taken: set[str], keys: Iterable[str]) -> set[str]:
    return taken.intersection(keys)


def _rates(name: str, batch: int, runs: int, draw: Callable[[int], object]) -> Figure:
    rates = []
    for run in range(runs):
        begun = time.perf_counter()
        for number in range(run * batch, (run + 1) * batch):
            draw(number)
        rates.append(batch / (time.perf_counter() - begun))
    return Figure(name, "per s", tuple(rates))


class _Random:
    """Random pairs, of which a share is taken from the start on."""

    def __init__(self, share: float) -> None:
        self._random = random.Random(1)
        pairs = [(high, low) for high in range(_CATEGORIES) for low in range(high)]
        self._taken = set(self._random.sample(pairs, int(len(pairs) * share)))

    def __call__(self, _: int) -> CategorySet:
        while True:
            one, other = self._random.randrange(_CATEGORIES), self._random.randrange(_CATEGORIES)
            pair = (max(one, other), min(one, other))
            if one != other and pair not in self._taken:
                self._taken.add(pair)
                return CategorySet(pair)
