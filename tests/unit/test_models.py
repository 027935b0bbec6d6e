"""Every registered architecture by the same tests.

A new architecture is found by itself; it needs an entry in the tables of examples below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models import architectures
from knowledge_gaps.models.networks import build_classifier, build_discriminator, build_generator
from knowledge_gaps.models.registry import (
    Generator,
    ImageShape,
    Registry,
    classifier_architectures,
    gan_architectures,
    list_architectures,
)
from training_tools import are_equal, clone_state

BATCH = 4


@dataclass(frozen=True)
class Example:
    """Small settings of an architecture, and images that it is built for."""

    architecture: str
    settings: dict[str, Any]
    image_shape: ImageShape
    is_bounded: bool = True  # no pixel of a generator leaves [-1, 1]
    is_independent: bool = True  # of the rest of its batch, in evaluation

    def build(self, seed: int = 0) -> list[nn.Module]:
        """Build G and D of a GAN, C of a classifier."""
        torch.manual_seed(seed)
        own = (self.architecture, self.settings, self.image_shape)
        if self.architecture in gan_architectures.list_names():
            return [build_generator(*own), build_discriminator(*own)]
        return [build_classifier(*own)]

    def draw_images(self, num_images: int = BATCH) -> Tensor:
        source = torch.Generator().manual_seed(8)
        return torch.rand(num_images, *self.image_shape, generator=source) * 2 - 1

    def draw_inputs(self, network: nn.Module, num_inputs: int = BATCH) -> Tensor:
        if isinstance(network, Generator):
            source = torch.Generator().manual_seed(7)
            return torch.randn(num_inputs, network.latent_dim, generator=source)
        return self.draw_images(num_inputs)


STYLEGAN2 = {"latent_dim": 6, "style_dim": 5, "mapping_layers": 2, "channel_base": 128}

GAN_EXAMPLES = [
    Example("dcgan", {"latent_dim": 5, "channels": [6, 4]}, (1, 28, 28)),
    Example("dcgan", {"latent_dim": 3, "channels": [8], "kernel_px": 2}, (3, 6, 10)),
    Example("dcgan", {"latent_dim": 1, "channels": [4, 4, 4], "kernel_px": 6}, (1, 16, 8)),
    Example("stylegan2", {**STYLEGAN2, "mbstd_group": 1}, (1, 16, 16), is_bounded=False),
    Example("stylegan2", {**STYLEGAN2, "num_half_blocks": 1}, (3, 8, 8), False, False),
]
CLASSIFIER_EXAMPLES = [
    Example("cnn", {"channels": [4, 6]}, (1, 28, 28)),
    Example("cnn", {"channels": [4, 4, 4], "kernel_px": 5}, (3, 9, 14)),
    Example("cnn", {"channels": [4], "kernel_px": 1}, (1, 7, 7)),
    Example("resnet50", {"width_divisor": 16, "input_px": 32}, (1, 16, 16)),
    Example("inception_v3", {"width_divisor": 16, "input_px": 75}, (3, 16, 16)),
    Example("mobilenet_v2", {"width_divisor": 16, "input_px": 32}, (3, 16, 24)),
]
EXAMPLES = [*GAN_EXAMPLES, *CLASSIFIER_EXAMPLES]


def each_of(examples: list[Example]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", examples, ids=lambda e: e.architecture)


each, each_gan, each_classifier = map(each_of, (EXAMPLES, GAN_EXAMPLES, CLASSIFIER_EXAMPLES))


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


# --- shapes, values, gradients


def test_every_architecture_has_a_file_and_an_example() -> None:
    gans, classifiers = gan_architectures.list_names(), classifier_architectures.list_names()
    assert {e.architecture for e in GAN_EXAMPLES} == set(gans)
    assert {e.architecture for e in CLASSIFIER_EXAMPLES} == set(classifiers)
    assert {*gans, *classifiers} == set(list_architectures())


@each_gan
def test_generator_makes_images(example: Example) -> None:
    generator = example.build()[0]
    scale_weights(generator, 20)
    images = generator(example.draw_inputs(generator))
    assert (images.shape, images.dtype) == ((BATCH, *example.image_shape), torch.float32)
    assert torch.isfinite(images).all()
    assert images.abs().max() > 0.5
    assert images.abs().max() <= 1 or not example.is_bounded


@each
def test_an_image_has_one_logit_and_no_probability(example: Example) -> None:
    network = example.build()[-1]
    logits = network(example.draw_images())
    assert (logits.shape, logits.dtype) == ((BATCH,), torch.float32)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    scale_weights(network, 20)
    assert network(example.draw_images()).abs().max() > 1


@each_gan
def test_gradient_reaches_every_parameter_of_a_gan(example: Example) -> None:
    generator, discriminator = (network.double() for network in example.build())
    latents = torch.randn(BATCH, example.settings["latent_dim"], dtype=torch.float64)
    (discriminator(generator(latents)) * torch.arange(BATCH)).sum().backward()
    check_gradients(generator)
    check_gradients(discriminator)


@each_classifier
def test_gradient_reaches_every_parameter_and_pixel_of_a_classifier(example: Example) -> None:
    classifier = example.build()[0].double().train()
    images = example.draw_images().double().requires_grad_(True)
    fix_statistics(classifier, images)
    heads = torch.stack(classifier.compute_heads(images))
    (heads * torch.arange(1, BATCH + 1)).sum().backward()
    check_gradients(classifier)
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()


# an example whose images hang on the rest of their batch is no example of this
@each_of([example for example in EXAMPLES if example.is_independent])
@torch.no_grad()
def test_batch_size_changes_nothing_in_evaluation(example: Example) -> None:
    for network in example.build():
        inputs = example.draw_inputs(network, 12)
        network.train()(inputs)  # so that running statistics are not what they start as
        whole = network.eval()(inputs)
        for batch_size in (1, 5):
            parts = torch.cat([network(part) for part in inputs.split(batch_size)])
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@each
def test_weights_depend_on_the_seed_alone(example: Example) -> None:
    first, again, other = (
        [clone_state(network) for network in example.build(seed)] for seed in (0, 0, 1)
    )
    assert all(are_equal(*pair) for pair in zip(first, again, strict=True))
    assert not any(are_equal(*pair) for pair in zip(first, other, strict=True))


@each_gan
def test_truncation_brings_images_nearer_to_each_other(example: Example) -> None:
    generator = example.build()[0].eval()
    latents = example.draw_inputs(generator)
    assert torch.equal(generator.sample(latents), generator(latents))
    spreads = [generator.sample(latents, psi).std(dim=0).mean() for psi in (1.0, 0.5, 0.01)]
    assert spreads[0] > spreads[1] > spreads[2] > 0
    if example.architecture == "dcgan":
        assert torch.equal(generator.sample(latents, 0.25), generator(latents * 0.25))


# --- settings


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("dcgan", {"channels": [4]}, "latent_dim: missing"),
        ("dcgan", {"latent_dim": 0, "channels": [4]}, "latent_dim: .*found 0"),
        ("dcgan", {"latent_dim": 4, "channels": [4], "kernel_px": 3}, "kernel_px: .*found 3"),
        ("dcgan", {"latent_dim": 4, "channels": [4, 4]}, "model.channels: 2 .* 4 px, .* 28x30 px"),
        ("stylegan2", {"surprise": 1}, "surprise: unknown key"),
        ("cnn", {"channels": []}, "channels: "),
        ("cnn", {"channels": [4], "kernel_px": 4}, "kernel_px: .*found 4"),
        ("resnet50", {"width_divisor": 3}, "width_divisor: .*found 3"),
        ("mobilenet_v2", {"input_px": 31}, "input_px: .*found 31"),
        ("inception_v3", {"input_px": 74}, "input_px: .*found 74"),
    ],
)
def test_wrong_setting_is_refused(
    architecture: str, settings: dict[str, Any], message: str
) -> None:
    if not message.startswith("model."):
        message = f"model settings of '{architecture}': {message}"
    with pytest.raises(UserError, match=f"^{message}"):
        Example(architecture, settings, (1, 28, 30)).build()


# --- the registry


def test_file_registers_its_own_name_once() -> None:
    registry: Registry[Any] = Registry("GAN")
    dcgan = gan_architectures.get("dcgan")
    registry.register(replace(dcgan, name="b"))
    # another process, which imports other files before, would not find it
    with pytest.raises(UserError, match=r"unknown GAN 'b' \(known: .*by a file of its name"):
        registry.get("b")
    with pytest.raises(UserError, match=r"unknown GAN 'cnn' \(known: .*dcgan"):
        gan_architectures.get("cnn")
    with pytest.raises(ValueError, match="'dcgan' is registered twice"):
        gan_architectures.register(dcgan)


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
