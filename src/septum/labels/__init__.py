"""Labels: category sets, levels, ranges and contexts; how realms and guests are named; how names are allotted. Pure."""

from __future__ import annotations

from septum.labels.allot import Allotment, Pool, draw_realm
from septum.labels.categories import DEFAULT_BOUNDS, Bounds, CategorySet, Relation
from septum.labels.context import Context, context_text
from septum.labels.coverfree import CoverFreeCode
from septum.labels.level import PAIRS, RELATIONS, Level, Range, relation_key, relations
from septum.labels.obstacles import Obstacles
from septum.labels.permutation import KeyedPermutation
from septum.labels.scheme import Capacity, RealmScheme, Split
from septum.labels.subsets import rank, unrank

__all__ = [
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
