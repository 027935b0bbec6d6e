"""Neighbours: known limits, hand values, and plain loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from quality_tools import draw_features, measure_by_pair, place

from knowledge_gaps.core.errors import UserError
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


# ----------------------------------------------------------------------------- nearest real


def test_nearest_real_is_that_of_a_loop() -> None:
    images, reals = draw_features(30, seed=1).features, draw_features(50, seed=2).features
    distances = measure_by_pair(images, reals)
    found = find_nearest(images, reals)
    assert found.indices.tolist() == distances.argmin(axis=1).tolist()
    np.testing.assert_allclose(found.distances, distances.min(axis=1), rtol=1e-6)


def test_nearest_real_of_a_real_is_itself_at_distance_zero() -> None:
    reals = draw_features(300, seed=2, shift=5.0).features
    found = find_nearest(reals[::-1].copy(), reals)
    assert found.indices.tolist() == list(range(299, -1, -1))
    assert (found.distances == 0).all()


def test_first_of_equally_near_reals_is_taken() -> None:
    found = find_nearest(place([[0.0, 0.0]]).features, place([[3, 4], [0, 5], [3, 4]]).features)
    assert found.indices.tolist() == [0]
    assert found.distances.tolist() == [5.0]


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_batch_size_does_not_change_the_nearest_real(batch_size: int) -> None:
    images, reals = draw_features(40, seed=1).features, draw_features(90, seed=2).features
    whole, parts = find_nearest(images, reals), find_nearest(images, reals, batch_size)
    assert parts.indices.tolist() == whole.indices.tolist()
    assert parts.distances.tolist() == whole.distances.tolist()


def test_closest_pairs_come_first_and_equal_ones_in_order() -> None:
    nearest = Nearest(np.array([5, 6, 7, 8]), np.array([2.0, 0.5, 1.0, 0.5], np.float32))
    assert list_closest(nearest, 3) == [(1, 6, 0.5), (3, 8, 0.5), (2, 7, 1.0)]
    assert len(list_closest(nearest, 10)) == 4
    equal = Nearest(np.arange(100), np.ones(100, np.float32))
    assert list_closest(equal, 100) == [(i, i, 1.0) for i in range(100)]


# ------------------------------------------------------------------------------- memorised


def test_memorised_by_hand() -> None:
    """Reals at 0, 1, ..., 200: the 0.01 quantile is 2."""
    held_out = np.arange(201, dtype=np.float32)
    distances = np.array([0.0, 1.9, 2.0, 2.1], np.float32)
    assert compute_memorised(distances, held_out) == 0.5  # the one on the threshold is free


def test_memorised_of_copies_is_one_and_of_far_images_zero() -> None:
    training, test = draw_features(200, seed=1).features, draw_features(100, seed=2).features
    held_out = find_nearest(test, training).distances
    copies = find_nearest(training, training).distances
    far = find_nearest(test + np.float32(FAR), training).distances
    assert compute_memorised(copies, held_out) == 1.0
    assert compute_memorised(far, held_out) == 0.0


def test_memorised_of_the_held_out_reals_themselves_is_the_quantile() -> None:
    held_out = np.random.default_rng(0).permutation(np.arange(4000)).astype(np.float32)
    assert compute_memorised(held_out, held_out) == 0.01


# -------------------------------------------------------------------- density and coverage


def test_radius_is_the_distance_to_the_fifth_other_image() -> None:
    line = place(np.array([[0], [1], [3], [6], [10], [15]])).features
    assert measure_radii(line).tolist() == [15, 14, 12, 9, 10, 15]
    assert measure_radii(line, num_neighbours=1).tolist() == [1, 1, 2, 3, 4, 5]


def test_radii_count_duplicates_as_others() -> None:
    assert measure_radii(place([[0], [0], [2]]).features, num_neighbours=1).tolist() == [0, 0, 2]


def test_density_and_coverage_are_those_of_a_loop() -> None:
    """Naeem et al. 2020, equations 3 and 4."""
    real, generated = draw_features(60, seed=1), draw_features(40, seed=2, shift=0.3)
    among_reals = measure_by_pair(real.features, real.features)
    radii = [sorted(row)[5] for row in among_reals]  # [0] is the real itself
    to_generated = measure_by_pair(real.features, generated.features)
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


# --------------------------------------------------------------------------------- refusals


def test_too_few_images_have_no_radius() -> None:
    assert len(measure_radii(draw_features(6, seed=0).features)) == 6
    with pytest.raises(UserError, match="found 5, 5 neighbours of each need at least 6"):
        measure_radii(draw_features(5, seed=0).features)


def test_density_of_no_image_is_refused() -> None:
    real = draw_features(10, seed=0)
    with pytest.raises(UserError, match="generated images: found 0, density needs at least 1"):
        compute_density_coverage(draw_features(0, seed=1), real, measure_radii(real.features))
