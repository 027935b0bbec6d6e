"""Shifts and transfer: cases by hand, and what they do not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from knowledge_gaps.statistics.transfer import compute_shifts, compute_transfer

NAN = math.nan


def test_shift_is_in_units_of_the_classifiers_own_separation() -> None:
    fooling = np.array([-6.0, 4.0, -1.0, 5.0, -8.5, NAN])
    found = compute_shifts(np.array(4.0), fooling, np.array(-6.0))
    assert found == pytest.approx([0.0, 1.0, 0.5, 1.1, -0.25, NAN], nan_ok=True)
    scaled = compute_shifts(np.array(13.0), 3 * fooling + 1, np.array(-17.0))
    assert scaled == pytest.approx(found, nan_ok=True)


def test_shifts_of_all_pairs_at_once() -> None:
    rng = np.random.default_rng(0)
    real, fooling, own = 5 + rng.random((2, 1, 4)), rng.random((2, 3, 4)), -rng.random((2, 1, 4))
    found = compute_shifts(real, fooling, own)
    assert found.shape == (2, 3, 4)
    one = 1 - (real[1, 0, 2] - fooling[1, 1, 2]) / (real[1, 0, 2] - own[1, 0, 2])
    assert found[1, 1, 2] == pytest.approx(one)


def test_classifier_that_separates_nothing_has_no_shift() -> None:
    real, own = np.array([1.0, 1.0, NAN]), np.array([1.0, 2.0, 0.0])
    assert np.isnan(compute_shifts(real, np.zeros(3), own)).all()


def test_transfer_is_a_ratio_of_each_chain() -> None:
    in_loss = np.array([[0.8, 1.0], [0.5, NAN], [0.2, 0.1], [NAN, NAN], [1.0, 1.0]])
    held_out = np.array([[[0.3, 0.6]], [[-0.1, -0.1]], [[0.2, 0.2]], [[0.5, 0.5]], [[NAN, NAN]]])
    expected = [0.5, -0.2, NAN, NAN, NAN]
    found = compute_transfer(in_loss, held_out)
    assert found == pytest.approx(expected, nan_ok=True)
    assert compute_transfer(in_loss, held_out, 0.1)[2] == pytest.approx(0.2 / 0.15)
