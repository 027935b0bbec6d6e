"""Training curves of the GANs: means over the instances of a cohort, and each instance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.core.layout import CURVES_FILE, get_instance_directory
from knowledge_gaps.core.tables import Cast, read_columns, read_header
from knowledge_gaps.readings.figures import style
from knowledge_gaps.readings.figures.page_figure import PageFigure, make_chart
from knowledge_gaps.readings.reading import Reading, Results
from knowledge_gaps.study import NO_POOL

COHORT = "cohort"
INSTANCE = "instance"
STEP = "step"
LOSS_DISCRIMINATOR = "loss_discriminator"
LOSS_GENERATOR = "loss_generator"
LOSS_FOOLING = "loss_fooling"  # a baseline has none
LOSSES = (LOSS_DISCRIMINATOR, LOSS_GENERATOR, LOSS_FOOLING)
CURVE_COLUMNS = (COHORT, STEP, *LOSSES)
R1_PENALTY = "r1_penalty"

_SOURCE = "models/gans/COHORT/INSTANCE/curves.csv"
_LINES = {  # loss: its name in the figure and its colour
    LOSS_DISCRIMINATOR: ("discriminator", style.GREEN),
    LOSS_GENERATOR: ("generator, adversarial term", style.BLUE),
    LOSS_FOOLING: ("generator, fooling term", style.ORANGE),
}
_LINEAR_UP_TO = 1.0  # nats; a fooling loss can start a hundred times as high
_NUM_COLUMNS = 3  # panels in a row
_PANEL_HEIGHT_IN = 1.55
_NUM_SCALAR_COLUMNS = 2
_SCALAR_HEIGHT_IN = 1.9
_LOG_FROM = 100.0  # a panel whose values span more than this factor is logarithmic


class Curves(Reading):
    """Losses of the GANs, and whatever else their training logged; shown among the samples."""

    name, title, position = "curves", "", 240

    def read(self, results: Results) -> Any:
        """Return the curves by GAN cohort."""
        gans = results.study.gans.items()
        return {name: read_curves(results.root, name, cohort.instances) for name, cohort in gans}

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        gans = results.study.gans
        titles = {name: "baseline" if gans[name].fools == NO_POOL else name for name in content}
        yield make_chart(
            "loss_curves",
            draw_loss_curves(content, titles),
            "Losses against optimiser steps, a panel for each GAN cohort.",
            "Training losses of the GANs: the mean over the instances of a cohort, and each "
            "instance thinly. The axis is linear up to 1 nat and logarithmic above.",
            _SOURCE,
        )
        if scalars := list_scalars(content):
            yield make_chart(
                "scalar_curves",
                draw_scalar_curves(content, scalars),
                "Regularisers and other logged numbers against optimiser steps.",
                "What else the GANs' training logged: means over the instances of a cohort, by the "
                "names of the columns. A panel whose values span more than a factor of a hundred "
                "is logarithmic.",
                _SOURCE,
            )

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        return {"loss_curves.csv": average_curves(content)}


def read_curves(root: Path, cohort: str, num_instances: int) -> pd.DataFrame:
    """Read the training curves of a GAN cohort.

    Args:
        root: of the repository.
        cohort: name of the GAN cohort.
        num_instances: how many instances the study gives it.

    Returns:
        Columns instance, step, the three losses and whatever else was logged; an absent fooling
        loss is NaN.

    Raises:
        UserError: when a file cannot be read or lacks a column.
    """
    frames = []
    for instance in range(num_instances):
        directory = get_instance_directory(root, f"gans/{cohort}", instance)
        frames.append(_read_instance(directory / CURVES_FILE).assign(**{INSTANCE: instance}))
    return pd.concat(frames, ignore_index=True)


def list_scalars(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """List what was logged beside losses and steps, such as lengths of paths, in its order.

    The R1 penalty alone is not listed: it is a part of the discriminator's training that every
    recipe may have, and stands with the others where a generator is regularised too.

    Args:
        curves: as from `read_curves`, by cohort.
    """
    known = {INSTANCE, STEP, *LOSSES}
    found = dict.fromkeys(name for frame in curves.values() for name in frame.columns)
    scalars = [name for name in found if name not in known]
    return [] if set(scalars) <= {R1_PENALTY} else scalars


def average_curves(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Average the losses over the instances of each cohort: a row per cohort and step.

    Args:
        curves: as from `read_curves`, by cohort; without any, the result has no row.
    """
    frames = [
        frame.groupby(STEP, as_index=False)[list(LOSSES)].mean().assign(**{COHORT: cohort})
        for cohort, frame in curves.items()
    ]
    if not frames:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(frames, ignore_index=True)[list(CURVE_COLUMNS)]


@style.paper_style()
def draw_loss_curves(curves: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Draw a panel per cohort: mean losses over its instances, and each instance thinly.

    Args:
        curves: as from `read_curves`, by cohort; at least one.
        titles: of the panels, by cohort.
    """
    num_rows = math.ceil(len(curves) / _NUM_COLUMNS)
    figure = Figure(figsize=(style.WIDTH_IN, _PANEL_HEIGHT_IN * num_rows + 0.6))
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


@style.paper_style()
def draw_scalar_curves(curves: Mapping[str, pd.DataFrame], scalars: Sequence[str]) -> Figure:
    """Draw a panel per logged scalar: its mean over the instances of each cohort.

    Args:
        curves: as from `read_curves`, by cohort; at least one.
        scalars: columns of theirs; at least one.
    """
    num_rows = math.ceil(len(scalars) / _NUM_SCALAR_COLUMNS)
    figure = Figure(figsize=(style.WIDTH_IN, _SCALAR_HEIGHT_IN * num_rows + 0.7))
    panels = figure.subplots(num_rows, _NUM_SCALAR_COLUMNS, sharex=True, squeeze=False)
    colours = style.choose_colours(len(curves))
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


def _read_instance(path: Path) -> pd.DataFrame:
    header = read_header(path)
    losses = [name for name in LOSSES if name != LOSS_FOOLING or name in header]
    others = [name for name in header if name not in (STEP, *LOSSES)]
    columns = {STEP: Cast.COUNT, **dict.fromkeys([*losses, *others], Cast.NUMBER)}
    return read_columns(path, columns).reindex(columns=[STEP, *LOSSES, *others])


READINGS = (Curves(),)
