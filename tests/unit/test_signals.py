"""What became of a classifier's signal, by its detection rate and the area under its ROC curve."""

from __future__ import annotations

import numpy as np

from knowledge_gaps.statistics.rules import classify_signals

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


def test_every_pair_has_its_word() -> None:
    rates, areas = (np.array([case[column] for case in CASES]) for column in (0, 1))
    expected = [case[2] for case in CASES]
    assert classify_signals(rates, areas).tolist() == expected
    pairs = classify_signals(rates[:6].reshape(2, 3), areas[:6].reshape(2, 3))
    assert pairs.tolist() == [expected[:3], expected[3:6]]
