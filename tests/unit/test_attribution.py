"""Integrated gradients: exact where they are known, complete where they are not; agreement."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from classifier_tools import build_classifier, draw_images, prepare
from scipy.stats import spearmanr

from knowledge_gaps.analyses.attributions import measure


def test_attributions_are_complete() -> None:
    """Of a network whose logit is smooth enough: deeper ones are not before they are trained."""
    images, classifier = prepare(draw_images(40)), build_classifier("cnn")
    rise = classifier(images) - classifier(torch.full_like(images, -1))
    for num_steps, limit in ((32, 0.01), (256, 0.0015)):
        found = measure.integrate_gradients(classifier, images, num_steps)
        gaps = (found.sum(dim=(1, 2, 3)) - rise).abs()
        assert (gaps / found.abs().sum(dim=(1, 2, 3))).mean().item() < limit


def test_two_steps_take_the_gradients_at_their_places_on_the_way() -> None:
    """Midpoints 1/4 and 3/4 of the root: a 16th of the way, and nine; weights 2 root / 2."""
    images, classifier = prepare(draw_images(3)), build_classifier("cnn")
    before = images.clone()
    expected = torch.zeros_like(images)
    for weight, share in ((0.25, 1 / 16), (0.75, 9 / 16)):
        point = ((1 - share) * torch.full_like(images, -1) + share * images).requires_grad_()
        classifier(point).sum().backward()
        assert point.grad is not None
        expected += weight * (images + 1) * point.grad
    found = measure.integrate_gradients(classifier, images, 2)
    assert torch.equal(images, before)
    scale = expected.abs().max().item()
    assert scale > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * scale)


def draw_maps(num_classifiers: int, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Draw attributions with ties, 0 where an image is black."""
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(num_classifiers, *images.shape)).round(1).astype(np.float32)
    return np.where(images == -1, np.float32(0), maps)


def test_correlations_are_scipys_over_the_pixels_that_are_not_black() -> None:
    images = prepare(draw_images(3)).numpy()
    maps = draw_maps(3, images)
    found = measure.correlate_attributions(maps, images)
    assert found.shape == (3, 3, 3)
    for index, a, b in np.ndindex(3, 3, 3):
        ink = images[index] != -1
        expected = spearmanr(maps[a, index][ink], maps[b, index][ink]).statistic
        assert found[index, a, b] == pytest.approx(expected, abs=1e-12)


def test_correlation_that_does_not_exist_is_missing() -> None:
    images = prepare(draw_images(3)).numpy()
    images[0] = -1
    images[1].flat[:] = -1
    images[1].flat[5] = 0  # a single pixel
    maps = draw_maps(2, images)
    maps[1, 2] = 0  # a classifier that looks at nothing
    assert np.isnan(measure.correlate_attributions(maps, images)).all()


def test_attributions_of_a_set_are_those_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, prepared = draw_images(12), prepare(draw_images(12))[:11]
    classifiers = [build_classifier("cnn", seed) for seed in (0, 1, 2)]
    maps = torch.stack([measure.integrate_gradients(one, prepared) for one in classifiers])
    expected = measure.correlate_attributions(maps.numpy(), prepared.numpy())
    for size in (100, 4):
        monkeypatch.setattr(measure, "count_scored", lambda *_, size=size, **__: size)
        found = measure.attribute_images(images, classifiers, 11)
        assert np.array_equal(found.images, images[: measure.NUM_EXAMPLES])
        examples = maps[:, : measure.NUM_EXAMPLES]
        np.testing.assert_allclose(found.attributions, examples, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.means, maps.abs().mean(dim=1), rtol=1e-4, atol=1e-6)
        # the order of two pixels that are nearly equal may differ
        np.testing.assert_allclose(found.correlations, expected, atol=1e-3)
