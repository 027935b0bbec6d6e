"""quality: how good every generator's images are, whether it has collapsed, what it is close to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from knowledge_gaps.data.images import load_images
from knowledge_gaps.evaluation.quality.extractors import get_extractor
from knowledge_gaps.evaluation.quality.features import extract_features, measure_contrast
from knowledge_gaps.evaluation.quality.neighbours import find_nearest, list_closest
from knowledge_gaps.evaluation.quality.table import (
    CLASS_ENTROPY,
    METRICS,
    MISSING_CLASSES,
    RECALL,
    Reals,
    compute_floor,
    compute_quality,
    name_metric,
)
from knowledge_gaps.runtime.cache import Row, RowCache, make_key
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import hash_file
from knowledge_gaps.runtime.layout import (
    NEIGHBOURS_FILE,
    QUALITY_FILE,
    TEST_IMAGES_FILE,
    TRAIN_IMAGES_FILE,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.runtime.parallel import map_parallel
from knowledge_gaps.runtime.provenance import get_versions, hash_code
from knowledge_gaps.runtime.tables import write_table
from knowledge_gaps.statistics.collapse import Diversity, judge_collapse
from knowledge_gaps.study import REALS, Study

_CODE = (
    "data/images.py",
    "evaluation/lenet.py",
    "evaluation/quality",
    "runtime/determinism.py",
    "statistics/collapse.py",
)
_VERSIONS = ("numpy", "torch", "torch-fidelity")
_NUM_CLOSEST = 10  # pairs of a cohort in neighbours.csv

_Name = tuple[str, int]  # generator cohort, instance; the floor has the cohort of the reals
_FLOOR = (REALS, 0)


@dataclass(frozen=True)
class _RealFiles:
    """The two splits of the reals, and how they are looked at."""

    test: Path
    training: Path
    num_images: int  # of the test split
    extractor: str


@dataclass(frozen=True)
class _Job:
    """Images to be measured against the reals; the training reals themselves for the floor."""

    images_file: Path
    reals: _RealFiles


def run(root: Path, study: Study) -> None:
    """Write reports/quality.csv and neighbours.csv; only what is new or changed is measured.

    Raises:
        UserError: when a sample file is missing, or there are fewer reals than num_images.
    """
    jobs = _list_jobs(root, study)
    keys = _make_keys(jobs)
    cache = RowCache(root, "quality")
    rows = {name: cache.get(key) for name, key in keys.items()}
    missing = [name for name in jobs if rows[name] is None]
    measured = map_parallel(_measure, [jobs[name] for name in missing], __name__)
    for name, row in zip(missing, measured, strict=True):
        rows[name] = row
        cache.put(keys[name], row)
        cache.save()
        print(f"quality: measured {name[0]}/{name[1]}", flush=True)
    known = {name: row for name, row in rows.items() if row is not None}
    reports = get_reports_directory(root)
    write_table(reports / QUALITY_FILE, _make_quality_table(study, known))
    write_table(reports / NEIGHBOURS_FILE, _make_neighbours_table(study, known))
    print(f"measured {len(missing)} sets of images, {len(jobs) - len(missing)} were known")


def _list_jobs(root: Path, study: Study) -> dict[_Name, _Job]:
    prepared = get_prepared_directory(root)
    reals = _RealFiles(
        test=prepared / TEST_IMAGES_FILE,
        training=prepared / TRAIN_IMAGES_FILE,
        num_images=study.evaluation.num_images,
        extractor=study.evaluation.extractor,
    )
    jobs = {_FLOOR: _Job(reals.training, reals)}
    for name, cohort in study.gans.items():
        for instance in range(cohort.instances):
            jobs[name, instance] = _Job(get_samples_file(root, name, instance), reals)
    return jobs


def _make_keys(jobs: Mapping[_Name, _Job]) -> dict[_Name, str]:
    """Name what each row is computed from, by content."""
    reals = jobs[_FLOOR].reals
    shared = [
        hash_file(reals.test),
        hash_file(reals.training),
        reals.num_images,
        reals.extractor,
        hash_file(get_extractor(reals.extractor).weights),
        hash_code(_CODE),
        get_versions(_VERSIONS),
    ]
    return {name: make_key(hash_file(job.images_file), shared) for name, job in jobs.items()}


def _measure(job: _Job) -> Row:
    """Measure one set of images: metrics, diversity, and its closest pairs with training reals."""
    # the libraries below numpy would start a thread for each core in each worker
    with threadpool_limits(limits=1):
        reals = _load_reals(job.reals)
        num_images = job.reals.num_images
        images = _load_at_least(job.images_file, num_images)[:num_images]
        if job.images_file == job.reals.training:
            return _make_row(compute_floor(reals, num_images), images, reals, [])
        generated = extract_features(images, get_extractor(job.reals.extractor).load())
        nearest = find_nearest(generated.features, reals.training.features)
        metrics = compute_quality(generated, reals, nearest.distances)
        return _make_row(metrics, images, reals, list_closest(nearest, _NUM_CLOSEST))


@cache
def _load_reals(files: _RealFiles) -> Reals:
    extractor = get_extractor(files.extractor).load()
    test = _load_at_least(files.test, files.num_images)[: files.num_images]
    training = _load_at_least(files.training, files.num_images)
    return Reals(extract_features(test, extractor), extract_features(training, extractor))


def _load_at_least(path: Path, num_images: int) -> npt.NDArray[np.uint8]:
    images = load_images(path)
    if len(images) < num_images:
        raise UserError(
            f"evaluation.num_images: {num_images} found, {path} holds {len(images)} images"
        )
    return images


def _make_row(
    metrics: dict[str, float],
    images: npt.NDArray[np.uint8],
    reals: Reals,
    closest: list[tuple[int, int, float]],
) -> Row:
    diversity = Diversity(
        contrast=measure_contrast(images),
        class_entropy=metrics[CLASS_ENTROPY],
        missing_share=metrics[MISSING_CLASSES] / reals.test.logits.shape[1],
        recall=metrics[RECALL],
    )
    return {"metrics": metrics, "diversity": asdict(diversity), "closest": closest}


def _make_quality_table(study: Study, rows: Mapping[_Name, Row]) -> pd.DataFrame:
    settings = study.evaluation
    names = {name_metric(m, settings.num_images, settings.extractor): m for m in METRICS}
    floor = Diversity(**rows[_FLOOR]["diversity"])
    return pd.DataFrame(
        {
            "generator_cohort": cohort,
            "generator_instance": instance,
            "phi": None if cohort == REALS else study.gans[cohort].phi,
            **{name: row["metrics"][metric] for name, metric in names.items()},
            "collapse": judge_collapse(Diversity(**row["diversity"]), floor),
        }
        for (cohort, instance), row in rows.items()
    )


def _make_neighbours_table(study: Study, rows: Mapping[_Name, Row]) -> pd.DataFrame:
    """List the closest pairs of each GAN cohort, over its instances."""
    key = ("generator_cohort", "generator_instance", "image", "training_image")
    table = []
    for cohort in study.gans:
        pairs = [
            (distance, instance, image, training_image)
            for (name, instance), row in rows.items()
            if name == cohort
            for image, training_image, distance in row["closest"]
        ]
        table += [(cohort, *pair, distance) for distance, *pair in sorted(pairs)[:_NUM_CLOSEST]]
    return pd.DataFrame(table, columns=[*key, f"distance_{study.evaluation.extractor}"])
