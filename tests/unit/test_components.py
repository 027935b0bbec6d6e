"""Variance components: against the analysis of variance, simulated ones, and designs with gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from knowledge_gaps.statistics.chains import Floats, bound_mean
from knowledge_gaps.statistics.components import (
    Components,
    estimate_components,
    predict_half_width,
)

NAN = math.nan


def draw(
    rng: np.random.Generator, shape: tuple[int, int, int], stds: tuple[float, float, float, float]
) -> Floats:
    """Draw [S, n, m] with standard deviations of chain, generator, classifier and pair."""
    num, rows, columns = shape
    sizes = ((num, 1, 1), (num, rows, 1), (num, 1, columns), shape)
    parts = [std * rng.normal(size=size) for std, size in zip(stds, sizes, strict=True)]
    total: Floats = np.sum(np.broadcast_arrays(*parts), axis=0)
    return total


def analyse_variance(y: Floats) -> tuple[float, float, float, float]:
    """Solve the expected mean squares of a nested design without gaps."""
    num, n, m = y.shape
    chain = y.mean(axis=(1, 2), keepdims=True)
    rows, columns = y.mean(axis=2, keepdims=True), y.mean(axis=1, keepdims=True)
    ms_chain = n * m * ((chain - y.mean()) ** 2).sum() / (num - 1)
    ms_rows = m * ((rows - chain) ** 2).sum() / (num * (n - 1))
    ms_columns = n * ((columns - chain) ** 2).sum() / (num * (m - 1))
    ms_pairs = ((y - rows - columns + chain) ** 2).sum() / (num * (n - 1) * (m - 1))
    between = (ms_chain - ms_rows - ms_columns + ms_pairs) / (n * m)
    return between, (ms_rows - ms_pairs) / m, (ms_columns - ms_pairs) / n, ms_pairs


def list_variances(found: Components) -> list[float]:
    return [found.chain, found.generator, found.classifier, found.pair]


def test_without_gaps_it_is_the_analysis_of_variance() -> None:
    for seed in range(5):
        y = 40 + draw(np.random.default_rng(seed), (4, 3, 5), (1.0, 0.5, 0.7, 0.4))
        found, expected = estimate_components(y), analyse_variance(y)
        assert list_variances(found) == pytest.approx(np.maximum(expected, 0), abs=1e-9)
        names = ("chain", "generator", "classifier", "pair")
        negative = [name for name, x in zip(names, expected, strict=True) if x < 0]
        assert found.truncated == tuple(negative)
        assert (found.mean, found.num_chains) == (pytest.approx(y.mean()), 4)


def test_gaps_bring_no_bias() -> None:
    rng, stds = np.random.default_rng(0), (1.0, 0.6, 0.8, 0.5)
    found = []
    for _ in range(400):
        y = draw(rng, (12, 3, 4), stds)
        y[rng.random(y.shape) < 0.3] = NAN
        y[:6, 2] = NAN  # half of the chains have one generator less
        found.append(list_variances(estimate_components(y)))
    errors = np.std(found, axis=0) / math.sqrt(len(found))
    # few estimates are negative here, so truncation hardly matters
    assert (np.abs(np.mean(found, axis=0) - np.square(stds)) < 4 * errors + 0.003).all()


def test_what_cannot_be_told_apart_is_nan() -> None:
    y = draw(np.random.default_rng(3), (200, 2, 3), (1.0, 0.5, 0.8, 0.4))
    shapes = {"one generator": y[:, :1], "one classifier": y[:, :, :1], "alone": y[:, :1, :1]}
    found = {name: list_variances(estimate_components(each)) for name, each in shapes.items()}
    for name, expected in (
        ("one generator", [1.25, NAN, 0.8, NAN]),
        ("one classifier", [1.64, 0.41, NAN, NAN]),
        ("alone", [2.05, NAN, NAN, NAN]),
    ):
        assert found[name] == pytest.approx(expected, rel=0.25, nan_ok=True), name
    assert found["alone"][0] == pytest.approx(y[:, 0, 0].var(ddof=1))
    own = np.where(
        np.eye(3, dtype=bool), draw(np.random.default_rng(4), (200, 3, 3), (1,) * 4), NAN
    )
    assert list_variances(estimate_components(own)) == pytest.approx(
        [1.0, 3.0, NAN, NAN], rel=0.25, nan_ok=True
    )
    assert math.isnan(estimate_components(y[:1]).chain)
    assert np.isnan(list_variances(estimate_components(np.full((3, 2, 2), NAN)))).all()


def test_half_width_is_that_of_other_chains() -> None:
    found = Components(0.4, 0.04**2, 0.03**2, 0.05**2, 0.02**2, (), 100)
    variance = 0.04**2 + 0.03**2 / 2 + 0.05**2 / 3 + 0.02**2 / 6
    width = predict_half_width(found, 6, 2, 3)
    assert width == pytest.approx(stats.t.isf(0.025, 5) * math.sqrt(variance / 6))
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(1_000):
        means = draw(rng, (6, 2, 3), (0.04, 0.03, 0.05, 0.02)).mean(axis=(1, 2))
        interval = bound_mean(means)
        widths.append((interval.high - interval.low) / 2)
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(width, rel=0.03)
    assert math.isnan(predict_half_width(found, 1, 2, 3))


def test_half_width_of_parts_that_are_not_known() -> None:
    one_generator = Components(0.4, 0.01, NAN, 0.02, NAN, (), 8)
    expected = stats.t.isf(0.025, 3) * math.sqrt((0.01 + 0.02 / 2) / 4)
    assert predict_half_width(one_generator, 4, 5, 2) == pytest.approx(expected)
    assert math.isnan(predict_half_width(Components(0.4, NAN, 0.1, 0.1, 0.1, (), 1), 4, 5, 2))
