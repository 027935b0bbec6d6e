"""torchvision's networks as GAN-classifiers: layers, how they start, published weights, memory."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.networks import build_classifier
from knowledge_gaps.models.registry import classifier_architectures
from knowledge_gaps.models.torchvision_nets import divide_widths, recompute_blocks
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.initial_weights import find_initial_weights, load_initial_weights
from training_tools import are_equal, clone_state

NAMES = ["inception_v3", "mobilenet_v2", "resnet50"]

each_name = pytest.mark.parametrize("name", NAMES)


def build(name: str, **settings: Any) -> GanClassifier:
    torch.manual_seed(0)
    return build_classifier(name, settings, (3, 16, 16))


def build_small(name: str) -> GanClassifier:
    return build(name, width_divisor=16, input_px=75 if name == "inception_v3" else 32)


def get_body(classifier: GanClassifier) -> nn.Module:
    body = classifier.network.body
    assert isinstance(body, nn.Module)
    return body


def make_published(name: str, num_classes: int = 1) -> nn.Module:
    options = {"init_weights": True} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, num_classes=num_classes, **options)


def draw_images(num_images: int = 6) -> Tensor:
    source = torch.Generator().manual_seed(8)
    return torch.rand(num_images, 3, 16, 16, generator=source) * 2 - 1


# --- the published width


@each_name
def test_network_is_torchvisions_but_for_the_head(name: str) -> None:
    classifier = build(name)
    torch.manual_seed(0)
    assert are_equal(get_body(classifier).state_dict(), make_published(name).state_dict())


@pytest.mark.parametrize(
    ("name", "settings", "mean", "std"),
    [
        ("mobilenet_v2", {"input_px": 32}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        # its published weights were made for values in [-1, 1]
        ("inception_v3", {"input_px": 75, "transform_input": True}, (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_logits_are_torchvisions_for_images_as_it_normalises_them(
    name: str, settings: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    classifier = build(name, **settings).eval()
    body, images, side_px = get_body(classifier), draw_images(2), settings["input_px"]
    found = classifier(images)
    body.transform_input = False
    resized = nn.functional.interpolate(images, size=(side_px, side_px), mode="bilinear")
    expected = body(torchvision.transforms.Normalize(mean, std)((resized + 1) / 2))[:, 0]
    # fresh weights in evaluation mode give logits of millions
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if name == "inception_v3":
        assert not torch.allclose(classifier(images), expected, rtol=1e-2)


# --- narrower variants


@each_name
@pytest.mark.parametrize("divisor", [2, 16])
def test_every_width_is_divided_and_nothing_else(name: str, divisor: int) -> None:
    with torch.device("meta"):
        published = make_published(name).state_dict()
    narrow = get_body(build(name, width_divisor=divisor)).state_dict()
    assert list(narrow) == list(published)
    for key, value in narrow.items():
        widths, kernel = published[key].shape[:2], published[key].shape[2:]
        expected = [width if width == 3 else math.ceil(width / divisor) for width in widths]
        assert tuple(value.shape) == (*expected, *kernel), key
        assert value.device.type == "cpu", key


@each_name
def test_narrower_variant_starts_by_torchvisions_rule(name: str) -> None:
    torch.manual_seed(0)
    expected = dict(make_published(name).named_parameters())
    with torch.device("meta"):
        body = make_published(name)
    divide_widths(body, 1)  # the narrow way at the published width
    import_module(f"knowledge_gaps.models.architectures.{name}").initialise(body)
    for key, value in body.named_parameters():
        num_values, spread = value.numel(), expected[key].std(correction=0).item()
        if torch.equal(expected[key], expected[key].round()):  # zeros or ones
            assert torch.equal(value, expected[key]), key
        elif num_values > 1:
            # means and spreads of two draws; six standard errors of their difference
            tolerance = 6 * spread * (2 / num_values) ** 0.5
            assert abs((value.mean() - expected[key].mean()).item()) < tolerance, key
            assert abs(value.std(correction=0).item() - spread) < tolerance, key


# --- sizes of the input


def test_inception_has_its_auxiliary_head_and_its_pixels_from_its_limits_on() -> None:
    images, error = draw_images(2), "greater than actual input size"
    for input_px, num_heads in ((75, 1), (298, 1), (299, 2)):
        classifier = build("inception_v3", width_divisor=16, input_px=input_px).train()
        assert [head.shape for head in classifier.compute_heads(images)] == [(2,)] * num_heads
        assert any("AuxLogits" in key for key in classifier.state_dict()) == (num_heads == 2)
        assert len(classifier.eval().compute_heads(images)) == 1
        if input_px != 298:  # a pixel less leaves none for a convolution
            with pytest.raises(RuntimeError, match=error):
                get_body(classifier.train())(torch.zeros(2, 3, input_px - 1, input_px - 1))


# --- published weights


@pytest.mark.parametrize(
    ("name", "settings", "heads"),
    [
        ("resnet50", {}, ("fc.",)),
        ("mobilenet_v2", {}, ("classifier.1.",)),
        ("inception_v3", {}, ("fc.", "AuxLogits.fc.")),
        ("inception_v3", {"input_px": 75}, ("fc.",)),
    ],
)
def test_published_state_fits_all_but_the_heads(
    name: str, settings: dict[str, int], heads: tuple[str, ...]
) -> None:
    torch.manual_seed(6)
    published = make_published(name, num_classes=1000).state_dict()
    classifier = build(name, **settings)
    before = clone_state(get_body(classifier))
    imagenet = classifier_architectures.get(name).imagenet
    assert imagenet is not None
    imagenet.load(classifier.network, published)
    for key, value in get_body(classifier).state_dict().items():
        expected = before[key] if key.startswith(heads) else published[key]
        assert torch.equal(value, expected), key
    with pytest.raises(RuntimeError, match="Missing key"):
        imagenet.load(classifier.network, {"of_another_network.weight": torch.zeros(1)})
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    assert url.endswith(f"/{imagenet.file_name}")
    assert re.search(r"-[0-9a-f]{8}\.pth$", url)


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
    published = torch.load(published_file, weights_only=True)
    assert torch.equal(network.body.features[0][0].weight, published["features.0.0.weight"])


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


# --- gradient checkpointing


def run_pass(classifier: GanClassifier) -> dict[str, Tensor]:
    """Run one training pass; return every gradient and buffer."""
    torch.manual_seed(2)  # dropout in the published networks
    images = draw_images().requires_grad_(True)
    logits = torch.stack(classifier.train().compute_heads(images))
    (logits * torch.arange(1.0, 7.0)).sum().backward()
    assert images.grad is not None
    found = {name: p.grad for name, p in classifier.named_parameters() if p.grad is not None}
    return {**found, **dict(classifier.named_buffers()), "images": images.grad, "logits": logits}


@each_name
def test_recomputed_activations_change_no_bit(name: str) -> None:
    plain, recomputing = build_small(name), build_small(name)
    blocks = classifier_architectures.get(name).blocks
    found = [m for m in recomputing.modules() if type(m).__name__ in blocks]
    assert len(found) >= 10
    recompute_blocks(recomputing, blocks)
    assert list(plain.state_dict()) == list(recomputing.state_dict())
    runs: list[int] = []
    for index, block in enumerate(found):
        inner = next(m for m in block.modules() if isinstance(m, nn.BatchNorm2d))
        inner.register_forward_hook(lambda *_, index=index: runs.append(index))
    for _ in range(2):
        runs.clear()
        expected, passed = run_pass(plain), run_pass(recomputing)
        assert are_equal(passed, expected)
        assert sorted(runs) == sorted([*range(len(found))] * 2)  # every block is run again
