"""Realm schemes: what stays apart from what."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import Denied, Exhausted, LabelError
from septum.labels import Bounds, CategorySet, CoverFreeCode, RealmScheme

DEFAULT = RealmScheme()
COVER_FREE = RealmScheme(code=CoverFreeCode(16, 3))
SMALL = [
    RealmScheme(range(3), range(3, 8)),
    RealmScheme(range(4, 7), range(4), size=1),
    RealmScheme(range(3), range(5, 11), size=3),
    RealmScheme(range(9), range(9, 13), code=CoverFreeCode(3, 2)),
]


def all_guests(scheme: RealmScheme) -> list[tuple[CategorySet, CategorySet]]:
    return [
        (realm, scheme.guest_categories(realm, number))
        for realm in scheme.realm_codes()
        for number in range(scheme.capacity.guests)
    ]


@pytest.mark.parametrize("scheme", SMALL, ids=str)
def test_all_guests_of_all_realms_are_incomparable(scheme: RealmScheme) -> None:
    guests = [categories for _, categories in all_guests(scheme)]
    assert len(guests) == scheme.capacity.total
    assert all(one.relation(other) == "incomparable" for one, other in combinations(guests, 2))


@pytest.mark.parametrize("scheme", SMALL, ids=str)
def test_an_orchestrator_dominates_its_own_guests_and_no_others(scheme: RealmScheme) -> None:
    guests = all_guests(scheme)
    for realm in scheme.realm_codes():
        cleared = scheme.orchestrator_range(realm)
        assert cleared.low.categories == realm
        for owner, categories in guests:
            assert cleared.high.categories.dominates(categories) == (owner == realm)


@pytest.mark.parametrize("scheme", SMALL, ids=str)
def test_no_clearance_reaches_a_realm_left_out(scheme: RealmScheme) -> None:
    codes = list(scheme.realm_codes())
    most = len(codes) if scheme.r is None else scheme.r
    for count in range(most + 1):
        for chosen in combinations(codes, count):
            union = scheme.clearance(chosen) | scheme.guest_block
            assert [code for code in codes if union.dominates(code)] == list(chosen)


def test_a_clearance_beyond_r_is_refused() -> None:
    codes = list(COVER_FREE.realm_codes())[:8]
    assert COVER_FREE.r == 7
    assert COVER_FREE.clearance(codes[:7])
    assert COVER_FREE.clearance([*codes[:7], codes[0]]) == COVER_FREE.clearance(codes[:7])
    with pytest.raises(Denied, match="8 realms") as caught:
        COVER_FREE.clearance(codes)
    assert "7-cover-free" in caught.value.rule
    assert caught.value.remedy


def test_single_categories_stay_separate_however_many() -> None:
    assert DEFAULT.r is None
    assert DEFAULT.clearance(DEFAULT.realm_codes()) == DEFAULT.realm_block


def test_capacities_of_the_design() -> None:
    assert DEFAULT.capacity == (256, 292_995, 75_006_720, None)
    assert COVER_FREE.capacity == (4096, 292_995, 4096 * 292_995, 7)


def test_the_container_engines_pair_stays_free() -> None:
    reserved = CategorySet([1022, 1023])
    for scheme in (DEFAULT, COVER_FREE):
        assert not (scheme.realm_block | scheme.guest_block) & reserved


@pytest.mark.parametrize("scheme", [DEFAULT, COVER_FREE, *SMALL], ids=str)
@given(data=st.data())
def test_split_undoes_the_union(scheme: RealmScheme, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, scheme.capacity.realms - 1))
    number = data.draw(st.integers(0, scheme.capacity.guests - 1))
    realm = scheme.realm_code(index)
    categories = scheme.guest_categories(realm, number)
    parts = scheme.split(categories)
    assert parts.realm == realm
    assert parts.realm | parts.guest == categories
    assert scheme.realm_index(parts.realm) == index
    assert scheme.guest_rank(parts.guest) == number


@pytest.mark.parametrize(
    "text", ["c3", "c3,c300", "c3,c300.c302", "c3,c4,c300,c301", "c300,c301", "c3,c300,c301,c1023", "c3,c1022,c1023"]
)
def test_split_refuses_what_is_no_guests_set(text: str) -> None:
    with pytest.raises(LabelError) as caught:
        DEFAULT.split(CategorySet.parse(text))
    assert caught.value.target == text


def test_a_rank_needs_a_guest_code() -> None:
    for wrong in ([3, 300], [1, 2], [300], [300, 1022]):
        with pytest.raises(LabelError, match="is no guest code"):
            DEFAULT.guest_rank(CategorySet(wrong))


def test_split_refuses_the_empty_set() -> None:
    with pytest.raises(LabelError, match="the empty set"):
        DEFAULT.split(CategorySet())


def test_a_union_of_realm_codes_is_no_realm_code() -> None:
    code = COVER_FREE.realm_code(1) | COVER_FREE.realm_code(2)
    for wrong in (code, COVER_FREE.realm_code(1) - CategorySet([1]), CategorySet([300]), CategorySet()):
        with pytest.raises(LabelError, match="is no realm code"):
            COVER_FREE.realm_index(wrong)
    with pytest.raises(LabelError):
        COVER_FREE.orchestrator_range(code)
    with pytest.raises(LabelError):
        COVER_FREE.clearance([code])


def test_codes_run_out_with_a_count() -> None:
    with pytest.raises(Exhausted, match="has 256"):
        DEFAULT.realm_code(256)
    with pytest.raises(Exhausted, match="each realm has 292995"):
        DEFAULT.guest_categories(DEFAULT.realm_code(0), 292_995)


def test_a_scheme_must_fit_its_policy() -> None:
    cases = [
        lambda: RealmScheme(range(10), range(9, 20)),
        lambda: RealmScheme(range(10), range(10, 20), size=0),
        lambda: RealmScheme(range(10), range(10, 20), size=11),
        lambda: RealmScheme(range(0), range(10, 20)),
        lambda: RealmScheme(range(10), range(20, 10, -1)),
        lambda: RealmScheme(range(10), range(10, 20, 2)),
        lambda: RealmScheme(range(-1, 10), range(10, 20)),
        lambda: RealmScheme(range(255), range(255, 1022), code=CoverFreeCode(16, 3)),
        lambda: RealmScheme(range(256), range(256, 1025)),
        lambda: RealmScheme(range(16), range(16, 65), bounds=Bounds(categories=64)),
    ]
    for case in cases:
        with pytest.raises(LabelError):
            case()


def test_a_schemes_text_tells_schemes_apart() -> None:
    schemes = [DEFAULT, COVER_FREE, *SMALL]
    assert len({str(scheme) for scheme in schemes}) == len(schemes)
    assert str(DEFAULT) == "realms c0.c255 single, guests c256.c1021 by 2"
