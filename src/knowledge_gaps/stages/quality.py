"""quality: how good every generator's images are, whether it has collapsed, what it is close to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from knowledge_gaps.core.cache import Row, make_key
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import (
    NEIGHBOURS_FILE,
    QUALITY_FILE,
    TEST_IMAGES,
    TRAIN_IMAGES,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import ImageStore, open_images
from knowledge_gaps.evaluation.cached import compute_rows
from knowledge_gaps.evaluation.extractors.choose import Extractor, Network, choose_extractor
from knowledge_gaps.evaluation.quality.features import extract_features, measure_contrast
from knowledge_gaps.evaluation.quality.neighbours import find_nearest, list_closest
from knowledge_gaps.evaluation.quality.table import (
    Metrics,
    Reals,
    compute_floor,
    compute_quality,
)
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.statistics.collapse import Diversity, judge_collapse
from knowledge_gaps.statistics.measures import (
    CLASS_ENTROPY,
    MISSING_CLASSES,
    RECALL,
    list_metrics,
    name_metric,
)
from knowledge_gaps.study import REALS, Study

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
    extractor: Extractor


@dataclass(frozen=True)
class _Job:
    """Images to be measured against the reals; the training reals themselves for the floor."""

    images_file: Path
    reals: _RealFiles


def run(root: Path, study: Study) -> None:
    """Write reports/quality.csv and neighbours.csv; only what is new or changed is measured.

    Raises:
        UserError: when a file of samples or weights is missing, or there are fewer reals than
            num_images.
    """
    jobs = _list_jobs(root, study)

    def compute(missing: list[_Name]) -> Iterator[dict[_Name, Row]]:
        of_missing = [jobs[name] for name in missing]
        measured = map_parallel(_measure, of_missing, __name__, uses_gpu=True)
        for name, row in zip(missing, measured, strict=True):
            print(f"quality: measured {name[0]}/{name[1]}", flush=True)
            yield {name: row}

    rows = compute_rows(root, "quality", _make_keys(jobs), compute)
    reports = get_reports_directory(root)
    write_table(reports / QUALITY_FILE, _make_quality_table(study, rows))
    write_table(reports / NEIGHBOURS_FILE, _make_neighbours_table(study, rows))


def _list_jobs(root: Path, study: Study) -> dict[_Name, _Job]:
    prepared = get_prepared_directory(root)
    reals = _RealFiles(
        test=prepared / TEST_IMAGES,
        training=prepared / TRAIN_IMAGES,
        num_images=study.evaluation.num_images,
        extractor=choose_extractor(study.evaluation, root),
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
        _hash_images(reals.test),
        _hash_images(reals.training),
        reals.num_images,
        reals.extractor.name,
        reals.extractor.identify(),
        hash_code(("evaluation", "data/images.py", "statistics/collapse.py")),
        get_versions(_VERSIONS),
    ]
    return {name: make_key(_hash_images(job.images_file), shared) for name, job in jobs.items()}


def _hash_images(path: Path) -> str:
    return open_images(path).compute_sha256()


def _measure(job: _Job) -> Row:
    """Measure one set of images: metrics, diversity, and its closest pairs with training reals."""
    # the libraries below numpy would start a thread for each core in each worker
    with threadpool_limits(limits=1):
        reals = _load_reals(job.reals)
        num_images = job.reals.num_images
        images = _open_at_least(job.images_file, num_images)
        contrast = measure_contrast(images, num_images)
        if job.images_file == job.reals.training:
            return _make_row(compute_floor(reals, num_images), contrast, reals, [])
        extractor = _load_extractor(job.reals.extractor)
        generated = extract_features(images, extractor, num_images=num_images)
        nearest = find_nearest(generated.features, reals.training.features)
        metrics = compute_quality(generated, reals, nearest.distances)
        return _make_row(metrics, contrast, reals, list_closest(nearest, _NUM_CLOSEST))


@cache
def _load_reals(files: _RealFiles) -> Reals:
    extractor = _load_extractor(files.extractor)
    test = _open_at_least(files.test, files.num_images)
    training = _open_at_least(files.training, files.num_images)
    return Reals(
        extract_features(test, extractor, num_images=files.num_images),
        extract_features(training, extractor),
    )


@cache
def _load_extractor(extractor: Extractor) -> Network:
    return extractor.load(find_device())


def _open_at_least(path: Path, num_images: int) -> ImageStore:
    images = open_images(path)
    if len(images) < num_images:
        raise UserError(
            f"evaluation.num_images: {num_images} found, {path} holds {len(images)} images"
        )
    return images


def _make_row(
    metrics: Metrics, contrast: float, reals: Reals, closest: list[tuple[int, int, float]]
) -> Row:
    missing, recall, logits = metrics[MISSING_CLASSES], metrics[RECALL], reals.test.logits
    assert recall is not None  # no extractor goes without it
    diversity = Diversity(
        contrast=contrast,
        class_entropy=metrics[CLASS_ENTROPY],
        missing_share=None if missing is None or logits is None else missing / logits.shape[1],
        recall=recall,
    )
    return {"metrics": metrics, "diversity": asdict(diversity), "closest": closest}


def _make_quality_table(study: Study, rows: Mapping[_Name, Row]) -> pd.DataFrame:
    settings = study.evaluation
    extractor = settings.extractor
    names = {name_metric(m, settings.num_images, extractor): m for m in list_metrics(extractor)}
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
