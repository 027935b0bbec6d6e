"""How many images are looked at together, and that memory does not grow with their number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.analyses.agreement.measure import extract_features
from knowledge_gaps.analyses.spectra.measure import measure_spectra
from knowledge_gaps.data.images import load_images, save_array, save_batches
from knowledge_gaps.data.store import hold_images, open_images
from knowledge_gaps.evaluation.batches import (
    BACKWARD_BATCH,
    BACKWARD_VALUES,
    count_sampled,
    count_scored,
    count_together,
    split_images,
)
from knowledge_gaps.evaluation.detection import score_images
from knowledge_gaps.evaluation.quality.features import measure_contrast
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec

GREY, SMALL, LARGE = (1, 28, 28), (3, 32, 32), (3, 256, 256)
MIB = 1 << 20


class Mean(nn.Module):
    """The logit is the mean of an image, by a linear layer whose input is that mean."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(1, 2, 3))[:, None])
        return logits[:, 0]


def make_spec(image_shape: tuple[int, int, int], input_px: int | None = None) -> InputSpec:
    channels, height, width = image_shape
    return InputSpec(
        channels=channels,
        image_px=(height, width),
        input_px=(input_px or height, input_px or width),
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


def make_classifier(image_shape: tuple[int, int, int]) -> GanClassifier:
    return freeze(GanClassifier(Mean(), make_spec(image_shape)))


def draw_images(num_images: int, shape: tuple[int, ...] = SMALL) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num_images, *shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "forward", "backward", "sampled"),
    [
        (GREY, 64, 100, 64),
        (SMALL, 64, 100, 64),
        ((3, 64, 64), 64, 85, 64),  # 12,288 values an image
        ((3, 128, 128), 64, 21, 42),
        (LARGE, 42, 5, 10),
        ((3, 1024, 1024), 2, 1, 1),
        ((3, 4096, 4096), 1, 1, 1),  # a single one may be larger than all together should be
    ],
)
def test_number_together_falls_with_the_size(
    shape: tuple[int, int, int], forward: int, backward: int, sampled: int
) -> None:
    assert count_together(shape) == forward
    assert count_together(shape, BACKWARD_BATCH, BACKWARD_VALUES) == backward
    assert count_sampled(shape) == sampled


def test_classifier_that_enlarges_images_is_given_fewer() -> None:
    assert count_scored(make_spec(SMALL)) == 64
    assert count_scored(make_spec(SMALL, input_px=224)) == (8 << 20) // (3 * 224 * 224) == 55
    assert count_scored(make_spec((3, 1024, 1024), input_px=224)) == 2
    assert count_scored(make_spec(SMALL, 224), BACKWARD_BATCH, BACKWARD_VALUES) == 6


@pytest.mark.parametrize("num_images", [None, 0, 1, 4, 5, 11, 12])
def test_parts_are_the_whole_in_order(tmp_path: Path, num_images: int | None) -> None:
    images = draw_images(11)
    save_array(tmp_path / "images.npy", images)
    for source in (images, hold_images(images), open_images(tmp_path / "images.npy")):
        parts = list(split_images(source, 4, num_images))
        expected = images[:num_images]
        assert [len(part) for part in parts] == [
            len(expected[start : start + 4]) for start in range(0, len(expected), 4)
        ]
        assert np.array_equal(np.concatenate([*parts, images[:0]]), expected)


def test_file_of_batches_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    images = draw_images(7)
    save_array(tmp_path / "whole.npy", images)
    save_batches(tmp_path / "parts.npy", 7, iter([images[:3], images[3:4], images[4:]]))
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert np.array_equal(load_images(tmp_path / "parts.npy"), images)


@pytest.mark.parametrize("num_announced", [0, 6, 8])
def test_file_of_another_number_of_images_is_not_written(
    tmp_path: Path, num_announced: int
) -> None:
    images = draw_images(7)
    with pytest.raises(ValueError, match=f"7 images came, {num_announced} were announced"):
        save_batches(tmp_path / "images.npy", num_announced, iter([images[:3], images[3:]]))
    assert list(tmp_path.iterdir()) == []


def test_scores_are_the_same_from_disk_and_for_the_first_images(tmp_path: Path) -> None:
    images, classifier = draw_images(9), make_classifier(SMALL)
    save_array(tmp_path / "images.npy", images)
    store = open_images(tmp_path / "images.npy")
    expected = images.reshape(9, -1).mean(axis=1) / 127.5 - 1
    np.testing.assert_allclose(score_images(classifier, store), expected, atol=1e-6)
    np.testing.assert_allclose(score_images(classifier, images, 2), expected, atol=1e-6)
    np.testing.assert_allclose(score_images(classifier, store, None, 4), expected[:4], atol=1e-6)
    features = extract_features(classifier, store, 4)
    np.testing.assert_allclose(features[:, 0], expected[:4], atol=1e-6)


def test_contrast_and_spectra_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = draw_images(12)
    assert measure_contrast(hold_images(images), 8) == measure_contrast(images[:8])
    whole = measure_spectra(images[:8])
    monkeypatch.setattr("knowledge_gaps.evaluation.spectra._BATCH_VALUES", 3 * 32 * 32 * 3)
    parts = measure_spectra(hold_images(images), 8)
    for name in ("power", "residual_spectrum", "fingerprint"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-12)
    assert not np.array_equal(measure_spectra(images).power, whole.power)


def test_memory_stays_flat_however_many_images_there_are(tmp_path: Path) -> None:
    """384 images of 196,608 bytes are 72 MiB; numpy's and Python's memory, without torch's."""
    save_batches(tmp_path / "images.npy", 384, (draw_images(32, LARGE) for _ in range(12)))
    store, classifier = open_images(tmp_path / "images.npy"), make_classifier(LARGE)
    with torch.no_grad():
        tracemalloc.start()
        score_images(classifier, store)
        measure_contrast(store, 64)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 40 * MIB
