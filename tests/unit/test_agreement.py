"""Likeness of classifiers: kappa and CKA by hand and by their invariances, Mantel's test."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from knowledge_gaps.analyses.agreement import measure
from knowledge_gaps.analyses.agreement.measure import (
    Source,
    answer_set,
    compare_answers,
    extract_features,
)
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


def flags(text: str) -> npt.NDArray[np.bool_]:
    return np.array([letter == "1" for letter in text])


# --- error consistency


def test_kappa_by_hand() -> None:
    # 8 and 7 of 10 right; both wrong on one image, agreeing on 6 + 1
    compared = compute_error_consistency(flags("1111111100"), flags("1111110010"))
    counts = {"num_images": 10, "num_errors_a": 2, "num_errors_b": 3, "num_errors_both": 1}
    shares = {"observed_agreement": 0.7, "expected_agreement": 0.8 * 0.7 + 0.2 * 0.3}
    assert compared == pytest.approx({**counts, **shares, "error_consistency": (0.7 - 0.62) / 0.38})


@pytest.mark.parametrize("text", ["111", "000"])
def test_kappa_of_certain_agreement_is_unknown(text: str) -> None:
    assert math.isnan(compute_error_consistency(flags(text), flags(text))["error_consistency"])


def test_kappa_is_cohens() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.9
    second = np.where(rng.random(300) < 0.4, first, rng.random(300) < 0.8)
    expected = cohen_kappa_score(first, second)
    assert 0.1 < expected < 0.9
    found = compute_error_consistency(first, second)["error_consistency"]
    assert found == pytest.approx(expected, abs=1e-12)


# --- CKA


def estimate_hsic(gram_a: FloatArray, gram_b: FloatArray) -> float:
    """The unbiased estimate by its definition: a mean over all 4 different images."""
    terms = [
        gram_a[i, j] * (gram_b[i, j] + gram_b[q, r] - 2 * gram_b[i, q])
        for i, j, q, r in itertools.permutations(range(len(gram_a)), 4)
    ]
    return float(np.mean(terms))


def compute_plain_cka(first: FloatArray, second: FloatArray) -> float:
    """Linear CKA as first written, from the centred features themselves."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    norms = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(np.linalg.norm(second.T @ first) ** 2 / norms)


def compare(first: FloatArray, second: FloatArray) -> float:
    return compute_cka(compute_gram(first), compute_gram(second))


def draw(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape)


def test_cka_by_its_definition() -> None:
    first = draw(7, 3)
    second = first[:, :2] + draw(7, 2, seed=1)
    a, b = compute_gram(first), compute_gram(second)
    expected = estimate_hsic(a, b) / math.sqrt(estimate_hsic(a, a) * estimate_hsic(b, b))
    assert compute_cka(a, b) == pytest.approx(expected, rel=1e-9)


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    first = draw(60, 5)
    rotation = np.linalg.qr(draw(5, 5, seed=1))[0]
    assert compare(first, -3 * first @ rotation + 2) == pytest.approx(1.0, abs=1e-9)
    assert compare(first, first * [1, 1, 1, 1, 30]) < 0.7  # which other linear maps change


def test_cka_of_independent_features_is_zero_with_more_features_than_images() -> None:
    first, second = draw(150, 1500), draw(150, 1500, seed=1)
    assert compute_plain_cka(first, second) > 0.8
    assert compare(first, second) == pytest.approx(0.0, abs=0.03)


def test_cka_of_one_point_is_unknown_and_of_3_images_refused() -> None:
    assert math.isnan(compare(np.zeros((6, 2)), draw(6, 2)))
    with pytest.raises(ValueError, match="3 images found, 4 are needed"):
        compare(draw(3, 2), draw(3, 2))


# --- matrices of pairs


def draw_pairs(rng: np.random.Generator, num: int) -> FloatArray:
    """Draw a symmetric matrix whose rows have something in common, as matrices of pairs do."""
    rows = rng.normal(size=num)
    return rows[:, None] + rows + 0.5 * symmetrise(rng.normal(size=(num, num)))


