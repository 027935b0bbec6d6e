"""Stored instances: they come back as they were, frozen, and what is damaged is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_models import CLASSIFIER_EXAMPLES, GAN_EXAMPLES, Example, each
from torch import nn

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.models.frozen import load_classifier, load_generator, read_meta
from knowledge_gaps.models.registry import Generator
from training_tools import are_equal, clone_state


def build_trained(example: Example) -> nn.Module:
    """Build the network that an example stores; its statistics are not what they start as."""
    network = example.build()[0].train()
    network(example.draw_inputs(network))
    return network


def store(directory: Path, example: Example) -> Path:
    """Write an instance as a training does, as far as loading reads it."""
    network = build_trained(example)
    kind, described = "generator", {}
    if not isinstance(network, Generator):
        kind, described = "classifier", {"input_spec": network.spec.model_dump(mode="json")}
    file_name = f"{kind}.safetensors"
    meta = {
        "format": 2,
        "kind": kind,
        "architecture": example.architecture,
        "settings": {"model": example.settings},
        "image_shape": list(example.image_shape),
        "files": {file_name: write_tensors(directory / file_name, network.state_dict())},
        **described,
    }
    write_json(directory / "meta.json", meta)
    return directory


def change_meta(directory: Path, **values: Any) -> None:
    meta = read_json(directory / "meta.json") | values
    write_json(directory / "meta.json", {k: v for k, v in meta.items() if v is not None})


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    return store(tmp_path / "generator", GAN_EXAMPLES[0])


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return store(tmp_path / "classifier", CLASSIFIER_EXAMPLES[0])


@each
def test_stored_network_comes_back_frozen(example: Example, tmp_path: Path) -> None:
    expected = build_trained(example)
    load = load_generator if isinstance(expected, Generator) else load_classifier
    store(tmp_path, example)
    torch.manual_seed(99)
    network = load(tmp_path)
    assert not any(module.training for module in network.modules())
    inputs = example.draw_inputs(network).requires_grad_(True)
    outputs = network(inputs)
    assert torch.equal(outputs, expected.eval()(inputs))
    (outputs * torch.rand_like(outputs)).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().max() > 0  # the gradient reaches the images, and no weight
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert are_equal(clone_state(network), clone_state(expected))


def test_hash_that_the_pool_recorded_is_checked(generator: Path) -> None:
    sha256 = read_meta(generator)["files"]["generator.safetensors"]
    load_generator(generator, sha256)
    with pytest.raises(UserError, match=f"sha256 is {sha256}, the pool recorded {'0' * 64}"):
        load_generator(generator, "0" * 64)


def test_altered_weights_are_refused(classifier: Path) -> None:
    path = classifier / "classifier.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"classifier\.safetensors: sha256 is .*altered"):
        load_classifier(classifier)


def test_weights_of_other_settings_are_refused(generator: Path) -> None:
    change_meta(generator, settings={"model": {"latent_dim": 9, "channels": [6, 4]}})
    with pytest.raises(UserError, match=r"generator\.safetensors: does not fit architecture"):
        load_generator(generator)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "format is 1, 2 is needed"),
        ({"files": None}, "key 'files' is missing"),
        ({"input_spec": None}, "input_spec: "),
        ({"files": {}}, r"lists no classifier\.safetensors; kind is 'classifier'"),
        ({"architecture": "vgg"}, "architecture: unknown classifier 'vgg'"),
        ({"settings": {}}, "KeyError 'model'"),
        ({"input_spec": {"channels": 1}}, "input_spec: image_px"),
    ],
)
def test_damaged_meta_is_refused(classifier: Path, changes: dict[str, Any], message: str) -> None:
    change_meta(classifier, **changes)
    with pytest.raises(UserError, match=rf"meta\.json: {message}"):
        load_classifier(classifier)


def test_classifier_is_no_generator(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown GAN 'cnn'"):
        load_generator(classifier)
    with pytest.raises(UserError, match=r"meta\.json: cannot be read"):
        load_classifier(tmp_path / "absent")
