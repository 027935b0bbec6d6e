"""Neighbours: known limits, hand values, and plain loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from quality_tools import draw_features, place
from scipy.spatial.distance import cdist

from knowledge_gaps.evaluation.quality import neighbours
from knowledge_gaps.evaluation.quality.neighbours import (
    Nearest,
    compute_density_coverage,
    compute_memorised,
    compute_precision_recall,
    find_nearest,
    list_closest,
    measure_radii,
)

FAR = 100.0


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_nearest_real_is_that_of_all_pairs(batch_size: int) -> None:
    images, reals = draw_features(30, seed=1).features, draw_features(50, seed=2).features
    distances = cdist(images, reals)
    found = find_nearest(images, reals, batch_size)
    assert found.indices.tolist() == distances.argmin(axis=1).tolist()
    np.testing.assert_allclose(found.distances, distances.min(axis=1), rtol=1e-6)


def test_nearest_real_of_a_real_is_itself_at_distance_zero() -> None:
    reals = draw_features(300, seed=2, shift=5.0).features
    found = find_nearest(reals[::-1].copy(), reals)
    assert found.indices.tolist() == list(range(299, -1, -1))
    assert (found.distances == 0).all()


def test_first_of_equally_near_reals_is_taken() -> None:
    found = find_nearest(place([[0.0, 0.0]]).features, place([[3, 4], [0, 5], [3, 4]]).features)
    assert (found.indices.tolist(), found.distances.tolist()) == ([0], [5.0])


def test_closest_pairs_come_first_and_equal_ones_in_order() -> None:
    nearest = Nearest(np.array([5, 6, 7, 8]), np.array([2.0, 0.5, 1.0, 0.5], np.float32))
    assert list_closest(nearest, 3) == [(1, 6, 0.5), (3, 8, 0.5), (2, 7, 1.0)]
    assert len(list_closest(nearest, 10)) == 4
    equal = Nearest(np.arange(100), np.ones(100, np.float32))
    assert list_closest(equal, 100) == [(i, i, 1.0) for i in range(100)]


def test_memorised_by_hand() -> None:
    """Reals at 0, 1, ..., 200: the 0.01 quantile is 2."""
    held_out = np.arange(201, dtype=np.float32)
    distances = np.array([0.0, 1.9, 2.0, 2.1], np.float32)
    assert compute_memorised(distances, held_out) == 0.5  # the one on the threshold is free


def test_memorised_of_copies_is_one_and_of_far_images_zero() -> None:
    training, test = draw_features(200, seed=1).features, draw_features(100, seed=2).features
    held_out = find_nearest(test, training).distances
    far = find_nearest(test + np.float32(FAR), training).distances
    assert compute_memorised(find_nearest(training, training).distances, held_out) == 1.0
    assert compute_memorised(held_out, held_out) == 0.01
    assert compute_memorised(far, held_out) == 0.0


# -------------------------------------------------------------------- density and coverage


def test_radius_is_the_distance_to_the_fifth_other_image() -> None:
    line = place(np.array([[0], [1], [3], [6], [10], [15]])).features
    assert measure_radii(line).tolist() == [15, 14, 12, 9, 10, 15]
    assert measure_radii(line, num_neighbours=1).tolist() == [1, 1, 2, 3, 4, 5]
    assert measure_radii(place([[0], [0], [2]]).features, num_neighbours=1).tolist() == [0, 0, 2]


def test_density_and_coverage_are_those_of_a_loop() -> None:
    """Naeem et al. 2020, equations 3 and 4."""
    real, generated = draw_features(60, seed=1), draw_features(40, seed=2, shift=0.3)
    radii = [sorted(row)[5] for row in cdist(real.features, real.features)]  # [0] is itself
    to_generated = cdist(real.features, generated.features)
    inside = [[d < radius for d in row] for row, radius in zip(to_generated, radii, strict=True)]
    expected = sum(map(sum, inside)) / (5 * 40), sum(map(any, inside)) / 60
    found = compute_density_coverage(generated, real, measure_radii(real.features))
    assert found == expected
    assert 0.2 < found[0] < 2
    assert 0.2 < found[1] < 0.9


def test_density_and_coverage_of_the_reals_themselves_are_one() -> None:
    real = draw_features(400, seed=1)
    assert compute_density_coverage(real, real, measure_radii(real.features)) == (1.0, 1.0)


def test_density_and_coverage_of_another_draw_of_the_reals_are_near_one() -> None:
    """Coverage of k = 5: the closed form for two draws of N is 1 - N...(N-4) / 2N...(2N-4)."""
    real, other = draw_features(1000, seed=1), draw_features(1000, seed=2)
    density, coverage = compute_density_coverage(other, real, measure_radii(real.features))
    assert density == pytest.approx(1.0, abs=0.05)
    expected = 1 - np.prod([(1000 - i) / (2000 - i) for i in range(5)])
    assert coverage == pytest.approx(expected, abs=0.02)


def test_density_and_coverage_of_far_images_are_zero() -> None:
    real, generated = draw_features(50, seed=1), draw_features(50, seed=2, shift=FAR)
    assert compute_density_coverage(generated, real, measure_radii(real.features)) == (0.0, 0.0)


def test_density_exceeds_one_and_coverage_falls_where_all_images_are_alike() -> None:
    cluster = np.arange(6)[:, None] / 10  # each of the six has 0.25 in its neighbourhood
    real = place(np.concatenate([cluster, cluster + 9]))
    generated = place(np.full((4, 1), 0.25))
    found = compute_density_coverage(generated, real, measure_radii(real.features))
    assert found == (6 / 5, 0.5)


# --------------------------------------------------------------------- precision and recall


def test_precision_and_recall_are_told_apart() -> None:
    """Generated images on one half of the reals: all realistic, half of the reals covered."""
    steps = np.arange(40, dtype=np.float32)
    line = np.stack([steps, np.zeros(40, np.float32)], axis=1)
    real = place(np.concatenate([line, line + 1000]))
    assert compute_precision_recall(place(line), real) == (1.0, 0.5)


def test_batching_does_not_change_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = draw_features(200, seed=1, shift=0.2), draw_features(150, seed=2)

    def measure() -> tuple[float, ...]:
        radii = measure_radii(real.features)
        density_coverage = compute_density_coverage(generated, real, radii)
        return *compute_precision_recall(generated, real), *density_coverage

    whole = measure()
    assert all(0.1 < share < 0.95 for share in whole)
    monkeypatch.setattr(neighbours, "DISTANCES_BATCH_SIZE", 37)
    assert measure() == pytest.approx(whole, abs=2 / 150)  # a pair on the edge may change sides