def correlate_plainly(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    upper = np.triu_indices(len(first), k=1)
    correlation = spearmanr(first[upper], second[upper])
    return float(correlation.statistic), float(correlation.pvalue)


def test_mantel_against_all_orders() -> None:
    rng = np.random.default_rng(5)
    first, second = draw_pairs(rng, 4), draw_pairs(rng, 4)
    correlation = correlate_matrices(first, second)
    orders = [list(order) for order in itertools.permutations(range(4))]
    drawn = [correlate_plainly(first[np.ix_(order, order)], second)[0] for order in orders]
    observed = drawn[0]
    tails = [np.mean(np.array(drawn) * sign >= observed * sign - 1e-9) for sign in (1, -1)]
    assert correlation.spearman == pytest.approx(observed, abs=1e-12)
    assert correlation.p_value == pytest.approx(min(1.0, 2 * min(tails)), abs=1e-12)


def test_mantel_is_right_where_pairs_are_not_independent() -> None:
    rng, num = np.random.default_rng(0), 200
    pairs = [(draw_pairs(rng, 5), draw_pairs(rng, 5)) for _ in range(num)]
    mantel = np.array([correlate_matrices(*pair).p_value for pair in pairs])
    naive = np.array([correlate_plainly(*pair)[1] for pair in pairs])
    for level in (0.1, 0.5):  # of 120 orders: both are attainable levels
        tolerance = 3 * math.sqrt(level * (1 - level) / num)
        assert np.mean(mantel <= level + 1e-9) == pytest.approx(level, abs=tolerance)
    assert np.mean(naive <= 0.1) > 0.2  # what the permutations are for


def test_mantel_without_numbers() -> None:
    first = draw_pairs(np.random.default_rng(0), 6)
    missing = first.copy()
    missing[1, 2] = missing[2, 1] = np.nan
    for second in (missing, np.ones((6, 6))):
        correlation = correlate_matrices(first, second)
        assert math.isnan(correlation.spearman)
        assert math.isnan(correlation.p_value)
    assert math.isnan(correlate_matrices(np.ones((1, 1)), np.ones((1, 1))).spearman)


# --- asking classifiers


def make_images(num: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), dtype=np.uint8)


def make_classifier(seed: int = 0) -> GanClassifier:
    settings = CnnSettings(channels=[4, 6], dropout=0.5)
    torch.manual_seed(seed)
    classifier = GanClassifier(Cnn(settings, SHAPE), make_input_spec(settings, SHAPE))
    classifier(to_float(torch.from_numpy(make_images(32))))  # moves the running statistics
    return freeze(classifier)


@torch.no_grad()
def score(classifier: GanClassifier, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = classifier(to_float(torch.from_numpy(images))).numpy()
    return scores


def test_features_are_what_the_head_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "count_scored", lambda _: 7)
    classifier, images = make_classifier(), make_images(20)
    features = extract_features(classifier, images)
    assert features.shape == (20, 6 * 2 * 2)
    head = classifier.network.head
    assert isinstance(head, nn.Linear)
    logits = features @ head.weight[0].numpy() + head.bias.item()
    np.testing.assert_allclose(logits, score(classifier, images), atol=1e-5)
    assert not head._forward_pre_hooks


class TwoLayers(nn.Module):
    """Runs its linear layers in another order than it names them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 1)
        self.first = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(images.flatten(1)))
        return logits[:, 0]


class NoLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean(dim=(1, 2, 3))


def test_last_layer_is_the_one_that_runs_last() -> None:
    spec = make_classifier().spec
    features = extract_features(freeze(GanClassifier(TwoLayers(), spec)), make_images(5))
    assert features.shape == (5, 3)
    with pytest.raises(UserError, match=r"NoLayer: no torch\.nn\.Linear runs"):
        extract_features(freeze(GanClassifier(NoLayer(), spec)), make_images(5))


def test_answers_are_compared_on_the_kept_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MAX_CKA_IMAGES", 30)  # half of the images
    sets = [make_images(30, seed) for seed in range(3)]
    for number, images in enumerate(sets):
        save_array(tmp_path / f"{number}.npy", images)
    sources = tuple(Source(tmp_path / f"{n}.npy", 20, is_real=n == 0) for n in range(3))
    classifiers = make_classifier(1), make_classifier(2)
    first, second = (answer_set(classifier, sources) for classifier in classifiers)
    kept = (sources[0], sources[2])
    compared = compare_answers(first, second, sources, kept)

    correct = [
        np.concatenate([score(c, sets[0][:20]) > 0, score(c, sets[2][:20]) <= 0])
        for c in classifiers
    ]
    expected = compute_error_consistency(*correct)
    assert 0 < expected["num_errors_a"] < 40
    assert {name: compared[name] for name in expected} == expected
    images = np.concatenate([sets[0][:10], sets[2][:10]])
    grams = [compute_gram(extract_features(c, images)) for c in classifiers]
    assert compared["num_cka_images"] == 20
    assert compared["cka"] == pytest.approx(compute_cka(*grams), abs=1e-5)


def test_numbers_that_do_not_exist_are_none(tmp_path: Path) -> None:
    save_array(tmp_path / "0.npy", make_images(3))
    source = Source(tmp_path / "0.npy", 3, is_real=True)
    answer = answer_set(make_classifier(), (source,))
    certain = measure.Answers(np.ones(3, dtype=bool), answer.gram)
    compared = compare_answers(certain, certain, (source,), (source,))
    assert compared["error_consistency"] is None
    assert compared["cka"] is None
    assert compared["num_cka_images"] == 3
