"""How numbers and names are written on the page and in figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from knowledge_gaps.readings.tables import Row
from knowledge_gaps.statistics.chains import Interval
from knowledge_gaps.statistics.measures import FID, find_metric_of
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members, split_detected

NOTHING = "\N{EN DASH}"  # no pair, no instance, or a value that could not be computed
_TITLES = {  # of names in a study
    "cnn": "a plain CNN",
    "dcgan": "DCGAN",
    "fashion-mnist": "Fashion-MNIST",
    "ffhq": "FFHQ",
    "inception_v3": "Inception-v3",
    "mnist": "MNIST",
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet-50",
    "stylegan2": "StyleGAN2",
}
_SMALLEST_P = 0.001
_SPACE = "\u00a0"  # no line break within mean ± std
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def format_number(value: float, digits: int = 2) -> str:
    """Write a number with fixed digits, none as minus zero; a dash for NaN and infinity."""
    return f"{round(value, digits) + 0.0:,.{digits}f}" if math.isfinite(value) else NOTHING


def format_p(p_value: float) -> str:
    """Write the p-value of a test with three digits, and a smaller one as < 0.001."""
    return f"< {_SMALLEST_P}" if p_value < _SMALLEST_P else format_number(p_value, 3)


def format_summary(row: Row, name: str, digits: int = 2) -> str:
    """Write mean ± sample std; the mean alone when there is one value, a dash when there is none.

    Values that are missing are counted behind, so that a mean over the rest is not taken for all;
    `row` is of `tables.summarise`.
    """
    text = format_number(row[f"{name}_mean"], digits)
    if math.isfinite(row[f"{name}_std"]):
        text += f"{_SPACE}±{_SPACE}{format_number(row[f'{name}_std'], digits)}"
    if row[f"{name}_num"] > 0 and row[f"{name}_missing"] > 0:
        text += f" ({row[f'{name}_missing']:.0f} missing)"
    return text


def format_interval(row: Row, name: str, digits: int = 2) -> str:
    """Write a mean with its interval and the degrees of freedom as 0.58 [0.44, 0.71]₅; the mean
    alone where there is none. `row` is of `tables.name_bounds`.
    """
    return f"{format_number(row[name], digits)}{_SPACE}{format_bounds(row, name, digits)}".rstrip()


def format_bounds(row: Row, name: str, digits: int = 2) -> str:
    """Write the interval of `format_interval` alone; nothing where there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    bounds = f"{format_number(low, digits)},{_SPACE}{format_number(high, digits)}"
    return f"[{bounds}]{format_degrees(row[f'{name}_degrees'])}"


def format_estimate(interval: Interval, digits: int = 2) -> str:
    """Write an interval as `format_interval` does."""
    ends = {"": "point", "_low": "low", "_high": "high", "_degrees": "degrees"}
    row = {f"x{end}": getattr(interval, name) for end, name in ends.items()}
    return format_interval(row, "x", digits)


def format_degrees(degrees: float) -> str:
    """Write degrees of freedom as a whole subscript; nothing where they are not finite."""
    return f"{degrees:.0f}".translate(_SUBSCRIPTS) if math.isfinite(degrees) else ""


def format_counts(counts: Iterable[int]) -> str:
    """Write one whole number, or the smallest and largest of several."""
    ends = sorted(set(counts))
    return f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,}"


def format_things(count: int, noun: str) -> str:
    """Write how many things there are, one in the singular: 1 cohort, 2 cohorts."""
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def format_title(name: str) -> str:
    """Write a dataset or architecture as a reader knows it; an unknown name stays as it is."""
    return _TITLES.get(name, name)


def format_distance(metric_name: str) -> str:
    """Name the Fréchet distance of a column; only an extractor's own FID is called so."""
    return "FID" if find_metric_of(metric_name) == FID else "Fréchet distance"


def format_pool(study: Study, pool: str) -> str:
    """Write the instances of a pool as COHORT/INDEX, separated by commas."""
    return _join_members(list_members(study, pool))


def format_detected(study: Study, classifiers: str) -> str:
    """Write the generators that a classifier cohort was trained on, and those that stopped it."""
    trained_on, held_out = split_detected(study, classifiers)
    stopped = f"; stopped by {_join_members(held_out)}" if held_out else ""
    return _join_members(trained_on) + stopped


def _join_members(members: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{cohort.partition('/')[2]}/{instance}" for cohort, instance in members)


def format_phi(phi: float) -> str:
    """Write phi for readers: powers of ten as 10⁻², other numbers as they are; 0 and 1 as such."""
    digits, _, exponent = f"{phi:.12e}".partition("e")
    if float(digits) != 1 or int(exponent) == 0:
        return f"{phi:g}"
    return "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
