"""What septum.labels offers, and how little it needs: it is imported on the way of every guest start."""

import subprocess
import sys

import septum.labels

NEEDED = {"__future__", "_blake2", "_struct", "itertools", "math", "struct"}


def test_the_public_names_are_these() -> None:
    assert septum.labels.__all__ == [
        "DEFAULT_BOUNDS",
        "PAIRS",
        "RELATIONS",
        "Allotment",
        "Bounds",
        "Capacity",
        "CategorySet",
        "Context",
        "CoverFreeCode",
        "KeyedPermutation",
        "Level",
        "Obstacles",
        "Pool",
        "Range",
        "RealmScheme",
        "Relation",
        "Split",
        "context_text",
        "draw_realm",
        "rank",
        "relation_key",
        "relations",
        "unrank",
    ]
    assert all(hasattr(septum.labels, name) for name in septum.labels.__all__)


def test_it_imports_nothing_else() -> None:
    script = (
        "import sys, typing, collections.abc; before = set(sys.modules); import septum.labels;"
        "print(*(name for name in sys.modules if name not in before))"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(child.stdout.split())
    ours = {name for name in imported if name.partition(".")[0] == "septum"}
    assert "septum.labels.allot" in ours
    assert {name for name in ours if not name.startswith("septum.labels")} == {"septum", "septum.errors", "septum.lean"}
    assert imported - ours <= NEEDED
