"""Likeness of classifiers: kappa and CKA by hand and by their invariances, Mantel's test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from knowledge_gaps.analyses.agreement import measure
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import save_array, to_float
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.statistics.agreement import (
    compute_cka,
    compute_error_consistency,
    compute_gram,
    correlate_matrices,
    symmetrise,
)

FloatArray = npt.NDArray[np.float64]
SHAPE = (1, 8, 8)


def test_kappa_by_hand() -> None:
    # 8 and 7 of 10 right; both wrong on one image, agreeing on 6 + 1
    first, second = np.arange(10) < 8, np.isin(np.arange(10), [6, 7, 9], invert=True)
    compared = compute_error_consistency(first, second)
    counts = {"num_images": 10, "num_errors_a": 2, "num_errors_b": 3, "num_errors_both": 1}
    shares = {"observed_agreement": 0.7, "expected_agreement": 0.8 * 0.7 + 0.2 * 0.3}
    assert compared == pytest.approx({**counts, **shares, "error_consistency": (0.7 - 0.62) / 0.38})


@pytest.mark.parametrize("make", [np.ones, np.zeros])
def test_kappa_of_certain_agreement_is_unknown(make: Callable[..., np.ndarray]) -> None:
    same = make(3, dtype=bool)
    assert math.isnan(compute_error_consistency(same, same)["error_consistency"])


def estimate_hsic(gram_a: FloatArray, gram_b: FloatArray) -> float:
    """The unbiased estimate by its definition: a mean over all 4 different images."""
    terms = [
        gram_a[i, j] * (gram_b[i, j] + gram_b[q, r] - 2 * gram_b[i, q])
        for i, j, q, r in itertools.permutations(range(len(gram_a)), 4)
    ]
    return float(np.mean(terms))


def draw(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape)


def test_cka_by_its_definition_and_invariances() -> None:
    first = draw(7, 3)
    second = first[:, :2] + draw(7, 2, seed=1)
    a, b = compute_gram(first), compute_gram(second)
    expected = estimate_hsic(a, b) / math.sqrt(estimate_hsic(a, a) * estimate_hsic(b, b))
    assert compute_cka(a, b) == pytest.approx(expected, rel=1e-9)
    rotation = np.linalg.qr(draw(3, 3, seed=1))[0]
    turned = compute_gram(-3 * first @ rotation + 2)
    assert compute_cka(a, turned) == pytest.approx(1.0, abs=1e-9)


def test_cka_of_one_point_is_unknown_and_of_3_images_refused() -> None:
    assert math.isnan(compute_cka(np.zeros((6, 6)), compute_gram(draw(6, 2))))
    with pytest.raises(ValueError, match="3 images found, 4 are needed"):
        compute_cka(np.eye(3), np.eye(3))


def test_mantel_against_all_orders() -> None:
    rng = np.random.default_rng(5)
    first, second = (symmetrise(rng.normal(size=(4, 4))) for _ in range(2))
    correlation = correlate_matrices(first, second)
    orders = [list(order) for order in itertools.permutations(range(4))]
    upper = np.triu_indices(4, k=1)
    drawn = [
        spearmanr(first[np.ix_(order, order)][upper], second[upper]).statistic for order in orders
    ]
    observed = drawn[0]
    tails = [np.mean(np.array(drawn) * sign >= observed * sign - 1e-9) for sign in (1, -1)]
    assert correlation.spearman == pytest.approx(observed, abs=1e-12)
    assert correlation.p_value == pytest.approx(min(1.0, 2 * min(tails)), abs=1e-12)


def test_mantel_without_numbers() -> None:
    first = symmetrise(draw(6, 6))
    missing = first.copy()
    missing[1, 2] = missing[2, 1] = np.nan
    for second in (missing, np.ones((6, 6))):
        correlation = correlate_matrices(first, second)
        assert math.isnan(correlation.spearman)
        assert math.isnan(correlation.p_value)


def make_images(num: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), dtype=np.uint8)


def make_classifier(seed: int = 0) -> GanClassifier:
    settings = CnnSettings(channels=[4, 6])
    torch.manual_seed(seed)
    classifier = GanClassifier(Cnn(settings, SHAPE), make_input_spec(settings, SHAPE))
    classifier(to_float(torch.from_numpy(make_images(32))))  # moves the running statistics
    return freeze(classifier)


@torch.no_grad()
def score(classifier: GanClassifier, images: npt.NDArray[np.uint8]) -> np.ndarray:
    return classifier(to_float(torch.from_numpy(images))).numpy()


def test_features_are_what_the_head_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "count_scored", lambda _: 7)
    classifier, images = make_classifier(), make_images(20)
    features = measure.extract_features(classifier, images)
    assert features.shape == (20, 6 * 2 * 2)
    head = classifier.network.head
    assert isinstance(head, nn.Linear)
    logits = features @ head.weight[0].numpy() + head.bias.item()
    np.testing.assert_allclose(logits, score(classifier, images), atol=1e-5)
    assert not head._forward_pre_hooks


def test_classifier_without_a_linear_layer_is_refused() -> None:
    flat = nn.Sequential(nn.Conv2d(1, 1, 8), nn.Flatten(0))
    with pytest.raises(UserError, match=r"Sequential: no torch\.nn\.Linear runs"):
        measure.extract_features(GanClassifier(flat, make_classifier().spec), make_images(5))


def test_answers_are_compared_on_the_kept_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MAX_CKA_IMAGES", 30)  # half of the images
    sets = [make_images(30, seed) for seed in range(3)]
    for number, images in enumerate(sets):
        save_array(tmp_path / f"{number}.npy", images)
    sources = tuple(
        measure.Source(tmp_path / f"{n}.npy", 20, is_real=n == 0, in_loss=(n,) if n == 1 else ())
        for n in range(3)
    )
    classifiers = make_classifier(1), make_classifier(2)
    monkeypatch.setattr(measure, "load_classifier", lambda path: classifiers[int(path.name)])
    answers = [measure.answer_sets(Path(name), [sources])[sources] for name in ("0", "1")]
    [compared] = measure.compare_pairs("fooling_others", sources, answers)

    correct = [
        np.concatenate([score(c, sets[0][:20]) > 0, score(c, sets[2][:20]) <= 0])
        for c in classifiers
    ]
    expected = compute_error_consistency(*correct)
    assert 0 < expected["num_errors_a"] < 40
    assert {name: compared[name] for name in expected} == expected
    images = np.concatenate([sets[0][:10], sets[2][:10]])
    grams = [compute_gram(measure.extract_features(c, images)) for c in classifiers]
    assert compared["num_cka_images"] == 20
    assert compared["cka"] == pytest.approx(compute_cka(*grams), abs=1e-5)


def test_cka_of_3_images_is_unknown() -> None:
    source = measure.Source(Path("0.npy"), 3, is_real=True)
    answer = measure.Answers(np.ones(3, dtype=bool), np.eye(3, dtype=np.float32))
    [compared] = measure.compare_pairs("fooling", (source,), [answer, answer])
    assert math.isnan(compared["cka"])
    assert compared["num_cka_images"] == 3
