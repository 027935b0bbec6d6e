"""torchvision's networks as GAN-classifiers: their layers, how they start, what they keep."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.models.architectures import inception_v3, mobilenet_v2, resnet50
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.recompute import recompute_blocks
from knowledge_gaps.models.registry import classifier_architectures, parse_settings
from knowledge_gaps.models.torchvision_nets import divide_widths
from knowledge_gaps.study import ClassifierRecipe, OptimizerSettings
from knowledge_gaps.training.initial_weights import find_initial_weights, load_initial_weights

# parameters of the published network, and of its head for 1000 classes, as torchvision states them
SIZES = {
    "resnet50": (25_557_032, [2048]),
    "inception_v3": (27_161_264, [2048, 768]),
    "mobilenet_v2": (3_504_872, [1280]),
}
HEADS = {
    "resnet50": ("fc.",),
    "inception_v3": ("fc.", "AuxLogits.fc."),
    "mobilenet_v2": ("classifier.1.",),
}
FILES = {
    "resnet50": torchvision.models.ResNet50_Weights.DEFAULT,
    "inception_v3": torchvision.models.Inception_V3_Weights.DEFAULT,
    "mobilenet_v2": torchvision.models.MobileNet_V2_Weights.DEFAULT,
}
INITIALISE = {
    "resnet50": resnet50.initialise,
    "inception_v3": inception_v3.initialise,
    "mobilenet_v2": mobilenet_v2.initialise,
}
SMALL_PX = {"resnet50": 32, "inception_v3": 75, "mobilenet_v2": 32}

each_name = pytest.mark.parametrize("name", sorted(SIZES))


def build(name: str, seed: int = 0, **settings: Any) -> GanClassifier:
    architecture = classifier_architectures.get(name)
    parsed = parse_settings(architecture, settings)
    spec = architecture.make_input_spec(parsed, (3, 16, 16))
    torch.manual_seed(seed)
    return GanClassifier(architecture.build(parsed, spec.input_shape), spec)


def build_small(name: str, seed: int = 0) -> GanClassifier:
    return build(name, seed, width_divisor=16, input_px=SMALL_PX[name])


def get_body(classifier: GanClassifier) -> nn.Module:
    body = classifier.network.body
    assert isinstance(body, nn.Module)
    return body


def make_published(name: str, num_classes: int = 1000) -> nn.Module:
    options = {"init_weights": True} if name == "inception_v3" else {}
    network = getattr(torchvision.models, name)(num_classes=num_classes, **options)
    assert isinstance(network, nn.Module)
    return network


def draw_images(num_images: int = 6, seed: int = 8) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(num_images, 3, 16, 16, generator=source) * 2 - 1


# --- the published width


@each_name
def test_network_is_torchvisions_but_for_the_head(name: str) -> None:
    classifier = build(name)
    num_published, features = SIZES[name]
    num_expected = num_published - sum(999 * (w + 1) for w in features)
    assert sum(p.numel() for p in classifier.parameters()) == num_expected
    torch.manual_seed(0)
    expected = make_published(name, num_classes=1).state_dict()
    state = get_body(classifier).state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_logits_are_torchvisions_for_images_as_it_normalises_them() -> None:
    classifier = build("mobilenet_v2", input_px=32).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    resized = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear")
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = get_body(classifier)(normalise(resized))[:, 0]
    torch.testing.assert_close(classifier(2 * images - 1), expected, rtol=0, atol=1e-5)


def test_inception_gives_its_published_weights_values_around_zero() -> None:
    classifier = build("inception_v3", input_px=75, transform_input=True).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    resized = torch.nn.functional.interpolate(images, size=(75, 75), mode="bilinear")
    plain = copy.deepcopy(get_body(classifier))
    plain.transform_input = False
    expected = plain(resized)[:, 0]
    # fresh weights in evaluation mode give logits of millions
    torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=0)
    get_body(classifier).transform_input = False
    assert not torch.allclose(classifier(images), expected, rtol=1e-2)


# --- narrower variants


@each_name
@pytest.mark.parametrize("divisor", [2, 16])
def test_every_width_is_divided_and_nothing_else(name: str, divisor: int) -> None:
    with torch.device("meta"):
        published = make_published(name, num_classes=1).state_dict()
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
    expected = dict(make_published(name, num_classes=1).named_parameters())
    with torch.device("meta"):
        body = make_published(name, num_classes=1)
    divide_widths(body, 1)  # the narrow way at the published width
    INITIALISE[name](body)
    for key, value in body.named_parameters():
        num_values, spread = value.numel(), expected[key].std(correction=0).item()
        if torch.equal(expected[key], expected[key].round()):  # zeros or ones
            assert torch.equal(value, expected[key]), key
        elif num_values > 1:
            # means and spreads of two draws; six standard errors of their difference
            tolerance = 6 * spread * (2 / num_values) ** 0.5
            assert abs((value.mean() - expected[key].mean()).item()) < tolerance, key
            assert abs(value.std(correction=0).item() - spread) < tolerance, key


def test_widths_are_refused_by_name() -> None:
    for name in SIZES:
        message = f"model settings of '{name}': width_divisor: .*found 3"
        with pytest.raises(UserError, match=message):
            parse_settings(classifier_architectures.get(name), {"width_divisor": 3})


def test_inception_has_no_pixel_left_below_its_limit() -> None:
    body = get_body(build_small("inception_v3"))
    with pytest.raises(RuntimeError, match="greater than actual input size"):
        body(torch.zeros(2, 3, 74, 74))


# --- the auxiliary head


def test_auxiliary_head_is_there_from_the_published_input_on() -> None:
    classifier = build("inception_v3", width_divisor=16)
    images = draw_images(2)
    assert [head.shape for head in classifier.train().compute_heads(images)] == [(2,), (2,)]
    assert len(classifier.eval().compute_heads(images)) == 1
    body = get_body(classifier)
    with pytest.raises(RuntimeError, match="greater than actual input size"):
        body.train()(torch.zeros(2, 3, 298, 298))  # the head's convolution of 5 px


def test_smaller_input_goes_without_an_auxiliary_head() -> None:
    classifier = build("inception_v3", width_divisor=16, input_px=298).train()
    assert len(classifier.compute_heads(draw_images(2))) == 1
    assert not any("AuxLogits" in key for key in classifier.state_dict())


# --- published weights


def make_recipe(**keys: Any) -> ClassifierRecipe:
    adam = OptimizerSettings(learning_rate=1e-3)
    values = {"architecture": "mobilenet_v2", "initialisation": "imagenet", **keys}
    return ClassifierRecipe(steps=1, batch_size=2, optimizer=adam, **values)


@pytest.fixture(scope="module")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("published") / "weights.pth"
    torch.save(make_published("mobilenet_v2").state_dict(), path)
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


def is_loaded(classifier: GanClassifier, published_file: Path) -> bool:
    state = get_body(classifier).state_dict()
    published = torch.load(published_file, weights_only=True)
    same = {key for key in state if torch.equal(state[key], published[key])}
    return same == {key for key in state if not key.startswith("classifier.1.")}


@each_name
def test_names_of_files_are_torchvisions(name: str) -> None:
    imagenet = classifier_architectures.get(name).imagenet
    assert imagenet is not None
    assert FILES[name].url.endswith("/" + imagenet.file_name)
    digits = imagenet.sha256_start
    assert len(digits) == 8
    assert f"-{digits}.pth" in imagenet.file_name


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet50", {}), ("inception_v3", {}), ("inception_v3", {"input_px": 75})],
)
def test_published_state_fits_all_but_the_heads(name: str, settings: dict[str, int]) -> None:
    torch.manual_seed(6)
    published = make_published(name).state_dict()
    classifier = build(name, **settings)
    body = get_body(classifier)
    heads = {k: v.clone() for k, v in body.state_dict().items() if k.startswith(HEADS[name])}
    imagenet = classifier_architectures.get(name).imagenet
    assert imagenet is not None
    imagenet.load(classifier.network, published)
    for key, value in body.state_dict().items():
        assert torch.equal(value, heads[key] if key in heads else published[key]), key


def test_state_of_another_network_is_refused() -> None:
    imagenet = classifier_architectures.get("mobilenet_v2").imagenet
    assert imagenet is not None
    with pytest.raises(RuntimeError, match="Missing key"):
        imagenet.load(build("mobilenet_v2").network, {"conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize("is_relative", [True, False])
def test_users_file_is_loaded(
    is_relative: bool, published_file: Path, file_name: str, tmp_path: Path
) -> None:
    root = published_file.parent if is_relative else tmp_path
    given = published_file.name if is_relative else str(published_file)
    classifier = build("mobilenet_v2")
    assert not is_loaded(classifier, published_file)
    sha256 = load_initial_weights(classifier.network, make_recipe(initial_weights=given), root)
    assert sha256 == hash_file(published_file)
    assert is_loaded(classifier, published_file)


def test_torchvisions_cache_is_looked_into(
    published_file: Path, file_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    expected = tmp_path / "checkpoints" / file_name
    with pytest.raises(UserError, match=f"initial_weights: {expected} is missing.*no.* downloaded"):
        find_initial_weights(make_recipe(), tmp_path)
    expected.parent.mkdir()
    expected.write_bytes(published_file.read_bytes())
    classifier = build("mobilenet_v2")
    load_initial_weights(classifier.network, make_recipe(), tmp_path)
    assert is_loaded(classifier, published_file)


def test_missing_file_of_the_user_is_named(file_name: str, tmp_path: Path) -> None:
    recipe = make_recipe(initial_weights="absent.pth")
    message = f"initial_weights: {tmp_path / 'absent.pth'} is missing; .*{file_name}"
    with pytest.raises(UserError, match=message):
        find_initial_weights(recipe, tmp_path)


def test_other_content_is_refused(file_name: str, tmp_path: Path) -> None:
    path = tmp_path / file_name
    path.write_bytes(b"other weights")
    digits = file_name[-12:-4]
    message = f"initial_weights: sha256 of {path} is {hash_file(path)}, .* begins with {digits}"
    with pytest.raises(UserError, match=message):
        find_initial_weights(make_recipe(initial_weights=str(path)), tmp_path)


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
    torch.manual_seed(2)  # of the dropout
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
    recompute_blocks(recomputing, blocks)
    assert list(plain.state_dict()) == list(recomputing.state_dict())
    for _ in range(2):
        expected, found = run_pass(plain), run_pass(recomputing)
        assert list(found) == list(expected)
        assert all(torch.equal(value, expected[key]) for key, value in found.items())


@each_name
def test_every_block_is_run_again_and_only_for_gradients(name: str) -> None:
    classifier = build_small(name)
    blocks = classifier_architectures.get(name).blocks
    found = [m for m in classifier.modules() if type(m).__name__ in blocks]
    recompute_blocks(classifier, blocks)
    runs: list[int] = []
    for index, block in enumerate(found):
        inner = next(m for m in block.modules() if isinstance(m, nn.BatchNorm2d))
        inner.register_forward_hook(lambda *_, index=index: runs.append(index))
    run_pass(classifier)
    assert sorted(runs) == sorted([*range(len(found))] * 2)
    assert len(found) >= 10
    runs.clear()
    with torch.no_grad():
        classifier(draw_images())
    assert runs == [*range(len(found))]


# --- frozen use


@each_name
def test_frozen_network_may_be_used_twice_in_one_loss(name: str) -> None:
    classifier = build_small(name).double()
    classifier.train()(draw_images(12).double())
    freeze(classifier)
    images = draw_images().double()
    before = images.clone()

    def compute_gradient(num_uses: int) -> Tensor:
        leaf = images.clone().requires_grad_(True)
        torch.stack([classifier(leaf).sum() for _ in range(num_uses)]).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    torch.testing.assert_close(compute_gradient(2), 2 * compute_gradient(1), rtol=1e-12, atol=0)
    assert torch.equal(images, before)
