"""The packaged LeNet: its card, its shapes, its place in torch-fidelity, and how it is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json, write_json
from knowledge_gaps.data.idx import write_idx
from knowledge_gaps.evaluation.extractors import train_lenet
from knowledge_gaps.evaluation.extractors.lenet import (
    FEATURES,
    IMAGE_SHAPE,
    LOGITS,
    WEIGHTS_PATH,
    LeNet,
    build_extractor_class,
    load_lenet,
    register_extractor,
)
from knowledge_gaps.evaluation.extractors.train_lenet import Digits, LeNetSettings

SHORT = LeNetSettings(steps=3, batch_size=8)
STILL = LeNetSettings(max_rotation_deg=0.0, max_scale=0.0, max_shift_px=0.0)


def draw_digits(num_images: int = 20) -> Digits:
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(num_images, *IMAGE_SHAPE, generator=generator) * 2 - 1
    return Digits(images, torch.arange(num_images) % 10)


@pytest.fixture
def copied_weights(tmp_path: Path) -> Path:
    for path in (WEIGHTS_PATH, WEIGHTS_PATH.with_suffix(".json")):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / WEIGHTS_PATH.name


@pytest.fixture
def mnist_of_noise(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in train_lenet.MNIST_FILES.values():
        shape = (20, 28, 28) if "images" in name else (20,)
        write_idx(tmp_path / name, rng.integers(0, 10, shape, dtype=np.uint8))
    return tmp_path


def test_card_belongs_to_the_packaged_weights() -> None:
    card = read_json(WEIGHTS_PATH.with_suffix(".json"))
    assert card["sha256"] == hash_file(WEIGHTS_PATH)
    assert card["test_accuracy"] >= 0.992
    assert card["architecture"] == train_lenet.describe_architecture()
    assert card["settings"]["seed"] == card["seed"]
    assert card["training_data"]["licence"] == "CC BY-SA 3.0"
    assert WEIGHTS_PATH.stat().st_size < 500_000


def test_lenet_is_frozen_and_gives_84_features_and_10_logits() -> None:
    lenet = load_lenet()
    features, logits = lenet(torch.zeros(3, *IMAGE_SHAPE))
    assert features.shape == (3, 84)
    assert logits.shape == (3, 10)
    assert not lenet.training
    assert not any(parameter.requires_grad for parameter in lenet.parameters())


def test_stored_images_are_taken_as_minus_one_to_one() -> None:
    lenet = load_lenet()
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    stored = black_and_white.expand(2, *IMAGE_SHAPE)
    expected = lenet(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, *IMAGE_SHAPE))
    torch.testing.assert_close(lenet.extract(stored), expected)


def test_altered_weights_are_refused(copied_weights: Path) -> None:
    load_lenet(copied_weights)
    content = bytearray(copied_weights.read_bytes())
    content[-1] ^= 1
    copied_weights.write_bytes(content)
    with pytest.raises(UserError, match=r"lenet_mnist\.safetensors: sha256 is"):
        load_lenet(copied_weights)


def test_card_without_a_hash_is_refused(copied_weights: Path) -> None:
    write_json(copied_weights.with_suffix(".json"), {"name": "lenet_mnist"})
    with pytest.raises(UserError, match=r"sha256 is .* nothing was recorded"):
        load_lenet(copied_weights)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    write_json(
        weights.with_suffix(".json"), {"sha256": write_tensors(weights, {"a": torch.ones(1)})}
    )
    with pytest.raises(UserError, match="not the weights of this LeNet"):
        load_lenet(weights)


def test_extractor_is_registered_once() -> None:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    assert register_extractor() == register_extractor() == "lenet-mnist"
    assert FEATURE_EXTRACTORS_REGISTRY["lenet-mnist"] is build_extractor_class()


def test_extractor_returns_what_was_asked_for_in_that_order() -> None:
    images = torch.randint(0, 256, (5, *IMAGE_SHAPE), dtype=torch.uint8)
    features, logits = load_lenet().extract(images)
    extractor = build_extractor_class()("lenet-mnist", [LOGITS, FEATURES], cuda=False)
    torch.testing.assert_close(extractor(images), (logits, features))
    alone = build_extractor_class()("lenet-mnist", [FEATURES])
    torch.testing.assert_close(alone(images), (features,))


def test_importing_evaluation_does_not_import_torch_fidelity() -> None:
    code = (
        "import sys, knowledge_gaps.evaluation.extractors.lenet, knowledge_gaps.evaluation.quality.table;"
        "sys.exit('torch_fidelity' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert finished.returncode == 0


def test_training_repeats_for_a_seed_and_differs_for_another() -> None:
    digits = draw_digits()
    first, again, other = (
        train_lenet.train_lenet(digits, settings).state_dict()
        for settings in (SHORT, SHORT, replace(SHORT, seed=1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_training_learns_and_leaves_the_global_random_state() -> None:
    digits = draw_digits()
    state = torch.random.get_rng_state()
    lenet = train_lenet.train_lenet(digits, replace(STILL, steps=60, batch_size=20))
    assert train_lenet.measure_accuracy(lenet, digits) == 1.0
    assert torch.equal(torch.random.get_rng_state(), state)


def test_trained_features_have_unit_size_and_rescaling_keeps_the_logits() -> None:
    digits = draw_digits()
    lenet = train_lenet.train_lenet(digits, SHORT)
    features, logits = (output.detach() for output in lenet(digits.images))
    assert float(features.square().mean()) == pytest.approx(1.0, rel=1e-4)
    lenet.rescale_features(3.0)
    tripled, same_logits = lenet(digits.images)
    torch.testing.assert_close(tripled.detach(), 3.0 * features)
    torch.testing.assert_close(same_logits.detach(), logits)


def test_epoch_draws_every_digit_once() -> None:
    digits = Digits(torch.zeros(24, *IMAGE_SHAPE), torch.arange(24))
    labels = [train_lenet.draw_batch(digits, SHORT, step).labels for step in range(6)]
    epochs = [torch.cat(labels[:3]), torch.cat(labels[3:])]
    assert all(sorted(epoch.tolist()) == list(range(24)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_distortion_moves_digits_and_keeps_the_background() -> None:
    images = torch.full((16, *IMAGE_SHAPE), -1.0)
    images[:, :, 12:16, 12:16] = 1.0
    moved = train_lenet.distort_digits(images, SHORT, torch.Generator().manual_seed(0))
    assert moved.min() == -1.0
    assert torch.all(moved[:, :, 0, :] == -1.0)
    assert len({float(image.sum()) for image in moved}) == 16
    kept = train_lenet.distort_digits(images, STILL, torch.Generator().manual_seed(0))
    torch.testing.assert_close(kept, images, rtol=0.0, atol=1e-5)


def test_poor_lenet_is_not_written(mnist_of_noise: Path, tmp_path: Path) -> None:
    weights = tmp_path / "out" / "lenet.safetensors"
    with pytest.raises(UserError, match=r"test accuracy is 0.* at least 0\.99 is needed"):
        train_lenet.make_lenet(mnist_of_noise, weights, SHORT)
    assert not weights.parent.exists()


def test_good_lenet_is_written_with_its_card(
    mnist_of_noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_lenet, "MIN_TEST_ACCURACY", 0.0)
    weights = tmp_path / "out" / "lenet.safetensors"
    test_accuracy = train_lenet.make_lenet(mnist_of_noise, weights, SHORT)
    assert isinstance(load_lenet(weights), LeNet)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["test_accuracy"] == test_accuracy
    assert card["steps"] == SHORT.steps


def test_labels_that_do_not_match_the_images_are_refused(mnist_of_noise: Path) -> None:
    path = mnist_of_noise / train_lenet.MNIST_FILES["train_labels"]
    write_idx(path, np.zeros(19, np.uint8))
    with pytest.raises(UserError, match=r"\(20, 1, 28, 28\) images with \(19,\) labels"):
        train_lenet.read_digits(mnist_of_noise, "train")
    write_idx(path, np.full(20, 10, np.uint8))
    with pytest.raises(UserError, match=r"labels reach 10, 0\.\.9 is allowed"):
        train_lenet.read_digits(mnist_of_noise, "train")


def test_missing_digits_exit_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    assert (
        train_lenet.main(["--mnist", str(tmp_path), "--out", str(tmp_path / "x.safetensors")]) == 2
    )
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "train-images-idx3-ubyte.gz" in message
