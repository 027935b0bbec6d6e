"""Which cohorts a reading of a study is made of, with the coordinates that claims select by.

The cells with their numbers are made in `knowledge_gaps.findings.sources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from knowledge_gaps.readings.cohorts import count_detected, count_fooled, list_fooled
from knowledge_gaps.study import ClassifierSweep, Study


class Reading(StrEnum):
    """Where cells come from: a key of a study's `report`, or a table of the paper."""

    ITERATIONS = "iterations"
    MEMORYLESS = "memoryless"
    MEMORY = "memory"
    PHI_SWEEP = "phi_sweep"
    GENERALISATION = "generalisation"
    MULTI_INSTANCE = "multi_instance"
    MUTUAL_FOOLING = "mutual_fooling"
    TRUNCATION = "truncation"
    ARCHITECTURES = "architectures"


# coordinates of a cell of pairs
COORDINATES: dict[Reading, frozenset[str]] = {
    Reading.ITERATIONS: frozenset({"row", "column", "lag"}),
    Reading.MEMORYLESS: frozenset({"row", "column", "lag"}),
    Reading.MEMORY: frozenset({"row", "column", "lag"}),
    Reading.PHI_SWEEP: frozenset({"phi"}),
    Reading.GENERALISATION: frozenset({"n"}),
    Reading.MULTI_INSTANCE: frozenset({"t"}),
    Reading.MUTUAL_FOOLING: frozenset(),
    Reading.TRUNCATION: frozenset({"psi"}),
    Reading.ARCHITECTURES: frozenset(),
}

Place = tuple[str, str, dict[str, float]]  # GAN cohort, classifier cohort, coordinates


def list_places(study: Study, reading: Reading) -> list[Place]:
    """List who is asked about whom in a reading of cohorts, with coordinates."""
    if reading in (Reading.ITERATIONS, Reading.MEMORYLESS, Reading.MEMORY):
        return list(_list_chain(study, reading))
    if reading in (Reading.GENERALISATION, Reading.TRUNCATION):
        return list(_list_classifiers(study, reading))
    if reading is Reading.ARCHITECTURES:
        entries = study.report.architectures
        return [(other.gans, entry.classifiers, {}) for entry in entries for other in entries]
    gans = list_gans(study, reading)
    seen = sorted({name for cohort, _ in gans for name in list_fooled(study, cohort)})
    return [(cohort, name, coordinates) for cohort, coordinates in gans for name in seen]


def list_gans(study: Study, reading: Reading) -> list[tuple[str, dict[str, float]]]:
    """List the GAN cohorts of a reading with the coordinates that they have by themselves."""
    if reading in (Reading.GENERALISATION, Reading.TRUNCATION):
        names = dict.fromkeys(sweep.gans for sweep in _list_sweeps(study, reading))
        return [(name, {}) for name in names]
    entries = getattr(study.report, reading)
    if reading in (Reading.ITERATIONS, Reading.MEMORYLESS, Reading.MEMORY):
        return [(entry.gans, {"column": float(column)}) for column, entry in enumerate(entries)]
    if reading is Reading.ARCHITECTURES:
        return [(entry.gans, {}) for entry in entries]
    if reading is Reading.PHI_SWEEP:
        return [(name, {"phi": study.gans[name].phi}) for name in entries]
    if reading is Reading.MULTI_INSTANCE:
        return [(name, {"t": float(count_fooled(study, name))}) for name in entries]
    return [(name, {}) for name in entries]


def _list_chain(study: Study, reading: Reading) -> Iterator[Place]:
    chain = getattr(study.report, reading)
    for row, entry in enumerate(chain):
        for column, other in enumerate(chain):
            if entry.classifiers is not None:
                place = {"row": float(row), "column": float(column), "lag": float(column - row)}
                yield other.gans, entry.classifiers, place


def _list_sweeps(study: Study, reading: Reading) -> list[ClassifierSweep]:
    if reading is Reading.GENERALISATION:
        return study.report.generalisation
    return [] if study.report.truncation is None else [study.report.truncation]


def _list_classifiers(study: Study, reading: Reading) -> Iterator[Place]:
    for sweep in _list_sweeps(study, reading):
        for name in sweep.classifiers:
            if reading is Reading.GENERALISATION:
                yield sweep.gans, name, {"n": float(count_detected(study, sweep.gans, name))}
            else:
                yield sweep.gans, name, {"psi": study.classifiers[name].truncation}
