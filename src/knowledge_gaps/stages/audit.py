"""audit: can a classifier tell reals that went the generated images' way from other reals?

A frozen generator that replays reals takes the place of a GAN in the training of classifiers, for
every recipe of the study, and the reals of the test split go through it and through a file as
samples do. Whoever still tells the two apart has found a shortcut in how images are converted or
stored. Controls with a known fault show what the audit would have found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd
import torch

from knowledge_gaps.analyses.audit.measure import (
    COLUMNS,
    NO_FAULT,
    VERDICT,
    Check,
    Verdict,
    count_changed_bytes,
    is_stored_alike,
    judge_classifiers,
    make_exact_row,
)
from knowledge_gaps.analyses.audit.replay import (
    FAULTS,
    make_level_images,
)
from knowledge_gaps.analyses.audit.training import (
    Job,
    load_reals,
    make_replay,
    pass_through,
    run_job,
)
from knowledge_gaps.core.cache import Row, RowCache, make_key
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_workers, find_device
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import (
    AUDIT_FILE,
    TEST_IMAGES,
    TRAIN_IMAGES,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import load_array, open_images
from knowledge_gaps.execution.fingerprint import TRAINING_CODE
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.statistics.measures import AUC
from knowledge_gaps.study import Study
from knowledge_gaps.training.initial_weights import find_initial_weights

AUDIT_INSTANCES = 3  # classifiers of each recipe that look at the replay as it is
# A shortcut is the same in every image and is learnt early: with the reduced study's recipe and
# 600 steps both controls are found with an area under the ROC curve of at least 0.99.
AUDIT_STEPS = 600
# fewer where the study itself looks at fewer images than the 4,000 that this was found with
_IMAGES_A_STEP = 4000 / 600
_LEAST_STEPS = 150
_COUNTS = ("instance", "steps", "num_images", "num_defects")  # columns of whole numbers
_VERSIONS = ("accelerate", "pillow", "scikit-learn", "scipy", "torch")


def run(root: Path, study: Study) -> None:
    """Write reports/audit.csv; only classifiers that are new or changed are trained.

    Raises:
        UserError: when a file of images is missing or altered, or a training diverges.
    """
    measured = _measure_all(root, study)
    rows = [
        *judge_classifiers(measured),
        *_check_round_trips(root),
        _check_sample_files(root, study),
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))
    write_table(get_reports_directory(root) / AUDIT_FILE, table)
    print(f"audit: {_summarise([row[VERDICT] for row in rows])}")


def _summarise(verdicts: Sequence[str]) -> str:
    """Put the verdicts of all checks and controls into words."""
    num_passed, num_failed, num_found, num_missed = (verdicts.count(word) for word in Verdict)
    power = ", so one could have been missed" if num_missed else ""
    return (
        f"{num_passed} checks passed, {num_failed} failed; "
        f"{num_found} of {num_found + num_missed} known faults were found{power}"
    )


def _measure_all(root: Path, study: Study) -> list[Row]:
    """Return the row of every classifier of the audit, without its verdict."""
    prepared = get_prepared_directory(root)
    shared = [
        *(open_images(prepared / name).compute_sha256() for name in (TRAIN_IMAGES, TEST_IMAGES)),
        get_versions(_VERSIONS),
    ]
    jobs = _list_jobs(root, study)
    starts = {
        name: find_initial_weights(recipe, root)
        for name, recipe in study.classifier_recipes.items()
    }
    weights = {name: start and start.sha256 for name, start in starts.items()}
    keys = [
        make_key(
            job.seed,
            job.describe(),
            job.recipe.model_dump(mode="json"),
            weights[job.name],
            hash_code((*TRAINING_CODE, "evaluation", "analyses/audit"), (job.recipe.architecture,)),
            shared,
        )
        for job in jobs
    ]
    cache = RowCache(root, "audit")
    known = [cache.get(key) for key in keys]
    missing = [job for job, row in zip(jobs, known, strict=True) if row is None]
    trained = _train(missing)
    rows: list[Row] = []
    for job, key, row in zip(jobs, keys, known, strict=True):
        measured = next(trained) if row is None else row
        cache.put(key, measured)
        cache.save()
        rows.append({**job.describe(), **measured})
    num_known = len(jobs) - len(missing)
    print(f"trained {count_words(len(missing), 'classifier')}, {num_known} known already")
    return rows


def _list_jobs(root: Path, study: Study) -> list[Job]:
    faults = [(NO_FAULT, instance) for instance in range(AUDIT_INSTANCES)]
    faults += [(fault, 0) for fault in FAULTS]
    jobs: list[Job] = []
    for name, recipe in study.classifier_recipes.items():
        steps = min(recipe.steps, _count_steps(study.evaluation.num_images))
        # there is one generator, and none to be held out
        short = recipe.model_copy(update={"steps": steps, "early_stopping": None})
        for fault, instance in faults:
            jobs.append(Job(root, study.study.seed, name, short, fault, instance, len(jobs)))
    return jobs


def _count_steps(num_images: int) -> int:
    return min(AUDIT_STEPS, max(_LEAST_STEPS, round(num_images / _IMAGES_A_STEP)))


def _train(jobs: Sequence[Job]) -> Iterator[Row]:
    """Run jobs, one a GPU or core, each recipe's in processes of their own.

    A process keeps to the precision that its first training chose.
    """
    for _, group in groupby(jobs, key=lambda job: job.name):
        of_recipe = list(group)
        num_workers = count_workers(len(of_recipe))
        trained = map_parallel(run_job, of_recipe, __name__, num_workers=num_workers)
        for job, row in zip(of_recipe, trained, strict=True):
            print(f"{job.cohort}/{job.instance}: auc {row[AUC]:.3f}", flush=True)
            yield row


def _check_round_trips(root: Path) -> Iterator[Row]:
    """Send reals, as many as fit, and an image of every level, the generated images' way."""
    configure_process()
    device = find_device()
    names = {"train": TRAIN_IMAGES, "test": TEST_IMAGES}
    sets = {name: load_reals(root, file_name) for name, file_name in names.items()}
    sets["levels"] = make_level_images(sets["train"].shape[1:])
    for name, images in sets.items():
        with tempfile.TemporaryDirectory() as directory:
            replay = make_replay(images, NO_FAULT).to(device)
            returned = pass_through(replay, torch.arange(len(images)), Path(directory) / "0.npy")
        num_defects = count_changed_bytes(images, returned)
        yield make_exact_row(Check.ROUND_TRIP, name, len(images), num_defects)


def _check_sample_files(root: Path, study: Study) -> Row:
    reals = load_reals(root, TRAIN_IMAGES)
    num_images = study.evaluation.num_images
    paths = [
        get_samples_file(root, name, instance)
        for name, cohort in study.gans.items()
        for instance in range(cohort.instances)
    ]
    num_defects = sum(
        not is_stored_alike(load_array(path, is_mapped=True), num_images, reals) for path in paths
    )
    return make_exact_row(Check.SAMPLE_FILES, "samples", num_images * len(paths), num_defects)
