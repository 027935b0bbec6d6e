"""The charts along one axis: phi, classifiers in the loss, generators trained on, truncation.

Each function takes readings and returns a figure; nothing is computed here but positions. Iteration
tables in colour are in `knowledge_gaps.readings.figures.heat`, image grids in
`knowledge_gaps.readings.figures.grids`, training curves in `knowledge_gaps.readings.figures.curves`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.readings.figures.style import BLUE, GREEN, GREY, ORANGE, WIDTH_IN, paper_style
from knowledge_gaps.readings.formats import format_distance
from knowledge_gaps.readings.sweeps import DetectingRow, FoolingRow
from knowledge_gaps.report.setting import Classes
from knowledge_gaps.statistics.measures import CLASS_ENTROPY, FID

FloatArray = npt.NDArray[np.float64]

_LOG_FROM_RATIO = 20.0  # an axis whose values span more than this factor is logarithmic
_MAX_PANELS = 3  # in a row
_RATE_LIMITS = (-0.04, 1.04)
_DOT_LABELS = {  # by whether the generator is common to all rows
    True: "generator that no dot's classifier was trained on",
    False: "generator that a classifier of another n was trained on",
}
_ENTROPY_ROOM = 0.3  # nats above the largest class entropy, for its line to be seen


@paper_style()
def draw_phi_sweep(rows: Sequence[FoolingRow], fid_name: str, classes: Classes | None) -> Figure:
    """Draw detection, the Frechet distance and class entropy against phi.

    Args:
        rows: sorted by phi; a row of phi 0 becomes a horizontal line for reference.
        fid_name: the distance's full name, for the axis.
        classes: that the entropy is of; None leaves its panel out.
    """
    ratios = [2, 1, 1] if classes is not None else [2, 1]
    figure = Figure(figsize=(WIDTH_IN, 1.6 * sum(ratios)))
    axes_rate, axes_fid, *axes_entropy = figure.subplots(
        len(ratios), 1, sharex=True, height_ratios=ratios
    )
    swept = [row for row in rows if row.value > 0]
    baseline = next((row for row in rows if row.value == 0), None)
    phis = np.array([row.value for row in swept])
    _draw_phi_rates(axes_rate, swept, phis, baseline)
    # the rates may lie anywhere in their panel, so the legend stands above it
    figure.legend(*axes_rate.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    _draw_phi_metric(axes_fid, swept, phis, FID)
    axes_fid.set_ylabel(f"{format_distance(fid_name)}, no unit\n({fid_name})")
    axes_fid.set_title("Distance of the generated images from reals")
    panels = [(axes_fid, FID), *((axes, CLASS_ENTROPY) for axes in axes_entropy)]
    if classes is not None:
        _draw_phi_metric(axes_entropy[0], swept, phis, CLASS_ENTROPY)
        _frame_entropy(axes_entropy[0], classes)
    panels[-1][0].set_xlabel("phi, weight of the fooling term (no unit, logarithmic)")
    if baseline is not None:
        for axes, metric in panels:
            if math.isfinite(baseline.quality[metric].mean):
                _draw_reference(axes, baseline.quality[metric].mean, "baseline (phi = 0)")
                axes.legend(loc="best")
    if len(phis) > 0:
        axes_rate.set_xscale("log")
    return figure


@paper_style()
def draw_detecting_sweep(rows: Sequence[DetectingRow], axis: str) -> Figure:
    """Draw detection of held-out generators by classifier cohorts along an axis.

    Args:
        rows: sorted along the axis; at least one.
        axis: what it is, for its label.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.4))
    axes = figure.subplots()
    _draw_detecting(axes, rows)
    axes.set_xlabel(axis)
    axes.set_ylabel("detection rate\n(share of generated images)")
    axes.set_title("Detection of generators that the classifier was not trained on")
    axes.legend(loc="best")
    _set_rate_limits(axes, [pair.detection_rate for row in rows for pair in row.pairs])
    return figure


