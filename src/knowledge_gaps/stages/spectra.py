"""spectra: power spectra of reals and of every generator's images, and of their residuals."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.spectra.measure import measure_spectra
from knowledge_gaps.analyses.spectra.reading import COLUMNS
from knowledge_gaps.core import layout
from knowledge_gaps.core.files import publish_directory
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.tables import SIX_DIGITS, write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import REALS, REALS_TRAIN, Study
from knowledge_gaps.study.graph import list_generators


def run(root: Path, study: Study) -> None:
    """Write spectra.csv and, of residuals, data/spectra; raises UserError for bad files."""
    prepared = root / layout.PREPARED
    # the train split is measured like a generator: its distance from the test split is the floor
    files = {
        (REALS, Instance(0, 0)): prepared / layout.TEST_IMAGES,
        (REALS_TRAIN, Instance(0, 0)): prepared / layout.TRAIN_IMAGES,
        **{one: layout.get_samples_file(root, *one) for one in list_generators(study)},
    }
    measure = partial(measure_spectra, num_images=study.evaluation.num_images)
    stores = [open_images(path) for path in files.values()]
    measured = dict(zip(files, map_parallel(measure, stores, __name__), strict=True))

    def fill(directory: Path) -> None:
        for cohort, names in groupby(files, key=lambda name: name[0]):
            spectra = [measured[name] for name in names]  # of all instances
            residuals = np.array([one.residual_spectrum for one in spectra], np.float32)
            fingerprints = np.array([one.fingerprint for one in spectra], np.float32)
            save_array(directory / cohort / layout.RESIDUAL_SPECTRA_FILE, residuals)
            save_array(directory / cohort / layout.FINGERPRINTS_FILE, fingerprints)

    publish_directory(root / layout.SPECTRA, fill)
    rows = [
        (cohort, *instance, frequency, power)
        for (cohort, instance), spectra in measured.items()
        for frequency, power in enumerate(spectra.power, start=1)  # cycles per image
    ]
    # power spans orders of magnitude: significant digits, where the other tables have fixed ones
    path = layout.get_reports(root, study.study.name) / layout.SPECTRA_FILE
    write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)), SIX_DIGITS)
    print(f"measured the spectra of {len(measured)} sets of images")
