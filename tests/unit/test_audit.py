"""The shortcut audit's parts: the replayed reals, the faults, and the rule of the verdicts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import chisquare

from knowledge_gaps.analyses.audit import measure
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images

SHAPE = (1, 6, 6)


def make_images(num: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), dtype=np.uint8)


def test_every_image_can_be_asked_for() -> None:
    num = 70_000
    images = np.arange(num, dtype=np.int64).view(np.uint8).reshape(num, 1, 2, 4)
    replay = measure.make_replay(images)
    returned = sample_images(replay, replay.encode(torch.arange(num)))
    assert np.array_equal(returned.numpy().reshape(num, 8).view(np.int64)[:, 0], np.arange(num))


def test_any_latents_give_a_stored_image_and_all_alike() -> None:
    images = make_images(20)
    stream = Stream(0, "audit/test", Instance(0, 0))
    latents = draw_latents(stream, 4000, measure.ReplayGenerator.latent_dim, 0)
    returned = sample_images(measure.make_replay(images), latents).numpy()
    numbers = {image.tobytes(): number for number, image in enumerate(images)}
    drawn = [numbers[image.tobytes()] for image in returned]  # a KeyError if it is no real
    assert chisquare(np.bincount(drawn, minlength=20)).pvalue > 1e-3


def truncate(images: torch.Tensor) -> torch.Tensor:
    """A wrong conversion: down to the next level, not to the nearest one."""
    return images.float().add(1).mul_(127.5).clamp_(0, 255).to(torch.uint8)


def stretch(images: torch.Tensor) -> torch.Tensor:
    """A wrong conversion: every image is rescaled by its own range."""
    low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return ((images - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("convert", "is_faulty"), [(to_uint8, False), (truncate, True), (stretch, True)]
)
def test_only_the_nearest_level_comes_back(
    monkeypatch: pytest.MonkeyPatch, convert: object, is_faulty: bool
) -> None:
    monkeypatch.setattr("knowledge_gaps.training.batches.to_uint8", convert)
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    images = np.broadcast_to(levels, (256, *SHAPE)).copy()
    returned = measure.pass_through(images, torch.arange(256), torch.device("cpu"))
    assert (images != returned).any() == is_faulty


def test_one_level_by_hand() -> None:
    images = np.array([0, 1, 253, 254, 255], np.uint8)
    assert measure.shift_levels(images).tolist() == [1, 2, 254, 255, 255]
    assert images.tolist() == [0, 1, 253, 254, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_changes_little(channels: int) -> None:
    ramp = np.linspace(0, 250, 16 * 16).reshape(16, 16).astype(np.uint8)
    images = np.stack([np.stack([image] * channels) for image in (ramp, ramp.T)])
    compressed = measure.compress_images(images)
    assert (compressed.shape, compressed.dtype) == (images.shape, np.uint8)
    change = np.abs(compressed.astype(int) - images)
    assert 0 < change.mean() < 3
    assert change.max() < 20


def judge(*rows: tuple[str, float]) -> list[tuple[float | None, str]]:
    judged = measure.judge_classifiers(
        [{"check": check, "p_value": p_value} for check, p_value in rows]
    )
    return [(row["p_holm"], row["verdict"]) for row in judged]


def test_verdicts_by_hand() -> None:
    assert judge(("replay", 0.004), ("replay", 0.9), ("replay", 0.003)) == [
        (pytest.approx(0.009), "fail"),  # 2 * 0.004 is below 3 * 0.003
        (pytest.approx(0.9), "pass"),
        (pytest.approx(0.009), "fail"),
    ]
    # controls are judged alone
    assert judge(("control", 1e-9), ("replay", 0.006), ("control", 0.02)) == [
        (None, "found"),
        (pytest.approx(0.006), "fail"),
        (None, "not_found"),
    ]


def test_samples_that_are_stored_otherwise_are_seen() -> None:
    reals = np.clip(make_images(9), 10, 250)
    samples = np.clip(make_images(4, seed=1), 10, 250)
    assert measure.is_stored_alike(samples, 4, reals)
    too_dark, too_bright = samples.copy(), samples.copy()
    too_dark[0, 0, 0, 0], too_bright[3, 0, 5, 5] = 9, 251
    others = (samples.astype(np.float32), samples[:3], samples[:, :, :5], too_dark, too_bright)
    for other in (*others, np.asfortranarray(samples)):
        assert not measure.is_stored_alike(other, 4, reals)
