"""Networks on the meta device: built without values, checked for the shapes of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models import networks
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.models.networks import build_on_meta, check_networks
from knowledge_gaps.models.registry import Generator

SHAPE = (1, 28, 28)


def test_networks_are_built_without_values() -> None:
    published = build_on_meta("gans", "stylegan2", {}, (3, 1024, 1024))
    sizes = {key: sum(p.numel() for p in net.parameters()) for key, net in published.items()}
    assert sizes == {"G": 30_370_060, "D": 29_012_513}
    assert {value.device.type for value in published["G"].parameters()} == {"meta"}
    assert torch.empty(1).device.type == "cpu"


class Given(Generator):
    """A network that gives what a test says for a batch."""

    latent_dim = 4

    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.forward = forward


def give_logits(batch: Tensor) -> Tensor:
    return batch.sum((1, 2, 3))


def check(monkeypatch: pytest.MonkeyPatch, **given: Callable[[Tensor], Any]) -> None:
    """Check networks of which some give what a test says and the others what is needed."""
    spec = InputSpec(channels=1, image_px=(28, 28), input_px=(16, 16), mean=(0.5,), std=(0.5,))
    usual = {"generator": lambda batch: batch.new_zeros(len(batch), *SHAPE)}
    usual |= {"discriminator": give_logits, "classifier": give_logits}
    for name, forward in (usual | given).items():
        network: nn.Module = Given(forward)
        if name == "classifier":
            network = GanClassifier(network, spec)
        monkeypatch.setattr(networks, f"build_{name}", lambda *_, network=network: network)
    for kind in ("gans", "classifiers"):
        check_networks(kind, "own", {}, SHAPE)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"classifier": lambda batch: (give_logits(batch), give_logits(batch))},
        {"discriminator": lambda batch: batch * batch.mean().item()},  # asks for a value
    ],
)
def test_right_shapes_pass_and_no_values(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    check(monkeypatch, **given)


@pytest.mark.parametrize(
    ("network", "outputs", "words"),
    [
        (
            "generator",
            lambda batch: batch.new_zeros(len(batch), 1, 14, 56),
            "of 'own' gives float32 [2, 1, 14, 56] for a batch of 2, float32 [2, 1, 28, 28] is",
        ),
        ("generator", lambda batch: batch.new_zeros(2, *SHAPE).byte(), "of 'own' gives uint8 [2"),
        ("discriminator", lambda batch: batch.sum((2, 3)), "of 'own' gives float32 [2, 1] for a"),
        ("discriminator", lambda batch: (give_logits(batch),), "of 'own' gives tuple"),
        ("classifier", lambda batch: batch.sum((2, 3)), "'own' gives float32 [2, 1]"),
        ("classifier", lambda batch: (give_logits(batch), batch.mean()), "'own' gives float32 []"),
    ],
)
def test_other_shapes_are_refused(
    monkeypatch: pytest.MonkeyPatch, network: str, outputs: Callable[[Tensor], Any], words: str
) -> None:
    with pytest.raises(UserError) as error:
        check(monkeypatch, **{network: outputs})
    assert str(error.value).startswith(f"architecture: the {network} {words}")
