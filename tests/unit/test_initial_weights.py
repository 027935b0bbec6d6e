"""Published weights as the start of a classifier: which file, its hash, and what it fills."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.models.networks import build_classifier
from knowledge_gaps.models.registry import classifier_architectures
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.initial_weights import find_initial_weights, load_initial_weights


def make_recipe(**keys: Any) -> ClassifierRecipe:
    adam = OptimizerSettings(learning_rate=1e-3)
    values = {"architecture": "mobilenet_v2", "initialisation": "imagenet", **keys}
    return ClassifierRecipe(steps=1, batch_size=2, optimizer=adam, **values)


@pytest.fixture(scope="module")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "weights.pth"
    torch.save(torchvision.models.mobilenet_v2().state_dict(), path)
    return path


@pytest.fixture
def file_name(published_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the file of these tests be the published one; return its name."""
    name = f"mobilenet_v2-{hash_file(published_file)[:8]}.pth"
    architecture = classifier_architectures.get("mobilenet_v2")
    assert architecture.imagenet is not None
    patched = replace(architecture, imagenet=replace(architecture.imagenet, file_name=name))
    monkeypatch.setitem(classifier_architectures._entries, "mobilenet_v2", patched)
    return name


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "mobilenet_v2"])
def test_names_of_files_are_torchvisions(name: str) -> None:
    imagenet = classifier_architectures.get(name).imagenet
    assert imagenet is not None
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    assert url.endswith(f"/{imagenet.file_name}")
    assert re.search(f"-{imagenet.sha256_start}.pth$", url)
    assert len(imagenet.sha256_start) == 8


@pytest.mark.parametrize("place", ["relative", "absolute", "cache"])
def test_file_is_found_and_loaded(
    place: str,
    published_file: Path,
    file_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, given = tmp_path, {"initial_weights": str(published_file)}
    if place == "relative":
        root, given = published_file.parent, {"initial_weights": published_file.name}
    elif place == "cache":
        given = {}
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / file_name).write_bytes(published_file.read_bytes())
    network = build_classifier("mobilenet_v2", {}, (3, 16, 16)).network
    sha256 = load_initial_weights(network, make_recipe(**given), root)
    assert sha256 == hash_file(published_file)
    state, published = network.state_dict(), torch.load(published_file, weights_only=True)
    found = {key for key in published if torch.equal(state[f"body.{key}"], published[key])}
    assert found == {key for key in published if not key.startswith("classifier.1.")}


def test_missing_or_other_file_is_refused(
    file_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "other.pth").write_bytes(b"other weights")
    sha256, digits = hash_file(tmp_path / "other.pth"), file_name[-12:-4]
    missing = f"is missing; .*{file_name} .*nothing is downloaded"
    for given, message in (
        ({}, f"{tmp_path / 'checkpoints' / file_name} {missing}"),
        ({"initial_weights": "absent.pth"}, f"{tmp_path / 'absent.pth'} {missing}"),
        ({"initial_weights": "other.pth"}, f"sha256 of .* is {sha256}, .* begins with {digits}"),
    ):
        with pytest.raises(UserError, match=f"initial_weights: {message}"):
            find_initial_weights(make_recipe(**given), tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"architecture": "cnn", "model": {"channels": [4]}},
            "initialisation: 'imagenet' found, 'cnn' has no .*known: inception_v3, mob.*, resnet50",
        ),
        ({"model": {"width_divisor": 8}}, "'imagenet' needs model.width_divisor 1, found 8"),
        (
            {"architecture": "inception_v3", "model": {}},
            "'imagenet' needs model.transform_input true, found false",
        ),
    ],
)
def test_initialisation_that_cannot_be_is_refused(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        find_initial_weights(make_recipe(**keys), tmp_path)
