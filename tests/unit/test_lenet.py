"""How LeNets are made: their training, and the script of the packaged one, on digits drawn here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.evaluation.extractors.lenet import WEIGHTS_PATH, LeNet
from knowledge_gaps.evaluation.extractors.lenet_on_reals import LeNetOnReals
from knowledge_gaps.evaluation.lenet import (
    LabelledImages,
    LeNetSettings,
    describe_lenet,
    distort_images,
    measure_accuracy,
    train_lenet,
)
from study_tools import REPOSITORY, write_idx

# the name of the file is too common for an import by path alone
SPEC = importlib.util.spec_from_file_location(
    "train_lenet", REPOSITORY / "data" / "lenet_mnist" / "train.py"
)
assert SPEC is not None
assert SPEC.loader is not None
script = sys.modules["train_lenet"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

SHORT = LeNetSettings(steps=3, batch_size=8)
STILL = LeNetSettings(max_rotation_deg=0.0, max_scale=0.0, max_shift_px=0.0)


def draw_labelled(shape: tuple[int, int, int], num_classes: int) -> LabelledImages:
    """Draw two images of noise of each class."""
    generator, size = torch.Generator().manual_seed(5), (2 * num_classes, *shape)
    images = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.arange(len(images)) % num_classes)


@pytest.fixture
def digits() -> LabelledImages:
    return draw_labelled((1, 28, 28), 10)


def test_card_is_of_the_packaged_weights() -> None:
    card = read_json(WEIGHTS_PATH.with_suffix(".json"))
    assert card["test_accuracy"] >= 0.992
    described = describe_lenet(LeNet(), LeNetSettings())
    assert card["architecture"] == described["architecture"]
    assert card["settings"] == described["settings"]
    assert card["settings"]["seed"] == card["seed"]
    assert card["command"] == script.COMMAND
    assert card["training_data"]["licence"] == "CC BY-SA 3.0"


def test_training_repeats_for_a_seed_and_differs_for_another(digits: LabelledImages) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        train_lenet(LeNet, digits, settings).state_dict()
        for settings in (SHORT, SHORT, replace(SHORT, seed=1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("shape", "num_classes"), [((1, 28, 28), 10), ((3, 16, 16), 4), ((1, 20, 36), 3)]
)
def test_training_learns_and_gives_features_of_unit_size(
    shape: tuple[int, int, int], num_classes: int
) -> None:
    data = draw_labelled(shape, num_classes)
    settings = replace(STILL, steps=60, batch_size=2 * num_classes)
    lenet = train_lenet(lambda: LeNetOnReals(shape, num_classes), data, settings)
    assert measure_accuracy(lenet, data) == 1.0
    wrong = LabelledImages(data.images, (data.labels + 1) % num_classes)
    assert measure_accuracy(lenet, wrong) == 0.0
    features, logits = lenet.extract(data.images)
    assert features.square().mean().item() == pytest.approx(1.0, rel=1e-4)
    assert (features.shape[1], logits.shape[1]) == (84, num_classes)


def test_distortion_shifts_by_pixels_along_both_sides() -> None:
    """Of a white square on black the centre moves by at most 2 px, whatever the sides are."""
    images = torch.full((64, 1, 16, 32), -1.0)
    images[:, :, 7:9, 15:17] = 1.0
    settings = replace(STILL, max_shift_px=2.0)
    distorted = distort_images(images, settings, torch.Generator().manual_seed(0))[:, 0] + 1
    for axis, centre in ((1, 7.5), (2, 15.5)):
        mass = distorted.sum(dim=3 - axis)  # [N, side]
        places = torch.arange(mass.shape[1], dtype=torch.float32)
        shifts = (mass * places).sum(dim=1) / mass.sum(dim=1) - centre
        assert shifts.abs().max() <= 2.001
        assert shifts.max() > 1.7
        assert shifts.min() < -1.7


def test_only_a_good_lenet_is_written_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for name in script.MNIST_FILES.values():
        shape = (20, 28, 28) if "images" in name else (20,)
        write_idx(tmp_path / name, rng.integers(0, 10, shape, dtype=np.uint8))
    weights = tmp_path / "out" / "lenet.safetensors"
    with pytest.raises(UserError, match=r"test accuracy is 0.* at least 0\.99 is needed"):
        script.make_lenet(tmp_path, weights, SHORT)
    assert not weights.parent.exists()
    monkeypatch.setattr(script, "MIN_TEST_ACCURACY", 0.0)
    test_accuracy = script.make_lenet(tmp_path, weights, SHORT)
    card = read_json(weights.with_suffix(".json"))
    assert card["sha256"] == hash_file(weights)
    assert (card["test_accuracy"], card["steps"]) == (test_accuracy, SHORT.steps)
    monkeypatch.setattr("knowledge_gaps.evaluation.extractors.lenet.WEIGHTS_PATH", weights)
    assert isinstance(LeNet.load(None), LeNet)
