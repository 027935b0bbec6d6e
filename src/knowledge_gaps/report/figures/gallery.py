"""Every figure of a study, drawn and described: what it shows, its protocol and its source rows."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from knowledge_gaps.report.figures.curves import draw_loss_curves
from knowledge_gaps.report.figures.grids import (
    NUM_COLUMNS,
    ImageRow,
    draw_image_rows,
    read_images,
    read_sample_row,
)
from knowledge_gaps.report.figures.heat import draw_iteration_table
from knowledge_gaps.report.figures.style import render_png
from knowledge_gaps.report.figures.sweeps import draw_generalisation, draw_phi_sweep
from knowledge_gaps.report.formats import format_phi, format_pool, format_title
from knowledge_gaps.report.readings.collected import Readings
from knowledge_gaps.report.readings.tables import FID
from knowledge_gaps.runtime.layout import (
    DETECTIONS_FILE,
    QUALITY_FILE,
    TEST_IMAGES_FILE,
    get_prepared_directory,
    get_reports_directory,
)
from knowledge_gaps.study import NO_POOL, Study

# as the page names them, from the repository's root
_REALS = (get_prepared_directory(Path()) / TEST_IMAGES_FILE).as_posix()
_DETECTIONS = (get_reports_directory(Path()) / DETECTIONS_FILE).as_posix()
_QUALITY = (get_reports_directory(Path()) / QUALITY_FILE).as_posix()
SAMPLES_PREFIX = "samples_"  # then the cohort's name
_PHI_INSTANCES = 2  # generators that share a row of the phi samples


@dataclass(frozen=True)
class PageFigure:
    """A drawn figure with its words.

    Attributes:
        name: file name without suffix.
        png: the file's bytes.
        alt: what somebody who cannot see it should know.
        caption: what is shown, and how it was measured.
        source: files and rows that it is made of.
    """

    name: str
    png: bytes
    alt: str
    caption: str
    source: str

    @property
    def data_uri(self) -> str:
        """The PNG as the src of an img element."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def draw_gallery(
    root: Path, study: Study, readings: Readings, curves: Mapping[str, pd.DataFrame]
) -> dict[str, PageFigure]:
    """Draw every figure that the study has readings for, by name.

    Args:
        root: the images are read from the folders below it.
        study: names the cohorts.
        readings: of the same study.
        curves: training curves by GAN cohort.
    """
    figures = [
        *_draw_readings(study, readings),
        *_draw_phi_samples(root, study, readings),
        *(_draw_cohort(root, study, cohort) for cohort in study.gans),
        _draw_reals(root, study),
        *_draw_curves(study, curves),
    ]
    return {figure.name: figure for figure in figures}


def _draw_readings(study: Study, readings: Readings) -> Iterator[PageFigure]:
    images = f"{study.evaluation.num_images:,} images per generator, threshold 0.5"
    if readings.held_out is not None:
        yield _make_figure(
            "iterations",
            draw_iteration_table(readings.held_out),
            "Two coloured tables of detection rates, this study's and the paper's.",
            f"Detection rate by iteration, this study beside the paper. Here: mean ± sample std "
            f"over pairs of held-out generator and held-out classifier; {images}.",
            f"{_DETECTIONS}, rows of these cohorts with in_loss = false and "
            "in_training = false; the paper's table as printed",
        )
    if readings.phi_sweep:
        yield _make_figure(
            "phi_sweep",
            draw_phi_sweep(readings.phi_sweep, readings.metric_names[FID]),
            "Detection rate, FID and class entropy against phi on a logarithmic axis.",
            "What a rising phi does to detection, image quality and diversity. In the upper panel "
            f"each dot is one generator and one held-out classifier ({images}); in the lower "
            "ones each dot is one generator. Lines join means.",
            f"{_DETECTIONS} and {_QUALITY}, rows of {', '.join(study.report.phi_sweep)}",
        )
    if readings.generalisation:
        yield _make_figure(
            "generalisation",
            draw_generalisation(readings.generalisation),
            "Detection rate of held-out generators against the number of training generators.",
            "Each dot is one classifier and one generator that it was not trained on "
            f"({images}). Filled dots are generators that no classifier of the figure was "
            "trained on, so that they compare like with like along the axis. The vertical axis "
            "shows the range of the rates and need not start at 0.",
            f"{_DETECTIONS}, rows of these classifier cohorts with in_training = false",
        )


def _draw_phi_samples(root: Path, study: Study, readings: Readings) -> Iterator[PageFigure]:
    if not readings.phi_sweep:
        return
    rows = [ImageRow("real", (read_images(root / _REALS, NUM_COLUMNS),))]
    for row in readings.phi_sweep:
        label = "baseline" if row.phi == 0 else f"phi {format_phi(row.phi)}"
        instances = range(min(study.gans[row.cohort].instances, _PHI_INSTANCES))
        rows.append(read_sample_row(root, row.cohort, label, instances))
    yield _make_figure(
        "phi_samples",
        draw_image_rows(rows),
        "Rows of real and generated images, one row for each phi.",
        "Generated images for a rising phi, below a row of reals. The blocks of a row are "
        "the cohort's first instances, each with its first images; none is picked.",
        f"{_REALS}; data/samples/COHORT/INSTANCE.npy, the first images",
    )


def _draw_cohort(root: Path, study: Study, cohort: str) -> PageFigure:
    gans = study.gans[cohort]
    against = "trained against the discriminator alone"
    if gans.fools != NO_POOL:
        against = f"trained to fool {format_pool(study, gans.fools)}, phi {format_phi(gans.phi)}"
    rows = [
        read_sample_row(root, cohort, f"instance {instance}", [instance])
        for instance in range(gans.instances)
    ]
    return _make_figure(
        f"{SAMPLES_PREFIX}{cohort}",
        draw_image_rows(rows),
        f"Rows of generated images of cohort {cohort}, one row for each instance.",
        f"Generated images of cohort {cohort} ({against}), the first {NUM_COLUMNS} of each "
        "instance.",
        f"data/samples/{cohort}/INSTANCE.npy",
    )


def _draw_reals(root: Path, study: Study) -> PageFigure:
    images = read_images(root / _REALS, 2 * NUM_COLUMNS)
    halves = (images[:NUM_COLUMNS], images[NUM_COLUMNS:])
    return _make_figure(
        "reals",
        draw_image_rows([ImageRow("real", (half,)) for half in halves if len(half) > 0]),
        "Two rows of real images.",
        f"Real images of {format_title(study.data.name)}, for comparison: the first of the test "
        "split.",
        _REALS,
    )


def _draw_curves(study: Study, curves: Mapping[str, pd.DataFrame]) -> Iterator[PageFigure]:
    if curves:
        titles = {
            cohort: "baseline" if study.gans[cohort].fools == NO_POOL else cohort
            for cohort in curves
        }
        yield _make_figure(
            "loss_curves",
            draw_loss_curves(curves, titles),
            "Losses against optimiser steps, a panel for each GAN cohort.",
            "Training losses of the GANs: the mean over the instances of a cohort, and each "
            "instance thinly. The axis is linear up to 1 nat and logarithmic above.",
            "models/gans/COHORT/INSTANCE/curves.csv",
        )


def _make_figure(name: str, figure: Figure, alt: str, caption: str, source: str) -> PageFigure:
    return PageFigure(name, render_png(figure), alt, caption, source)