@paper_style()
def draw_detecting_panels(panels: Mapping[str, Sequence[DetectingRow]], axis: str) -> Figure:
    """Draw a panel for each of several sweeps, on one scale of rates.

    Args:
        panels: rows sorted along the axis, at least one, by title.
        axis: what it is, for its label.
    """
    num_rows = math.ceil(len(panels) / _MAX_PANELS)
    num_columns = math.ceil(len(panels) / num_rows)
    figure = Figure(figsize=(WIDTH_IN, 2.7 * num_rows + 0.5))
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axes, (title, rows) in zip(grid.flat, panels.items(), strict=False):
        _draw_detecting(axes, rows)
        axes.set_title(title)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    legends = [axes.get_legend_handles_labels() for axes in grid.flat]
    labelled = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
    figure.legend(labelled.values(), labelled, loc="outside upper center", ncols=1)
    figure.supxlabel(axis, fontsize=9)
    grid[0, 0].set_ylabel("detection rate\n(share of generated images)")
    every_row = [row for rows in panels.values() for row in rows]
    _set_rate_limits(grid[0, 0], [pair.detection_rate for row in every_row for pair in row.pairs])
    return figure


def _draw_detecting(axes: Axes, rows: Sequence[DetectingRow]) -> None:
    values = [row.value for row in rows]
    step = min(np.diff(sorted(set(values))), default=1.0)
    means = [row.held_out.mean for row in rows]
    _draw_intervals(axes, rows)
    axes.plot(values, means, color=BLUE, marker="_", markersize=18, label="mean of all dots")
    for is_common, label in _DOT_LABELS.items():
        points = [
            (row.value + offset, pair.detection_rate)
            for row in rows
            for offset, pair in zip(_spread(len(row.pairs), 0.12 * step), row.pairs, strict=True)
            if pair.is_common is is_common
        ]
        if points:
            places, rates = zip(*points, strict=True)
            face = BLUE if is_common else "white"
            axes.scatter(places, rates, s=22, color=face, edgecolors=BLUE, label=label, zorder=3)
    axes.set_xticks(sorted(set(values)))
    axes.set_xlim(min(values) - 0.4 * step, max(values) + 0.4 * step)


