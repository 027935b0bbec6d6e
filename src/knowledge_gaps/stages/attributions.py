"""attributions: what classifiers in a generator's loss and held-out ones look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.attributions.measure import NUM_STEPS, Look, join_looks, look_at
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.files import publish_directory, write_json
from knowledge_gaps.core.layout import (
    ATTRIBUTION_INDEX_FILE,
    ATTRIBUTION_MEANS_FILE,
    ATTRIBUTIONS_FILE,
    EXAMPLE_ATTRIBUTIONS_FILE,
    EXAMPLE_IMAGES_FILE,
    EXAMPLE_LOGITS_FILE,
    TEST_IMAGES,
    get_attributions_directory,
    get_instance_directory,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.batches import BACKWARD_BATCH, BACKWARD_VALUES, count_scored
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.study import NO_POOL, REALS, Study
from knowledge_gaps.study.graph import list_members

COLUMNS = (
    "images",
    "classifier_cohort",
    "classifier_a",
    "classifier_b",
    "a_in_loss",
    "b_in_loss",
    "num_images",
    "spearman_mean",
    "spearman_std",
)
_MAX_HELD_OUT = 3  # classifiers beside the one in the loss
_NUM_EXAMPLES = 8  # images whose attributions are stored
# images of each set, for means and correlations: a share of those that everything else looks at
_SHARE, _LEAST_IMAGES, _MOST_IMAGES = 8, 128, 500


@dataclass(frozen=True)
class _Plan:
    """Which classifiers look at which images.

    Attributes:
        gans: the first cohort of the iterations that fools classifiers.
        cohort: the classifier cohort that its loss takes its first classifier from.
        classifiers: instances; the first one in the loss comes first, held-out ones follow.
        images: GAN cohorts and reals, by the names that the table has for them.
    """

    gans: str
    cohort: str
    classifiers: tuple[int, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """Some images of a set, the first of them examples, and the classifiers that look at them."""

    classifiers: tuple[Path, ...]
    images_file: Path
    start: int
    stop: int
    num_examples: int


def run(root: Path, study: Study) -> None:
    """Write reports/attributions.csv, and examples and mean maps below data/attributions.

    A study without a GAN cohort that fools classifiers gets a table without rows.

    Raises:
        UserError: when a checkpoint or a file of images is missing or altered.
    """
    plan = _make_plan(study)
    num_images = _count_images(study.evaluation.num_images)
    looks = {} if plan is None else _look(root, plan, num_images)
    rows = [] if plan is None else list(_make_rows(plan, looks))
    _write_arrays(root, plan, looks)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(get_reports_directory(root) / ATTRIBUTIONS_FILE, table)
    gap = max((look.largest_gap for look in looks.values()), default=0.0)
    print(f"attributed {len(looks)} sets of images; furthest from complete: {gap:.3g} logits")


def _make_plan(study: Study) -> _Plan | None:
    """Choose the first GAN cohort of the iterations that fools, and who looks at its images."""
    cohorts = [iteration.gans for iteration in study.report.iterations]
    gans = next((name for name in cohorts if study.gans[name].phi > 0), None)
    if gans is None:
        return None
    members = list_members(study, study.gans[gans].fools)
    member_cohort, in_loss = members[0]
    cohort = member_cohort.partition("/")[2]
    held_out = [
        instance
        for instance in range(study.classifiers[cohort].instances)
        if (member_cohort, instance) not in members
    ]
    baseline = [cohorts[0]] if study.gans[cohorts[0]].fools == NO_POOL else []
    return _Plan(
        gans, cohort, (in_loss, *held_out[:_MAX_HELD_OUT]), images=(gans, *baseline, REALS)
    )


def _count_images(num_images: int) -> int:
    return min(_MOST_IMAGES, max(_LEAST_IMAGES, num_images // _SHARE))


def _look(root: Path, plan: _Plan, num_images: int) -> dict[str, Look]:
    classifiers = tuple(
        get_instance_directory(root, f"classifiers/{plan.cohort}", instance)
        for instance in plan.classifiers
    )
    # the plan's classifiers are of one cohort, so all of them see images in one size
    spec = load_classifier(classifiers[0]).spec
    size = count_scored(spec, BACKWARD_BATCH, BACKWARD_VALUES)
    names, jobs = [], []
    for name in plan.images:
        path = _get_images_file(root, name)
        num_looked_at = min(num_images, len(open_images(path)))
        for start in range(0, num_looked_at, size):
            names.append(name)
            stop = min(start + size, num_looked_at)
            jobs.append(_Job(classifiers, path, start, stop, max(0, _NUM_EXAMPLES - start)))
    chunks: dict[str, list[Look]] = {}
    looks = map_parallel(_attribute, jobs, __name__, uses_gpu=True)
    for name, look in zip(names, looks, strict=True):
        chunks.setdefault(name, []).append(look)
    return {name: join_looks(parts) for name, parts in chunks.items()}


def _get_images_file(root: Path, images: str) -> Path:
    if images == REALS:
        return get_prepared_directory(root) / TEST_IMAGES
    return get_samples_file(root, images, 0)


def _attribute(job: _Job) -> Look:
    images = open_images(job.images_file).read(job.start, job.stop)
    classifiers = [_load_classifier(path) for path in job.classifiers]
    return look_at(images, classifiers, job.num_examples, find_device())


@cache
def _load_classifier(directory: Path) -> GanClassifier:
    return load_classifier(directory).to(find_device())


def _make_rows(plan: _Plan, looks: dict[str, Look]) -> Iterator[tuple[object, ...]]:
    for name, look in looks.items():
        for a, b in combinations(range(len(plan.classifiers)), 2):
            correlations = look.correlations[:, a, b]
            known = correlations[np.isfinite(correlations)]
            yield (
                name,
                plan.cohort,
                plan.classifiers[a],
                plan.classifiers[b],
                a == 0,  # the classifier in the loss comes first
                b == 0,
                len(known),
                known.mean() if len(known) > 0 else np.nan,
                known.std(ddof=1) if len(known) > 1 else np.nan,
            )


def _write_arrays(root: Path, plan: _Plan | None, looks: dict[str, Look]) -> None:
    """Store float32 arrays for each set of images, and an index that says what their axes are."""

    def fill(directory: Path) -> None:
        index = {
            "gans": None if plan is None else plan.gans,
            "classifier_cohort": None if plan is None else plan.cohort,
            "classifiers": [] if plan is None else list(plan.classifiers),
            "images": list(looks),
            "num_images": {name: len(look.correlations) for name, look in looks.items()},
            "num_steps": NUM_STEPS,
        }
        write_json(directory / ATTRIBUTION_INDEX_FILE, index)
        for name, look in looks.items():
            means = look.absolute_sum / len(look.correlations)
            save_array(directory / name / EXAMPLE_IMAGES_FILE, look.images)
            save_array(directory / name / EXAMPLE_ATTRIBUTIONS_FILE, look.attributions)
            save_array(directory / name / EXAMPLE_LOGITS_FILE, look.logits)
            save_array(directory / name / ATTRIBUTION_MEANS_FILE, means.astype(np.float32))

    publish_directory(get_attributions_directory(root), fill)
