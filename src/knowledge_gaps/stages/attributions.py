"""attributions: which pixels move classifiers in a generator's loss, and held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.attributions.measure import (
    NUM_STEPS,
    Attributions,
    Plan,
    attribute_batch,
    join_attributions,
    list_batches,
    make_plan,
)
from knowledge_gaps.analyses.attributions.reading import COLUMNS
from knowledge_gaps.core import layout
from knowledge_gaps.core.files import publish_directory, write_json
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study


def run(root: Path, study: Study) -> None:
    """Write reports/attributions.csv, and examples and mean maps below data/attributions.

    A study without a GAN cohort that fools classifiers gets a table without rows.

    Raises:
        UserError: when a checkpoint or a file of images is missing or altered.
    """
    plan = make_plan(root, study)
    batches = list_batches(root, plan, study.evaluation.num_images)
    attribute = partial(attribute_batch, root=root, plan=plan)
    attributed = list(map_parallel(attribute, batches, __name__, uses_gpu=True))
    pairs = list(zip(batches, attributed, strict=True))
    found = {
        name: join_attributions([part for (of, _), part in pairs if of == name])
        for name in plan.files
    }
    _write_arrays(root, plan, found)
    table = pd.DataFrame(list(_make_rows(plan, found)), columns=list(COLUMNS))
    write_table(layout.get_reports_directory(root) / layout.ATTRIBUTIONS_FILE, table)
    gap = max((one.largest_gap for one in found.values()), default=0.0)
    print(f"attributed {len(found)} sets of images; furthest from complete: {gap:.3g} logits")


def _make_rows(plan: Plan, found: Mapping[str, Attributions]) -> Iterator[tuple[object, ...]]:
    for name, one in found.items():
        for a, b in combinations(range(len(plan.classifiers)), 2):
            pairs = one.correlations[:, a, b]
            known = pairs[np.isfinite(pairs)]
            mean = known.mean() if len(known) > 0 else np.nan
            std = known.std(ddof=1) if len(known) > 1 else np.nan
            instances = plan.classifiers[a], plan.classifiers[b]
            # the classifier in the loss comes first
            yield name, plan.cohort, *instances, a == 0, b == 0, len(known), mean, std


def _write_arrays(root: Path, plan: Plan, found: Mapping[str, Attributions]) -> None:
    """Store the arrays of each set of images, and an index that names their axes."""

    def fill(directory: Path) -> None:
        index = {
            "gans": plan.gans,
            "classifier_cohort": plan.cohort,
            "classifiers": plan.classifiers,
            "images": list(plan.files),
            "num_images": {name: len(one.correlations) for name, one in found.items()},
            "num_steps": NUM_STEPS,
        }
        write_json(directory / layout.ATTRIBUTION_INDEX_FILE, index)
        for name, one in found.items():
            means = one.absolute_sum / len(one.correlations)
            save_array(directory / name / layout.EXAMPLE_IMAGES_FILE, one.images)
            save_array(directory / name / layout.EXAMPLE_ATTRIBUTIONS_FILE, one.attributions)
            save_array(directory / name / layout.EXAMPLE_LOGITS_FILE, one.logits)
            save_array(directory / name / layout.ATTRIBUTION_MEANS_FILE, means.astype(np.float32))

    publish_directory(layout.get_attributions_directory(root), fill)
