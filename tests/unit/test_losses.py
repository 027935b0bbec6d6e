"""The losses against hand values and against the paper's formulas in plain probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from knowledge_gaps import losses

LOGITS_D = [-1.5, 0.0, 0.3, 2.0]
LOGITS_C = [[0.5, -0.5, 1.0, -2.0], [3.0, 0.1, -0.2, 0.7], [-1.0, -1.0, 0.0, 4.0]]


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def mean_log(logits: list[float]) -> float:
    """Mean over the batch of log P(real)."""
    return sum(math.log(probability(logit)) for logit in logits) / len(logits)


def tensor(logits: list[float]) -> Tensor:
    return torch.tensor(logits, dtype=torch.float64)


def test_discriminator_loss_averages_each_side_by_itself() -> None:
    # D(x) = 0.8, D(G(w)) = 0.25
    loss = losses.compute_discriminator_loss(tensor([math.log(4)]), tensor([-math.log(3)]))
    assert loss.item() == pytest.approx(-math.log(0.8) - math.log(0.75))
    reals, generated = [0.2, -1.0], [0.4, 0.4, -3.0, 1.0]
    expected = -mean_log(reals) - mean_log([-logit for logit in generated])
    loss = losses.compute_discriminator_loss(tensor(reals), tensor(generated))
    assert loss.item() == pytest.approx(expected)


def test_classifier_loss_is_binary_cross_entropy() -> None:
    reals, generated = tensor(LOGITS_C[0]), tensor(LOGITS_C[1])
    labels = [losses.LABEL_REAL] * 4 + [losses.LABEL_GENERATED] * 4
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.cat([reals, generated]), tensor(labels)
    )
    torch.testing.assert_close(losses.compute_classifier_loss(reals, generated), expected)


@pytest.mark.parametrize("phi", [0.0, 0.01, 1.0, 1e6])
@pytest.mark.parametrize("num_classifiers", [1, 2, 3])
def test_generator_loss_is_the_papers(phi: float, num_classifiers: int) -> None:
    chosen = LOGITS_C[:num_classifiers]
    fooling = -sum(mean_log(logits) for logits in chosen)
    terms = (
        losses.compute_adversarial_loss(tensor(LOGITS_D)),
        losses.compute_fooling_loss([tensor(logits) for logits in chosen]),
    )
    fool_all = losses.weigh_generator_loss(*terms, phi, "sum")
    assert fool_all.shape == ()
    assert fool_all.item() == pytest.approx(-mean_log(LOGITS_D) + phi * fooling)
    share = phi / (1 + phi)
    mnist = losses.weigh_generator_loss(*terms, phi, "weighted")
    assert mnist.item() == pytest.approx(-(1 - share) * mean_log(LOGITS_D) + share * fooling)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'mean'.*'sum' or 'weighted'"):
        losses.weigh_generator_loss(torch.zeros(()), torch.zeros(()), 1.0, "mean")


@pytest.mark.parametrize(
    "compute",
    [
        losses.compute_adversarial_loss,
        lambda logits: losses.compute_fooling_loss([logits]),
        lambda logits: losses.compute_discriminator_loss(logits, torch.zeros(1)),
        lambda logits: 2 * losses.compute_classifier_loss(logits, torch.zeros(1)),
    ],
)
@pytest.mark.parametrize("logit", [-1e4, -200.0, -5.0, 0.0, 5.0, 200.0, 1e4])
def test_logits_are_pulled_towards_real(compute: Callable[[Tensor], Tensor], logit: float) -> None:
    logits = torch.tensor([logit], requires_grad=True)
    loss = compute(logits)
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, logits)
    # d/dl -log sigmoid(l) = sigmoid(l) - 1: not saturated where D is sure
    assert gradient.item() == pytest.approx(-torch.sigmoid(-logits).item())


def test_r1_of_a_linear_discriminator_is_its_squared_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 3, 4, generator=generator, requires_grad=True)
    images = torch.randn(5, 2, 3, 4, generator=generator, requires_grad=True)
    penalty = losses.compute_r1_penalty(images, (images * weight).sum(dim=(1, 2, 3)) + 1.0)
    torch.testing.assert_close(penalty, weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)  # the penalty itself can be minimised
    torch.testing.assert_close(gradient, 2 * weight)
