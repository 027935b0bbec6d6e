"""All readings that a study makes of the two tables, in one place for page, figures and metrics.

The single readings are in `knowledge_gaps.report.readings.tables` and
`knowledge_gaps.report.readings.sweeps`; which ones a study makes is its section `report` in
params.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knowledge_gaps.report.readings.columns import CLASSIFIER_COHORT, GENERATOR_COHORT
from knowledge_gaps.report.readings.sweeps import (
    GeneralisationRow,
    PhiRow,
    make_generalisation,
    make_phi_sweep,
)
from knowledge_gaps.report.readings.tables import (
    METRICS,
    IterationTable,
    PairSet,
    Summary,
    find_metric,
    make_iteration_table,
    read_detections,
    read_quality,
    summarise_quality,
    summarise_real_accuracy,
)
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.layout import DETECTIONS_FILE, QUALITY_FILE, get_reports_directory
from knowledge_gaps.study import NO_POOL, REALS, Kind, Study
from knowledge_gaps.study.graph import list_members


@dataclass(frozen=True)
class Readings:
    """What the report says in numbers; a reading that the study does not name is None or empty.

    Attributes:
        held_out: fool-all iterations over held-out pairs.
        in_loss: the same cohorts over pairs with a classifier in the generator's loss.
        memoryless: memoryless iterations over held-out pairs.
        memoryless_in_loss: the same cohorts over pairs with a classifier in the loss.
        phi_sweep: sorted by phi; a baseline (phi 0) comes first.
        generalisation: sorted by the number of generators.
        baseline: the GAN cohort of iteration 0, when it is trained against no classifier.
        quality: of each GAN cohort of the study.
        floor: quality of the real train split against the real test split, if it was measured.
        real_accuracy: of each classifier cohort of the study.
        metric_names: full names of the metrics, such as {"fid": "fid_lenet_4k"}.
    """

    held_out: IterationTable | None
    in_loss: IterationTable | None
    memoryless: IterationTable | None
    memoryless_in_loss: IterationTable | None
    phi_sweep: tuple[PhiRow, ...]
    generalisation: tuple[GeneralisationRow, ...]
    baseline: str | None
    quality: Mapping[str, Mapping[str, Summary]]
    floor: Mapping[str, Summary] | None
    real_accuracy: Mapping[str, Summary]
    metric_names: Mapping[str, str]


def read_readings(root: Path, study: Study) -> Readings:
    """Read the two tables below a root and make every reading of the study.

    Raises:
        UserError: when a table is missing or malformed, or has no row of a cohort of the study.
    """
    detections_file = get_reports_directory(root) / DETECTIONS_FILE
    quality_file = get_reports_directory(root) / QUALITY_FILE
    detections = read_detections(detections_file)
    quality = read_quality(quality_file)
    _check_cohorts(detections_file, detections, GENERATOR_COHORT, study.gans)
    _check_cohorts(detections_file, detections, CLASSIFIER_COHORT, study.classifiers)
    _check_cohorts(quality_file, quality, GENERATOR_COHORT, study.gans)
    return make_readings(detections, quality, study)


def make_readings(detections: pd.DataFrame, quality: pd.DataFrame, study: Study) -> Readings:
    """Make every reading that the study names; pure, as all readings are."""
    report = study.report

    def make_tables(key: str) -> tuple[IterationTable | None, IterationTable | None]:
        iterations = getattr(report, key)
        if not iterations:
            return None, None
        held_out, in_loss = (
            make_iteration_table(detections, quality, iterations, pairs)
            for pairs in (PairSet.HELD_OUT, PairSet.IN_LOSS)
        )
        return held_out, in_loss

    held_out, in_loss = make_tables("iterations")
    memoryless, memoryless_in_loss = make_tables("memoryless")
    has_floor = (quality[GENERATOR_COHORT] == REALS).any()
    return Readings(
        held_out=held_out,
        in_loss=in_loss,
        memoryless=memoryless,
        memoryless_in_loss=memoryless_in_loss,
        phi_sweep=_make_study_phi_sweep(detections, quality, study),
        generalisation=_make_study_generalisation(detections, study),
        baseline=find_baseline(study),
        quality={cohort: summarise_quality(quality, cohort) for cohort in study.gans},
        floor=summarise_quality(quality, REALS) if has_floor else None,
        real_accuracy={
            cohort: summarise_real_accuracy(detections, cohort) for cohort in study.classifiers
        },
        metric_names={metric: find_metric(quality, metric) for metric in METRICS},
    )


def find_baseline(study: Study) -> str | None:
    """Return the GAN cohort of iteration 0, or None when there is none without classifiers."""
    if not study.report.iterations:
        return None
    cohort = study.report.iterations[0].gans
    return cohort if study.gans[cohort].fools == NO_POOL else None


def list_phi_cohorts(study: Study) -> dict[str, float]:
    """List the GAN cohorts of the phi sweep with their phi, the baseline among them."""
    if not study.report.phi_sweep:
        return {}
    baseline = find_baseline(study)
    cohorts = [*([] if baseline is None else [baseline]), *study.report.phi_sweep]
    return {cohort: study.gans[cohort].phi for cohort in cohorts}


def _make_study_phi_sweep(
    detections: pd.DataFrame, quality: pd.DataFrame, study: Study
) -> tuple[PhiRow, ...]:
    phis = list_phi_cohorts(study)
    return make_phi_sweep(detections, quality, phis) if phis else ()


def _make_study_generalisation(
    detections: pd.DataFrame, study: Study
) -> tuple[GeneralisationRow, ...]:
    generalisation = study.report.generalisation
    if generalisation is None:
        return ()
    of_cohort = f"{Kind.GANS}/{generalisation.gans}"
    nums = {}
    for name in generalisation.classifiers:
        members = list_members(study, study.classifiers[name].detects)
        nums[name] = sum(cohort == of_cohort for cohort, _ in members)
    return make_generalisation(detections, generalisation.gans, nums)


def _check_cohorts(
    path: Path, frame: pd.DataFrame, column: str, cohorts: Mapping[str, object]
) -> None:
    found = set(frame[column])
    for cohort in cohorts:
        if cohort not in found:
            raise UserError(
                f"{path}: column {column!r} has no row of {cohort!r}, which the study names "
                f"(found: {', '.join(sorted(found))})"
            )
