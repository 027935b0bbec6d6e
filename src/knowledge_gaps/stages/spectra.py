"""spectra: what reals and every generator's images look like by frequency, and their residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.analyses.spectra.measure import FREQUENCY, POWER, Spectra, measure_spectra
from knowledge_gaps.core.files import publish_directory
from knowledge_gaps.core.layout import (
    FINGERPRINTS_FILE,
    RESIDUAL_SPECTRA_FILE,
    SPECTRA_FILE,
    TEST_IMAGES,
    TRAIN_IMAGES,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
    get_spectra_directory,
)
from knowledge_gaps.core.tables import SIX_DIGITS, write_table
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import REALS, REALS_TRAIN, Study

_Name = tuple[str, int]  # cohort or a split of the reals, instance


@dataclass(frozen=True)
class _Job:
    """A set of images, of which the first ones are measured."""

    images_file: Path
    num_images: int


def run(root: Path, study: Study) -> None:
    """Write reports/spectra.csv, and the residuals' spectra and means below data/spectra.

    The train split of the reals is measured as if it were a generator: its distance from the test
    split is the floor.

    Raises:
        UserError: when a file of images is missing.
    """
    jobs = _list_jobs(root, study)
    measured = dict(zip(jobs, map_parallel(_measure, list(jobs.values()), __name__), strict=True))
    _write_arrays(root, measured)
    table = pd.concat([_make_rows(*name, spectra) for name, spectra in measured.items()])
    # power spans orders of magnitude: significant digits, where the other tables have fixed ones
    write_table(get_reports_directory(root) / SPECTRA_FILE, table, SIX_DIGITS)
    print(f"measured the spectra of {len(measured)} sets of images")


def _list_jobs(root: Path, study: Study) -> dict[_Name, _Job]:
    prepared = get_prepared_directory(root)
    files = {
        (REALS, 0): prepared / TEST_IMAGES,
        (REALS_TRAIN, 0): prepared / TRAIN_IMAGES,
    }
    for name, cohort in study.gans.items():
        for instance in range(cohort.instances):
            files[name, instance] = get_samples_file(root, name, instance)
    return {name: _Job(path, study.evaluation.num_images) for name, path in files.items()}


def _measure(job: _Job) -> Spectra:
    return measure_spectra(open_images(job.images_file), job.num_images)


def _write_arrays(root: Path, measured: Mapping[_Name, Spectra]) -> None:
    """Store float32 arrays for each cohort, their first axis its instances."""
    cohorts: dict[str, list[Spectra]] = {}
    for (cohort, _), spectra in measured.items():
        cohorts.setdefault(cohort, []).append(spectra)

    def fill(directory: Path) -> None:
        for cohort, instances in cohorts.items():
            arrays = {
                RESIDUAL_SPECTRA_FILE: [spectra.residual_spectrum for spectra in instances],
                FINGERPRINTS_FILE: [spectra.fingerprint for spectra in instances],
            }
            for file_name, array in arrays.items():
                save_array(directory / cohort / file_name, np.stack(array).astype(np.float32))

    publish_directory(get_spectra_directory(root), fill)


def _make_rows(cohort: str, instance: int, spectra: Spectra) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "generator_cohort": cohort,
            "generator_instance": instance,
            FREQUENCY: range(1, len(spectra.power) + 1),  # cycles per image
            POWER: spectra.power,
        }
    )
