"""What became of a classifier's signal, by its detection rate and the area under its ROC curve."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge_gaps.statistics.fooling import GONE_MARGIN, Fooling, classify_fooling

NAN = float("nan")
CASES = [
    (0.5, 0.0, "detected"),  # whatever the area
    (1.0, 0.5, "detected"),
    (0.499, 0.5, "gone"),
    (0.0, 0.4, "gone"),
    (0.0, 0.6, "gone"),
    (0.0, 0.600001, "shifted"),
    (0.499, 1.0, "shifted"),
    (0.0, 0.399999, "inverted"),
    (0.0, 0.0, "inverted"),
    (NAN, 0.9, "unknown"),
    (0.9, NAN, "unknown"),
]


@pytest.mark.parametrize(("detection_rate", "auc", "expected"), CASES)
def test_one_pair_has_its_word(detection_rate: float, auc: float, expected: str) -> None:
    found = classify_fooling(detection_rate, auc)
    assert isinstance(found, str)
    assert found == expected
    assert Fooling(found).value == expected


def test_arrays_keep_their_shape() -> None:
    rates, areas = (np.array([case[column] for case in CASES]) for column in (0, 1))
    expected = [case[2] for case in CASES]
    assert classify_fooling(rates, areas).tolist() == expected
    pairs = classify_fooling(rates[:6].reshape(2, 3), areas[:6].reshape(2, 3))
    assert pairs.tolist() == [expected[:3], expected[3:6]]


def test_margin_is_a_tenth() -> None:
    assert GONE_MARGIN == 0.1
