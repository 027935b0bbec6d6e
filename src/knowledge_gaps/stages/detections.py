"""detections: every classifier scores every generator's images and the real test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knowledge_gaps.core.cache import Row, RowCache, make_key
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import (
    DETECTIONS_FILE,
    TEST_IMAGES,
    get_instance_directory,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.detection import (
    hash_classifier,
    measure_detection,
    score_images,
)
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.statistics.measures import DETECTION_MEASURES
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members

_VERSIONS = ("numpy", "scikit-learn", "scipy", "torch")
_MEASURED = ("num_images", *DETECTION_MEASURES)


@dataclass(frozen=True)
class _Pair:
    """A generator instance and a classifier instance."""

    generator: tuple[str, int]  # cohort without its kind, instance
    classifier: tuple[str, int]


@dataclass(frozen=True)
class _Job:
    """One classifier instance and the generators that it has not scored yet."""

    root: Path
    classifier: tuple[str, int]
    generators: tuple[tuple[str, int], ...]


def run(root: Path, study: Study) -> None:
    """Write reports/detections.csv; only pairs that are new or changed are scored.

    Raises:
        UserError: when a checkpoint or sample file is missing or altered.
    """
    pairs = _list_pairs(study)
    keys = _make_keys(root, pairs)
    cache = RowCache(root, "detections")
    missing = [pair for pair in pairs if cache.get(keys[pair]) is None]
    jobs = _group_jobs(root, missing)
    scored = map_parallel(_score, jobs, __name__, uses_gpu=True)
    for job, rows in zip(jobs, scored, strict=True):
        for generator, row in zip(job.generators, rows, strict=True):
            cache.put(keys[_Pair(generator, job.classifier)], row)
        cache.save()
        name, instance = job.classifier
        scores = count_words(len(rows), "generator")
        print(f"detections: {name}/{instance} scored {scores}", flush=True)
    table = pd.DataFrame([_make_row(study, pair, cache.get(keys[pair])) for pair in pairs])
    write_table(get_reports_directory(root) / DETECTIONS_FILE, table)
    num_known = len(pairs) - len(missing)
    print(f"scored {count_words(len(missing), 'pair')}, {num_known} known already")


def _list_pairs(study: Study) -> list[_Pair]:
    return [
        _Pair((gans, generator), (classifiers, classifier))
        for gans, gan_cohort in study.gans.items()
        for generator in range(gan_cohort.instances)
        for classifiers, classifier_cohort in study.classifiers.items()
        for classifier in range(classifier_cohort.instances)
    ]


def _make_keys(root: Path, pairs: list[_Pair]) -> dict[_Pair, str]:
    """Name what each pair's row is computed from, by content."""
    reals = open_images(get_prepared_directory(root) / TEST_IMAGES).compute_sha256()
    generators = {
        pair.generator: hash_file(get_samples_file(root, *pair.generator)) for pair in pairs
    }
    classifiers = {
        pair.classifier: hash_classifier(_get_classifier_directory(root, pair.classifier))
        for pair in pairs
    }
    versions = get_versions(_VERSIONS)
    return {
        pair: make_key(generators[pair.generator], classifiers[pair.classifier], reals, versions)
        for pair in pairs
    }


def _group_jobs(root: Path, pairs: list[_Pair]) -> list[_Job]:
    generators: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for pair in pairs:
        generators.setdefault(pair.classifier, []).append(pair.generator)
    return [_Job(root, classifier, tuple(scored)) for classifier, scored in generators.items()]


def _score(job: _Job) -> list[Row]:
    directory = _get_classifier_directory(job.root, job.classifier)
    classifier = load_classifier(directory).to(find_device())
    reals = open_images(get_prepared_directory(job.root) / TEST_IMAGES)
    scores_real = score_images(classifier, reals)
    rows: list[Row] = []
    for generator in job.generators:
        scores = score_images(classifier, open_images(get_samples_file(job.root, *generator)))
        rows.append({"num_images": len(scores), **measure_detection(scores, scores_real)})
    return rows


def _make_row(study: Study, pair: _Pair, measured: Row | None) -> Row:
    assert measured is not None  # every pair was scored above
    gans, generator = pair.generator
    classifiers, classifier = pair.classifier
    fooled = list_members(study, study.gans[gans].fools)
    detected = list_members(study, study.classifiers[classifiers].detects)
    return {
        "generator_cohort": gans,
        "generator_instance": generator,
        "classifier_cohort": classifiers,
        "classifier_instance": classifier,
        "in_loss": study.gans[gans].phi > 0
        and (f"classifiers/{classifiers}", classifier) in fooled,
        "in_training": (f"gans/{gans}", generator) in detected,
        **{name: measured[name] for name in _MEASURED},
    }


def _get_classifier_directory(root: Path, classifier: tuple[str, int]) -> Path:
    return get_instance_directory(root, f"classifiers/{classifier[0]}", classifier[1])
