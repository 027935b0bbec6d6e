"""Image quality and diversity of every GAN cohort, and the closest pairs of a generated image and
a training image, as the stage quality found them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import (
    NEIGHBOURS_FILE,
    TRAIN_IMAGES,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.tables import (
    Cast,
    read_columns,
    read_header,
)
from knowledge_gaps.readings.cohorts import find_baseline
from knowledge_gaps.readings.figures import grids
from knowledge_gaps.readings.figures.page_figure import PageFigure, make_picture
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.readings.tables import Row, summarise_quality
from knowledge_gaps.statistics.measures import METRICS
from knowledge_gaps.study import REALS

_DISTANCE = "distance_"  # then the extractor's name


class Quality(Reading):
    """Metrics of quality by cohort, with the floor that other reals have."""

    name, title, position = "quality", "Image quality", 210

    def read(self, results: Results) -> Any:
        """Return quality and counts of the verdict on diversity by cohort, and the floor's quality,
        which is None where it was not measured.
        """
        words = results.quality.groupby("generator_cohort")["collapse"]
        collapse = {name: found.value_counts().sort_index().to_dict() for name, found in words}
        has_floor = (results.quality["generator_cohort"] == REALS).any()
        return {
            "cohorts": results.quality_rows,
            "collapse": collapse,
            "floor": summarise_quality(results.quality, REALS) if has_floor else None,
        }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        neighbours = read_neighbours(get_reports_directory(results.root) / NEIGHBOURS_FILE)
        if neighbours.empty:
            return
        training = get_prepared_directory(results.root) / TRAIN_IMAGES
        closest = neighbours.sort_values("distance", kind="stable")[: grids.count_columns(training)]
        generated = (
            grids.read_image(get_samples_file(results.root, cohort, instance), image)
            for cohort, instance, image in closest.iloc[:, :3].itertuples(index=False)
        )
        reals = (grids.read_image(training, index) for index in closest["training_image"])
        rows = [
            grids.ImageRow("generated", tuple(generated)),
            grids.ImageRow("nearest real", tuple(reals)),
        ]
        yield make_picture(
            "neighbours",
            grids.draw_image_rows(rows),
            "Pairs of a generated image and the training image nearest to it.",
            f"The {len(closest)} generated images that lie closest to a training image, over all "
            "cohorts, above that training image. Closeness is of features; what is memorised would "
            "show as one image twice.",
            "reports/neighbours.csv",
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        def name_means(row: Row | None) -> Metrics:
            means = {} if row is None else {metric: row[f"{metric}_mean"] for metric in METRICS}
            return {results.metric_names[metric]: mean for metric, mean in means.items()}

        accuracy = {name: row["real_accuracy_mean"] for name, row in results.accuracy_rows.items()}
        baseline = find_baseline(results.study)
        return {
            "real_accuracy": accuracy,
            "floor": name_means(content["floor"]),
            "baseline": name_means(None if baseline is None else results.quality_rows[baseline]),
        }


def read_neighbours(path: Path) -> pd.DataFrame:
    """Read neighbours.csv, in its order.

    Returns:
        A row per pair: generator_cohort, generator_instance, image (position in the generator's
        sample file), training_image (position in the training images) and distance of their
        features, in units of the extractor.

    Raises:
        UserError: when the file cannot be read, or a column is missing or holds something else.
    """
    distances = [name for name in read_header(path) if name.startswith(_DISTANCE)]
    if not distances:
        raise UserError(f"{path}: no column starts with {_DISTANCE!r}")
    columns = {
        "generator_cohort": Cast.NAME,
        "generator_instance": Cast.COUNT,
        "image": Cast.COUNT,
        "training_image": Cast.COUNT,
        distances[0]: Cast.NUMBER,
    }
    return read_columns(path, columns).rename(columns={distances[0]: "distance"})


READINGS = (Quality(),)
