"""The headline numbers of a study for metrics.json, which `dvc metrics show` and `diff` read.

The rows of a sweep go by the names of their cohorts, and the value that the sweep is along stands
beside their numbers: a study with another value has the same names, so that the two are compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from knowledge_gaps.core.columns import PHI
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.readings.sweeps import (
    DetectingRow,
    FoolingRow,
    GeneralisationSweep,
)
from knowledge_gaps.readings.tables import (
    IterationTable,
    Summary,
)
from knowledge_gaps.report.content import Content
from knowledge_gaps.statistics.measures import (
    CLASS_ENTROPY,
    FID,
    REAL_ACCURACY,
    find_metric_of,
)

DETECTION_HELD_OUT = "held_out_detection"
DETECTION_IN_LOSS = "in_loss_detection"
DETECTION_MEMORYLESS = "memoryless_held_out_detection"
DETECTION_MEMORY = "memory_held_out_detection"
ARCHITECTURES = "architectures"
BASELINE = "baseline"
FLOOR = "floor"
PHI_SWEEP = "phi_sweep"
MULTI_INSTANCE = "multi_instance"
MUTUAL_FOOLING = "mutual_fooling"
GENERALISATION = "generalisation"
TRUNCATION = "truncation"
PSI = "truncation"  # the setting of a classifier cohort, named as params.yaml names it
NUM_CLASSIFIERS = "num_classifiers"
NUM_GENERATORS = "num_generators"
AUDIT_PASSED = "audit_passed"
AUDIT_HAS_POWER = "audit_has_power"
VERDICTS = "verdicts"
_DIGITS = 6
_SETTINGS = (PHI, PSI)  # told as they are: 1e-7 is not 0

Metrics = dict[str, Any]  # of floats, nested


def make_headline_metrics(readings: Readings) -> Metrics:
    """Choose the numbers that a change of the study is judged by.

    Returns:
        Floats in nested dicts, results rounded to 6 digits. A number that does not exist is left
        out, and so is a group that is empty: no NaN.
    """
    iteration_gans = () if readings.held_out is None else readings.held_out.gans
    fid_name = readings.metric_names[FID]
    metrics: Metrics = {
        DETECTION_HELD_OUT: _list_cells(readings.held_out),
        DETECTION_IN_LOSS: _list_cells(readings.in_loss),
        DETECTION_MEMORYLESS: _list_cells(readings.memoryless),
        DETECTION_MEMORY: _list_cells(readings.memory),
        REAL_ACCURACY: {name: value.mean for name, value in readings.real_accuracy.items()},
        FLOOR: _list_quality(readings, readings.floor),
        find_metric_of(fid_name) or FID: {
            cohort: {fid_name: readings.quality[cohort][FID].mean} for cohort in iteration_gans
        },
        PHI_SWEEP: _list_phi_sweep(readings),
        MULTI_INSTANCE: _list_multi_instance(readings.multi_instance),
        MUTUAL_FOOLING: _list_mutual_fooling(readings.mutual_fooling),
        ARCHITECTURES: _list_cells(readings.architectures),
        GENERALISATION: _list_generalisation(readings.generalisation),
        TRUNCATION: _list_detecting(readings.truncation, PSI),
    }
    if readings.baseline is not None:
        metrics[BASELINE] = _list_quality(readings, readings.quality[readings.baseline])
    return _drop_missing(metrics)


def make_trust_metrics(content: Content) -> Metrics:
    """Say whether the shortcut audit passed and had power (1 or 0), and count the verdicts."""
    verdicts = Counter(judged.study.verdict for judged in content.judged)
    return {
        AUDIT_PASSED: float(content.evidence.audit.passed),
        AUDIT_HAS_POWER: float(content.evidence.audit.has_power),
        VERDICTS: {word.value.replace(" ", "_"): float(verdicts[word]) for word in Verdict},
    }


def _list_cells(table: IterationTable | None) -> Metrics:
    """List detection rates as {classifier cohort: {GAN cohort: mean}}."""
    if table is None:
        return {}
    return {
        row: {column: table.cells[row, column].detection.mean for column in table.gans}
        for row in table.classifiers
    }


def _list_quality(readings: Readings, quality: Mapping[str, Summary] | None) -> Metrics:
    if quality is None:
        return {}
    return {readings.metric_names[metric]: summary.mean for metric, summary in quality.items()}


def _list_phi_sweep(readings: Readings) -> Metrics:
    # the baseline has its own group
    return {row.cohort: _list_phi_row(readings, row) for row in readings.phi_sweep if row.value > 0}


def _list_phi_row(readings: Readings, row: FoolingRow) -> Metrics:
    return {
        PHI: row.value,
        DETECTION_IN_LOSS: row.in_loss.mean,
        DETECTION_HELD_OUT: row.held_out.mean,
        f"{DETECTION_HELD_OUT}_std": row.held_out.std,
        **{readings.metric_names[name]: row.quality[name].mean for name in (FID, CLASS_ENTROPY)},
    }


def _list_multi_instance(rows: Sequence[FoolingRow]) -> Metrics:
    return {
        row.cohort: {
            NUM_CLASSIFIERS: row.value,
            DETECTION_IN_LOSS: row.in_loss.mean,
            DETECTION_HELD_OUT: row.held_out.mean,
        }
        for row in rows
    }


def _list_mutual_fooling(fooling: MutualFooling | None) -> Metrics:
    """Average the rates of the classifier in the loss, and of the others that some GANs fool."""
    if fooling is None:
        return {}
    square = fooling.get_square()
    is_own = np.eye(len(square), dtype=bool)
    return {
        DETECTION_IN_LOSS: float(np.mean(square[is_own])),
        DETECTION_HELD_OUT: float(np.mean(square[~is_own])) if len(square) > 1 else math.nan,
    }


def _list_generalisation(sweeps: Sequence[GeneralisationSweep]) -> Metrics:
    """List the rates of all sweeps; a classifier cohort stands in one of them at most."""
    rows = [row for sweep in sweeps for row in sweep.rows]
    return _list_detecting(rows, NUM_GENERATORS)


def _list_detecting(rows: Sequence[DetectingRow], axis: str) -> Metrics:
    return {row.cohort: {axis: row.value, DETECTION_HELD_OUT: row.held_out.mean} for row in rows}


def _drop_missing(metrics: Metrics) -> Metrics:
    kept: Metrics = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            inner = _drop_missing(value)
            if inner:
                kept[key] = inner
        elif math.isfinite(value):
            kept[key] = float(value) if key in _SETTINGS else round(float(value), _DIGITS)
    return kept
