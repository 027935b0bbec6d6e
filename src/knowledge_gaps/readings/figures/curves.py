"""The figure of the GANs' training curves, which `knowledge_gaps.readings.curves` reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.readings.curves import (
    INSTANCE,
    LOSS_DISCRIMINATOR,
    LOSS_FOOLING,
    LOSS_GENERATOR,
    LOSSES,
    STEP,
)
from knowledge_gaps.readings.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    WIDTH_IN,
    choose_colours,
    paper_style,
)

_LINES = {  # loss: its name in the figure and its colour
    LOSS_DISCRIMINATOR: ("discriminator", GREEN),
    LOSS_GENERATOR: ("generator, adversarial term", BLUE),
    LOSS_FOOLING: ("generator, fooling term", ORANGE),
}
_LINEAR_UP_TO = 1.0  # nats; a fooling loss can start a hundred times as high
_NUM_COLUMNS = 3  # panels in a row
_PANEL_HEIGHT_IN = 1.55
_NUM_SCALAR_COLUMNS = 2
_SCALAR_HEIGHT_IN = 1.9
_LOG_FROM = 100.0  # a panel whose values span more than this factor is logarithmic


@paper_style()
def draw_loss_curves(curves: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Draw a panel per cohort: mean losses over its instances, and each instance thinly.

    Args:
        curves: as from `read_curves`, by cohort; at least one.
        titles: of the panels, by cohort.
    """
    num_rows = math.ceil(len(curves) / _NUM_COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, _PANEL_HEIGHT_IN * num_rows + 0.6))
    panels = figure.subplots(num_rows, _NUM_COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (cohort, frame) in zip(panels.flat, curves.items(), strict=False):
        _draw_panel(axes, frame)
        axes.set_title(titles[cohort], fontsize=8.5)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, len(curves) - _NUM_COLUMNS) : len(curves)]:
        axes.tick_params(labelbottom=True)  # the lowest of each column
    figure.supxlabel("optimiser steps", fontsize=9)
    figure.supylabel("loss (nats, logarithmic above 1)", fontsize=9)
    handles, labels = max(
        (axes.get_legend_handles_labels() for axes in panels.flat),
        key=lambda legend: len(legend[1]),
    )
    figure.legend(handles, labels, loc="outside upper center", ncols=len(_LINES))
    return figure


@paper_style()
def draw_scalar_curves(curves: Mapping[str, pd.DataFrame], scalars: Sequence[str]) -> Figure:
    """Draw a panel per logged scalar: its mean over the instances of each cohort.

    Args:
        curves: as from `read_curves`, by cohort; at least one.
        scalars: columns of theirs; at least one.
    """
    num_rows = math.ceil(len(scalars) / _NUM_SCALAR_COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, _SCALAR_HEIGHT_IN * num_rows + 0.7))
    panels = figure.subplots(num_rows, _NUM_SCALAR_COLUMNS, sharex=True, squeeze=False)
    colours = choose_colours(len(curves))
    for axes, scalar in zip(panels.flat, scalars, strict=False):
        for (cohort, frame), colour in zip(curves.items(), colours, strict=True):
            if scalar in frame.columns:
                means = frame.groupby(STEP)[scalar].mean().dropna()
                axes.plot(means.index, means, color=colour, linewidth=1.2, label=cohort)
        axes.set_title(scalar.replace("_", " "))
        if _is_wide(axes):
            axes.set_yscale("log")
    for axes in panels.flat[len(scalars) :]:
        axes.set_visible(False)
    figure.supxlabel("optimiser steps", fontsize=9)
    legends = [axes.get_legend_handles_labels() for axes in panels.flat]
    labelled = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
    figure.legend(labelled.values(), labelled, loc="outside upper center", ncols=5)
    return figure


def _is_wide(axes: Axes) -> bool:
    """Say whether the lines of a panel are positive and span a factor of more than a hundred."""
    values = [float(value) for line in axes.get_lines() for value in np.asarray(line.get_ydata())]
    return bool(values) and min(values) > 0 and max(values) > _LOG_FROM * min(values)


def _draw_panel(axes: Axes, frame: pd.DataFrame) -> None:
    axes.set_yscale("symlog", linthresh=_LINEAR_UP_TO)
    means = frame.groupby(STEP)[list(LOSSES)].mean()
    for column, (label, colour) in _LINES.items():
        if not np.isfinite(means[column]).any():
            continue
        for _, single in frame.groupby(INSTANCE):
            axes.plot(single[STEP], single[column], color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(means.index, means[column], color=colour, linewidth=1.3, label=label)
