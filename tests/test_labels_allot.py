"""Allotment: unique, bounded, unpredictable, and clear of everybody else's labels."""

from collections.abc import Iterable
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from septum.errors import Denied, Exhausted, LabelError
from septum.labels import Allotment, CategorySet, CoverFreeCode, Obstacles, Pool, RealmScheme, draw_realm

SECRET = bytes(range(32))
SMALL = RealmScheme(range(3), range(3, 11))
TRIPLES = RealmScheme(range(9), range(9, 16), size=3, code=CoverFreeCode(3, 2))
SINGLES = RealmScheme(range(2), range(2, 8), size=1)
foreign_sets = st.lists(st.sets(st.integers(0, 16), max_size=8).map(CategorySet), max_size=5)


class Register:
    """What a ledger offers: a counter, and who has what; it also counts what it was asked."""

    def __init__(self, taken: Iterable[CategorySet] = ()) -> None:
        self.keys = {str(one) for one in taken}
        self.counter = 0
        self.asked = 0

    def taken(self, keys: list[str]) -> set[str]:
        self.asked += len(keys)
        return self.keys & set(keys)

    def allot(self, allotment: Allotment, foreign: Iterable[CategorySet] = ()) -> CategorySet:
        found = allotment.draw(self.counter, self.taken, foreign)
        self.counter += 1
        assert str(found) not in self.keys
        self.keys.add(str(found))
        return found


def guests_of(scheme: RealmScheme, realm: CategorySet) -> set[CategorySet]:
    return {scheme.guest_categories(realm, number) for number in range(scheme.capacity.guests)}


def test_a_million_allotments_are_distinct() -> None:
    """Over all 256 realms; every one is checked against all others of its realm, and to carry its realm's code."""
    scheme = RealmScheme()
    total = 0
    for realm in scheme.realm_codes():
        pool = Pool(Allotment(scheme, realm, SECRET))
        masks = {pool.take().mask for _ in range(3907)}
        assert len(masks) == 3907
        assert all(mask & scheme.realm_block.mask == realm.mask and mask.bit_count() == 3 for mask in masks)
        total += len(masks)
    assert total > 1_000_000


@pytest.mark.parametrize("scheme", [SMALL, TRIPLES, SINGLES], ids=str)
def test_the_walk_meets_every_guest_once(scheme: RealmScheme) -> None:
    for realm in scheme.realm_codes():
        allotment = Allotment(scheme, realm, SECRET)
        met = [allotment.at(counter) for counter in range(allotment.size)]
        assert set(met) == guests_of(scheme, realm)
        assert [allotment.position(one) for one in met] == list(range(allotment.size))
        assert allotment.at(allotment.size) == met[0]


def test_the_order_hangs_on_secret_realm_and_scheme() -> None:
    def order(scheme: RealmScheme, realm: int, secret: bytes) -> tuple[CategorySet, ...]:
        allotment = Allotment(scheme, scheme.realm_code(realm), secret)
        return tuple(allotment.at(counter) & scheme.guest_block for counter in range(8))

    scheme = RealmScheme()
    shifted = RealmScheme(guests=range(257, 1022))
    assert order(scheme, 0, SECRET) == order(RealmScheme(), 0, SECRET)
    orders = [
        order(scheme, 0, SECRET),
        order(scheme, 1, SECRET),
        order(scheme, 0, bytes(32)),
        order(shifted, 0, SECRET),
    ]
    assert len(set(orders)) == 4


def test_the_common_case_asks_about_one_code() -> None:
    scheme = RealmScheme()
    allotment = Allotment(scheme, scheme.realm_code(7), SECRET)
    register = Register()
    for _ in range(50):
        register.allot(allotment)
    assert register.asked == 50


@pytest.mark.parametrize("scheme", [SMALL, TRIPLES, SINGLES], ids=str)
@pytest.mark.parametrize("first", [0, 1, 5, 10**12])
def test_draws_use_up_the_realm_and_then_say_so(scheme: RealmScheme, first: int) -> None:
    realm = scheme.realm_code(1)
    allotment = Allotment(scheme, realm, SECRET)
    register = Register()
    register.counter = first
    drawn = {register.allot(allotment) for _ in range(allotment.size)}
    assert drawn == guests_of(scheme, realm)
    register.asked = 0
    with pytest.raises(Exhausted) as caught:
        register.allot(allotment)
    assert f"0 of {allotment.size}, {allotment.size} taken" in caught.value.what
    assert caught.value.target == str(realm)
    assert register.asked <= allotment.size + 1


def test_the_last_free_code_is_found_wherever_the_counter_stands() -> None:
    scheme = RealmScheme(range(2), range(2, 42))
    realm = scheme.realm_code(0)
    allotment = Allotment(scheme, realm, SECRET)
    everything = guests_of(scheme, realm)
    assert len(everything) > 64 + 512
    for counter in range(0, 1000, 111):
        for place in range(0, allotment.size, 37):
            free = allotment.at(place)
            register = Register(everything - {free})
            assert allotment.draw(counter, register.taken) == free


