"""Training curves of the GANs: reading curves.csv, the means over instances, and their figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.report.figures.style import BLUE, GREEN, ORANGE, WIDTH_IN, paper_style
from knowledge_gaps.report.readings.columns import Cast, read_columns, read_header
from knowledge_gaps.runtime.layout import CURVES_FILE, get_instance_directory

STEP = "step"
LOSSES = {  # column: its name in the figure and its colour
    "loss_discriminator": ("discriminator", GREEN),
    "loss_generator": ("generator, adversarial term", BLUE),
    "loss_fooling": ("generator, fooling term", ORANGE),
}
OPTIONAL = "loss_fooling"  # a baseline has none
CURVE_COLUMNS = ("cohort", STEP, *LOSSES)
_NUM_COLUMNS = 3  # panels in a row
_PANEL_HEIGHT_IN = 1.55


def read_curves(root: Path, cohort: str, num_instances: int) -> pd.DataFrame:
    """Read the training curves of a GAN cohort.

    Args:
        root: of the repository.
        cohort: name of the GAN cohort.
        num_instances: how many instances the study gives it.

    Returns:
        Columns instance, step and the three losses; an absent fooling loss is NaN.

    Raises:
        UserError: when a file cannot be read or lacks a column.
    """
    frames = []
    for instance in range(num_instances):
        frame = _read_instance(
            get_instance_directory(root, f"gans/{cohort}", instance) / CURVES_FILE
        )
        frames.append(frame.assign(instance=instance))
    return pd.concat(frames, ignore_index=True)


def average_curves(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Average the losses over the instances of each cohort: a row per cohort and step."""
    frames = [
        frame.groupby(STEP, as_index=False)[list(LOSSES)].mean().assign(cohort=cohort)
        for cohort, frame in curves.items()
    ]
    return pd.concat(frames, ignore_index=True)[list(CURVE_COLUMNS)]


@paper_style()
def draw_loss_curves(curves: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Draw a panel per cohort: mean losses over its instances, and each instance thinly.

    Args:
        curves: as from `read_curves`, by cohort; at least one.
        titles: of the panels, by cohort.
    """
    num_rows = math.ceil(len(curves) / _NUM_COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, _PANEL_HEIGHT_IN * num_rows + 0.6))
    panels = figure.subplots(num_rows, _NUM_COLUMNS, sharex=True, squeeze=False)
    for axes, (cohort, frame) in zip(panels.flat, curves.items(), strict=False):
        _draw_panel(axes, frame)
        axes.set_title(titles[cohort], fontsize=8.5)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, len(curves) - _NUM_COLUMNS) : len(curves)]:
        axes.tick_params(labelbottom=True)  # the lowest of each column
    figure.supxlabel("optimiser steps", fontsize=9)
    figure.supylabel("loss (nats)", fontsize=9)
    handles, labels = max(
        (axes.get_legend_handles_labels() for axes in panels.flat),
        key=lambda legend: len(legend[1]),
    )
    figure.legend(handles, labels, loc="outside upper center", ncols=len(LOSSES))
    return figure


def _draw_panel(axes: Axes, frame: pd.DataFrame) -> None:
    means = frame.groupby(STEP)[list(LOSSES)].mean()
    for column, (label, colour) in LOSSES.items():
        if not np.isfinite(means[column]).any():
            continue
        for _, single in frame.groupby("instance"):
            axes.plot(single[STEP], single[column], color=colour, alpha=0.25, linewidth=0.6)
        axes.plot(means.index, means[column], color=colour, linewidth=1.3, label=label)


def _read_instance(path: Path) -> pd.DataFrame:
    header = read_header(path)
    losses = [name for name in LOSSES if name != OPTIONAL or name in header]
    columns = {STEP: Cast.COUNT, **dict.fromkeys(losses, Cast.NUMBER)}
    return read_columns(path, columns).reindex(columns=[STEP, *LOSSES])
