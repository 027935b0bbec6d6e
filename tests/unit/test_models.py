"""Every registered architecture by the same tests, and what it means to be frozen.

A new architecture is found by itself; it needs an entry in the tables of examples below.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.models import architectures
from knowledge_gaps.models.frozen import freeze, load_classifier, load_generator, read_meta
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import (
    Generator,
    ImageShape,
    Registry,
    classifier_architectures,
    gan_architectures,
    list_architectures,
    parse_settings,
)

BATCH = 4


@dataclass(frozen=True)
class Example:
    """Small settings of an architecture, and images that it is built for.

    Attributes:
        architecture: its name.
        settings: of the model.
        image_shape: of the data.
        is_bounded: no pixel of a generator leaves [-1, 1].
        is_independent: in evaluation an image depends on no other of its batch and on no draw.
    """

    architecture: str
    settings: dict[str, Any]
    image_shape: ImageShape
    is_bounded: bool = True
    is_independent: bool = True


STYLEGAN2 = {"latent_dim": 6, "style_dim": 5, "mapping_layers": 2, "channel_base": 128}


GAN_EXAMPLES = [
    Example("dcgan", {"latent_dim": 5, "channels": [6, 4]}, (1, 28, 28)),
    Example("dcgan", {"latent_dim": 3, "channels": [8], "kernel_px": 2}, (3, 6, 10)),
    Example("dcgan", {"latent_dim": 1, "channels": [4, 4, 4], "kernel_px": 6}, (1, 16, 8)),
    Example(
        "stylegan2",
        {**STYLEGAN2, "max_channels": 8, "noise": False, "mbstd_group": 1},
        (1, 16, 16),
        is_bounded=False,
    ),
    Example(
        "stylegan2",
        {**STYLEGAN2, "max_channels": 6, "num_half_blocks": 1},
        (3, 8, 8),
        is_bounded=False,
        is_independent=False,
    ),
]
CLASSIFIER_EXAMPLES = [
    Example("cnn", {"channels": [4, 6]}, (1, 28, 28)),
    Example("cnn", {"channels": [4, 4, 4], "kernel_px": 5, "dropout": 0.2}, (3, 9, 14)),
    Example("cnn", {"channels": [4], "kernel_px": 1}, (1, 7, 7)),
    Example("resnet50", {"width_divisor": 16, "input_px": 32}, (1, 16, 16)),
    Example("inception_v3", {"width_divisor": 16, "input_px": 75}, (3, 16, 16)),
    Example("mobilenet_v2", {"width_divisor": 16, "input_px": 32}, (3, 16, 24)),
]
EXAMPLES = [*GAN_EXAMPLES, *CLASSIFIER_EXAMPLES]

each_gan = pytest.mark.parametrize("example", GAN_EXAMPLES, ids=lambda e: e.architecture)
each_classifier = pytest.mark.parametrize(
    "example", CLASSIFIER_EXAMPLES, ids=lambda e: e.architecture
)
each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.architecture)
# an example whose images hang on the rest of their batch is no example of this
each_independent = pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.is_independent], ids=lambda e: e.architecture
)


def build_gan(example: Example, seed: int = 0) -> tuple[Generator, nn.Module]:
    architecture = gan_architectures.get(example.architecture)
    settings = parse_settings(architecture, example.settings)
    torch.manual_seed(seed)
    return (
        architecture.build_generator(settings, example.image_shape),
        architecture.build_discriminator(settings, example.image_shape),
    )


def build_classifier(example: Example, seed: int = 0) -> GanClassifier:
    architecture = classifier_architectures.get(example.architecture)
    settings = parse_settings(architecture, example.settings)
    spec = architecture.make_input_spec(settings, example.image_shape)
    torch.manual_seed(seed)
    return GanClassifier(architecture.build(settings, spec.input_shape), spec)


def build_networks(example: Example, seed: int = 0) -> list[nn.Module]:
    if example in GAN_EXAMPLES:
        return [*build_gan(example, seed)]
    return [build_classifier(example, seed)]


def draw_latents(generator: Generator, num_latents: int = BATCH) -> Tensor:
    source = torch.Generator().manual_seed(7)
    return torch.randn(num_latents, generator.latent_dim, generator=source)


def draw_images(example: Example, num_images: int = BATCH) -> Tensor:
    source = torch.Generator().manual_seed(8)
    return torch.rand(num_images, *example.image_shape, generator=source) * 2 - 1


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(state) == list(other) and all(
        torch.equal(state[name], other[name]) for name in state
    )


def scale_weights(module: nn.Module, factor: float) -> None:
    """Make a fresh network's outputs large."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)


