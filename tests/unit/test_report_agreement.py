"""Mutual fooling and agreement as the report reads and draws them, against hand values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fabrication import AGREEMENT, FOOLING, make_study, write
from knowledge_gaps.analyses.agreement.reading import (
    Agreement,
    compare_with_fooling,
    draw_agreement,
    read,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.readings.reading import Results

RATES = {  # by GAN and classifier of c
    ("fool_2", 0): [0.9, 0.7, 0.1],
    ("fool_2", 1): [0.7, 0.5, 0.1],
    ("fool_0", 0): [0.02, 0.3, 0.6],
}
ROWS = """\
c,0,1,fooling,100,10,12,3,0.8,0.7,0.25,50,0.80
c,0,2,fooling,100,10,9,3,0.8,0.7,0.50,50,0.90
c,1,2,fooling,90,12,9,3,0.8,0.7,,50,0.70
c,0,2,reals_and_held_out,100,4,5,3,0.8,0.7,0.40,50,0.95
"""


def make_fooling(matrix: np.ndarray) -> MutualFooling:
    names = [f"against_{instance}" for instance in range(len(matrix))]
    return MutualFooling("c", tuple(names), tuple(range(len(matrix))), matrix)


@pytest.fixture
def reading(tmp_path: Path) -> dict[str, Agreement]:
    write(tmp_path / "reports" / "agreement.csv", AGREEMENT + ROWS)
    return read(tmp_path / "reports", None)


def test_mutual_fooling_by_hand() -> None:
    rows = [
        (gans, generator, "c", 1, classifier, rate)
        for (gans, generator), rates in RATES.items()
        for classifier, rate in enumerate(rates)
    ]
    rows += [(*row[:3], chain, row[4], 0.5) for row in rows for chain in (0, 2)]
    rows.append(("fool_2", 0, "d", 1, 0, 0.0))
    columns = ["generator_cohort", "generator_instance", "classifier_cohort"]
    columns += ["classifier_chain", "classifier_instance", "detection_rate"]
    study = make_study({**FOOLING, "report": {"mutual_fooling": ["fool_2", "fool_0"]}})
    results = Results(Path(), study, pd.DataFrame(rows, columns=columns), pd.DataFrame(), 0)
    first, fooling, last = results.read("mutual_fooling")
    for other in (first, last):  # chains are kept apart
        np.testing.assert_array_equal(other.detection, np.full((3, 2), 0.5))
    assert (fooling.cohort, fooling.order, fooling.clusters) == ("c", [0, 2], None)
    assert (fooling.gans, fooling.in_loss) == (("fool_2", "fool_0"), (2, 0))
    np.testing.assert_allclose(fooling.detection, [[0.8, 0.02], [0.6, 0.3], [0.1, 0.6]])
    assert fooling.fooled == (0, 2)
    np.testing.assert_allclose(fooling.get_square(), [[0.02, 0.8], [0.6, 0.1]])
    np.testing.assert_allclose(fooling.get_square([2, 0]), [[0.1, 0.6], [0.8, 0.02]])


def test_agreement_by_hand(reading: dict[str, Agreement]) -> None:
    assert list(reading) == ["reals_and_held_out", "fooling"]
    agreement = reading["fooling"]
    assert agreement.instances == (0, 1, 2)
    kappa = [[1, 0.25, 0.5], [0.25, 1, math.nan], [0.5, math.nan, 1]]
    np.testing.assert_array_equal(agreement.kappa, kappa)
    np.testing.assert_array_equal(agreement.cka, [[1, 0.8, 0.9], [0.8, 1, 0.7], [0.9, 0.7, 1]])
    assert (agreement.num_images, agreement.num_errors) == (90, 9)
    np.testing.assert_array_equal(agreement.select([2, 0])[1], [[1, 0.9], [0.9, 1]])
    agreement = reading["reals_and_held_out"]
    assert agreement.instances == (0, 2)
    np.testing.assert_array_equal(agreement.kappa, [[1, 0.4], [0.4, 1]])


@pytest.mark.parametrize("pair", ["0,2", "2,0"])
def test_pair_that_stands_twice_is_refused(tmp_path: Path, pair: str) -> None:
    row = f"c,{pair},fooling,100,10,9,3,0.8,0.7,0.10,50,0.10\n"
    write(tmp_path / "reports" / "agreement.csv", AGREEMENT + ROWS + row)
    with pytest.raises(UserError, match=r"agreement\.csv: .* 0, .* 2: the row is there twice"):
        read(tmp_path / "reports", None)


def test_comparison_by_hand() -> None:
    rates = np.array([[0.0, 0.1, 0.8], [0.3, 0.0, 0.9], [0.6, 0.5, 0.0]])  # means .2 .7 .7
    likeness = np.array([[1.0, 0.9, 0.5], [0.9, 1.0, 0.4], [0.5, 0.4, 1.0]])
    agreement = Agreement((0, 1, 2), likeness, 1 - likeness, 100, 10)
    compared = compare_with_fooling(make_fooling(rates), agreement)
    expected = np.corrcoef([1, 2.5, 2.5], [3, 2, 1])[0, 1]  # of ranks
    assert compared.kappa.spearman == pytest.approx(expected)
    assert compared.cka.spearman == pytest.approx(-expected)
    assert compared.note == "3 classifiers have 6 orders: no p-value can fall below 0.33"


def test_comparison_with_a_missing_pair_says_so() -> None:
    rates = np.random.default_rng(0).random((5, 5))
    missing = np.ones((5, 5))
    missing[0, 1] = missing[1, 0] = np.nan
    agreement = Agreement(tuple(range(5)), missing, rates + rates.T, 100, 10)
    compared = compare_with_fooling(make_fooling(rates), agreement)
    assert math.isnan(compared.kappa.spearman)
    assert not math.isnan(compared.cka.spearman)
    assert compared.note == "a pair has no number, or all pairs have the same"


def test_figure_shows_the_matrices_in_one_order(reading: dict[str, Agreement]) -> None:
    rates = np.array([[0.0, 0.11, 0.21], [0.31, 0.01, 0.41], [0.51, 1.0, 0.02]])
    figure = draw_agreement(reading["fooling"], make_fooling(rates), [2, 0, 1])
    fooled, kappa, cka = ([text.get_text() for text in axes.texts] for axes in figure.axes[:3])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "0", "1"]
    assert fooled[:6] == [".020", ".510", "1.000", ".210", ".000", ".110"]
    assert kappa == [".500", "\N{EN DASH}", ".500", ".250", "\N{EN DASH}", ".250"]
    assert cka == [".900", ".700", ".900", ".800", ".700", ".800"]
    labels = [axes.get_xlabel().split(" (")[0] for axes in figure.axes[3:]]
    assert labels == ["detection rate", "error consistency, kappa", "linear CKA"]
    # reading is not drawing: the diagonals stay
    assert reading["fooling"].kappa.diagonal().tolist() == [1, 1, 1]
