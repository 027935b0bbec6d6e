"""How numbers are written on the page, in figures and as keys of metrics.json."""

from __future__ import annotations

import math
from collections.abc import Iterable

from knowledge_gaps.report.tables import Summary

NOTHING = "–"  # no pair, no instance, or a value that could not be computed
DIGITS = {"fid": 2, "kid": 4, "precision": 2, "recall": 2, "class_entropy": 2}  # by metric


def format_number(value: float, digits: int = 2) -> str:
    """Write a number with fixed digits; a dash for NaN and infinity."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else NOTHING


def format_summary(summary: Summary, digits: int = 2) -> str:
    """Write mean ± sample std; the mean alone when there is one value, a dash when there is none.

    Values that are missing are counted behind, so that a mean over the rest is not taken for all.
    """
    text = format_number(summary.mean, digits)
    if math.isfinite(summary.std):
        text += f" ± {format_number(summary.std, digits)}"
    if summary.num > 0 and summary.num_missing > 0:
        text += f" ({summary.num_missing} missing)"
    return text


def format_range(values: Iterable[float], digits: int = 2) -> str:
    """Write the smallest and largest of some numbers, or a dash."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return NOTHING
    ends = [format_number(value, digits) for value in (min(finite), max(finite))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def format_phi(phi: float) -> str:
    """Write phi as digits and a power of ten without padding: 0.01 is 1e-2, 1 is 1e0, 0 is 0."""
    if phi == 0:
        return "0"
    digits, _, exponent = f"{phi:.12e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"
