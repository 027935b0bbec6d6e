"""Figures of artifacts, of what classifiers look at, and of how alike they are, described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knowledge_gaps.analyses.agreement import figure as agreement
from knowledge_gaps.analyses.agreement.reading import AgreementReading
from knowledge_gaps.analyses.attributions import figure as attributions
from knowledge_gaps.analyses.spectra import figure as spectra
from knowledge_gaps.core.layout import (
    TRAIN_IMAGES,
    get_prepared_directory,
    get_samples_file,
)
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.figures.grids import (
    ImageRow,
    count_columns,
    draw_image_rows,
    read_image,
)
from knowledge_gaps.readings.figures.page_figure import PageFigure, make_picture
from knowledge_gaps.report.evidence import Evidence
from knowledge_gaps.study import Study


def draw_evidence(
    root: Path, study: Study, readings: Readings, evidence: Evidence
) -> Iterator[PageFigure]:
    """Draw every figure that the study has evidence for."""
    if readings.mutual_fooling is not None:
        compared = AgreementReading(evidence.agreement, evidence.comparisons)
        yield from agreement.draw(compared, readings.mutual_fooling, list_order(readings))
    yield from spectra.draw(study, evidence.spectra)
    if evidence.attributions is not None:
        yield from attributions.draw(evidence.attributions, evidence.spectra.has_colours)
    yield from _draw_neighbours(root, evidence)


def list_order(readings: Readings) -> list[int]:
    """Order the classifiers of the mutual-fooling matrix by cluster, then by number."""
    assert readings.mutual_fooling is not None  # nobody asks otherwise
    instances = readings.mutual_fooling.fooled
    if readings.clusters is None:
        return list(instances)
    labels = readings.clusters.labels
    return [instance for _, instance in sorted(zip(labels.tolist(), instances, strict=True))]


def _draw_neighbours(root: Path, evidence: Evidence) -> Iterator[PageFigure]:
    if not evidence.neighbours:
        return
    training = get_prepared_directory(root) / TRAIN_IMAGES
    by_distance = sorted(evidence.neighbours, key=lambda pair: pair.distance)
    closest = by_distance[: count_columns(training)]
    rows = [
        ImageRow(
            "generated",
            tuple(
                read_image(get_samples_file(root, pair.cohort, pair.instance), pair.image)
                for pair in closest
            ),
        ),
        ImageRow(
            "nearest real", tuple(read_image(training, pair.training_image) for pair in closest)
        ),
    ]
    yield make_picture(
        "neighbours",
        draw_image_rows(rows),
        "Pairs of a generated image and the training image nearest to it.",
        f"The {len(closest)} generated images that lie closest to a training image, over all "
        "cohorts, above that training image. Closeness is of features; what is memorised would "
        "show as one image twice.",
        "reports/neighbours.csv",
    )
