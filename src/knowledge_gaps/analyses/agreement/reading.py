"""How alike classifiers of one cohort are, beside how much they are fooled together.

agreement.csv is written by the stage `agreement`, which says what the pairs are compared on. The
measures and the permutation test are in `knowledge_gaps.statistics.agreement`, the figure in
`knowledge_gaps.analyses.agreement.figure`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    NUM_IMAGES,
    Cast,
    check_unique,
    read_columns,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.statistics.agreement import (
    MIN_INSTANCES,
    MatrixCorrelation,
    correlate_matrices,
    symmetrise,
)

ON_IMAGES = "on_images"
CLASSIFIER_A = "classifier_a"
CLASSIFIER_B = "classifier_b"
NUM_ERRORS_A = "num_errors_a"
NUM_ERRORS_B = "num_errors_b"
ERROR_CONSISTENCY = "error_consistency"
CKA = "cka"

FloatArray = npt.NDArray[np.float64]

_COLUMNS = {
    CLASSIFIER_COHORT: Cast.NAME,
    CLASSIFIER_A: Cast.COUNT,
    CLASSIFIER_B: Cast.COUNT,
    ON_IMAGES: Cast.NAME,
    NUM_IMAGES: Cast.COUNT,
    NUM_ERRORS_A: Cast.COUNT,
    NUM_ERRORS_B: Cast.COUNT,
    ERROR_CONSISTENCY: Cast.NUMBER,
    CKA: Cast.NUMBER,
}


@dataclass(frozen=True, eq=False)
class Agreement:
    """Pairs of N classifiers of one cohort, compared on one kind of images.

    Attributes:
        cohort: name of the classifier cohort.
        on_images: HELD_OUT, FOOLING or FOOLING_OTHERS.
        instances: of rows and columns.
        kappa: float64 [N, N], error consistency; 1 on the diagonal, NaN where it is not known.
        cka: float64 [N, N], likeness of features; likewise.
        num_images: the fewest that any pair was compared on.
        num_errors: the fewest of any classifier in any pair; kappa of few errors says little.
    """

    cohort: str
    on_images: str
    instances: tuple[int, ...]
    kappa: FloatArray
    cka: FloatArray
    num_images: int
    num_errors: int

    def get_matrix(self, measure: str, order: Sequence[int]) -> FloatArray:
        """Return ERROR_CONSISTENCY or CKA of some instances, in their order."""
        matrix = {ERROR_CONSISTENCY: self.kappa, CKA: self.cka}[measure]
        index = [self.instances.index(instance) for instance in order]
        return matrix[np.ix_(index, index)]


@dataclass(frozen=True)
class FoolingComparison:
    """Whether classifiers that are fooled together are alike.

    Attributes:
        on_images: what the pairs were compared on.
        instances: that are in both readings.
        kappa: detection of one another's GANs against error consistency, over pairs; below 0 when
            classifiers with the same errors are fooled together.
        cka: the same with the likeness of features.
        note: what limits the comparison; empty when nothing does.
    """

    on_images: str
    instances: tuple[int, ...]
    kappa: MatrixCorrelation
    cka: MatrixCorrelation
    note: str


def read_agreement(path: Path) -> pd.DataFrame:
    """Read agreement.csv, which may have no rows.

    Raises:
        UserError: when the file cannot be read, a column is missing or holds something else than
            it should, a pair stands twice, or classifier_a is not below classifier_b.
    """
    frame = read_columns(path, _COLUMNS)
    check_unique(path, frame, (CLASSIFIER_COHORT, CLASSIFIER_A, CLASSIFIER_B, ON_IMAGES))
    for line, (a, b) in enumerate(zip(frame[CLASSIFIER_A], frame[CLASSIFIER_B], strict=True), 2):
        if a >= b:
            raise UserError(f"{path}: line {line}: {CLASSIFIER_A} is {a}, below {b} is needed")
    return frame


def make_agreement(table: pd.DataFrame, on_images: str) -> Agreement | None:
    """Read the pairs of one kind of images; None when there are none.

    Args:
        table: as from `read_agreement`, of one cohort.
        on_images: HELD_OUT, FOOLING or FOOLING_OTHERS.
    """
    rows = table[table[ON_IMAGES] == on_images]
    if rows.empty:
        return None
    ends = rows[[CLASSIFIER_A, CLASSIFIER_B]].to_numpy(dtype=np.int64)
    instances: list[int] = np.unique(ends).tolist()
    return Agreement(
        cohort=str(rows[CLASSIFIER_COHORT].iloc[0]),
        on_images=on_images,
        instances=tuple(instances),
        kappa=_make_matrix(rows, ERROR_CONSISTENCY, instances),
        cka=_make_matrix(rows, CKA, instances),
        num_images=int(rows[NUM_IMAGES].min()),
        num_errors=min(int(rows[column].min()) for column in (NUM_ERRORS_A, NUM_ERRORS_B)),
    )


def compare_with_fooling(fooling: MutualFooling, agreement: Agreement) -> FoolingComparison:
    """Ask whether classifiers that detect one another's GANs less are more alike.

    The pair of a and b has the mean of a's rate on GANs against b and b's rate on GANs against a.

    Args:
        fooling: of the same classifier cohort.
        agreement: of its pairs. FOOLING_OTHERS leaves the GANs that the rates are about out of the
            images, so that nothing is compared with itself.
    """
    instances = tuple(i for i in fooling.fooled if i in agreement.instances)
    rates = symmetrise(fooling.get_square(instances))
    kappa, cka = (
        correlate_matrices(rates, agreement.get_matrix(measure, instances))
        for measure in (ERROR_CONSISTENCY, CKA)
    )
    return FoolingComparison(
        on_images=agreement.on_images,
        instances=instances,
        kappa=kappa,
        cka=cka,
        note=_note_limits(len(instances), kappa, cka),
    )


def _note_limits(num_instances: int, *correlations: MatrixCorrelation) -> str:
    if num_instances < MIN_INSTANCES:
        smallest = min(1.0, 2 / math.factorial(num_instances))
        return (
            f"{num_instances} classifiers have {math.factorial(num_instances)} orders: "
            f"no p-value can fall below {smallest:.2g}"
        )
    if any(math.isnan(correlation.spearman) for correlation in correlations):
        return "a pair has no number, or all pairs have the same"
    return ""


def _make_matrix(rows: pd.DataFrame, column: str, instances: Sequence[int]) -> FloatArray:
    index = {instance: position for position, instance in enumerate(instances)}
    matrix = np.full((len(index), len(index)), np.nan)
    np.fill_diagonal(matrix, 1.0)
    for a, b, value in zip(rows[CLASSIFIER_A], rows[CLASSIFIER_B], rows[column], strict=True):
        matrix[index[a], index[b]] = matrix[index[b], index[a]] = value
    return matrix
