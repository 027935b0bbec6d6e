"""How the packaged LeNet was made: the script beside its data, on digits that are drawn here."""

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
from study_tools import REPOSITORY, write_idx

# the name of the file is too common for an import by path alone
SPEC = importlib.util.spec_from_file_location(
    "train_lenet", REPOSITORY / "data" / "lenet_mnist" / "train.py"
)
assert SPEC is not None
assert SPEC.loader is not None
script = sys.modules["train_lenet"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

SHORT = script.LeNetSettings(steps=3, batch_size=8)
STILL = script.LeNetSettings(max_rotation_deg=0.0, max_scale=0.0, max_shift_px=0.0)


@pytest.fixture
def digits() -> object:
    images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return script.Digits(images, torch.arange(20) % 10)


def test_card_is_of_the_packaged_weights() -> None:
    card = read_json(WEIGHTS_PATH.with_suffix(".json"))
    assert card["test_accuracy"] >= 0.992
    assert card["architecture"] == script.describe_architecture()
    assert card["settings"]["seed"] == card["seed"]
    assert card["command"] == script.COMMAND
    assert card["training_data"]["licence"] == "CC BY-SA 3.0"


def test_training_repeats_for_a_seed_and_differs_for_another(digits: object) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        script.train_lenet(digits, settings).state_dict()
        for settings in (SHORT, SHORT, replace(SHORT, seed=1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_learns_and_gives_features_of_unit_size(digits: object) -> None:
    lenet = script.train_lenet(digits, replace(STILL, steps=60, batch_size=20))
    assert script.measure_accuracy(lenet, digits) == 1.0
    features, _ = lenet(digits.images)  # type: ignore[attr-defined]
    assert features.square().mean().item() == pytest.approx(1.0, rel=1e-4)


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
