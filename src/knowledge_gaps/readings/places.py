"""Which cohorts a reading of a study is made of, with the coordinates that claims select by.

The cells are listed in the file of each reading.
"""

from __future__ import annotations

from enum import StrEnum

from knowledge_gaps.readings.reading import Place, list_readings
from knowledge_gaps.study import Study


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


def list_places(study: Study, reading: Reading) -> list[Place]:
    """List the pairs of GAN and classifier cohort of a reading, with coordinates."""
    return list_readings()[reading].list_cells(study)


def list_gans(study: Study, reading: Reading) -> list[tuple[str, dict[str, float]]]:
    """List the GAN cohorts of a reading with the coordinates that they have by themselves."""
    return list_readings()[reading].list_gans(study)
