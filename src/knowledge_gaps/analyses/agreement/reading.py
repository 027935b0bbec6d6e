"""How alike classifiers of one cohort are, and whether alike ones are fooled together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import AGREEMENT_FILE, get_reports_directory
from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    NUM_IMAGES,
    Cast,
    check_unique,
    read_columns,
)
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.statistics.agreement import (
    FOOLING,
    FOOLING_OTHERS,
    HELD_OUT,
    MIN_INSTANCES,
    MatrixCorrelation,
    correlate_matrices,
    symmetrise,
)

FloatArray = npt.NDArray[np.float64]

COLUMNS = {
    CLASSIFIER_COHORT: Cast.NAME,
    "classifier_a": Cast.COUNT,
    "classifier_b": Cast.COUNT,
    "on_images": Cast.NAME,
    NUM_IMAGES: Cast.COUNT,
    "num_errors_a": Cast.COUNT,
    "num_errors_b": Cast.COUNT,
    "num_errors_both": Cast.COUNT,
    "observed_agreement": Cast.SHARE,
    "expected_agreement": Cast.SHARE,
    "error_consistency": Cast.NUMBER,
    "num_cka_images": Cast.COUNT,
    "cka": Cast.NUMBER,
}


@dataclass(frozen=True, eq=False)
class Agreement:
    """Pairs of N classifiers of one cohort, compared on one kind of images.

    Attributes:
        instances: of rows and columns.
        kappa: float64 [N, N], error consistency; 1 on the diagonal, NaN where it is not known.
        cka: float64 [N, N], likeness of features; likewise.
        num_images: the fewest that any pair was compared on.
        num_errors: the fewest of any classifier in any pair; kappa of few errors says little.
    """

    instances: tuple[int, ...]
    kappa: FloatArray
    cka: FloatArray
    num_images: int
    num_errors: int

    def select(self, order: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Return `kappa` and `cka` of some instances, in their order."""
        index = [self.instances.index(instance) for instance in order]
        return self.kappa[np.ix_(index, index)], self.cka[np.ix_(index, index)]


@dataclass(frozen=True)
class FoolingComparison:
    """Correlation of the detection of one another's GANs with kappa and with CKA, over pairs.

    Both are below 0 when alike classifiers are fooled together; `note` says what limits them.
    """

    kappa: MatrixCorrelation
    cka: MatrixCorrelation
    note: str


@dataclass(frozen=True)
class AgreementReading:
    """Agreement, and its comparison with mutual fooling, by HELD_OUT, FOOLING, FOOLING_OTHERS."""

    agreement: Mapping[str, Agreement]
    comparisons: Mapping[str, FoolingComparison]


def read(root: Path, fooling: MutualFooling | None) -> AgreementReading:
    """Read agreement.csv, which may have no rows.

    Args:
        root: of the study.
        fooling: of the same classifier cohort; None leaves the comparisons out.

    Raises:
        UserError: when the file cannot be read, a column is missing or holds something else than
            it should, a pair is there twice, or classifier_a is not below classifier_b.
    """
    path = get_reports_directory(root) / AGREEMENT_FILE
    table = read_columns(path, COLUMNS)
    check_unique(path, table, (CLASSIFIER_COHORT, "classifier_a", "classifier_b", "on_images"))
    for line, (a, b) in enumerate(
        zip(table["classifier_a"], table["classifier_b"], strict=True), 2
    ):
        if a >= b:
            raise UserError(f"{path}: line {line}: classifier_a is {a}, below {b} is needed")
    groups = dict(iter(table.groupby("on_images")))
    kinds = [kind for kind in (HELD_OUT, FOOLING, FOOLING_OTHERS) if kind in groups]
    agreement = {kind: _make_agreement(groups[kind]) for kind in kinds}
    if fooling is None:
        return AgreementReading(agreement, {})
    compared = {kind: compare_with_fooling(fooling, one) for kind, one in agreement.items()}
    return AgreementReading(agreement, compared)


def _make_agreement(rows: pd.DataFrame) -> Agreement:
    ends = rows[["classifier_a", "classifier_b"]].to_numpy(dtype=np.int64)
    instances, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(ends.shape).T

    def fill(column: str) -> FloatArray:
        matrix = np.full((len(instances), len(instances)), np.nan)
        np.fill_diagonal(matrix, 1.0)
        matrix[first, second] = matrix[second, first] = rows[column].to_numpy()
        return matrix

    return Agreement(
        instances=tuple(instances.tolist()),
        kappa=fill("error_consistency"),
        cka=fill("cka"),
        num_images=int(rows[NUM_IMAGES].min()),
        num_errors=int(rows[["num_errors_a", "num_errors_b"]].to_numpy().min()),
    )


def compare_with_fooling(fooling: MutualFooling, agreement: Agreement) -> FoolingComparison:
    """Test whether classifiers that detect one another's GANs less are more alike.

    The pair of a and b has the mean of a's rate on GANs against b and b's rate on GANs against a.
    FOOLING_OTHERS leaves these GANs out of the images, so that nothing is compared with itself.
    """
    instances = tuple(i for i in fooling.fooled if i in agreement.instances)
    rates = symmetrise(fooling.get_square(instances))
    kappa, cka = (correlate_matrices(rates, one) for one in agreement.select(instances))
    return FoolingComparison(kappa, cka, _describe_limits(len(instances), kappa, cka))


def _describe_limits(num_instances: int, *correlations: MatrixCorrelation) -> str:
    if num_instances < MIN_INSTANCES:
        num_orders = math.factorial(num_instances)
        return (
            f"{num_instances} classifiers have {num_orders} orders: "
            f"no p-value can fall below {min(1.0, 2 / num_orders):.2g}"
        )
    if any(math.isnan(correlation.spearman) for correlation in correlations):
        return "a pair has no number, or all pairs have the same"
    return ""