def test_a_nearly_full_realm_is_searched_in_bounded_time() -> None:
    scheme = RealmScheme()
    realm = scheme.realm_code(0)
    allotment = Allotment(scheme, realm, SECRET)
    free = {str(allotment.at(position)) for position in range(0, allotment.size, 1000)}
    questions: list[int] = []

    def taken(keys: list[str]) -> set[str]:
        questions.append(len(keys))
        return set(keys) - free

    assert str(allotment.draw(12345, taken)) in free
    assert questions == [1, 64, 512, 4096][: len(questions)]


def test_callers_with_neighbouring_counters_do_not_meet() -> None:
    """All first choices are taken: what they fall back to must differ, or they would queue for the same code."""
    scheme = RealmScheme()
    allotment = Allotment(scheme, scheme.realm_code(0), SECRET)
    register = Register(allotment.at(counter) for counter in range(100))
    assert len({allotment.draw(counter, register.taken) for counter in range(100)}) == 100


@pytest.mark.parametrize("scheme", [SMALL, TRIPLES, SINGLES], ids=str)
@given(foreign=foreign_sets, realm_index=st.integers(0, 1), counter=st.integers(0, 1000))
def test_foreign_labels_are_respected_exactly(
    scheme: RealmScheme, foreign: list[CategorySet], realm_index: int, counter: int
) -> None:
    """Compared with the definition, code by code: nothing comparable is handed out, nothing else is held back."""
    realm = scheme.realm_code(realm_index)
    allotment = Allotment(scheme, realm, SECRET)
    allowed = {one for one in guests_of(scheme, realm) if not any(one.comparable(other) for other in foreign)}
    if not allowed:
        with pytest.raises(Exhausted):
            allotment.draw(counter, Register().taken, foreign)
        return
    obstacles = Obstacles(scheme, realm, foreign)
    ruled_out = guests_of(scheme, realm) - allowed
    assert {one for one in guests_of(scheme, realm) if obstacles.rule_out(one)} == ruled_out
    assert {realm | guest for guest in obstacles.codes()} == ruled_out
    assert allotment.draw(counter, Register().taken, foreign) in allowed
    pool = Pool(allotment, foreign=foreign, start=counter)
    assert pool.left == len(allowed)
    assert {pool.take() for _ in allowed} == allowed
    with pytest.raises(Exhausted, match=f"{len(allowed)} taken .*, {len(ruled_out)} ruled out"):
        pool.take()
    with pytest.raises(Exhausted, match=f"{len(allowed)} taken .*, {len(ruled_out)} ruled out"):
        allotment.draw(counter, Register(allowed).taken, foreign)


@pytest.mark.parametrize("scheme", [SMALL, TRIPLES, SINGLES], ids=str)
@given(foreign=foreign_sets, counter=st.integers(0, 1000), data=st.data())
def test_the_population_tells_a_full_realm_from_one_with_a_last_code(
    scheme: RealmScheme, foreign: list[CategorySet], counter: int, data: st.DataObject
) -> None:
    realm = scheme.realm_code(0)
    allotment = Allotment(scheme, realm, SECRET)
    everything = guests_of(scheme, realm)
    allowed = {one for one in everything if not any(one.comparable(other) for other in foreign)}
    assume(allowed)
    # Some labels of others came when guests were there already: those codes are both taken and ruled out.
    both = data.draw(st.sets(st.sampled_from(sorted(everything - allowed, key=str)))) if everything - allowed else set()
    full = Register(allowed | both)
    with pytest.raises(Exhausted, match=f"{len(allowed | both)} taken"):
        allotment.draw(counter, full.taken, foreign, lambda: len(allowed | both))
    assert full.asked <= 1 + len(everything - allowed)
    last = data.draw(st.sampled_from(sorted(allowed, key=str)))
    nearly = Register((allowed | both) - {last})
    assert allotment.draw(counter, nearly.taken, foreign, lambda: len(allowed | both) - 1) == last


def test_a_full_realm_of_the_usual_size_is_not_searched() -> None:
    scheme = RealmScheme()
    allotment = Allotment(scheme, scheme.realm_code(0), SECRET)
    asked: list[int] = []

    def taken(keys: list[str]) -> list[str]:
        asked.append(len(keys))
        return keys

    with pytest.raises(Exhausted, match="292995 taken"):
        allotment.draw(1, taken, (), lambda: allotment.size)
    assert asked == [1]


@pytest.mark.parametrize("text", ["c0.c1023", "c1", "c1,c256.c1021"])
def test_a_label_that_leaves_no_room_is_named_before_any_search(text: str) -> None:
    scheme = RealmScheme()
    allotment = Allotment(scheme, scheme.realm_code(1), SECRET)
    register = Register()
    with pytest.raises(Exhausted, match=f"{text}: 0 of 292995 left"):
        allotment.draw(0, register.taken, [CategorySet.parse(text)])
    assert register.asked == 0