@paper_style()
def draw_multi_instance(rows: Sequence[FoolingRow], fid_name: str) -> Figure:
    """Draw detection and the Frechet distance against the number of classifiers in the loss.

    Args:
        rows: sorted by the number of classifiers; at least one.
        fid_name: the distance's full name, for the axis.
    """
    figure = Figure(figsize=(WIDTH_IN, 4.6))
    axes_rate, axes_fid = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    counts = np.array([row.value for row in rows])
    for row in rows:
        places = row.value + _spread(len(row.held_out_rates), 0.15)
        axes_rate.scatter(places, row.held_out_rates, s=16, color=BLUE, alpha=0.45, linewidths=0)
        axes_fid.scatter([row.value] * len(row.fids), row.fids, s=16, color=GREEN, alpha=0.6)
    lines = (
        ("held-out classifiers (dots: pairs)", BLUE, "-", [row.held_out.mean for row in rows]),
        ("classifiers in the loss", ORANGE, "--", [row.in_loss.mean for row in rows]),
        ("AUC of held-out classifiers", GREY, ":", [row.held_out_auc.mean for row in rows]),
    )
    for label, colour, style, means in lines:
        axes_rate.plot(counts, means, color=colour, linestyle=style, marker="s", ms=4, label=label)
    figure.legend(*axes_rate.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    _draw_intervals(axes_rate, rows)
    axes_rate.set_ylim(*_RATE_LIMITS)
    axes_rate.set_ylabel("detection rate or AUC")
    axes_rate.set_title("Detection by classifiers in the loss and by held-out ones of their cohort")
    axes_fid.plot(counts, [row.quality[FID].mean for row in rows], color=GREEN)
    axes_fid.set_ylabel(f"{format_distance(fid_name)}, no unit\n({fid_name})")
    axes_fid.set_title("Distance of the generated images from reals")
    axes_fid.set_xlabel("number of classifiers in the loss")
    axes_fid.set_xticks(counts)
    return figure


def _draw_phi_rates(
    axes: Axes, rows: Sequence[FoolingRow], phis: FloatArray, baseline: FoolingRow | None
) -> None:
    for row in rows:
        places = row.value * 10.0 ** _spread(len(row.held_out_rates), 0.12)
        axes.scatter(places, row.held_out_rates, s=16, color=BLUE, alpha=0.45, linewidths=0)
    _draw_intervals(axes, rows)
    axes.plot(
        phis,
        [row.held_out.mean for row in rows],
        color=BLUE,
        marker="_",
        markersize=14,
        label="held-out classifiers (dots: pairs)",
    )
    axes.plot(
        phis,
        [row.in_loss.mean for row in rows],
        color=ORANGE,
        marker="s",
        markersize=5,
        linestyle="--",
        label="classifier in the loss",
    )
    if baseline is not None:
        _draw_reference(axes, baseline.held_out.mean, "baseline (phi = 0), held-out classifiers")
    axes.set_ylim(*_RATE_LIMITS)
    axes.set_ylabel("detection rate\n(share of generated images)")
    axes.set_title(
        "Detection by the classifier in the loss and by held-out instances of its cohort"
    )


def _draw_intervals(axes: Axes, rows: Sequence[FoolingRow] | Sequence[DetectingRow]) -> None:
    """Draw the 95 % interval of each mean of held-out pairs as a bar behind the dots."""
    bars = [(row.value, row.interval) for row in rows if row.interval is not None]
    known = [(value, bar.low, bar.high) for value, bar in bars if math.isfinite(bar.low)]
    if known:
        axes.vlines(*zip(*known, strict=True), color=BLUE, alpha=0.25, linewidth=6, zorder=1)


def _draw_phi_metric(axes: Axes, rows: Sequence[FoolingRow], phis: FloatArray, metric: str) -> None:
    values: list[float] = []
    for row in rows:
        single = row.fids if metric == FID else row.entropies
        axes.scatter([row.value] * len(single), single, s=16, color=GREEN, alpha=0.6, linewidths=0)
        values.extend(value for value in single if value > 0)
    axes.plot(phis, [row.quality[metric].mean for row in rows], color=GREEN)
    if metric == FID and values and max(values) / min(values) > _LOG_FROM_RATIO:
        axes.set_yscale("log")


def _frame_entropy(axes: Axes, classes: Classes) -> None:
    """Mark the largest class entropy, and show the whole range up to it."""
    largest = math.log(classes.num)
    axes.axhline(largest, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_ylim(-0.1, round(largest + _ENTROPY_ROOM, 1))
    axes.set_ylabel("class entropy\n(nats)")
    axes.set_title(f"Diversity: entropy of {classes.words} (dotted: ln {classes.num:,}, all equal)")


def _draw_reference(axes: Axes, value: float, label: str) -> None:
    if math.isfinite(value):
        axes.axhline(value, color=GREY, linewidth=1.1, linestyle=(0, (5, 2)), label=label)


def _set_rate_limits(axes: Axes, rates: Sequence[float]) -> None:
    """Show the whole range, or only what is needed of its upper half when all rates lie there."""
    lowest = min((rate for rate in rates if math.isfinite(rate)), default=0.0)
    if lowest < 0.5:
        axes.set_ylim(*_RATE_LIMITS)
    else:
        low = math.floor(10 * lowest - 0.2) / 10
        axes.set_ylim(low, 1.0 + 0.04 * (1.0 - low))


def _spread(num: int, half_width: float) -> FloatArray:
    """Place points side by side around 0, so that equal values stay visible."""
    return np.linspace(-half_width, half_width, num) if num > 1 else np.zeros(num)
