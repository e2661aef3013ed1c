"""Permission bits and ACLs: our decision is the kernel's, and what is granted is taken back without a trace."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from septum.errors import HostError
from septum.host import dac
from septum.host.dac import Acl, AclEntry
from tests.confined import inside, searchable

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NO_ID = 0xFFFFFFFF
UIDS = GIDS = st.sampled_from([1001, 1002, 1003])
PERMS = st.integers(0, 7)
MODES = st.integers(0, 0o777)


@st.composite
def acls(draw: st.DrawFn, *, roomy: bool = False) -> Acl:
    """ACLs as the kernel would take them; with `roomy` the mask takes nothing from anybody, and is not empty."""
    named = [AclEntry(USER, uid, draw(PERMS)) for uid in draw(st.sets(UIDS))]
    named += [AclEntry(GROUP, gid, draw(PERMS)) for gid in draw(st.sets(GIDS))]
    if not named:
        return ()
    group = draw(st.integers(1, 7)) if roomy else draw(PERMS)
    base = [AclEntry(USER_OBJ, NO_ID, draw(PERMS)), AclEntry(GROUP_OBJ, NO_ID, group)]
    mask = draw(PERMS)
    if roomy:
        for entry in (*named, base[1]):
            mask |= entry.perms
    rows = [*base, *named, AclEntry(MASK, NO_ID, mask), AclEntry(OTHER, NO_ID, draw(PERMS))]
    return tuple(sorted(rows, key=lambda entry: (entry.tag, entry.id)))


def mode_of(acl: Acl, mode: int) -> int:
    """The mode that the kernel shows for an object with this ACL."""
    bits = {entry.tag: entry.perms for entry in acl}
    return bits[USER_OBJ] << 6 | bits[MASK] << 3 | bits[OTHER] if acl else mode


@given(acls())
def test_what_is_packed_parses_again(acl: Acl) -> None:
    assert dac.parse(dac.pack(acl)) == acl


@pytest.mark.parametrize("blob", [b"\2", b"\2\0\0\0\1", b"\3\0\0\0", b"\2\0\0\0" + b"\0" * 7])
def test_an_acl_of_an_unknown_layout_is_refused(blob: bytes) -> None:
    with pytest.raises(HostError):
        dac.parse(blob)


ENTRIES = st.lists(
    st.tuples(st.sampled_from(["user", "group"]), st.integers(70001, 70004), st.integers(1, 7)),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[:2],
)


@given(acls(roomy=True), MODES, ENTRIES, st.randoms(use_true_random=False))
def test_granting_and_taking_back_in_any_order_leaves_everybody_his_rights(
    acl: Acl, mode: int, entries: list[tuple[str, int, int]], random: Random
) -> None:
    now, shown = acl, mode_of(acl, mode)
    for tag, number, perms in entries:
        now = dac.grant(now, shown, tag, number, perms)
        shown = mode_of(now, shown)
        assert dac.entry(now, tag, number) == perms
    random.shuffle(entries)
    for tag, number, _ in entries:
        kept = dac.revoke(now, tag, number)
        shown = mode_of(kept, shown) if kept else dac.plain_mode(now, shown)
        now = kept
    before = mode_of(acl, mode)
    assert [entry for entry in now if entry.tag != MASK] == [entry for entry in acl if entry.tag != MASK]
    for uid in (1000, 1001, 1002, 1003, 1004, 70001):
        for gid in (1000, 1001, 1002, 1003, 1004, 70001):
            for want in range(1, 8):
                was = dac.decide(uid, (gid,), want, owner=1000, group=1000, mode=before, acl=acl)[0]
                here = dac.decide(uid, (gid,), want, owner=1000, group=1000, mode=shown, acl=now)[0]
                assert was == here
    if not acl:
        assert (now, shown) == ((), mode)


@given(acls(roomy=True), MODES, st.integers(1, 7))
def test_one_entry_comes_and_goes_without_any_trace(acl: Acl, mode: int, perms: int) -> None:
    shown = mode_of(acl, mode)
    granted = dac.grant(acl, shown, "user", 70001, perms)
    kept = dac.revoke(granted, "user", 70001, dac.spare(acl))
    assert dac.pack(kept) == dac.pack(acl)
    if not kept:
        assert dac.plain_mode(granted, mode_of(granted, shown)) == shown


@given(acls(), MODES, st.integers(1, 7))
def test_a_grant_gives_nobody_else_anything(acl: Acl, mode: int, perms: int) -> None:
    shown = mode_of(acl, mode)
    try:
        granted = dac.grant(acl, shown, "user", 70001, perms)
    except HostError:
        # The mask withholds it, and taking from the mask would give to others.
        mask = next(entry.perms for entry in acl if entry.tag == MASK)
        assert perms & ~mask
        return
    after = mode_of(granted, shown)
    assert dac.decide(70001, (), perms, owner=1000, group=1000, mode=after, acl=granted)[0]
    for uid in (1000, 1001, 1002, 1004):
        for gid in (1000, 1001, 1002, 1004):
            for want in range(1, 8):
                was = dac.decide(uid, (gid,), want, owner=1000, group=1000, mode=shown, acl=acl)[0]
                now = dac.decide(uid, (gid,), want, owner=1000, group=1000, mode=after, acl=granted)[0]
                # Some may lose: an ACL with an empty mask is one that the kernel did not look at before.
                assert was or not now


CASE = st.tuples(
    acls(), MODES, st.sampled_from([1000, 1001]), st.sampled_from([1000, 1001, 1002]),
    st.sampled_from([1000, 1001, 1002, 1004]), st.lists(st.sampled_from([1000, 1001, 1002, 1003, 1004]), max_size=3),
)  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from searchable()


@pytest.mark.root
# Shrinking would start hundreds of processes.
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(CASE, min_size=25, max_size=25))
def test_the_kernel_decides_alike(folder: Path, cases: list[tuple[Acl, int, int, int, int, list[int]]]) -> None:
    """Files with random modes and ACLs; a child becomes each uid and really tries."""
    paths = []
    for acl, mode, owner, group, _, _ in cases:
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        os.chown(name, owner, group)
        os.chmod(name, mode)
        if acl:
            os.setxattr(name, dac.XATTR, dac.pack(acl))
        paths.append(name)

    def tries() -> list[list[bool]]:
        answers = []
        for name, (_, _, _, _, uid, gids) in zip(paths, cases, strict=True):
            os.setgroups(gids)
            os.setresgid(4000, 4000, 0)
            os.setresuid(uid, uid, 0)
            answers.append([os.access(name, want) for want in range(1, 8)])
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
        return answers

    for name, case, answer in zip(paths, cases, inside(tries), strict=True):
        acl, _, owner, group, uid, gids = case
        mode = os.stat(name).st_mode & 0o777
        ours = [
            dac.decide(uid, {4000, *gids}, want, owner=owner, group=group, mode=mode, acl=dac.parse(_raw(name)))[0]
            for want in range(1, 8)
        ]
        assert ours == answer, (oct(mode), case)


def _raw(name: str) -> bytes:
    try:
        return os.getxattr(name, dac.XATTR)
    except OSError:
        return b""
