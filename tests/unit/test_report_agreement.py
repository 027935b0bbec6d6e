"""Mutual fooling and agreement as the report reads and draws them, against hand values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowledge_gaps.analyses.agreement.figure import draw_agreement
from knowledge_gaps.analyses.agreement.reading import (
    Agreement,
    AgreementReading,
    compare_with_fooling,
    read,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.mutual_fooling import MutualFooling, make_mutual_fooling
from knowledge_gaps.study import Study

# c: 3 classifiers; fool_2 and fool_0 fool one of them each, with 2 GANs and 1 GAN
STUDY: dict[str, Any] = {
    "study": {"name": "fooling", "seed": 0},
    "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist"},
    "gan_recipes": {},
    "classifier_recipes": {},
    "pools": {
        "base": {"extends": "none", "cohort": "gans/base", "instances": [0]},
        "c0": {"extends": "none", "cohort": "classifiers/c", "instances": [0]},
        "c2": {"extends": "none", "cohort": "classifiers/c", "instances": [2]},
    },
    "gans": {
        "base": {"recipe": "dcgan", "instances": 1, "fools": "none", "phi": 0.0},
        "fool_0": {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 1.0},
        "fool_2": {"recipe": "dcgan", "instances": 2, "fools": "c2", "phi": 1.0},
    },
    "classifiers": {
        "c": {"recipe": "cnn", "instances": 3, "detects": "base"},
        "d": {"recipe": "cnn", "instances": 1, "detects": "base"},
    },
    "evaluation": {"num_images": 100},
    "report": {"mutual_fooling": ["fool_2", "fool_0"]},
}
RATES = {  # by GAN and classifier of c
    ("fool_2", 0): [0.9, 0.7, 0.1],
    ("fool_2", 1): [0.7, 0.5, 0.1],
    ("fool_0", 0): [0.02, 0.3, 0.6],
}
AGREEMENT = """\
classifier_cohort,classifier_a,classifier_b,on_images,num_images,num_errors_a,num_errors_b,num_errors_both,observed_agreement,expected_agreement,error_consistency,num_cka_images,cka
c,0,1,fooling,100,10,12,3,0.8,0.7,0.25,50,0.80
c,0,2,fooling,100,10,9,3,0.8,0.7,0.50,50,0.90
c,1,2,fooling,90,12,9,3,0.8,0.7,,50,0.70
c,0,2,reals_and_held_out,100,4,5,3,0.8,0.7,0.40,50,0.95
"""


def make_detections() -> pd.DataFrame:
    rows = [
        {
            "generator_cohort": gans,
            "generator_instance": generator,
            "classifier_cohort": "c",
            "classifier_instance": classifier,
            "detection_rate": rate,
        }
        for (gans, generator), rates in RATES.items()
        for classifier, rate in enumerate(rates)
    ]
    other = {**rows[0], "classifier_cohort": "d", "detection_rate": 0.0}
    return pd.DataFrame([*rows, other])


def make_fooling(matrix: np.ndarray) -> MutualFooling:
    num = len(matrix)
    return MutualFooling(
        cohort="c",
        classifiers=tuple(range(num)),
        gans=tuple(f"against_{instance}" for instance in range(num)),
        in_loss=tuple(range(num)),
        detection=matrix,
    )


def make_likeness(kappa: np.ndarray, cka: np.ndarray) -> Agreement:
    return Agreement(tuple(range(len(kappa))), kappa, cka, 100, 10)


def write_and_read(root: Path, table: str) -> AgreementReading:
    (root / "reports").mkdir()
    (root / "reports" / "agreement.csv").write_text(table, encoding="utf-8")
    return read(root, None)


@pytest.fixture
def reading(tmp_path: Path) -> AgreementReading:
    return write_and_read(tmp_path, AGREEMENT)


# --- mutual fooling


def test_mutual_fooling_by_hand() -> None:
    fooling = make_mutual_fooling(make_detections(), Study.model_validate(STUDY))
    assert fooling is not None
    assert fooling.cohort == "c"
    assert fooling.classifiers == (0, 1, 2)
    assert fooling.gans == ("fool_2", "fool_0")
    assert fooling.in_loss == (2, 0)
    np.testing.assert_allclose(fooling.detection, [[0.8, 0.02], [0.6, 0.3], [0.1, 0.6]])


def test_square_part_has_one_order() -> None:
    fooling = make_mutual_fooling(make_detections(), Study.model_validate(STUDY))
    assert fooling is not None
    assert fooling.fooled == (0, 2)
    np.testing.assert_allclose(fooling.get_square(), [[0.02, 0.8], [0.6, 0.1]])
    np.testing.assert_allclose(fooling.get_square([2, 0]), [[0.1, 0.6], [0.8, 0.02]])


# --- agreement


def test_agreement_by_hand(reading: AgreementReading) -> None:
    agreement = reading.agreement["fooling"]
    assert agreement.instances == (0, 1, 2)
    kappa = [[1, 0.25, 0.5], [0.25, 1, math.nan], [0.5, math.nan, 1]]
    np.testing.assert_array_equal(agreement.kappa, kappa)
    np.testing.assert_array_equal(agreement.cka, [[1, 0.8, 0.9], [0.8, 1, 0.7], [0.9, 0.7, 1]])
    assert (agreement.num_images, agreement.num_errors) == (90, 9)
    np.testing.assert_array_equal(agreement.select([2, 0])[1], [[1, 0.9], [0.9, 1]])
    assert np.isnan(agreement.select([2, 1])[0][0, 1])


def test_agreement_of_some_instances(reading: AgreementReading) -> None:
    assert list(reading.agreement) == ["reals_and_held_out", "fooling"]
    assert reading.comparisons == {}
    agreement = reading.agreement["reals_and_held_out"]
    assert agreement.instances == (0, 2)
    np.testing.assert_array_equal(agreement.kappa, [[1, 0.4], [0.4, 1]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c,0,1", "c,1,1", "line 2: classifier_a is 1, below 1 is needed"),
        ("c,1,2", "c,0,2", "the row is there twice"),
        ("0.90", "much", "column 'cka', line 3: found 'much'"),
        ("error_consistency", "kappa", "column 'error_consistency' is missing"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_and_read(tmp_path, AGREEMENT.replace(old, new))


# --- both


def test_comparison_by_hand() -> None:
    rates = np.array([[0.0, 0.1, 0.8], [0.3, 0.0, 0.9], [0.6, 0.5, 0.0]])  # means .2 .7 .7
    likeness = np.array([[1.0, 0.9, 0.5], [0.9, 1.0, 0.4], [0.5, 0.4, 1.0]])
    compared = compare_with_fooling(make_fooling(rates), make_likeness(likeness, 1 - likeness))
    ranks = [1, 2.5, 2.5], [3, 2, 1]
    expected = np.corrcoef(*ranks)[0, 1]
    assert compared.kappa.spearman == pytest.approx(expected)
    assert compared.cka.spearman == pytest.approx(-expected)
    assert compared.note == "3 classifiers have 6 orders: no p-value can fall below 0.33"


def test_comparison_with_a_missing_pair_says_so() -> None:
    rates = np.random.default_rng(0).random((5, 5))
    missing = np.ones((5, 5))
    missing[0, 1] = missing[1, 0] = np.nan
    compared = compare_with_fooling(make_fooling(rates), make_likeness(missing, rates + rates.T))
    assert math.isnan(compared.kappa.spearman)
    assert not math.isnan(compared.cka.spearman)
    assert compared.note == "a pair has no number, or all pairs have the same"


# --- the figure


def list_texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_figure_shows_the_matrices_in_one_order(reading: AgreementReading) -> None:
    agreement = reading.agreement["fooling"]
    rates = np.array([[0.0, 0.11, 0.21], [0.31, 0.01, 0.41], [0.51, 1.0, 0.02]])
    figure = draw_agreement(agreement, make_fooling(rates), [2, 0, 1])
    panels = figure.axes[:3]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["2", "0", "1"]
    assert list_texts(panels[0])[:6] == [".020", ".510", "1.000", ".210", ".000", ".110"]
    assert list_texts(panels[1]) == [".500", "\N{EN DASH}", ".500", ".250", "\N{EN DASH}", ".250"]
    assert list_texts(panels[2]) == [".900", ".700", ".900", ".800", ".700", ".800"]
    labels = [axes.get_xlabel() for axes in figure.axes[3:]]
    assert [label.split(" (")[0] for label in labels] == [
        "detection rate",
        "error consistency, kappa",
        "linear CKA",
    ]
    # reading is not drawing: the diagonals stay
    assert agreement.kappa.diagonal().tolist() == [1, 1, 1]
