"""perturbations: classifiers that generators fool, asked again on perturbed images.

Reals and generated images are perturbed alike. The classifiers are also asked about generators that
they are known to detect, so that a perturbation which blinds them is told from a closed gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code, hash_module
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.detection import Scores, hash_classifier
from knowledge_gaps.evaluation.perturbing import (
    LEAST_DEV_REALS,
    choose_perturbations,
    list_perturbations,
    measure_perturbed,
    score_perturbed,
)
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.readings.cohorts import Name, list_perturbed_pairs
from knowledge_gaps.stages.detections import describe_pair, get_directory
from knowledge_gaps.statistics.measures import PERTURBED_MEASURES
from knowledge_gaps.study import Study

_COLUMNS = (
    tables.PERTURBATION,
    tables.GENERATOR_COHORT,
    tables.GENERATOR_CHAIN,
    tables.GENERATOR_INSTANCE,
    tables.CLASSIFIER_COHORT,
    tables.CLASSIFIER_CHAIN,
    tables.CLASSIFIER_INSTANCE,
    tables.IN_LOSS,
    tables.IN_TRAINING,
    tables.NUM_IMAGES,
    *PERTURBED_MEASURES,
)
_CODE = ("core/seeding.py", "evaluation/perturbing.py")

_Pair = tuple[Name, Name]  # generator, classifier
_Item = tuple[str, Name, Name]  # perturbation, generator, classifier
_Job = tuple[str, list[_Pair]]  # perturbation, pairs with classifiers of one cohort


def run(root: Path, study: Study) -> None:
    """Write perturbations.csv, scoring what is new; raises UserError for a bad file.

    The table has no row where the study asks for no perturbation, or fools no classifier.
    """
    num_images = study.evaluation.num_perturbed

    def compute(missing: list[_Item]) -> Iterator[dict[_Item, Row]]:
        jobs: dict[tuple[str, str], list[_Pair]] = {}
        for name, generator, classifier in missing:
            jobs.setdefault((name, classifier[0]), []).append((generator, classifier))
        items = [(name, pairs) for (name, _), pairs in jobs.items()]
        scored = map_parallel(partial(_score, root, num_images), items, __name__, uses_gpu=True)
        for (name, classifiers), rows in zip(jobs, scored, strict=True):
            words = count_words(len(rows), "pair")
            print(f"perturbations: {name}: {words} of {classifiers} scored", flush=True)
            yield {(name, *pair): row for pair, row in rows.items()}

    keys = _make_keys(root, study)
    if keys and (found := len(open_reals(root, num_images)[1])) < LEAST_DEV_REALS:
        print(
            f"perturbations: {found} reals are left to set a threshold, {LEAST_DEV_REALS} are "
            "needed: detection_at_5pct stays empty"
        )
    rows = compute_rows(root, "perturbations", keys, compute)
    described = [
        {tables.PERTURBATION: name, **describe_pair(study, (generator, classifier)), **row}
        for (name, generator, classifier), row in rows.items()
    ]
    table = pd.DataFrame(described, columns=list(_COLUMNS))
    tables.write_table(
        layout.get_reports(root, study.study.name) / layout.PERTURBATIONS_FILE, table
    )


def _make_keys(root: Path, study: Study) -> dict[_Item, str]:
    """Hash what each row is computed from, perturbation by perturbation."""
    chosen, pairs = choose_perturbations(study.evaluation), list_perturbed_pairs(study)
    if not chosen or not pairs:
        return {}
    num_images = study.evaluation.num_perturbed
    dev_file, dev_start = _find_dev_reals(root, num_images)
    shared = [
        [num_images, hash_file(root / layout.PREPARED / layout.TEST_IMAGES)],
        [dev_start, hash_file(dev_file)],
        hash_code(_CODE),
        get_versions(("numpy", "pillow", "scikit-learn", "scipy", "torch")),
    ]
    generators = {
        generator: hash_file(layout.get_samples_file(root, *generator))
        for generator in dict.fromkeys(generator for generator, _ in pairs)
    }
    classifiers = {
        classifier: hash_classifier(get_directory(root, classifier))
        for classifier in dict.fromkeys(classifier for _, classifier in pairs)
    }
    codes = {name: hash_module(perturbation.file) for name, perturbation in chosen.items()}
    return {
        (name, generator, classifier): make_key(
            name, code, generators[generator], classifiers[classifier], shared
        )
        for name, code in codes.items()
        for generator, classifier in pairs
    }


def open_reals(root: Path, num_images: int) -> tuple[Images, Images]:
    """Open the test reals that are scored, and at most as many others, which set thresholds."""
    dev_file, start = _find_dev_reals(root, num_images)
    test = open_images(root / layout.PREPARED / layout.TEST_IMAGES)
    return test[:num_images], open_images(dev_file)[start : start + num_images]


def _find_dev_reals(root: Path, num_images: int) -> tuple[Path, int]:
    """Find the file of the reals that set thresholds, and the first of them.

    Without a dev split they are the test reals behind those that are scored.
    """
    dev_file = root / layout.PREPARED / layout.DEV_IMAGES
    if dev_file.exists():
        return dev_file, 0
    return root / layout.PREPARED / layout.TEST_IMAGES, num_images


def _score(root: Path, num_images: int, job: _Job) -> dict[_Pair, Row]:
    """Let classifiers score generators under a perturbation, each image perturbed once for all."""
    name, pairs = job
    perturb = list_perturbations()[name].apply
    device = find_device()
    networks = {
        classifier: load_classifier(get_directory(root, classifier)).to(device)
        for classifier in dict.fromkeys(classifier for _, classifier in pairs)
    }

    def score(images: Images, asked: Sequence[Name]) -> dict[Name, Scores]:
        scores = score_perturbed([networks[classifier] for classifier in asked], images, perturb)
        return dict(zip(asked, scores, strict=True))

    real, dev = (score(images, list(networks)) for images in open_reals(root, num_images))
    rows: dict[_Pair, Row] = {}
    for generator in dict.fromkeys(generator for generator, _ in pairs):
        asked = [classifier for each, classifier in pairs if each == generator]
        images = open_images(layout.get_samples_file(root, *generator))[:num_images]
        for classifier, scores in score(images, asked).items():
            row = measure_perturbed(scores, real[classifier], dev[classifier])
            rows[generator, classifier] = row
    return rows
