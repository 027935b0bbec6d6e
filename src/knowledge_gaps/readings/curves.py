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

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import CURVES_FILE, get_instance_directory
from knowledge_gaps.core.tables import (
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    Cast,
    read_columns,
    read_header,
)
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Reading, Results
from knowledge_gaps.statistics.measures import LOSS_DISCRIMINATOR
from knowledge_gaps.study import NO_POOL
from knowledge_gaps.study.graph import list_instances

INSTANCE, STEP = "instance", "step"
_END = 0.1  # of a training
LOSS_FOOLING = "loss_fooling"  # a baseline has none
LOSSES = (LOSS_DISCRIMINATOR, "loss_generator", LOSS_FOOLING)

_LABELS = ("discriminator", "generator, adversarial term", "generator, fooling term")
_COLOURS = (figures.GREEN, figures.BLUE, figures.ORANGE)
_LINEAR_UP_TO = 1.0  # nats; a fooling loss can start a hundred times as high
_NUM_COLUMNS = 3  # panels in a row
_LOG_FROM = 100.0  # a panel whose values span more than this factor is logarithmic

Curves = Mapping[str, pd.DataFrame]  # by cohort: instance, step, the losses, what else was logged


class TrainingCurves(Reading):
    """Losses of the GANs, and whatever else their training logged; shown among the samples."""

    name, title, position = "curves", "", 240

    def read(self, results: Results) -> Any:
        """Return `Curves`, with NaN for an absent fooling loss; raises UserError."""
        return {
            name: pd.concat(
                _read(results.root, name, each) for each in list_instances(results.study, gans)
            )
            for name, gans in results.study.gans.items()
        }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        gans = results.study.gans
        titles = ["baseline" if gans[name].fools == NO_POOL else name for name in content]
        yield PageFigure("loss_curves", _draw_losses(content, titles))
        if scalars := _list_scalars(content):
            yield PageFigure("scalar_curves", _draw_scalars(content, scalars))

    def make_plots(self, results: Results, content: Any) -> dict[str, pd.DataFrame]:
        """Average the losses over the instances of each cohort: a row per cohort and step."""
        means = [
            frame.groupby(STEP, as_index=False)[list(LOSSES)].mean().assign(cohort=cohort)
            for cohort, frame in content.items()
        ]
        return {"loss_curves.csv": pd.concat(means)[["cohort", STEP, *LOSSES]]}


def measure_ends(curves: Curves) -> pd.DataFrame:
    """Average the discriminator's loss over the last tenth of each training: a row an instance."""
    rows = []
    for cohort, frame in curves.items():
        last = frame[frame[STEP] > (1 - _END) * frame[STEP].max()]
        for name, loss in last.groupby(INSTANCE)[LOSS_DISCRIMINATOR].mean().items():
            rows.append((cohort, Instance.parse(str(name), INSTANCE).chain, loss))
    return pd.DataFrame(rows, columns=[GENERATOR_COHORT, GENERATOR_CHAIN, LOSS_DISCRIMINATOR])


def _read(root: Path, cohort: str, instance: Instance) -> pd.DataFrame:
    path = get_instance_directory(root, f"gans/{cohort}", instance) / CURVES_FILE
    columns = dict.fromkeys([*read_header(path), *LOSSES[:2]], Cast.NUMBER) | {STEP: Cast.COUNT}
    frame = read_columns(path, columns).assign(**{INSTANCE: str(instance)})
    return frame if LOSS_FOOLING in frame else frame.assign(**{LOSS_FOOLING: math.nan})


def _list_scalars(curves: Curves) -> list[str]:
    """List what was logged beside losses and steps, such as lengths of paths, in its order.

    The R1 penalty alone is not listed: it is a part of the discriminator's training that every
    recipe may have, and is drawn with the others where a generator is regularised too.
    """
    found = dict.fromkeys(name for frame in curves.values() for name in frame.columns)
    scalars = [name for name in found if name not in {INSTANCE, STEP, *LOSSES}]
    return [] if scalars == ["r1_penalty"] else scalars


@figures.paper_style()
def _draw_losses(curves: Curves, titles: Sequence[str]) -> Figure:
    """Draw a panel per cohort: mean losses over its instances, and each instance thinly."""
    figure, panels = figures.make_panels(
        len(curves), _NUM_COLUMNS, height_in=1.55, frame_in=0.6, sharex=True, sharey=True
    )
    for axes, title, frame in zip(panels, titles, curves.values(), strict=True):
        _draw_panel(axes, frame)
        axes.set_title(title, fontsize=8.5)
    for axes in panels[-_NUM_COLUMNS:]:
        axes.tick_params(labelbottom=True)  # the lowest of each column
    figure.supxlabel("optimiser steps", fontsize=9)
    figure.supylabel("loss (nats, logarithmic above 1)", fontsize=9)
    figures.draw_legend(figure, num_columns=len(LOSSES))
    return figure


def _draw_panel(axes: Axes, frame: pd.DataFrame) -> None:
    axes.set_yscale("symlog", linthresh=_LINEAR_UP_TO)
    means = frame.groupby(STEP)[list(LOSSES)].mean()
    for column, label, colour in zip(LOSSES, _LABELS, _COLOURS, strict=True):
        if np.isfinite(means[column]).any():
            for _, single in frame.groupby(INSTANCE):
                axes.plot(single[STEP], single[column], color=colour, alpha=0.25, linewidth=0.6)
            axes.plot(means.index, means[column], color=colour, linewidth=1.3, label=label)


@figures.paper_style()
def _draw_scalars(curves: Curves, scalars: Sequence[str]) -> Figure:
    """Draw a panel per logged scalar: its mean over the instances of each cohort."""
    figure, panels = figures.make_panels(
        len(scalars), num_columns=2, height_in=1.9, frame_in=0.7, sharex=True
    )
    colours = figures.choose_colours(len(curves))
    for axes, scalar in zip(panels, scalars, strict=True):
        for (cohort, frame), colour in zip(curves.items(), colours, strict=True):
            if scalar in frame.columns:
                means = frame.groupby(STEP)[scalar].mean().dropna()
                axes.plot(means.index, means, color=colour, linewidth=1.2, label=cohort)
        axes.set_title(scalar.replace("_", " "))
        values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        if values.size > 0 and values.min() > 0 and values.max() > _LOG_FROM * values.min():
            axes.set_yscale("log")
    figure.supxlabel("optimiser steps", fontsize=9)
    figures.draw_legend(figure, num_columns=5)
    return figure
