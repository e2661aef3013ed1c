"""The object manager: may this subject do that with this object? A real security server says so.

`ObjectManager` decides in this process; `Client` asks septumd. Engines are seams: `FakeEngine` and `MemoryLog` are for
your tests.
"""

from septum.access.chain import End, Entry, Report
from septum.access.classes import CLASSES, require
from septum.access.client import Client
from septum.access.engine import Access, Engine, Triple, Why
from septum.access.fake import FakeEngine
from septum.access.keeper import Keeper
from septum.access.log import DecisionLog, Head, Limits, Log, MemoryLog, Notice
from septum.access.manager import ObjectManager, Settled
from septum.access.objects import Contexts, Target
from septum.access.question import HIDDEN, Asker, Decision, ObjectQuestion, Question

__all__ = [
    "CLASSES",
    "HIDDEN",
    "Access",
    "Asker",
    "Client",
    "Contexts",
    "Decision",
    "DecisionLog",
    "End",
    "Engine",
    "Entry",
    "FakeEngine",
    "Head",
    "Keeper",
    "Limits",
    "Log",
    "MemoryLog",
    "Notice",
    "ObjectManager",
    "ObjectQuestion",
    "Question",
    "Report",
    "Settled",
    "Target",
    "Triple",
    "Why",
    "require",
]