def test_a_process_without_categories_leaves_no_room_either() -> None:
    with pytest.raises(Exhausted, match="the empty set"):
        Obstacles(SMALL, SMALL.realm_code(0), [CategorySet()])


def test_labels_that_leave_no_room_together_are_found_before_any_search() -> None:
    realm = SMALL.realm_code(0)
    foreign = [realm | CategorySet([number]) for number in SMALL.guest_block]
    with pytest.raises(Exhausted, match="0 of 28 left"):
        Obstacles(SMALL, realm, foreign[:-1])
    assert Obstacles(SMALL, realm, foreign[:-2])


def test_random_pairs_of_another_engine_cost_little_room() -> None:
    scheme = RealmScheme()
    pairs = [CategorySet(pair) for pair in combinations(range(250, 300), 2)]
    pool = Pool(Allotment(scheme, scheme.realm_code(0), SECRET), foreign=pairs)
    inside = len(list(combinations(range(256, 300), 2)))
    assert pool.left == 292_995 - inside


def test_a_pool_keeps_clear_of_what_is_taken() -> None:
    realm = SMALL.realm_code(2)
    allotment = Allotment(SMALL, realm, SECRET)
    everything = guests_of(SMALL, realm)
    taken = set(list(everything)[:10])
    pool = Pool(allotment, taken=taken)
    assert {pool.take() for _ in range(pool.left)} == everything - taken


def test_a_released_code_comes_back_last() -> None:
    realm = SMALL.realm_code(0)
    pool = Pool(Allotment(SMALL, realm, SECRET), start=11)
    first = pool.take()
    pool.release(first)
    others = [pool.take() for _ in range(SMALL.capacity.guests - 1)]
    assert first not in others
    assert pool.take() == first
    assert pool.left == 0


def test_a_pool_starts_where_it_is_told() -> None:
    allotment = Allotment(SMALL, SMALL.realm_code(0), SECRET)
    assert Pool(allotment, start=5).take() == allotment.at(5)


def test_a_released_code_stays_ruled_out() -> None:
    allotment = Allotment(SMALL, SMALL.realm_code(0), SECRET)
    foreign = allotment.at(3)
    known_before, met_later = Pool(allotment, [foreign], [foreign]), Pool(allotment, foreign=[foreign])
    assert met_later.claim(foreign) is False
    for pool in (known_before, met_later):
        pool.release(foreign)
        assert pool.left == 27
        assert foreign not in {pool.take() for _ in range(27)}


def test_a_pool_follows_the_ledger() -> None:
    allotment = Allotment(SMALL, SMALL.realm_code(0), SECRET)
    pool = Pool(allotment)
    assert pool.claim(allotment.at(0)) is True
    assert pool.claim(allotment.at(0)) is False
    assert pool.take() == allotment.at(1)
    with pytest.raises(Denied, match="nobody has taken it"):
        pool.release(allotment.at(5))


def test_another_realms_code_is_refused() -> None:
    pool = Pool(Allotment(SMALL, SMALL.realm_code(0), SECRET))
    stranger = SMALL.guest_categories(SMALL.realm_code(1), 0)
    for wrong in (stranger, SMALL.realm_code(0), CategorySet()):
        with pytest.raises(LabelError):
            pool.claim(wrong)
        with pytest.raises(LabelError):
            pool.release(wrong)
    with pytest.raises(LabelError):
        Allotment(SMALL, CategorySet([5]), SECRET)


def test_secrets_have_a_least_length() -> None:
    for secret in (b"", bytes(15), bytes(65)):
        with pytest.raises(ValueError, match="expected 16 to 64"):
            Allotment(SMALL, SMALL.realm_code(0), secret)


@pytest.mark.parametrize("scheme", [RealmScheme(), RealmScheme(code=CoverFreeCode(16, 3)), SMALL], ids=str)
def test_realm_codes_are_drawn_until_none_is_left(scheme: RealmScheme) -> None:
    held: set[str] = set()

    def taken(keys: list[str]) -> set[str]:
        return held & set(keys)

    for _ in range(3):
        code = draw_realm(scheme, taken)
        assert str(code) not in held
        held.add(str(code))
    held.update(str(code) for code in scheme.realm_codes())
    with pytest.raises(Exhausted, match=f"of {scheme.capacity.realms}: {scheme.capacity.realms} taken"):
        draw_realm(scheme, taken)


def test_a_realm_code_is_clear_of_foreign_labels() -> None:
    scheme = RealmScheme()
    foreign = [CategorySet([0, 700]), CategorySet([1]), CategorySet([800, 900])]
    assert draw_realm(scheme, lambda keys: (), foreign) == CategorySet([2])
    with pytest.raises(Exhausted, match="256 comparable with labels"):
        draw_realm(scheme, lambda keys: (), [scheme.realm_block])
