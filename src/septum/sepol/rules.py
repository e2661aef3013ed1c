"""What a compiled policy says, read from the CIL that libsepol makes of it (`sepol_kernel_policydb_to_cil`).

The text has one statement a line; only conditional rules are nested, and their lines are indented
(libsepol/src/kernel_to_cil.c). Statements are looked for when they are asked for: a whole policy has 100,000 of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from septum.errors import PolicyError
from septum.labels import Bounds, Level, Range
from septum.sepol.conditions import Conditional, conditionals

__all__ = ["BOUNDS", "Allow", "Rules"]

BOUNDS: Final = Bounds(1 << 16, 1 << 10)
"""For reading levels that the policy has accepted: which names there are, it has said."""


class Allow(NamedTuple):
    """An allow rule.

    Attributes:
        source, target: a type, an attribute, or ``self``.
        tclass, permissions: what it allows.
        condition: the booleans' expression that it stands under, "" for none.
        active: it counts, as the booleans are.
    """

    source: str
    target: str
    tclass: str
    permissions: tuple[str, ...]
    condition: str
    active: bool

    def __str__(self) -> str:
        rule = f"(allow {self.source} {self.target} ({self.tclass} ({' '.join(self.permissions)})))"
        return f"{rule} ; if {self.condition}" if self.condition else rule


class Rules:
    """A policy's statements. What is asked for often is kept, the rest is looked for in the text each time.

    Args:
        text: CIL as libsepol writes it (`sepol_kernel_policydb_to_cil`).

    Attributes:
        text: the same.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._allows: dict[str, dict[str, list[re.Match[str]]]] = {}

    @cached_property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Each class with its permissions, the inherited ones first, as their bits go."""
        common = {name: tuple(words.split()) for name, words in self._find(r"\(common (\S+) \((.*)\)\)")}
        inherited = {name: other for name, other in self._find(r"\(classcommon (\S+) (\S+)\)")}  # noqa: C416
        own = {name: tuple(words.split()) for name, words in self._find(r"\(class (\S+) \((.*)\)\)")}
        return {name: (*common.get(inherited.get(name, ""), ()), *words) for name, words in own.items()}

    @cached_property
    def types(self) -> frozenset[str]:
        return frozenset(self._words(r"\(type (\S+)\)"))

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Other names of types → the types."""
        return {name: one for name, one in self._find(r"\(typealiasactual (\S+) (\S+)\)")}  # noqa: C416

    @cached_property
    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Each attribute with its types; those without any too."""
        found: dict[str, frozenset[str]] = dict.fromkeys(self._words(r"\(typeattribute (\S+)\)"), frozenset())
        for name, words in self._find(r"\(typeattributeset (\S+) \((.*)\)\)"):
            found[name] = frozenset(words.split())
        return found

    @cached_property
    def booleans(self) -> Mapping[str, bool]:
        return {name: value == "true" for name, value in self._find(r"\(boolean (\S+) (true|false)\)")}

    @cached_property
    def users(self) -> frozenset[str]:
        return frozenset(self._words(r"\(user (\S+)\)"))

    @cached_property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """Each role with its types."""
        found: dict[str, set[str]] = {name: set() for name in self._words(r"\(role (\S+)\)")}
        for role, one in self._find(r"\(roletype (\S+) (\S+)\)"):
            found[role].add(one)
        return {role: frozenset(types) for role, types in found.items()}

    @property
    def canonical_levels(self) -> bool:
        """Whether the levels' names stand for themselves: ``s0``…, ``c0``… in this order and without aliases.

        Only then do two sets of names stand to each other as the sets of categories that they mean.
        """
        for kind in ("sensitivity", "category"):
            order = next(iter(self._words(rf"\({kind}order \((.*)\)\)")), "").split()
            if order != [f"{kind[0]}{number}" for number in range(len(order))] or self._find(rf"\({kind}alias .*"):
                return False
        return True

    @property
    def counts(self) -> Mapping[str, int]:
        """How many statements of each kind there are, conditional rules included."""
        found: dict[str, int] = {}
        for word in re.findall(r"^ *\((\w+)", self.text, re.MULTILINE):
            if word not in ("true", "false"):
                found[word] = found.get(word, 0) + 1
        return found

    def names_of(self, one: str) -> frozenset[str]:
        """A type and its attributes: what rules may call it."""
        one = self.aliases.get(one, one)
        return self._names.get(one, frozenset((one,)))

    def allows(self, source: str, target: str, tclass: str) -> Iterator[Allow]:
        """The rules that speak of these types and this class, inactive ones too."""
        targets = self.names_of(target)
        same = self.aliases.get(source, source) == self.aliases.get(target, target)
        index = self._index(tclass)
        for name in self.names_of(source):
            for found in index.get(name, ()):
                if found[2] in targets or (same and found[2] == "self"):
                    block = self._conditional(found.start()) if found[0].startswith(" ") else None
                    condition, active = ("", True) if block is None else (block.condition, block.active)
                    yield Allow(found[1], found[2], tclass, tuple(found[3].split()), condition, active)

    def quote(
        self,
        source: Sequence[str],
        target: Sequence[str],
        tclass: str,
        granted: Sequence[str],
        refused: Sequence[str],
        reasons: Sequence[str],
    ) -> str:
        """The rule that a decision rests on, in one line.

        Args:
            source, target: contexts, split at colons.
            tclass, granted, refused, reasons: of the decision.
        """
        if refused and "type enforcement" not in reasons:
            if "role" in reasons:
                return f"there is no (roleallow {source[1]} {target[1]})"
            return f"the type that bounds {source[2]} may not {{ {' '.join(refused)} }} {tclass} of {target[2]}"
        found = list(self.allows(source[2], target[2], tclass))
        if not refused:
            wanted = set(granted)
            rules = [rule for rule in found if rule.active and wanted & set(rule.permissions)]
            rules.sort(key=lambda rule: len(wanted - set(rule.permissions)))
            return str(rules[0]) if rules else ""
        switched_off = [rule for rule in found if not rule.active and set(refused) & set(rule.permissions)]
        missing = f"there is no (allow {source[2]} {target[2]} ({tclass} ({' '.join(refused)})))"
        return f"{missing}; switched off: {switched_off[0]}" if switched_off else missing

    def transition(self, source: str, target: str, tclass: str, name: str) -> str:
        """The context of what `source` makes, as `security_compute_sid` of security/selinux/ss/services.c finds it.

        Raises:
            LabelError: the two ranges have nothing in common, and the class's default is what they have in common.
            PolicyError: the same, but the levels' names do not tell.
        """
        mine, theirs = source.split(":", 3), target.split(":", 3)
        side = {"source": mine, "target": theirs}
        of_process = tclass == "process" or tclass.endswith("socket")  # security_is_socket_class
        user = side[self._default("user", tclass) or "source"][0]
        default = self._default("role", tclass)
        role = side[default][1] if default else (mine[1] if of_process else "object_r")
        default = self._default("type", tclass) or ("source" if of_process else "target")
        made = self._type_made(mine[2], theirs[2], tclass, name) or side[default][2]
        targets = self.names_of(theirs[2])
        for one, other, new_role in self._find(rf"\(roletransition (\S+) (\S+) {re.escape(tclass)} (\S+)\)"):
            if one == mine[1] and other in targets:
                role = new_role
        found = [user, role, made]
        if len(mine) == 4:
            found.append(self._range(mine, theirs, tclass, of_process))
        return ":".join(found)

    def _type_made(self, source: str, target: str, tclass: str, name: str) -> str:
        """By a rule for the name, else by one without; "" if there is none. Rules without may be conditional."""
        sources, targets = self.names_of(source), self.names_of(target)
        made = ""
        rule = rf"^( *)\(typetransition (\S+) (\S+) {re.escape(tclass)} ([^\s\"]+)\)$"
        for found in re.finditer(rule, self.text, re.MULTILINE):
            if found[2] in sources and found[3] in targets and self._counts(found):
                made = found[4]
        if name:
            # libsepol 3.4 writes the name as it is, later ones in quotes.
            written = rf"(?:{re.escape(name)}|\"{re.escape(name)}\")"
            pattern = rf"\(typetransition (\S+) (\S+) {re.escape(tclass)} {written} (\S+)\)"
            for one, other, new_type in self._find(pattern):
                if one in sources and other in targets:
                    made = new_type
        return made

    def _range(self, source: Sequence[str], target: Sequence[str], tclass: str, of_process: bool) -> str:
        sources, targets = self.names_of(source[2]), self.names_of(target[2])
        for one, other, low, high in self._find(
            rf"\(rangetransition (\S+) (\S+) {re.escape(tclass)} \((\(.*?\)|\S+) (\(.*\)|\S+)\)\)"
        ):
            if one in sources and other in targets:
                return _range_text(low, high)
        default = next(iter(self._words(rf"\(defaultrange {re.escape(tclass)} (\S+ ?\S*)\)")), "")
        if default == "glblub":
            if not self.canonical_levels:
                raise PolicyError(
                    f"the range of what is made can't be told: class {tclass} has (defaultrange {tclass} glblub)",
                    target=tclass,
                    rule="it is computed from levels' names, which must stand for themselves",
                )
            return _common(source[3], target[3])
        if default:
            side, _, part = default.partition(" ")
            low, _, high = {"source": source, "target": target}[side][3].partition("-")
            return {"low": low, "high": high or low, "low-high": f"{low}-{high}" if high else low}[part]
        return source[3] if of_process else source[3].partition("-")[0]

    def _default(self, what: str, tclass: str) -> str:
        return next(iter(self._words(rf"\(default{what} {re.escape(tclass)} (source|target)\)")), "")

    @cached_property
    def _names(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {one: {one} for one in self.types}
        for attribute, types in self.attributes.items():
            for one in types:
                found[one].add(attribute)
        return {one: frozenset(names) for one, names in found.items()}

    @cached_property
    def _conditionals(self) -> list[Conditional]:
        return conditionals(self.text, self.booleans)

    def _index(self, tclass: str) -> dict[str, list[re.Match[str]]]:
        """The allow rules of a class by their sources. To look at all of a large policy's takes a tenth of a second."""
        index = self._allows.get(tclass)
        if index is None:
            index = {}
            pattern = rf"^ *\(allow (\S+) (\S+) \({re.escape(tclass)} \((.*)\)\)\)$"
            for found in re.finditer(pattern, self.text, re.MULTILINE):
                index.setdefault(found[1], []).append(found)
            self._allows[tclass] = index
        return index

    def _counts(self, found: re.Match[str]) -> bool:
        """Whether a statement counts, as the booleans are."""
        block = self._conditional(found.start()) if found[0].startswith(" ") else None
        return block is None or block.active

    def _conditional(self, place: int) -> Conditional | None:
        return next((block for block in self._conditionals if block.start <= place < block.end), None)

    def _find(self, pattern: str) -> list[tuple[str, ...]]:
        """The groups of all statements outside of conditionals that fit."""
        return [found.groups() for found in re.finditer(f"^{pattern}$", self.text, re.MULTILINE)]

    def _words(self, pattern: str) -> list[str]:
        """The same for patterns with one group."""
        return [found[1] for found in re.finditer(f"^{pattern}$", self.text, re.MULTILINE)]


def _common(source: str, target: str) -> str:
    """What two ranges have in common, as `mls_context_glblub` of security/selinux/ss/context.h computes it."""
    one, other = Range.parse(source, BOUNDS), Range.parse(target, BOUNDS)
    ends = (
        Level(choose(mine.sensitivity, theirs.sensitivity), mine.categories & theirs.categories)
        for choose, mine, theirs in ((max, one.low, other.low), (min, one.high, other.high))
    )
    return str(Range(*ends))


def _range_text(low: str, high: str) -> str:
    def level(text: str) -> str:
        sensitivity, _, rest = text.strip("()").partition(" ")
        parts = re.findall(r"range \S+ [^\s()]+|[^\s()]+", rest)
        categories = [".".join(part.split()[1:]) if part.startswith("range ") else part for part in parts]
        return f"{sensitivity}:{','.join(categories)}" if categories else sensitivity

    return level(low) if level(low) == level(high) else f"{level(low)}-{level(high)}"
