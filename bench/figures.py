"""What a part of the bench comes to: figures with their spread, ratios between them, goals; and how that is printed."""

from collections.abc import Iterable, Sequence
from statistics import median, quantiles
from typing import Any, NamedTuple


class BenchError(RuntimeError):
    """Something could not be measured; the message says why."""


class Figure(NamedTuple):
    """One quantity, measured several times.

    Attributes:
        name: what was measured.
        unit: of the values.
        values: in the order in which they were measured, at least one.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float, float]:
        """Minimum, lower and upper quartile."""
        if len(self.values) == 1:
            return (self.values[0],) * 3
        lower, _, upper = quantiles(self.values, n=4, method="inclusive")
        return min(self.values), lower, upper


class Ratio(NamedTuple):
    """One figure's median over another's; what belongs together was measured in one run.

    Attributes:
        name: what is compared with what.
        value: their quotient.
    """

    name: str
    value: float


class Goal(NamedTuple):
    """What was promised, beside what was measured. Nothing fails by it: a busy machine would.

    Attributes:
        name: the promise, in words.
        measured: in the unit of `limit`.
        limit: that the measured value must not pass.
        unit: of both.
        most: the limit is the most that is allowed; else the least.
    """

    name: str
    measured: float
    limit: float
    unit: str
    most: bool = True

    @property
    def met(self) -> bool:
        return self.measured <= self.limit if self.most else self.measured >= self.limit


class Result(NamedTuple):
    """What one part found.

    Attributes:
        part: its name.
        figures, ratios, goals: see there.
        notes: what a reader must know: what could not be measured and why.
    """

    part: str
    figures: tuple[Figure, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "part": self.part,
            "figures": [
                {
                    "name": figure.name,
                    "unit": figure.unit,
                    "count": len(figure.values),
                    "median": figure.median,
                    **dict(zip(("min", "lower", "upper"), figure.spread, strict=True)),
                }
                for figure in self.figures
            ],
            "ratios": [ratio._asdict() for ratio in self.ratios],
            "goals": [{**goal._asdict(), "met": goal.met} for goal in self.goals],
            "notes": list(self.notes),
        }


def ratio(name: str, one: Figure, other: Figure) -> Ratio:
    """How many times `other` is in `one`."""
    return Ratio(name, one.median / other.median)


def added(name: str, one: Figure, base: Figure) -> Figure:
    """What `one` takes more than `base`, pair by pair: both were measured by turns."""
    return Figure(name, one.unit, tuple(mine - its for mine, its in zip(one.values, base.values, strict=True)))


def render(result: Result) -> str:
    """A part as text for people."""
    lines = [result.part]
    if result.figures:
        head = ("", "median", "min", "quartiles", "", "unit", "runs")
        lines += _table([head, *(_row(figure) for figure in result.figures)])
    lines += [f"  {ratio.name}: {number(ratio.value)} times" for ratio in result.ratios]
    for goal in result.goals:
        bound = "at most" if goal.most else "at least"
        verdict = "met" if goal.met else "MISSED"
        lines.append(
            f"  goal, {goal.name}: {bound} {number(goal.limit)} {goal.unit}, "
            f"measured {number(goal.measured)}: {verdict}"
        )
    lines += [f"  {note}" for note in result.notes]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits that count; whole numbers from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(figure: Figure) -> tuple[str, ...]:
    middle, spread = figure.median, figure.spread
    return (figure.name, *map(number, (middle, *spread)), figure.unit, str(len(figure.values)))


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    cells = list(rows)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  " + "  ".join(f"{cell:{'<' if at in (0, 5) else '>'}{widths[at]}}" for at, cell in enumerate(row)).rstrip()
        for row in cells
    ]
