"""quality: FID, KID, precision, recall and class entropy of every generator, by named features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.data.images import load_images
from knowledge_gaps.evaluation.lenet import WEIGHTS_PATH, load_lenet
from knowledge_gaps.evaluation.quality import (
    FeatureSet,
    compute_quality,
    extract_features,
    metric_names,
)
from knowledge_gaps.runtime.cache import Row, RowCache, make_key
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import hash_file, write_text
from knowledge_gaps.runtime.layout import (
    QUALITY_FILE,
    TEST_IMAGES_FILE,
    TRAIN_IMAGES_FILE,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.runtime.parallel import map_parallel
from knowledge_gaps.runtime.provenance import get_versions, hash_code
from knowledge_gaps.study import REALS, Study

_CODE = (
    "data/images.py",
    "evaluation/lenet.py",
    "evaluation/quality.py",
    "runtime/determinism.py",
)


@dataclass(frozen=True)
class _Job:
    """Images to be measured against the reals of the test split."""

    images_file: Path
    reals_file: Path
    num_images: int


def run(root: Path, study: Study) -> None:
    """Write reports/quality.csv; only generators that are new or changed are measured.

    Raises:
        UserError: when a sample file is missing, or there are fewer reals than num_images.
    """
    jobs = _list_jobs(root, study)
    code = [hash_code(_CODE), hash_file(WEIGHTS_PATH), get_versions(("torch", "torch-fidelity"))]
    cache = RowCache(root, "quality")
    keys = {
        name: make_key(hash_file(job.images_file), hash_file(job.reals_file), job.num_images, code)
        for name, job in jobs.items()
    }
    missing = [name for name in jobs if cache.get(keys[name]) is None]
    measured = map_parallel(_measure, [jobs[name] for name in missing], __name__)
    for name, row in zip(missing, measured, strict=True):
        cache.put(keys[name], row)
        cache.save()
        print(f"quality: measured {name[0]}/{name[1]}", flush=True)
    table = pd.DataFrame([_make_row(study, *name, cache.get(keys[name])) for name in jobs])
    text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_text(get_reports_directory(root) / QUALITY_FILE, text)
    print(f"measured {len(missing)} sets of images, {len(jobs) - len(missing)} were known")


def _list_jobs(root: Path, study: Study) -> dict[tuple[str, int], _Job]:
    prepared = get_prepared_directory(root)
    num_images = study.evaluation.num_images
    reals_file = prepared / TEST_IMAGES_FILE
    jobs = {(REALS, 0): _Job(prepared / TRAIN_IMAGES_FILE, reals_file, num_images)}
    for name, cohort in study.gans.items():
        for instance in range(cohort.instances):
            samples_file = get_samples_file(root, name, instance)
            jobs[name, instance] = _Job(samples_file, reals_file, num_images)
    return jobs


def _measure(job: _Job) -> Row:
    reals = _extract_reals(job.reals_file, job.num_images)
    images = _load_first(job.images_file, job.num_images)
    return dict(compute_quality(extract_features(images, load_lenet()), reals))


@cache
def _extract_reals(path: Path, num_images: int) -> FeatureSet:
    return extract_features(_load_first(path, num_images), load_lenet())


def _load_first(path: Path, num_images: int) -> npt.NDArray[np.uint8]:
    images = load_images(path)
    if len(images) < num_images:
        raise UserError(
            f"evaluation.num_images: {num_images} found, {path} holds {len(images)} images"
        )
    return images[:num_images]


def _make_row(study: Study, cohort: str, instance: int, measured: Row | None) -> Row:
    assert measured is not None  # every set was measured above
    phi = None if cohort == REALS else study.gans[cohort].phi
    names = metric_names(study.evaluation.num_images, study.evaluation.extractor)
    return {
        "generator_cohort": cohort,
        "generator_instance": instance,
        "phi": phi,
        **{name: measured[name] for name in names},  # a known row has them in another order
    }
