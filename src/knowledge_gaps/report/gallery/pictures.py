"""Pictures: samples of every cohort, of a rising phi, and reals beside them, described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knowledge_gaps.core.layout import get_samples_file
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.figures.grids import (
    ImageRow,
    count_columns,
    draw_image_rows,
    read_images,
    read_sample_row,
)
from knowledge_gaps.readings.figures.page_figure import REALS_SOURCE, PageFigure, make_picture
from knowledge_gaps.readings.formats import format_phi, format_pool
from knowledge_gaps.report.setting import describe_reals
from knowledge_gaps.study import NO_POOL, Study

SAMPLES_PREFIX = "samples_"  # then the cohort's name
_PHI_INSTANCES = 2  # generators that share a row of the phi samples


def draw_pictures(root: Path, study: Study, readings: Readings) -> Iterator[PageFigure]:
    """Draw the samples of all cohorts; the images are read from the folders below the root."""
    yield from _draw_phi_samples(root, study, readings)
    yield from (_draw_cohort(root, study, cohort) for cohort in study.gans)
    yield _draw_reals(root, study)


def _draw_phi_samples(root: Path, study: Study, readings: Readings) -> Iterator[PageFigure]:
    if not readings.phi_sweep:
        return
    reals = root / REALS_SOURCE
    rows = [ImageRow("real", (read_images(reals, count_columns(reals)),))]
    for row in readings.phi_sweep:
        label = "baseline" if row.value == 0 else f"phi {format_phi(row.value)}"
        instances = range(min(study.gans[row.cohort].instances, _PHI_INSTANCES))
        rows.append(read_sample_row(root, row.cohort, label, instances))
    yield make_picture(
        "phi_samples",
        draw_image_rows(rows),
        "Rows of real and generated images, one row for each phi.",
        "Generated images for a rising phi, below a row of reals. The blocks of a row are "
        "the cohort's first instances, each with its first images; none is picked.",
        f"{REALS_SOURCE}; data/samples/COHORT/INSTANCE.npy, the first images",
    )


def _draw_cohort(root: Path, study: Study, cohort: str) -> PageFigure:
    gans = study.gans[cohort]
    against = "trained against the discriminator alone"
    if gans.fools != NO_POOL:
        against = f"trained to fool {format_pool(study, gans.fools)}, phi {format_phi(gans.phi)}"
    num_columns = count_columns(get_samples_file(root, cohort, 0))
    rows = [
        read_sample_row(root, cohort, f"instance {instance}", [instance])
        for instance in range(gans.instances)
    ]
    return make_picture(
        f"{SAMPLES_PREFIX}{cohort}",
        draw_image_rows(rows),
        f"Rows of generated images of cohort {cohort}, one row for each instance.",
        f"Generated images of cohort {cohort} ({against}), the first {num_columns} of each "
        "instance.",
        f"data/samples/{cohort}/INSTANCE.npy",
    )


def _draw_reals(root: Path, study: Study) -> PageFigure:
    num_columns = count_columns(root / REALS_SOURCE)
    images = read_images(root / REALS_SOURCE, 2 * num_columns)
    halves = (images[:num_columns], images[num_columns:])
    return make_picture(
        "reals",
        draw_image_rows([ImageRow("real", (half,)) for half in halves if len(half) > 0]),
        "Two rows of real images.",
        f"{describe_reals(study)}, for comparison: the first of the test split.",
        REALS_SOURCE,
    )
