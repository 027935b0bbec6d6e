"""Samples of every GAN cohort, and reals beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.core.layout import get_samples_file
from knowledge_gaps.readings.figures.grids import (
    ImageRow,
    count_columns,
    draw_image_rows,
    read_images,
    read_sample_row,
)
from knowledge_gaps.readings.figures.page_figure import REALS_SOURCE, PageFigure, make_picture
from knowledge_gaps.readings.formats import format_phi, format_pool
from knowledge_gaps.readings.reading import Reading, Results
from knowledge_gaps.readings.words import DRAWN, describe_dataset
from knowledge_gaps.study import NO_POOL, Study


class Samples(Reading):
    """The first images of each generator, none picked."""

    name, title, position = "samples", "Samples", 230

    def read(self, results: Results) -> Any:
        """Return the GAN cohorts of the tables, whose samples are shown without being asked."""
        return list_table_cohorts(results.study) or list(results.study.gans)

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        yield from (_draw_cohort(results, cohort) for cohort in results.study.gans)
        yield _draw_reals(results)


def list_table_cohorts(study: Study) -> list[str]:
    """List the GAN cohorts of the tables of iterations and architectures."""
    report = study.report
    tables = report.iterations, report.memoryless, report.memory, report.architectures
    return list(dict.fromkeys(entry.gans for table in tables for entry in table))


def _draw_cohort(results: Results, cohort: str) -> PageFigure:
    root, gans = results.root, results.study.gans[cohort]
    against = "trained against the discriminator alone"
    if gans.fools != NO_POOL:
        pool = format_pool(results.study, gans.fools)
        against = f"trained to fool {pool}, phi {format_phi(gans.phi)}"
    num_columns = count_columns(get_samples_file(root, cohort, 0))
    rows = [
        read_sample_row(root, cohort, f"instance {instance}", [instance])
        for instance in range(gans.instances)
    ]
    return make_picture(
        f"samples_{cohort}",
        draw_image_rows(rows),
        f"Rows of generated images of cohort {cohort}, one row for each instance.",
        f"Generated images of cohort {cohort} ({against}), the first {num_columns} of each "
        "instance.",
        f"data/samples/{cohort}/INSTANCE.npy",
    )


def _draw_reals(results: Results) -> PageFigure:
    path, words = results.root / REALS_SOURCE, describe_dataset(results.study)
    is_drawn = results.study.data.source == DRAWN
    num_columns = count_columns(path)
    images = read_images(path, 2 * num_columns)
    halves = (images[:num_columns], images[num_columns:])
    return make_picture(
        "reals",
        draw_image_rows([ImageRow("real", (half,)) for half in halves if len(half) > 0]),
        "Two rows of real images.",
        f"{'The reals of this study,' if is_drawn else 'Real images of'} {words}, for comparison: "
        "the first of the test split.",
        REALS_SOURCE,
    )


READINGS = (Samples(),)
