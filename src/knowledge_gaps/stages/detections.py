"""detections: every classifier scores every generator's images and the real test split."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.detection import hash_classifier, measure_detection, score_images
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.statistics.measures import DETECTION_MEASURES
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_classifiers, list_generators, list_members

_Name = tuple[str, Instance]  # cohort without its kind, instance
_Pair = tuple[_Name, _Name]  # generator, classifier, of one chain


def run(root: Path, study: Study) -> None:
    """Write detections.csv, scoring what is new; raises UserError for a bad file."""

    def compute(missing: list[_Pair]) -> Iterator[dict[_Pair, Row]]:
        generators: dict[_Name, list[_Name]] = {}
        for generator, classifier in missing:
            generators.setdefault(classifier, []).append(generator)
        jobs = list(generators.items())
        scored = map_parallel(partial(_score, root), jobs, __name__, uses_gpu=True)
        for (classifier, _), rows in zip(jobs, scored, strict=True):
            words = count_words(len(rows), "generator")
            print(f"detections: {classifier[0]}/{classifier[1]} scored {words}", flush=True)
            yield {(generator, classifier): row for generator, row in rows.items()}

    rows = compute_rows(root, "detections", _make_keys(root, study), compute)
    table = pd.DataFrame([_make_row(study, pair, row) for pair, row in rows.items()])
    write_table(layout.get_reports(root, study.study.name) / layout.DETECTIONS_FILE, table)


def _make_keys(root: Path, study: Study) -> dict[_Pair, str]:
    """Hash what each pair's row is computed from."""
    reals = hash_file(root / layout.PREPARED / layout.TEST_IMAGES)
    versions = get_versions(("numpy", "scikit-learn", "scipy", "torch"))
    generators = {
        name: hash_file(layout.get_samples_file(root, *name)) for name in list_generators(study)
    }
    classifiers = {
        name: hash_classifier(get_directory(root, name)) for name in list_classifiers(study)
    }
    return {
        (generator, classifier): make_key(images, weights, reals, versions)
        for generator, images in generators.items()
        for classifier, weights in classifiers.items()
        if generator[1].chain == classifier[1].chain
    }


def _score(root: Path, job: tuple[_Name, list[_Name]]) -> dict[_Name, Row]:
    """Let a classifier score the generators that it has not scored yet."""
    name, generators = job
    classifier = load_classifier(get_directory(root, name)).to(find_device())
    reals_file = root / layout.PREPARED / layout.TEST_IMAGES
    scores_real = score_images(classifier, open_images(reals_file))
    rows: dict[_Name, Row] = {}
    for generator in generators:
        scores = score_images(classifier, open_images(layout.get_samples_file(root, *generator)))
        rows[generator] = {"num_images": len(scores), **measure_detection(scores, scores_real)}
    return rows


def _make_row(study: Study, pair: _Pair, measured: Row) -> Row:
    numbers = {name: measured[name] for name in ("num_images", *DETECTION_MEASURES)}
    return describe_pair(study, pair) | numbers


def describe_pair(study: Study, pair: _Pair) -> Row:
    """Name a pair in a row, and say whether one of the two was trained with the other."""
    (gans, generator), (classifiers, classifier) = pair
    cohort = study.gans[gans]
    fooled = list_members(study, cohort.fools)
    detected = list_members(study, study.classifiers[classifiers].detects)
    return {
        "generator_cohort": gans,
        "generator_chain": generator.chain,
        "generator_instance": generator.number,
        "classifier_cohort": classifiers,
        "classifier_chain": classifier.chain,
        "classifier_instance": classifier.number,
        "in_loss": cohort.phi > 0 and (f"classifiers/{classifiers}", classifier.number) in fooled,
        "in_training": (f"gans/{gans}", generator.number) in detected,
    }


def get_directory(root: Path, name: _Name) -> Path:
    """Directory of a classifier, named by its cohort and instance."""
    return layout.get_instance_directory(root, f"classifiers/{name[0]}", name[1])
