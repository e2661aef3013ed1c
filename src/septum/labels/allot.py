"""Which guest gets which code: unique by construction, unpredictable, and never a loop that only luck ends.

The codes of a realm are walked in the order of a keyed permutation. Whoever allots takes a number that nobody else
has, the ledger's counter, and gets the code at that position: fresh until the walk has been round once, so released
codes rest as long as possible. Where that code is not free, the walk goes on from a position scattered by the counter
(neighbouring callers then don't compete for the same next code) and asks about whole batches of positions. Each
position is looked at once at most; then the realm is full, and the error says so. The ledger's unique claim decides
when two callers choose alike.

Rejected: drawing at random until something fits (libvirt, container engines), which slows down as the space fills and
never ends when it is full.
"""

from __future__ import annotations

from _blake2 import blake2b

from septum.errors import Denied, Exhausted, LabelError
from septum.labels.categories import CategorySet
from septum.labels.obstacles import Obstacles
from septum.labels.permutation import KeyedPermutation
from septum.labels.scheme import RealmScheme
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import TypeAlias

__all__ = ["Allotment", "Pool", "draw_realm"]

Taken: TypeAlias = "Callable[[list[str]], Container[str]]"
"""Given keys (sets as printed), those of them that are claimed or in quarantine."""

_FIRST_BATCH, _LAST_BATCH = 64, 4096
_SCATTER = 0x9E3779B1  # 2^32 over the golden ratio: neighbouring counters land far apart
_TAKEN, _FOREIGN = 1, 2


def draw_realm(scheme: RealmScheme, taken: Taken, foreign: Iterable[CategorySet] = ()) -> CategorySet:
    """The first realm code that is free.

    Args:
        scheme: of the ledger.
        taken: asked once, with all realm codes of the scheme.
        foreign: sets of others; the code will be incomparable with each.

    Raises:
        Exhausted: all are taken or comparable with a foreign set.
    """
    codes = list(scheme.realm_codes())
    held = taken([str(code) for code in codes])
    others = set(foreign)
    free = [code for code in codes if str(code) not in held]
    for code in free:
        if not any(code.comparable(other) for other in others):
            return code
    raise Exhausted(
        f"no realm code is left of {len(codes)}: {len(codes) - len(free)} taken, "
        f"{len(free)} comparable with labels of other engines",
        rule=str(scheme),
        remedy="remove a realm that is no longer needed, or stop what holds the other engines' labels",
    )


class Allotment:
    """The walk over the guest codes of one realm. Cheap to make: no table.

    Args:
        scheme: of the ledger.
        realm: code of the realm.
        secret: of the ledger, 16 to 64 bytes; who lacks it can't tell which code comes next.

    Raises:
        LabelError: `realm` is no realm code of the scheme.
        ValueError: the secret is too short or too long.
    """

    __slots__ = ("_permutation", "realm", "scheme", "size")

    def __init__(self, scheme: RealmScheme, realm: CategorySet, secret: bytes) -> None:
        if not 16 <= len(secret) <= 64:
            raise ValueError(f"a secret of {len(secret)} bytes: expected 16 to 64")
        scheme.realm_index(realm)
        self.scheme = scheme
        self.realm = realm
        self.size = scheme.capacity.guests
        key = blake2b(f"{scheme}; {realm}".encode(), key=secret, digest_size=32, person=b"septum allotment").digest()
        self._permutation = KeyedPermutation(self.size, key)

    def at(self, counter: int) -> CategorySet:
        """The guest's set at a position of the walk, which goes round: `size` counters in a row give all of them."""
        return self.scheme.guest_categories(self.realm, self._permutation.forward(counter % self.size))

    def position(self, categories: CategorySet) -> int:
        """Where the walk meets a guest's set.

        Raises:
            LabelError: it is no guest's set of this realm.
        """
        block = self.scheme.guest_block
        if categories - block != self.realm:
            raise LabelError(f"{categories} is no guest's set of realm {self.realm}", target=str(categories))
        return self._permutation.backward(self.scheme.guest_rank(categories & block))

    def draw(
        self,
        counter: int,
        taken: Taken,
        foreign: Iterable[CategorySet] = (),
        population: Callable[[], int] | None = None,
    ) -> CategorySet:
        """A guest's set that is free; not claimed yet. Keeps no state: for a process that allots once.

        Args:
            counter: of the ledger, for this realm; no two callers have the same.
            taken: asked about one set in the common case, else about growing batches, about each set three times at
                most.
            foreign: see `Obstacles`.
            population: how many of this realm's sets are taken. Asked where the first choice is taken, so that a full
                realm says so without a walk through all of it.

        Raises:
            Exhausted: all are taken or ruled out.
        """
        obstacles = Obstacles(self.scheme, self.realm, foreign)
        found = self._free([counter], taken, obstacles)
        if found is None and population is not None:
            self._refuse_if_full(population(), taken, obstacles)
        start, seen, batch = counter * _SCATTER, 0, _FIRST_BATCH
        while found is None and seen < self.size:
            found = self._free(range(start + seen, start + min(seen + batch, self.size)), taken, obstacles)
            seen += batch
            batch = min(8 * batch, _LAST_BATCH)
        if found is None:
            ruled_out = len(set(obstacles.codes()))
            raise self.exhausted(self.size - ruled_out, ruled_out)
        return found

    def _refuse_if_full(self, population: int, taken: Taken, obstacles: Obstacles) -> None:
        keys = [str(self.realm | guest) for guest in set(obstacles.codes())]
        batches = (keys[start : start + _LAST_BATCH] for start in range(0, len(keys), _LAST_BATCH))
        both = sum(key in held for batch in batches for held in (taken(batch),) for key in batch)
        if population + len(keys) - both >= self.size:
            raise self.exhausted(population, len(keys))

    def _free(self, counters: Iterable[int], taken: Taken, obstacles: Obstacles) -> CategorySet | None:
        candidates = {str(one): one for one in map(self.at, counters) if not obstacles.rule_out(one)}
        held = taken(list(candidates)) if candidates else ()
        return next((one for key, one in candidates.items() if key not in held), None)

    def exhausted(self, taken: int, ruled_out: int) -> Exhausted:
        """The error that says so.

        Args:
            taken: codes that are claimed or in quarantine.
            ruled_out: codes that labels of other engines rule out.
        """
        return Exhausted(
            f"no guest code is left in realm {self.realm}: 0 of {self.size}, {taken} taken by guests or in quarantine, "
            f"{ruled_out} ruled out by labels of other engines",
            target=str(self.realm),
            rule=str(self.scheme),
            remedy="end guests of this realm, or run `septum reconcile` to get codes out of quarantine",
        )


