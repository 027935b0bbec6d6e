"""Samples of every GAN cohort, and reals beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.core.layout import PREPARED, TEST_IMAGES
from knowledge_gaps.data.store import open_images
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import list_table_cohorts
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Reading, Results
from knowledge_gaps.study.graph import list_instances

_MAX_ROWS = 12  # instances of a cohort that are shown


class Samples(Reading):
    """The first images of each generator, none picked."""

    name, title, position = "samples", "Samples", 230

    def read(self, results: Results) -> Any:
        """Return the GAN cohorts of the tables, whose samples are shown without being asked."""
        return list_table_cohorts(results.study) or list(results.study.gans)

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        reals = open_images(results.root / PREPARED / TEST_IMAGES)
        num_columns = figures.count_columns(reals)
        for cohort, gans in results.study.gans.items():
            rows = [
                figures.read_sample_row(results.root, cohort, f"instance {instance}", [instance])
                for instance in list_instances(results.study, gans)[:_MAX_ROWS]
            ]
            figure = figures.draw_image_rows(rows)
            facts = {"num_columns": num_columns, "num_instances": len(rows)}
            yield PageFigure(f"samples_{cohort}", figure, is_picture=True, facts=facts)
        halves = reals[:num_columns], reals[num_columns : 2 * num_columns]
        rows = [("real", [half]) for half in halves if len(half) > 0]
        yield PageFigure("reals", figures.draw_image_rows(rows), is_picture=True)
