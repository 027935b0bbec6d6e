"""What `make bench` found, as JSON and as a page: figures, their rows, targets and slopes.

Each figure has a module that makes a `Figure`; how ratios come about is in `pairs`. Figures of
an earlier run on the same machine stay in the files until they are measured anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from knowledge_gaps.core.files import read_json, write_json, write_text
from measuring.pairs import Slope, Spread

JSON_FILE, PAGE_FILE = "benchmarks.json", "benchmarks.md"
_FORMAT = 2
_HEAD = """# Benchmarks

Written by `make bench`. A figure is a ratio of two things that were measured in turns, one beside
the other in one run: its median over the pairs, and the smallest and the largest. Seconds stand
here only where a target is in seconds, and beside a ratio. An exponent b says that cost grows as
size^b, a slope what one more adds to it.

Commands of their own: `python benchmarks/layers.py` (layers with gradients written by hand) and
`python benchmarks/batched.py` (instances of a cohort trained together, for GPUs).
"""
_QUICK = "\n**A trial of the benchmarks themselves, on tiny sizes: its numbers mean nothing.**\n"


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        num_turns: pairs a figure; at least 5 to be told.
        is_quick: tiny sizes, to try the benchmarks themselves.
    """

    num_turns: int = 5
    is_quick: bool = False


@dataclass(frozen=True)
class Target:
    """What a row's median should be at least, or at most."""

    limit: float
    is_least: bool

    def is_met(self, value: float) -> bool:
        """Tell whether a value is on the right side of the limit, or on it."""
        return value >= self.limit if self.is_least else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of a figure.

    Attributes:
        name: what is compared with what.
        spread: over the pairs; None where nothing could be measured, which `note` explains.
        unit: "x" for a ratio, otherwise what the values are in.
        target: if there is one.
        note: what a reader has to know.
    """

    name: str
    spread: Spread | None
    unit: str = "x"
    target: Target | None = None
    note: str = ""


@dataclass(frozen=True)
class Growth:
    """How a cost grows with a size.

    Attributes:
        name: which cost, over which sizes.
        slope: of the costs' medians.
        unit: "" for an exponent, otherwise what one more costs is in.
    """

    name: str
    slope: Slope
    unit: str = ""


@dataclass(frozen=True)
class Figure:
    """One comparison with all its rows.

    Attributes:
        name: for the command line.
        title: for people.
        text: how it was measured.
        rows: of its table.
        growths: of its table of exponents and slopes.
        measured: what the rows were computed from, for the JSON file alone.
    """

    name: str
    title: str
    text: str
    rows: Sequence[Row]
    growths: Sequence[Growth] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold, with all that the page says."""
        return {
            "name": self.name,
            "title": self.title,
            "text": self.text,
            "rows": [_describe_row(row) for row in self.rows],
            "growths": [
                {"name": each.name, "unit": each.unit, **asdict(each.slope)}
                for each in self.growths
            ],
            "measured": self.measured,
        }


def _describe_row(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"name": row.name, "unit": row.unit, "note": row.note}
    if row.spread is not None:
        spread = row.spread
        found |= {"median": spread.median, "low": spread.low, "high": spread.high}
        found["values"] = list(spread.values)
    if row.target is not None:
        found["target"] = asdict(row.target)
        found["is_met"] = None if row.spread is None else row.target.is_met(row.spread.median)
    return found


class Results:
    """The two files of a folder.

    Args:
        folder: of the files.
        machine: from `machine.describe_machine`; figures of another machine are dropped.
        order: names of all figures, as they stand on the page.
        is_quick: the figures of this run are trials, and those before are dropped.
    """

    def __init__(self, folder: Path, machine: str, order: Sequence[str], is_quick: bool) -> None:
        self._folder, self._order = folder, list(order)
        self._content: dict[str, Any] = {
            "format": _FORMAT,
            "machine": machine,
            "is_quick": is_quick,
            "figures": [],
        }
        path = folder / JSON_FILE
        if path.exists():
            before = read_json(path)
            same = ("format", "machine", "is_quick")
            if all(before.get(key) == self._content[key] for key in same):
                self._content["figures"] = before["figures"]

    def put(self, figure: Figure, load: str) -> None:
        """Add a figure, or put it in place of an older one, and write both files."""
        kept = [each for each in self._content["figures"] if each["name"] != figure.name]
        kept = [each for each in kept if each["name"] in self._order]
        figures = [*kept, {**figure.to_json(), "load": load}]
        self._content["figures"] = sorted(figures, key=lambda each: self._order.index(each["name"]))
        write_json(self._folder / JSON_FILE, self._content)
        write_text(self._folder / PAGE_FILE, render_page(self._content))


def render_page(content: dict[str, Any]) -> str:
    """Render the content of the JSON file as Markdown."""
    lines = [_HEAD, f"Machine: {content['machine']}.\n"]
    if content["is_quick"]:
        lines.append(_QUICK)
    lines += _list_targets(content["figures"])
    for figure in content["figures"]:
        lines += ["", f"## {figure['title']}", "", f"{figure['text']} ({figure['load']})", ""]
        lines += render_rows(figure["rows"])
        lines += render_growths(figure["growths"])
    return "\n".join(lines) + "\n"


def _list_targets(figures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """List all rows that have a target: what a reader looks for first."""
    rows = [row for figure in figures for row in figure["rows"] if "target" in row]
    if rows:
        yield from ["", "## Targets", ""]
        yield from render_rows(rows)


def render_rows(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Render rows as a table."""
    yield "| | median | min | max | pairs | target | met |"
    yield "|---|---:|---:|---:|---:|---|---|"
    for row in rows:
        name = f"{row['name']} ({row['note']})" if row["note"] else row["name"]
        numbers = ["not measured", "", "", ""]
        if "values" in row:
            spread = [_format(row[key], row["unit"]) for key in ("median", "low", "high")]
            numbers = [*spread, str(len(row["values"]))]
        yield "| " + " | ".join([name, *numbers, *_render_target(row)]) + " |"


def _render_target(row: dict[str, Any]) -> tuple[str, str]:
    if "target" not in row:
        return "", ""
    target = row["target"]
    word = "at least" if target["is_least"] else "at most"
    answer = {True: "yes", False: "**no**", None: "not known"}[row["is_met"]]
    return f"{word} {_format(target['limit'], row['unit'])}", answer


def render_growths(growths: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Render exponents and slopes as a table."""
    if not growths:
        return
    yield from ["", "| grows | | b | std. error | 95 % interval |", "|---|---|---:|---:|---:|"]
    for row in growths:
        digits = ".3f" if row["unit"] else ".2f"
        value, error, low, high = (
            format(row[key], digits) for key in ("value", "std_error", "low", "high")
        )
        unit = row["unit"] or "exponent"
        yield f"| {row['name']} | {unit} | {value} | {error} | {low} to {high} |"


def _format(value: float, unit: str) -> str:
    """Write a value with three digits and its unit."""
    text = f"{value:.1%}".removesuffix("%") if unit == "%" else _format_digits(value)
    return f"{text} {unit}"


def _format_digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
