"""All readings that a study makes of the two tables, in one place for page, figures and metrics.

The single readings are in `knowledge_gaps.readings.tables` and
`knowledge_gaps.readings.sweeps`; which ones a study makes is its section `report` in
params.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import DETECTIONS_FILE, QUALITY_FILE, get_reports_directory
from knowledge_gaps.readings.cells import (
    CellKey,
    CohortCell,
    list_keys,
    make_cells,
)
from knowledge_gaps.readings.cohorts import (
    count_detected,
    count_fooled,
    find_baseline,
    get_classifiers,
    list_phi_cohorts,
)
from knowledge_gaps.readings.mutual_fooling import MutualFooling, make_mutual_fooling
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.sweeps import (
    DetectingRow,
    FoolingRow,
    GeneralisationSweep,
    make_detecting_sweep,
    make_fooling_sweep,
)
from knowledge_gaps.readings.tables import (
    IterationTable,
    Summary,
    count_collapse,
    find_metric,
    make_iteration_table,
    read_detections,
    read_quality,
    summarise_quality,
    summarise_real_accuracy,
)
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.statistics.measures import METRICS
from knowledge_gaps.study import (
    REALS,
    ClassifierCohort,
    ClassifierSweep,
    GanCohort,
    Study,
)

_GENERATOR = [GENERATOR_COHORT, GENERATOR_INSTANCE]
_CLASSIFIER = [CLASSIFIER_COHORT, CLASSIFIER_INSTANCE]

Cohort = GanCohort | ClassifierCohort


@dataclass(frozen=True)
class Readings:
    """What the report says in numbers; a reading that the study does not name is None or empty.

    Attributes:
        held_out: fool-all iterations over held-out pairs.
        in_loss: the same cohorts over pairs with a classifier in the generator's loss.
        memoryless: memoryless iterations over held-out pairs.
        memoryless_in_loss: the same cohorts over pairs with a classifier in the loss.
        memory: iterations with a memory of some iterations, over held-out pairs.
        memory_in_loss: the same cohorts over pairs with a classifier in the loss.
        phi_sweep: sorted by phi; a baseline (phi 0) comes first.
        multi_instance: sorted by the number of classifiers in the loss.
        architectures: classifiers of each architecture (rows) on GANs that fool one of each
            (columns), as in the paper's table A, over held-out pairs.
        architectures_in_loss: the same cohorts over pairs with a classifier in the loss.
        generalisation: a sweep for each architecture of classifiers.
        truncation: sorted by the truncation of the classifiers' latents.
        baseline: the GAN cohort of iteration 0, when it is trained against no classifier.
        quality: of each GAN cohort of the study.
        collapse: how many instances of each GAN cohort have which verdict on their diversity.
        floor: quality of the real train split against the real test split, if it was measured.
        real_accuracy: of each classifier cohort of the study.
        cells: every cell of the table that has a pair, with intervals.
        mutual_fooling: who else is fooled; None without GANs that each fool one classifier.
        clusters: of mutual_fooling; None when it has too few classifiers or a missing rate.
        metric_names: full names of the metrics, such as {"fid": "fid_lenet_4k"}; the Frechet
            distance has the key "fid", whatever it is called in the study's features.
    """

    held_out: IterationTable | None
    in_loss: IterationTable | None
    memoryless: IterationTable | None
    memoryless_in_loss: IterationTable | None
    memory: IterationTable | None
    memory_in_loss: IterationTable | None
    phi_sweep: tuple[FoolingRow, ...]
    multi_instance: tuple[FoolingRow, ...]
    architectures: IterationTable | None
    architectures_in_loss: IterationTable | None
    generalisation: tuple[GeneralisationSweep, ...]
    truncation: tuple[DetectingRow, ...]
    baseline: str | None
    quality: Mapping[str, Mapping[str, Summary]]
    collapse: Mapping[str, Mapping[str, int]]
    floor: Mapping[str, Summary] | None
    real_accuracy: Mapping[str, Summary]
    cells: Mapping[CellKey, CohortCell]
    mutual_fooling: MutualFooling | None
    clusters: Clusters | None
    metric_names: Mapping[str, str]


def read_tables(root: Path, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the two tables of a study below a root: detections and quality.

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
    _check_rows(detections_file, detections, [*_GENERATOR, *_CLASSIFIER], _list_pairs(study))
    _check_rows(quality_file, quality, _GENERATOR, _list_instances(study.gans))
    return detections, quality


def make_readings(
    detections: pd.DataFrame, quality: pd.DataFrame, study: Study, seed: int
) -> Readings:
    """Make every reading that the study names; pure, as all readings are.

    Args:
        detections: as from `read_tables`.
        quality: as from `read_tables`.
        study: names the readings.
        seed: of resamples and permutations.
    """
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

    cells = make_cells(detections, list_keys(detections), seed)
    held_out, in_loss = make_tables("iterations")
    memoryless, memoryless_in_loss = make_tables("memoryless")
    memory, memory_in_loss = make_tables("memory")
    architectures, architectures_in_loss = make_tables("architectures")
    fooling = make_mutual_fooling(detections, study)
    has_floor = (quality[GENERATOR_COHORT] == REALS).any()
    return Readings(
        held_out=held_out,
        in_loss=in_loss,
        memoryless=memoryless,
        memoryless_in_loss=memoryless_in_loss,
        memory=memory,
        memory_in_loss=memory_in_loss,
        phi_sweep=_sweep_gans(detections, quality, cells, list_phi_cohorts(study)),
        multi_instance=_sweep_gans(
            detections,
            quality,
            cells,
            {name: count_fooled(study, name) for name in report.multi_instance},
        ),
        architectures=architectures,
        architectures_in_loss=architectures_in_loss,
        generalisation=tuple(
            _make_generalisation(detections, cells, study, sweep) for sweep in report.generalisation
        ),
        truncation=_make_truncation(detections, cells, study, report.truncation),
        baseline=find_baseline(study),
        quality={cohort: summarise_quality(quality, cohort) for cohort in study.gans},
        collapse={cohort: count_collapse(quality, cohort) for cohort in study.gans},
        floor=summarise_quality(quality, REALS) if has_floor else None,
        real_accuracy={
            cohort: summarise_real_accuracy(detections, cohort) for cohort in study.classifiers
        },
        cells=cells,
        mutual_fooling=fooling,
        clusters=None if fooling is None else _find_clusters(fooling, seed),
        metric_names={metric: find_metric(quality, metric) for metric in METRICS},
    )


def _find_clusters(fooling: MutualFooling, seed: int) -> Clusters | None:
    square = fooling.get_square()
    is_whole = np.isfinite(square[~np.eye(len(square), dtype=bool)]).all()
    return find_clusters(square, seed) if is_whole else None


def _sweep_gans(
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    values: Mapping[str, float],
) -> tuple[FoolingRow, ...]:
    return make_fooling_sweep(detections, quality, cells, values) if values else ()


def _make_generalisation(
    detections: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    study: Study,
    sweep: ClassifierSweep,
) -> GeneralisationSweep:
    numbers = {name: count_detected(study, sweep.gans, name) for name in sweep.classifiers}
    return GeneralisationSweep(
        gans=sweep.gans,
        architecture="_".join(sorted(get_classifiers(study, sweep.classifiers))),
        rows=make_detecting_sweep(detections, cells, sweep.gans, numbers),
    )


def _make_truncation(
    detections: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    study: Study,
    sweep: ClassifierSweep | None,
) -> tuple[DetectingRow, ...]:
    if sweep is None:
        return ()
    truncations = {name: study.classifiers[name].truncation for name in sweep.classifiers}
    return make_detecting_sweep(detections, cells, sweep.gans, truncations)


def _list_instances(cohorts: Mapping[str, Cohort]) -> list[tuple[str, int]]:
    return [
        (name, instance) for name, cohort in cohorts.items() for instance in range(cohort.instances)
    ]


def _list_pairs(study: Study) -> list[tuple[str, int, str, int]]:
    classifiers = _list_instances(study.classifiers)
    return [(*gans, *other) for gans in _list_instances(study.gans) for other in classifiers]


def _check_rows(
    path: Path, frame: pd.DataFrame, columns: list[str], needed: Sequence[tuple[object, ...]]
) -> None:
    found = set(frame[columns].itertuples(index=False, name=None))
    missing = [row for row in needed if row not in found]
    if missing:
        first = ", ".join(
            f"{column} {value}" for column, value in zip(columns, missing[0], strict=True)
        )
        raise UserError(f"{path}: {len(missing)} of {len(needed)} rows are missing, first {first}")


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
