"""audit: can a classifier tell reals that took the generated images' way from other reals?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd

from knowledge_gaps.analyses.audit import measure
from knowledge_gaps.analyses.audit.measure import Job
from knowledge_gaps.analyses.audit.reading import COLUMNS, Verdict
from knowledge_gaps.core import layout
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.core.files import make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.execution.fingerprint import TRAINING_CODE
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study
from knowledge_gaps.training.initial_weights import find_initial_weights

_CODE = (*TRAINING_CODE, "evaluation", "analyses/audit")
_VERSIONS = ("accelerate", "pillow", "scikit-learn", "scipy", "torch")
_COUNTS = ("instance", "steps", "num_images", "num_defects")  # columns of whole numbers


def run(root: Path, study: Study) -> None:
    """Write reports/audit.csv; only classifiers that are new or changed are trained.

    Raises:
        UserError: when a file of images is missing or altered, or a training diverges.
    """
    keys = _make_keys(root, study)
    trained = compute_rows(root, "audit", keys, partial(_train, root, study))
    configure_process()
    rows = [
        *measure.judge_classifiers([{**job._asdict(), **row} for job, row in trained.items()]),
        *measure.check_exactly(root, study),
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))
    write_table(layout.get_reports_directory(root) / layout.AUDIT_FILE, table)
    num_passed, num_failed, num_found, num_missed = (
        sum(row["verdict"] == verdict for row in rows) for verdict in Verdict
    )
    power = ", so one could have been missed" if num_missed else ""
    print(
        f"audit: {num_passed} checks passed, {num_failed} failed; "
        f"{num_found} of {num_found + num_missed} known faults were found{power}"
    )


def _make_keys(root: Path, study: Study) -> dict[Job, str]:
    """Hash what each classifier's row depends on."""
    prepared = layout.get_prepared_directory(root)
    files = [prepared / name for name in (layout.TRAIN_IMAGES, layout.TEST_IMAGES)]
    images = [open_images(file).compute_sha256() for file in files]
    shared = [study.study.seed, images, get_versions(_VERSIONS)]
    keys: dict[Job, str] = {}
    for name, jobs in groupby(measure.list_jobs(study), key=lambda job: job.subject):
        recipe = measure.shorten_recipe(study, name)
        start = find_initial_weights(recipe, root)
        code = hash_code(_CODE, (recipe.architecture,))
        of_recipe = [recipe.model_dump(mode="json"), start and start.sha256, code]
        keys |= {job: make_key(job._asdict(), *of_recipe, shared) for job in jobs}
    return keys


def _train(root: Path, study: Study, jobs: list[Job]) -> Iterator[dict[Job, Row]]:
    """Run jobs, one a GPU or core, each recipe's in processes of their own.

    A process keeps the precision that its first training chose.
    """
    measure_row = partial(measure.measure_job, root=root, study=study)
    for _, group in groupby(jobs, key=lambda job: job.subject):
        of_recipe = list(group)
        num_workers = count_workers(len(of_recipe))
        rows = map_parallel(measure_row, of_recipe, __name__, num_workers=num_workers)
        for job, row in zip(of_recipe, rows, strict=True):
            print(f"{job.cohort}/{job.instance}: auc {row['auc']:.3f}", flush=True)
            yield {job: row}
