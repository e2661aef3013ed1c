"""A driver that enforces nothing and remembers everything: for the tests of programs that are built on septum."""

from __future__ import annotations

from septum.errors import HostError
from septum.host.driver import Availability, Confinement, Entry, Facts, Operation, Outcome, Step, Verdict
from septum.labels import CategorySet
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class FakeObject:
    """The operation ``fake``: sets a word on a path, in memory."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.refuse: set[str] = set()

    def describe(self, step: Step) -> str:
        return f"mark {step.path} with {step.args['mark']}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        return {"mark": self.state.get(step.path, "")}

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        if step.path in self.refuse:
            raise HostError("it can't be marked", target=step.path)
        self.state[step.path] = step.args["mark"]

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        now = self.state.get(step.path, "")
        if now == original["mark"]:
            return "untouched"
        if now != step.args["mark"]:
            return "foreign"
        self.state[step.path] = original["mark"]
        return "restored"


class FakeDriver:
    """Implements `host.driver.Driver`.

    Attributes:
        objects: the marks; ``objects.refuse`` holds paths for which `apply` fails.
        entered: names of the guests whose process went through `entries`.
    """

    name = "fake"

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.objects = FakeObject()
        self.entered: list[str] = []

    def probe(self) -> Availability:
        return Availability(self.works, "" if self.works else "it was told not to work", {})

    def operations(self) -> Mapping[str, Operation]:
        return {"fake": self.objects}

    def steps(self, guest: Confinement) -> list[Step]:
        return [
            Step(
                "fake",
                item.facts.key,
                item.facts.path,
                item.facts.key if item.resource.sharing == "shared" else "",
                {"mark": guest.realm_level if item.resource.sharing == "shared" else guest.level},
            )
            for item in guest.items
            if item.facts and not item.platform
        ]

    def foreign(self) -> list[CategorySet]:
        return []

    def entries(self, guest: Confinement) -> list[Entry]:
        return [Entry(50, "enter nothing", lambda: self.entered.append(guest.name))]

    def explain(self, guest: Confinement, facts: Facts, access: str) -> Verdict:
        mark = self.objects.state.get(facts.path, "")
        return Verdict("fake", mark in (guest.level, guest.realm_level), f"mark {mark or 'none'}")
