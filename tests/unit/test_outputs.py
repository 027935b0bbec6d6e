"""kgaps check: networks of one's own that give other shapes than training stands on are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models import registry
from knowledge_gaps.models.input_spec import InputSpec
from knowledge_gaps.models.registry import (
    ClassifierArchitecture,
    GanArchitecture,
    Generator,
    ImageShape,
    ModelSettings,
    classifier_architectures,
    gan_architectures,
)
from knowledge_gaps.stages.check import check_study
from knowledge_gaps.study import PARAMS_FILE, load_study
from study_tools import change_params

Outputs = Callable[[Tensor], object]


@dataclass
class Networks:
    """What the networks of these tests give for a batch; tests replace one."""

    images: Outputs = lambda batch: batch.new_zeros(len(batch), 1, 28, 28)
    critic: Outputs = lambda batch: batch.sum((1, 2, 3))
    judge: Outputs = lambda batch: batch.sum((1, 2, 3))


class Given(Generator):
    """A network that gives what a test says."""

    latent_dim = 4

    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, batch: Tensor) -> object:
        """Return what the test says of a batch."""
        return self.outputs(batch)


def make_spec(settings: ModelSettings, shape: ImageShape) -> InputSpec:
    channels, height, width = shape
    return InputSpec(
        channels=channels, image_px=(height, width), input_px=(16, 16), mean=(0.5,), std=(0.5,)
    )


@pytest.fixture
def networks(smoke_root: Path, monkeypatch: pytest.MonkeyPatch) -> Networks:
    """Let the smoke study's recipes name architectures whose networks give what a test says."""
    given = Networks()

    def build_generator(settings: ModelSettings, shape: ImageShape) -> Generator:
        return Given(given.images)

    def build_discriminator(settings: ModelSettings, shape: ImageShape) -> nn.Module:
        return Given(given.critic)

    def build_classifier(settings: ModelSettings, shape: ImageShape) -> nn.Module:
        return Given(given.judge)

    gan = GanArchitecture("own", ModelSettings, build_generator, build_discriminator)
    judge = ClassifierArchitecture("own", ModelSettings, build_classifier, make_spec)
    monkeypatch.setattr(registry, "list_architectures", lambda: ["own"])
    monkeypatch.setattr(registry, "_import_architecture", lambda name: None)
    monkeypatch.setitem(gan_architectures._entries, "own", gan)
    monkeypatch.setitem(classifier_architectures._entries, "own", judge)
    changes = {}
    for recipe in ("gan_recipes.dcgan", "classifier_recipes.cnn"):
        changes |= {f"{recipe}.architecture": "own", f"{recipe}.model": {}}
    change_params(smoke_root, changes)
    return given


def check(root: Path) -> None:
    check_study(root, load_study(root / PARAMS_FILE))


def test_right_shapes_pass(smoke_root: Path, networks: Networks) -> None:
    networks.judge = lambda batch: (batch.sum((1, 2, 3)), batch.sum((1, 2, 3)))
    check(smoke_root)


@pytest.mark.parametrize(
    ("network", "outputs", "words"),
    [
        (
            "images",
            lambda batch: batch.new_zeros(len(batch), 1, 14, 56),
            ("gan_recipes.dcgan", "generator", "float32 [2, 1, 14, 56]", "float32 [2, 1, 28, 28]"),
        ),
        (
            "images",
            lambda batch: torch.zeros(len(batch), 1, 28, 28, dtype=torch.uint8),
            ("gan_recipes.dcgan", "generator", "uint8 [2, 1, 28, 28]"),
        ),
        (
            "critic",
            lambda batch: batch.sum((2, 3)),
            ("gan_recipes.dcgan", "discriminator", "float32 [2, 1]", "float32 [2] is needed"),
        ),
        (
            "critic",
            lambda batch: (batch.sum((1, 2, 3)),),
            ("gan_recipes.dcgan", "discriminator", "gives tuple", "float32 [2] is needed"),
        ),
        (
            "judge",
            lambda batch: batch.sum((2, 3)),
            ("classifier_recipes.cnn", "classifier", "float32 [2, 1]", "float32 [2] is needed"),
        ),
        (
            "judge",
            lambda batch: (batch.sum((1, 2, 3)), batch.mean()),
            ("classifier_recipes.cnn", "classifier", "float32 []", "float32 [2] is needed"),
        ),
    ],
)
def test_other_shapes_are_refused(
    smoke_root: Path, networks: Networks, network: str, outputs: Outputs, words: tuple[str, ...]
) -> None:
    setattr(networks, network, outputs)
    with pytest.raises(UserError) as error:
        check(smoke_root)
    assert "own" in str(error.value)
    assert [word for word in words if word not in str(error.value)] == []


def test_networks_that_ask_for_values_are_let_through(smoke_root: Path, networks: Networks) -> None:
    networks.critic = lambda batch: batch.sum((2, 3)) * batch.mean().item()
    check(smoke_root)
