"""Charts of the two tables and of the training curves, described."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.curves import list_scalars
from knowledge_gaps.readings.figures.curves import draw_loss_curves, draw_scalar_curves
from knowledge_gaps.readings.figures.heat import draw_architecture_table, draw_iteration_table
from knowledge_gaps.readings.figures.page_figure import (
    DETECTIONS_SOURCE,
    QUALITY_SOURCE,
    PageFigure,
    make_chart,
)
from knowledge_gaps.readings.figures.sweeps import (
    draw_detecting_panels,
    draw_detecting_sweep,
    draw_multi_instance,
    draw_phi_sweep,
)
from knowledge_gaps.readings.formats import format_distance
from knowledge_gaps.readings.sweeps import DetectingRow, GeneralisationSweep
from knowledge_gaps.report.setting import (
    describe_classifiers,
    describe_truncation,
    get_extractor,
)
from knowledge_gaps.statistics.measures import (
    FID,
)
from knowledge_gaps.study import NO_POOL, Study

_CURVES_SOURCE = "models/gans/COHORT/INSTANCE/curves.csv"
_BARS = "Bars are 95 % intervals of the means over held-out pairs (two-way bootstrap)."
_TABLES = f"{DETECTIONS_SOURCE} and {QUALITY_SOURCE}"


def draw_charts(study: Study, readings: Readings) -> Iterator[PageFigure]:
    """Draw every chart that the study has a reading for."""
    images = f"{study.evaluation.num_images:,} images per generator, threshold 0.5"
    yield from _draw_iterations(readings, images)
    yield from _draw_phi_sweep(study, readings, images)
    yield from _draw_generalisation(study, readings, images)
    yield from _draw_multi_instance(study, readings, images)
    yield from _draw_architectures(study, readings, images)
    yield from _draw_truncation(study, readings, images)


def draw_curves(study: Study, curves: Mapping[str, pd.DataFrame]) -> Iterator[PageFigure]:
    """Draw the GANs' training curves, if there are any."""
    if curves:
        titles = {
            cohort: "baseline" if study.gans[cohort].fools == NO_POOL else cohort
            for cohort in curves
        }
        yield make_chart(
            "loss_curves",
            draw_loss_curves(curves, titles),
            "Losses against optimiser steps, a panel for each GAN cohort.",
            "Training losses of the GANs: the mean over the instances of a cohort, and each "
            "instance thinly. The axis is linear up to 1 nat and logarithmic above.",
            _CURVES_SOURCE,
        )
    if scalars := list_scalars(curves):
        yield make_chart(
            "scalar_curves",
            draw_scalar_curves(curves, scalars),
            "Regularisers and other logged numbers against optimiser steps.",
            "What else the GANs' training logged: means over the instances of a cohort, by the "
            "names of the columns. A panel whose values span more than a factor of a hundred is "
            "logarithmic.",
            _CURVES_SOURCE,
        )


def _draw_iterations(readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.held_out is not None:
        yield make_chart(
            "iterations",
            draw_iteration_table(readings.held_out),
            "Two coloured tables of detection rates, this study's and the paper's.",
            f"Detection rate by iteration, this study beside the paper. Here: mean ± sample std "
            f"over pairs of held-out generator and held-out classifier, which is a spread and no "
            f"interval (the table below has those); {images}.",
            f"{DETECTIONS_SOURCE}, rows of these cohorts with in_loss = false and "
            "in_training = false; the paper's table as printed",
        )


def _draw_phi_sweep(study: Study, readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.phi_sweep:
        name, classes = readings.metric_names[FID], get_extractor(study).classes
        distance = format_distance(name)
        shown = f" and {distance}" if classes is None else f", {distance} and class entropy"
        yield make_chart(
            "phi_sweep",
            draw_phi_sweep(readings.phi_sweep, name, classes),
            f"Detection rate{shown} against phi on a logarithmic axis.",
            "What a rising phi does to detection, image quality and diversity. In the upper panel "
            f"each dot is one generator and one held-out classifier ({images}); in the lower "
            f"ones each dot is one generator. Lines join means. {_BARS}",
            f"{_TABLES}, rows of {', '.join(study.report.phi_sweep)}",
        )


def _draw_generalisation(study: Study, readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.generalisation:
        axis = "number of generators that the classifier was trained on"
        sweeps, panels, where = readings.generalisation, "", "figure"
        figure = draw_detecting_sweep(sweeps[0].rows, axis)
        if len(sweeps) > 1:
            panels, where = "A panel for each architecture of classifiers. ", "panel"
            figure = draw_detecting_panels(_title_sweeps(study, sweeps), axis)
        yield make_chart(
            "generalisation",
            figure,
            "Detection rate of held-out generators against the number of training generators.",
            f"{panels}Each dot is one classifier and one generator that it was not trained on "
            f"({images}). Filled dots are generators that no classifier of the {where} was "
            f"trained on, so that they compare like with like along the axis. {_BARS} The vertical "
            "axis shows the range of the rates and need not start at 0.",
            f"{DETECTIONS_SOURCE}, rows of these classifier cohorts with in_training = false",
        )


def _title_sweeps(
    study: Study, sweeps: Sequence[GeneralisationSweep]
) -> dict[str, Sequence[DetectingRow]]:
    """Title sweeps by their architecture, and by their first cohort where two share it."""
    titles = [describe_classifiers(study, sweep.rows[0].cohort) for sweep in sweeps]
    return {
        title if titles.count(title) == 1 else f"{title}, {sweep.rows[0].cohort}": sweep.rows
        for title, sweep in zip(titles, sweeps, strict=True)
    }


def _draw_architectures(study: Study, readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.architectures is not None:
        table = readings.architectures
        names = [describe_classifiers(study, name) for name in table.classifiers]
        yield make_chart(
            "architectures",
            draw_architecture_table(table, names),
            "Two coloured tables of detection rates by architecture, this study's and the paper's.",
            "Detection by held-out classifiers of each architecture (rows) of GANs that were "
            "trained to fool a classifier of one (columns). Mean ± sample std over pairs; the "
            f"instance in the loss is left out of the diagonal; {images}.",
            f"{DETECTIONS_SOURCE}, rows of these cohorts with in_loss = false and "
            "in_training = false; the paper's table as printed",
        )


def _draw_multi_instance(study: Study, readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.multi_instance:
        yield make_chart(
            "multi_instance",
            draw_multi_instance(readings.multi_instance, readings.metric_names[FID]),
            f"Detection rate and {format_distance(readings.metric_names[FID])} against the number "
            "of classifiers in the loss.",
            "Generators trained against the first t classifiers of one cohort. Each blue dot is "
            f"one generator and one held-out classifier ({images}), each green dot one generator. "
            f"The larger t, the fewer classifiers are held out. {_BARS}",
            f"{_TABLES}, rows of {', '.join(study.report.multi_instance)}",
        )


def _draw_truncation(study: Study, readings: Readings, images: str) -> Iterator[PageFigure]:
    if readings.truncation:
        axis = f"truncation: {describe_truncation(study)} in the classifiers' training"
        yield make_chart(
            "truncation",
            draw_detecting_sweep(readings.truncation, axis),
            "Detection rate of held-out generators against the truncation in training.",
            "Classifiers were trained on images of truncated latents (1 is no truncation) and see "
            f"images of untruncated ones. Each dot is one classifier and one generator ({images}). "
            f"{_BARS}",
            f"{DETECTIONS_SOURCE}, rows of these classifier cohorts with in_training = false",
        )