class Pool:
    """The codes of one realm with what is taken of them, for a process that allots many; one byte for each code.

    It takes the next free code of the walk, so a released one rests until the walk has been round. Not for several
    threads at once. The ledger stays the authority: where it says Held, `claim` the code and `take` another.

    Args:
        allotment: the walk.
        taken: guests' sets that are claimed or in quarantine.
        foreign: see `Obstacles`.
        start: the position to go on from: the ledger's counter.

    Raises:
        Exhausted: a foreign set rules out all.
        LabelError: one of `taken` is no guest's set of this realm.
    """

    __slots__ = ("_allotment", "_cursor", "_marks")

    def __init__(
        self,
        allotment: Allotment,
        taken: Iterable[CategorySet] = (),
        foreign: Iterable[CategorySet] = (),
        start: int = 0,
    ) -> None:
        self._allotment = allotment
        self._cursor = start % allotment.size
        self._marks = bytearray(allotment.size)
        for categories in taken:
            self.claim(categories)
        realm = allotment.realm
        for guest in Obstacles(allotment.scheme, realm, foreign).codes():
            self._marks[allotment.position(realm | guest)] |= _FOREIGN

    @property
    def left(self) -> int:
        """How many codes are free."""
        return self._marks.count(0)

    def take(self) -> CategorySet:
        """The next free one.

        Raises:
            Exhausted: none is left.
        """
        position = self._marks.find(0, self._cursor)
        if position < 0:
            position = self._marks.find(0)
        if position < 0:
            ruled_out = self._marks.count(_FOREIGN)
            raise self._allotment.exhausted(self._allotment.size - ruled_out, ruled_out)
        self._marks[position] = _TAKEN
        self._cursor = position + 1
        return self._allotment.at(position)

    def claim(self, categories: CategorySet) -> bool:
        """Marks a guest's set as taken; whether it was free.

        Raises:
            LabelError: it is no guest's set of this realm.
        """
        position = self._allotment.position(categories)
        before = self._marks[position]
        self._marks[position] = before | _TAKEN
        return before == 0

    def release(self, categories: CategorySet) -> None:
        """Makes a set free again, after the restore of everything that carried it was verified.

        Raises:
            Denied: it was not taken.
            LabelError: it is no guest's set of this realm.
        """
        position = self._allotment.position(categories)
        if not self._marks[position] & _TAKEN:
            raise Denied(f"{categories} can't be released: nobody has taken it", target=str(categories))
        self._marks[position] &= ~_TAKEN
