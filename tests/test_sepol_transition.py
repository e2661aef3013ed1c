"""Which context a new object gets: hand-made policies, each with the outcome that security_compute_sid defines."""

import pytest

from septum.errors import LabelError, PolicyError
from septum.sepol import Policy
from tests.sepolkit import small

T, OBJECT = "u:r:t:s0:c0-s1:c0.c3", "v:object_r:o:s0:c0,c1"
LOW = "s0:c0"
WHOLE = "s0:c0-s1:c0.c3"
FOUND = [
    # Without any rule: files from the folder, processes and sockets from who makes them; the low level, or all of it.
    ("", "file", "", f"u:object_r:o:{LOW}"),
    ("", "dir", "", f"u:object_r:o:{LOW}"),
    ("", "process", "", f"u:r:t:{WHOLE}"),
    ("", "unix_stream_socket", "", f"u:r:t:{WHOLE}"),
    ("", "septum_thing", "", f"u:object_r:o:{LOW}"),
    # Types.
    ("(typetransition t o file made_t)", "file", "", f"u:object_r:made_t:{LOW}"),
    ("(typetransition t o file made_t)", "dir", "", f"u:object_r:o:{LOW}"),
    ("(typetransition t many file made_t)", "file", "", f"u:object_r:made_t:{LOW}"),
    ("(typetransition t alias_t process made_t)", "process", "", f"u:r:made_t:{WHOLE}"),
    ("(typetransition x o file made_t)", "file", "", f"u:object_r:o:{LOW}"),
    # Names: only the very name, and before a rule without one.
    ('(typetransition t o file "n.1" named_t)', "file", "n.1", f"u:object_r:named_t:{LOW}"),
    ('(typetransition t o file "n.1" named_t)', "file", "nx1", f"u:object_r:o:{LOW}"),
    ('(typetransition t o file "n.1" named_t)', "file", "", f"u:object_r:o:{LOW}"),
    ('(typetransition t o file "n" named_t)(typetransition t o file made_t)', "file", "n", f"u:object_r:named_t:{LOW}"),
    ('(typetransition t o file "n" named_t)(typetransition t o file made_t)', "file", "m", f"u:object_r:made_t:{LOW}"),
    # Under booleans.
    ("(boolean b true)(booleanif b (true (typetransition t o file made_t)))", "file", "", f"u:object_r:made_t:{LOW}"),
    ("(boolean b false)(booleanif b (true (typetransition t o file made_t)))", "file", "", f"u:object_r:o:{LOW}"),
    (
        "(boolean b false)(booleanif b (true (typetransition t o file made_t)) "
        "(false (typetransition t o file other_t)))",
        "file", "", f"u:object_r:other_t:{LOW}",
    ),
    # Roles.
    ("(roletransition r o process q)(typetransition t o process made_t)", "process", "", f"u:q:made_t:{WHOLE}"),
    ("(roletransition q o process r)", "process", "", f"u:r:t:{WHOLE}"),
    # Ranges.
    ("(rangetransition t o file ((s1 (c1 c3)) (s1 (c1 c2 c3))))", "file", "", "u:object_r:o:s1:c1,c3-s1:c1.c3"),
    ("(rangetransition t o process ((s0) (s0)))", "process", "", "u:r:t:s0"),
    ("(rangetransition t many dir ((s0 (range c0 c2)) (s0 (range c0 c2))))", "dir", "", "u:object_r:o:s0:c0.c2"),
    # Defaults of classes.
    ("(defaultuser file target)", "file", "", f"v:object_r:o:{LOW}"),
    ("(defaultuser file source)", "file", "", f"u:object_r:o:{LOW}"),
    ("(defaultrole file source)(defaulttype file source)", "file", "", f"u:r:t:{LOW}"),
    ("(defaultrole process target)(defaulttype process target)", "process", "", f"u:object_r:o:{WHOLE}"),
    ("(defaulttype file source)(typetransition t o file made_t)", "file", "", f"u:object_r:made_t:{LOW}"),
    ("(defaultrange file source low)", "file", "", "u:object_r:o:s0:c0"),
    ("(defaultrange file source high)", "file", "", "u:object_r:o:s1:c0.c3"),
    ("(defaultrange file source low-high)", "file", "", f"u:object_r:o:{WHOLE}"),
    ("(defaultrange file target low)", "file", "", "u:object_r:o:s0:c0,c1"),
    ("(defaultrange file target high)", "file", "", "u:object_r:o:s0:c0,c1"),
    ("(defaultrange file target low-high)", "file", "", "u:object_r:o:s0:c0,c1"),
    ("(defaultrange process target low)", "process", "", "u:r:t:s0:c0,c1"),
    ("(defaultrange file glblub)", "file", "", "u:object_r:o:s0:c0-s0:c0,c1"),
    ("(defaultrange file glblub)(rangetransition t o file ((s0) (s0)))", "file", "", "u:object_r:o:s0"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "tclass", "name", "made"), FOUND)
def test_what_is_made(rules: str, tclass: str, name: str, made: str) -> None:
    with Policy.open(small(rules)) as policy:
        assert policy.transition(T, OBJECT, tclass, name) == made


def test_without_levels() -> None:
    with Policy.open(small("(typetransition t o file made_t)", mls=False)) as policy:
        assert policy.transition("u:r:t", "u:object_r:o", "file") == "u:object_r:made_t"


def test_what_would_not_be_valid_is_not_made() -> None:
    with (
        Policy.open(small("(roletransition r o process q)(defaultuser process target)")) as policy,
        pytest.raises(LabelError, match="v:q:t"),
    ):
        policy.transition(T, OBJECT, "process")


def test_ranges_that_have_nothing_in_common() -> None:
    with Policy.open(small("(defaultrange file glblub)")) as policy, pytest.raises(LabelError):
        policy.transition("u:r:t:s0", "u:object_r:o:s1", "file")


def test_what_names_do_not_tell_is_not_guessed() -> None:
    aliased = small("(defaultrange file glblub)(categoryalias cx)(categoryaliasactual cx c1)")
    with Policy.open(aliased) as policy, pytest.raises(PolicyError, match="can't be told"):
        policy.transition(T, OBJECT, "file")
