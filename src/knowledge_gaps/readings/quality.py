"""Image quality and diversity of every GAN cohort, and the closest pairs of a generated image and
a training image, as the stage quality found them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.tables import Cast, read_columns
from knowledge_gaps.data.store import open_images
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import find_baseline
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.readings.tables import summarise_quality
from knowledge_gaps.statistics.measures import METRICS, name_features
from knowledge_gaps.study import REALS, Study


class Quality(Reading):
    """Metrics of quality by cohort, with the floor that other reals have."""

    name, title, position = "quality", "Image quality", 210

    def read(self, results: Results) -> Any:
        """Return quality and counts of the verdict on diversity by cohort, and the floor's quality,
        which is None where it was not measured.
        """
        words = results.quality.groupby("generator_cohort")["collapse"]
        collapse = {name: found.value_counts().sort_index().to_dict() for name, found in words}
        return {
            "cohorts": results.quality_rows,
            "collapse": collapse,
            "floor": summarise_quality(results.quality, REALS) if REALS in collapse else None,
        }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        root = results.root
        path = layout.get_reports(root, results.study.study.name) / layout.NEIGHBOURS_FILE
        pairs = _read_neighbours(path, results.study)
        if pairs.empty:
            return
        training = root / layout.PREPARED / layout.TRAIN_IMAGES
        num_columns = figures.count_columns(open_images(training))
        pairs = pairs.sort_values("distance", kind="stable")[:num_columns]
        generated, reals = [], []
        for cohort, *instance, image, real, _ in pairs.itertuples(index=False):
            file = layout.get_samples_file(root, cohort, Instance(*instance))
            generated.append(_read_image(file, image))
            reals.append(_read_image(training, real))
        figure = figures.draw_image_rows([("generated", generated), ("nearest real", reals)])
        yield PageFigure("neighbours", figure, is_picture=True, facts={"num_pairs": len(pairs)})

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        accuracy = {name: row["real_accuracy_mean"] for name, row in results.accuracy_rows.items()}
        baseline = content["cohorts"].get(find_baseline(results.study))
        means = {
            group: {results.metric_names[metric]: row[f"{metric}_mean"] for metric in METRICS}
            for group, row in {"floor": content["floor"], "baseline": baseline}.items()
            if row is not None
        }
        return {"real_accuracy": accuracy, **means}


def _read_image(path: Path, index: int) -> figures.ImageArray:
    images = open_images(path)
    if index >= len(images):
        raise UserError(f"{path}: holds {len(images)} images, image {index} is needed")
    return images[index : index + 1]


def _read_neighbours(path: Path, study: Study) -> pd.DataFrame:
    """Read neighbours.csv: positions in the files of images, and the distance of their features."""
    distance = f"distance_{name_features(study.evaluation.extractor, study.data.name)}"
    columns = {
        "generator_cohort": Cast.NAME,
        "generator_chain": Cast.COUNT,
        "generator_instance": Cast.COUNT,
        "image": Cast.COUNT,
        "training_image": Cast.COUNT,
        distance: Cast.NUMBER,
    }
    return read_columns(path, columns).rename(columns={distance: "distance"})
