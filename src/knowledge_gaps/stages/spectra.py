"""spectra: power spectra of reals and of every generator's images, and of their residuals."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.spectra.measure import list_image_sets, measure_file
from knowledge_gaps.core import layout
from knowledge_gaps.core.files import publish_directory
from knowledge_gaps.core.tables import SIX_DIGITS, write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study


def run(root: Path, study: Study) -> None:
    """Write reports/spectra.csv, and the residuals' spectra and means below data/spectra.

    Raises:
        UserError: when a file of images is missing.
    """
    sets = list_image_sets(root, study)
    measure = partial(measure_file, num_images=study.evaluation.num_images)
    measured = list(map_parallel(measure, list(sets.values()), __name__))

    def fill(directory: Path) -> None:
        pairs = zip(sets, measured, strict=True)
        for cohort, group in groupby(pairs, key=lambda pair: pair[0][0]):
            spectra = [one for _, one in group]  # of all instances
            residuals = np.array([one.residual_spectrum for one in spectra], np.float32)
            fingerprints = np.array([one.fingerprint for one in spectra], np.float32)
            save_array(directory / cohort / layout.RESIDUAL_SPECTRA_FILE, residuals)
            save_array(directory / cohort / layout.FINGERPRINTS_FILE, fingerprints)

    publish_directory(layout.get_spectra_directory(root), fill)
    rows = [
        (cohort, instance, frequency, power)
        for (cohort, instance), spectra in zip(sets, measured, strict=True)
        for frequency, power in enumerate(spectra.power, start=1)  # cycles per image
    ]
    columns = ["generator_cohort", "generator_instance", "frequency", "power"]
    # power spans orders of magnitude: significant digits, where the other tables have fixed ones
    path = layout.get_reports_directory(root) / layout.SPECTRA_FILE
    write_table(path, pd.DataFrame(rows, columns=columns), SIX_DIGITS)
    print(f"measured the spectra of {len(measured)} sets of images")
