"""audit: can a classifier tell reals that took the generated images' way from other reals?"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd

from knowledge_gaps.analyses.audit import measure
from knowledge_gaps.analyses.audit.reading import COLUMNS, Verdict
from knowledge_gaps.core import layout
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_COUNTS = ("instance", "steps", "num_images", "num_defects")  # columns of whole numbers


def run(root: Path, study: Study) -> None:
    """Write audit.csv; raises UserError for a bad file or a training that diverges."""
    rows = measure.judge_classifiers(_train(root, study))
    configure_process()
    rows += measure.check_exactly(root, study)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))
    write_table(layout.get_reports(root, study.study.name) / layout.AUDIT_FILE, table)
    num_passed, num_failed, num_found, num_missed = (
        sum(row["verdict"] == verdict for row in rows) for verdict in Verdict
    )
    power = ", so one could have been missed" if num_missed else ""
    print(
        f"audit: {num_passed} checks passed, {num_failed} failed; "
        f"{num_found} of {num_found + num_missed} known faults were found{power}"
    )


def _train(root: Path, study: Study) -> list[measure.Row]:
    """Train and test all classifiers, one a GPU or core, each recipe's in processes of their own.

    A process keeps the precision that its first training chose.
    """
    measure_row, rows = partial(measure.measure_job, root=root, study=study), []
    for _, group in groupby(measure.list_jobs(study), key=lambda job: job.subject):
        jobs = list(group)
        measured = map_parallel(measure_row, jobs, __name__, num_workers=count_workers(len(jobs)))
        for job, row in zip(jobs, measured, strict=True):
            print(f"{job.cohort}/{job.instance}: auc {row['auc']:.3f}", flush=True)
            rows.append(row)
    return rows
