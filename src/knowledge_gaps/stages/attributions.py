"""attributions: which pixels move classifiers in a generator's loss, and held-out ones."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.attributions import measure
from knowledge_gaps.analyses.attributions.reading import COLUMNS
from knowledge_gaps.core import layout
from knowledge_gaps.core.files import publish_directory, write_json
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study


def run(root: Path, study: Study) -> None:
    """Write attributions.csv, and examples and mean maps below data/attributions.

    The table has no rows when no GAN cohort of the iterations fools classifiers. Raises UserError
    when a checkpoint or a file of images is missing or altered.
    """
    plan = measure.make_plan(root, study)
    attribute, files = partial(measure.attribute_set, plan=plan), list(plan.files.values())
    attributed = map_parallel(attribute, files, __name__, uses_gpu=True)
    found = dict(zip(plan.files, attributed, strict=True))

    def fill(directory: Path) -> None:
        index = {
            "gans": plan.gans,
            "classifier_cohort": plan.cohort,
            "classifiers": plan.classifiers,
            "images": list(plan.files),
            "num_images": {name: len(one.correlations) for name, one in found.items()},
            "num_steps": measure.NUM_STEPS,
        }
        write_json(directory / layout.ATTRIBUTION_INDEX_FILE, index)
        for name, one in found.items():
            save_array(directory / name / layout.EXAMPLE_IMAGES_FILE, one.images)
            save_array(directory / name / layout.EXAMPLE_ATTRIBUTIONS_FILE, one.attributions)
            means = one.means.astype(np.float32)
            save_array(directory / name / layout.ATTRIBUTION_MEANS_FILE, means)

    publish_directory(root / layout.ATTRIBUTIONS, fill)
    rows = []
    for name, one in found.items():
        for a, b in combinations(range(len(plan.classifiers)), 2):
            known = pd.Series(one.correlations[:, a, b]).dropna()
            instances = plan.classifiers[a], plan.classifiers[b]
            roles = a == 0, b == 0  # the classifier in the loss comes first
            measured = len(known), known.mean(), known.std()
            rows.append((name, plan.cohort, *instances, *roles, *measured))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(layout.get_reports(root, study.study.name) / layout.ATTRIBUTIONS_FILE, table)
    print(f"attributed {count_words(len(found), 'set of images', 'sets of images')}")
