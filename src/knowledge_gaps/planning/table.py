"""A plan as people read it, aligned also in a pipe, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from knowledge_gaps.core.printing import draw_table, make_table
from knowledge_gaps.planning.estimate import Row

_HOUR_SEC = 3600.0
_COLUMNS = (
    "stage",
    "trainings",
    "to do",
    "steps",
    "images",
    "parameters",
    "batch",
    "memory",
    "s/step",
    "time",
    "time left",
    "disk",
    "notes",
)
_TEXT_COLUMNS = {"stage", "parameters", "notes"}
_Value = TypeVar("_Value", int, float)


def compute_totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Add the rows up.

    Returns:
        Counts, hours and bytes; hours are None as long as one row's are unknown, for a sum of
        some would be taken for the sum of all.
    """
    timed = [row for row in rows if row.stage != "prepare"]
    return {
        "trainings": sum(row.trainings or 0 for row in rows),
        "trainings_left": sum(row.trainings_left or 0 for row in rows),
        "images_shown": sum(row.images_shown or 0 for row in rows),
        "hours": _sum_hours([row.seconds for row in timed]),
        "hours_left": _sum_hours([row.seconds_left for row in timed]),
        "disk_bytes": sum(row.disk_bytes or 0 for row in rows),
        "largest_resume_bytes": max(row.resume_bytes or 0 for row in rows),
    }


def to_json(study: str, machine: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a plan as JSON holds it, in bytes and seconds."""
    return {
        "study": study,
        "machine": list(machine),
        "rows": [asdict(row) for row in rows],
        "totals": compute_totals(rows),
    }


def render(study: str, machine: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a plan as text: a title, the table, what the numbers leave out."""
    totals = compute_totals(rows)
    table = make_table()
    for name in _COLUMNS:
        table.add_column(
            name, justify="left" if name in _TEXT_COLUMNS else "right", no_wrap=name != "notes"
        )
    for row in rows:
        table.add_row(*_format_row(row))
    table.add_row(*_format_total(totals), style="bold")
    resume = format_bytes(totals["largest_resume_bytes"])
    lines = [f"{study} on {', '.join(machine)}", "", draw_table(table), ""]
    lines += [
        _describe_hours(totals),
        "Not in it: quality, spectra, attributions, agreement, audit and the report.",
        f"While the largest cohort trains, its resume states take another {resume}. DVC's cache "
        "holds every result a second time where the file system cannot share files.",
    ]
    return "\n".join(lines)


def format_bytes(num_bytes: float) -> str:
    """Write a number of bytes with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{_round(num_bytes)} {unit}"
        num_bytes /= 1000
    return f"{_round(num_bytes)} TB"


def format_count(count: float) -> str:
    """Write a count: whole up to 99,999, then with three digits."""
    if count < 100_000:
        return f"{count:,.0f}"
    for unit in ("k", "M", "G"):
        count /= 1000
        if count < 999.5:
            return f"{_round(count)} {unit}"
    return f"{_round(count / 1000)} T"


def format_seconds(seconds: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if seconds < 99.5:
        return f"{_round(seconds)} s"
    if seconds < 99.5 * 60:
        return f"{_round(seconds / 60)} min"
    return f"{_round(seconds / _HOUR_SEC)} h"


def _round(value: float) -> str:
    """Write three digits, and no more than two behind the point."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}".rstrip("0").rstrip(".")


def _sum_hours(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) / _HOUR_SEC if len(known) == len(seconds) else None


def _format_row(row: Row) -> list[str]:
    parameters = row.parameters or {}
    return [
        row.stage,
        _or_empty(format_count, row.trainings),
        _or_empty(format_count, row.trainings_left),
        _or_empty(format_count, row.steps),
        _or_empty(format_count, row.images_shown),
        ", ".join(f"{name} {format_count(count)}" for name, count in parameters.items()),
        _or_empty(format_count, row.batch_size),
        _or_empty(format_bytes, row.memory_bytes),
        _or_empty(lambda value: f"{value:.3g}", row.seconds_per_step),
        _or_empty(format_seconds, row.seconds),
        _or_empty(format_seconds, row.seconds_left),
        _or_empty(format_bytes, row.disk_bytes),
        "; ".join(row.notes),
    ]


def _format_total(totals: dict[str, Any]) -> list[str]:
    hours, hours_left = totals["hours"], totals["hours_left"]
    cells = dict.fromkeys(range(len(_COLUMNS)), "")
    cells[0] = "total"
    cells[1] = format_count(totals["trainings"])
    cells[2] = format_count(totals["trainings_left"])
    cells[4] = format_count(totals["images_shown"])
    cells[9] = "" if hours is None else format_seconds(hours * _HOUR_SEC)
    cells[10] = "" if hours_left is None else format_seconds(hours_left * _HOUR_SEC)
    cells[11] = format_bytes(totals["disk_bytes"])
    return list(cells.values())


def _describe_hours(totals: dict[str, Any]) -> str:
    if totals["hours"] is None:
        return "Hours on this machine: unknown, not every step was probed."
    return (
        f"Hours on this machine: {totals['hours_left']:,.2f} left of {totals['hours']:,.2f}; "
        "every probe ran alone, trainings side by side share the memory's bandwidth."
    )


def _or_empty(write: Callable[[_Value], str], value: _Value | None) -> str:
    return "" if value is None else write(value)
