"""agreement: how alike a cohort's classifiers of the first chain are, in errors and in features."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from knowledge_gaps.analyses.agreement import measure
from knowledge_gaps.analyses.agreement.reading import COLUMNS
from knowledge_gaps.core import layout
from knowledge_gaps.core.instance import FIRST_CHAIN, Instance
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import CLASSIFIER_COHORT, write_table
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study


def run(root: Path, study: Study) -> None:
    """Write agreement.csv, without rows when the study has no cohort to compare.

    Raises UserError when a checkpoint or a file of images is missing or altered.
    """
    cohort = measure.choose_cohort(study)
    sets = {} if cohort is None else measure.list_sets(root, study, cohort)
    num_classifiers = 0 if cohort is None else study.classifiers[cohort].instances
    directories = [
        layout.get_instance_directory(root, f"classifiers/{cohort}", Instance(FIRST_CHAIN, index))
        for index in range(num_classifiers)
    ]
    # every classifier scores each set of images once
    answer = partial(measure.answer_sets, sets=tuple(dict.fromkeys(sets.values())))
    answered = list(map_parallel(answer, directories, __name__, uses_gpu=True))
    rows = [
        {CLASSIFIER_COHORT: cohort, **row}
        for kind, sources in sets.items()
        for row in measure.compare_pairs(kind, sources, [each[sources] for each in answered])
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(layout.get_reports(root, study.study.name) / layout.AGREEMENT_FILE, table)
    print(f"agreement: compared {count_words(len(rows), 'pair')} of classifiers")