def check_gradients(module: nn.Module) -> None:
    """Check that every parameter matters; in float64, where rounding stays below the limit."""
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-10, name


def fix_statistics(classifier: nn.Module, images: Tensor) -> None:
    """Normalise by this batch's statistics as constants: taken anew, they hide biases before."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    classifier(images)
    for norm in norms:
        norm.eval()


# --- the tables of examples


def test_every_architecture_has_an_example() -> None:
    assert {e.architecture for e in GAN_EXAMPLES} == set(gan_architectures.list_names())
    assert {e.architecture for e in CLASSIFIER_EXAMPLES} == set(
        classifier_architectures.list_names()
    )


def test_every_architecture_has_a_file_of_its_name() -> None:
    names = {*gan_architectures.list_names(), *classifier_architectures.list_names()}
    assert names == set(list_architectures())


# --- shapes and values


@each_gan
def test_generator_makes_images(example: Example) -> None:
    generator, _ = build_gan(example)
    scale_weights(generator, 20)
    images = generator(draw_latents(generator))
    assert images.shape == (BATCH, *example.image_shape)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert images.abs().max() > 0.5
    assert images.abs().max() <= 1 or not example.is_bounded


@each_gan
def test_discriminator_returns_a_logit_an_image(example: Example) -> None:
    _, discriminator = build_gan(example)
    logits = discriminator(draw_images(example))
    assert (logits.shape, logits.dtype) == ((BATCH,), torch.float32)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


@each_classifier
def test_classifier_returns_a_logit_an_image(example: Example) -> None:
    logits = build_classifier(example)(draw_images(example))
    assert (logits.shape, logits.dtype) == ((BATCH,), torch.float32)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


@each
def test_logits_are_no_probabilities(example: Example) -> None:
    network = build_networks(example)[-1]
    scale_weights(network, 20)
    assert network(draw_images(example)).abs().max() > 1


# --- gradients


@each_gan
def test_gradient_reaches_every_parameter_of_a_gan(example: Example) -> None:
    generator, discriminator = (network.double() for network in build_networks(example))
    latents = torch.randn(BATCH, example.settings["latent_dim"], dtype=torch.float64)
    (discriminator(generator(latents)) * torch.arange(BATCH)).sum().backward()
    check_gradients(generator)
    check_gradients(discriminator)


@each_classifier
def test_gradient_reaches_every_parameter_and_pixel_of_a_classifier(example: Example) -> None:
    classifier = build_classifier(example).double().train()
    images = draw_images(example).double().requires_grad_(True)
    fix_statistics(classifier, images)
    heads = torch.stack(classifier.compute_heads(images))
    (heads * torch.arange(1, BATCH + 1)).sum().backward()
    check_gradients(classifier)
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()


# --- evaluation mode


@each_independent
def test_batch_size_changes_nothing_in_evaluation(example: Example) -> None:
    for network in build_networks(example):
        many = 12
        inputs = (
            draw_latents(network, many)
            if isinstance(network, Generator)
            else draw_images(example, many)
        )
        with torch.no_grad():
            network.train()(inputs)  # so that running statistics are not what they start as
            network.eval()
            whole = network(inputs)
            for batch_size in (1, 5):
                parts = torch.cat([network(part) for part in inputs.split(batch_size)])
                torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


# --- building


@each
def test_weights_depend_on_the_seed_alone(example: Example) -> None:
    first, again, other = (
        [clone_state(network) for network in build_networks(example, seed)] for seed in (0, 0, 1)
    )
    assert all(is_same(*pair) for pair in zip(first, again, strict=True))
    assert not any(is_same(*pair) for pair in zip(first, other, strict=True))


@each
def test_unknown_setting_is_refused_with_its_name(example: Example) -> None:
    registry = gan_architectures if example in GAN_EXAMPLES else classifier_architectures
    architecture = registry.get(example.architecture)
    message = f"model settings of '{example.architecture}': surprise: unknown key"
    with pytest.raises(UserError, match=message):
        parse_settings(architecture, {**example.settings, "surprise": 1})


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("dcgan", {"channels": [4]}, "'dcgan': latent_dim: missing"),
        ("dcgan", {"latent_dim": 0, "channels": [4]}, "'dcgan': latent_dim: .*found 0"),
        ("dcgan", {"latent_dim": 4, "channels": []}, "'dcgan': channels: "),
        ("dcgan", {"latent_dim": 4, "channels": [0]}, r"'dcgan': channels\.0: .*found 0"),
        ("dcgan", {"latent_dim": 4, "channels": [4], "kernel_px": 3}, "kernel_px: .*found 3"),
        ("cnn", {"channels": []}, "'cnn': channels: "),
        ("cnn", {"channels": [4], "dropout": 1.0}, r"'cnn': dropout: .*found 1\.0"),
        ("cnn", {"channels": [4], "kernel_px": 4}, "'cnn': kernel_px: .*found 4"),
        ("cnn", {"channels": "wide"}, "'cnn': channels: .*found 'wide'"),
    ],
)
def test_setting_out_of_range_is_refused(
    architecture: str, settings: dict[str, Any], message: str
) -> None:
    registry = gan_architectures if architecture == "dcgan" else classifier_architectures
    with pytest.raises(UserError, match=message):
        parse_settings(registry.get(architecture), settings)


@pytest.mark.parametrize(
    ("channels", "shape"), [([4, 4, 4], (1, 28, 28)), ([4, 4], (1, 28, 30)), ([4], (3, 7, 8))]
)
def test_dcgan_refuses_images_whose_sides_do_not_fit(
    channels: list[int], shape: ImageShape
) -> None:
    example = Example("dcgan", {"latent_dim": 4, "channels": channels}, shape)
    message = (
        f"model.channels: {len(channels)} entries need .* multiple of {2 ** len(channels)} px, "
        f"the data has {shape[1]}x{shape[2]} px"
    )
    with pytest.raises(UserError, match=message):
        build_gan(example)


@each_gan
def test_sample_without_truncation_is_the_forward_pass(example: Example) -> None:
    generator = build_gan(example)[0].eval()
    latents = draw_latents(generator)
    images = []
    for generate in (generator.sample, generator):
        torch.manual_seed(3)  # of noise inputs
        images.append(generate(latents))
    assert torch.equal(*images)


@each_gan
def test_truncation_brings_images_nearer_to_each_other(example: Example) -> None:
    generator, _ = build_gan(example)
    generator.eval()
    latents = draw_latents(generator)
    spreads = [generator.sample(latents, psi).std(dim=0).mean() for psi in (1.0, 0.5, 0.01)]
    assert spreads[0] > spreads[1] > spreads[2] > 0


def test_dcgans_truncation_is_the_spread_of_its_latents() -> None:
    generator = build_gan(GAN_EXAMPLES[0])[0].eval()
    latents = draw_latents(generator)
    assert torch.equal(generator.sample(latents, 0.25), generator(latents * 0.25))


# --- the registry


def test_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'dcgan' is registered twice"):
        gan_architectures.register(gan_architectures.get("dcgan"))


def test_file_registers_its_own_name() -> None:
    registry: Registry[Any] = Registry("GAN")
    registry.register(replace(gan_architectures.get("dcgan"), name="b"))
    # another process, which imports other files before, would not find it
    with pytest.raises(UserError, match=r"unknown GAN 'b' \(known: .*by a file of its name"):
        registry.get("b")


@pytest.mark.parametrize(
    ("text", "said"),
    [("def (", r"SyntaxError: .*line 1"), ("import nothing_like_that", "ModuleNotFoundError: No")],
)
def test_file_that_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(architectures, "__path__", [str(tmp_path)])
    monkeypatch.setattr("knowledge_gaps.models.registry.list_architectures", lambda: ["mine"])
    with pytest.raises(UserError, match=rf"^models/architectures/mine: .*{said}"):
        gan_architectures.get("mine")


def test_unknown_architecture_is_refused_with_what_is_known() -> None:
    with pytest.raises(UserError, match=r"unknown GAN 'cnn' \(known: .*dcgan"):
        gan_architectures.get("cnn")
    with pytest.raises(UserError, match=r"unknown classifier 'dcgan' \(known: .*cnn"):
        classifier_architectures.get("dcgan")


# --- frozen


@each_classifier
def test_frozen_classifier_passes_the_gradient_on_and_keeps_its_bits(example: Example) -> None:
    classifier = build_classifier(example)
    classifier.train()(draw_images(example))
    assert freeze(classifier) is classifier
    before = clone_state(classifier)
    images = draw_images(example).requires_grad_(True)
    classifier(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert not any(module.training for module in classifier.modules())
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert is_same(clone_state(classifier), before)


# --- stored instances


def store_instance(directory: Path, example: Example, kind: str) -> Path:
    """Write an instance as a training does, as far as loading reads it."""
    if kind == "gans":
        generator = build_gan(example)[0].train()
        generator(draw_latents(generator))
        network: nn.Module = generator
        file_name, described = "generator.safetensors", {}
    else:
        network = classifier = build_classifier(example).train()
        classifier(draw_images(example))
        file_name = "classifier.safetensors"
        described = {"input_spec": classifier.spec.model_dump(mode="json")}
    meta = {
        "format": 1,
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
    meta = {**read_json(directory / "meta.json"), **values}
    kept = {key: value for key, value in meta.items() if value is not None}
    write_json(directory / "meta.json", kept)


@pytest.fixture
def stored_generator(tmp_path: Path) -> Path:
    return store_instance(tmp_path / "generator", GAN_EXAMPLES[0], "gans")


@pytest.fixture
def stored_classifier(tmp_path: Path) -> Path:
    return store_instance(tmp_path / "classifier", CLASSIFIER_EXAMPLES[0], "classifiers")


@each_gan
def test_stored_generator_comes_back_frozen(example: Example, tmp_path: Path) -> None:
    directory = store_instance(tmp_path, example, "gans")
    expected = build_gan(example)[0]
    expected.train()(draw_latents(expected))
    torch.manual_seed(99)
    generator = load_generator(directory)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert is_same(clone_state(generator), clone_state(expected))


@each_classifier
def test_stored_classifier_comes_back_frozen(example: Example, tmp_path: Path) -> None:
    directory = store_instance(tmp_path, example, "classifiers")
    expected = build_classifier(example)
    expected.train()(draw_images(example))
    classifier = load_classifier(directory)
    assert not any(module.training for module in classifier.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    images = draw_images(example)
    assert torch.equal(classifier(images), expected.eval()(images))


def test_hash_that_the_pool_recorded_is_checked(stored_generator: Path) -> None:
    sha256 = read_meta(stored_generator)["files"]["generator.safetensors"]
    load_generator(stored_generator, sha256)
    with pytest.raises(UserError, match=f"sha256 is {sha256}, the pool recorded {'0' * 64}"):
        load_generator(stored_generator, "0" * 64)


def test_altered_weights_are_refused(stored_classifier: Path) -> None:
    path = stored_classifier / "classifier.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"classifier\.safetensors: sha256 is .*altered"):
        load_classifier(stored_classifier)


def test_weights_of_other_settings_are_refused(stored_generator: Path) -> None:
    change_meta(stored_generator, settings={"model": {"latent_dim": 9, "channels": [6, 4]}})
    with pytest.raises(UserError, match=r"generator\.safetensors: does not fit architecture"):
        load_generator(stored_generator)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format is 2, 1 is needed"),
        ({"files": None}, "key 'files' is missing"),
        ({"input_spec": None}, r"meta\.json: input_spec: "),
        ({"files": {}}, r"lists no classifier\.safetensors; kind is 'classifiers'"),
        ({"architecture": "vgg"}, "unknown classifier 'vgg'"),
        ({"settings": {}}, "meta.json"),
        ({"input_spec": {"channels": 1}}, "meta.json"),
    ],
)
def test_damaged_meta_is_refused(
    stored_classifier: Path, changes: dict[str, Any], message: str
) -> None:
    load_classifier(stored_classifier)
    change_meta(stored_classifier, **copy.deepcopy(changes))
    with pytest.raises(UserError, match=message):
        load_classifier(stored_classifier)


def test_classifier_is_no_generator(stored_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown GAN 'cnn'"):
        load_generator(stored_classifier)
    with pytest.raises(UserError, match=r"meta\.json: cannot be read"):
        load_classifier(tmp_path / "absent")
