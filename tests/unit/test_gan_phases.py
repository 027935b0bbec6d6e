"""What StyleGAN2 adds to a GAN's step: path length, mirrored reals, a ramped average, bf16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.losses import compute_path_length_penalty, compute_path_lengths
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batches import draw_reals
from knowledge_gaps.training.gan import GanBatch, GanTrainer
from knowledge_gaps.training.trainer import WeightAverage
from training_tools import (
    SHAPE,
    STREAM,
    LinearStyles,
    SmallNetwork,
    make_gan_trainer,
    make_generator,
    make_images,
)

BATCH = 8
IMAGES = make_images(lowest=0)
PATH = {"path_length_weight": 2.0, "path_length_interval": 2, "path_length_decay": 0.75}


def make_trainer(**keys: Any) -> GanTrainer:
    torch.manual_seed(3)
    networks = LinearStyles(), SmallNetwork()
    return make_gan_trainer(networks=networks, images=IMAGES, **{"batch_size": BATCH, **keys})


# --- path length


def measure_paths(generator: Any, step: int, micro_step: int = 0) -> Tensor:
    """Path lengths by hand: for images linear in the styles, J^T y is the weights times y."""
    lengths = []
    for index in range(BATCH // 2):
        names = ("path_length_noise", step, micro_step, index)
        noise = torch.randn(SHAPE, generator=STREAM.make_generator(*names))
        gradient = generator.to_pixels.weight.T @ (noise.flatten() / 8)  # sqrt(8 x 8 pixels)
        lengths.append(gradient.view(2, 3).square().sum(1).mean().sqrt())
    return torch.stack(lengths)


def test_path_length_phase_has_its_hand_values() -> None:
    still = OptimizerSettings(learning_rate=1e-30)
    trainer = make_trainer(generator_optimizer=still, discriminator_optimizer=still, **PATH)
    phase = trainer.phases[-1]
    assert (phase.name, phase.network, phase.interval) == ("path_length", "generator", 2)
    loss, _ = phase.compute_losses(GanBatch(trainer, 0, 0))
    weighted = 2.0 * 2 * measure_paths(trainer.generator, 0).square().mean()  # times the interval
    torch.testing.assert_close(loss, weighted)
    mean = 0.0
    for step in range(4):
        logged = trainer.run_step(step)
        if step % 2 == 1:
            assert "path_length_penalty" not in logged
            continue
        lengths = measure_paths(trainer.generator, step)
        penalty = (lengths - mean).square().mean()
        torch.testing.assert_close(logged["path_length_penalty"], penalty)
        mean = 0.75 * mean + 0.25 * lengths.mean().item()
        assert float(logged["path_length_mean"]) == pytest.approx(mean)
        assert float(trainer.scalars["path_length_mean"]) == pytest.approx(mean)


def test_accumulated_path_length_is_that_of_all_micro_steps() -> None:
    """The gradient of every micro-step pulls towards one mean, and that is moved once."""
    trainer = make_trainer(gradient_accumulation_steps=2, **PATH)
    trainer.scalars["path_length_mean"] = torch.tensor(0.5)
    trainer.phases = trainer.phases[-1:]
    lengths = torch.cat([measure_paths(trainer.generator, 0, micro) for micro in range(2)])
    penalty, mean = (lengths - 0.5).square().mean().detach(), 0.75 * 0.5 + 0.25 * lengths.mean()
    logged = trainer.run_step(0)
    torch.testing.assert_close(logged["path_length_penalty"], penalty)
    torch.testing.assert_close(trainer.scalars["path_length_mean"], mean.detach())


def test_path_length_needs_styles() -> None:
    with pytest.raises(
        UserError, match=r"^path_length_weight: 2\.0 found, .*'dcgan' has no styles"
    ):
        make_gan_trainer(networks=(make_generator(), SmallNetwork()), **PATH)


def test_path_lengths_can_be_differentiated_again() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    styles = torch.ones(2, 1, 1, requires_grad=True)
    images = (scale * styles).view(2, 1, 1, 1)
    lengths = compute_path_lengths(images, styles, torch.full((2, 1, 1, 1), -2.0))
    assert lengths.tolist() == [6.0, 6.0]
    compute_path_length_penalty(lengths, torch.tensor(1.0)).backward()
    assert scale.grad is not None
    assert scale.grad.item() == 20  # d/ds (2 s - 1)^2


# --- mirrors, the average, precision


def test_about_half_of_the_reals_are_mirrored_and_nothing_else() -> None:
    plain, mirrored = (make_trainer(mirror=mirror) for mirror in (False, True))
    num_mirrored = 0
    for step in range(16):
        first, second = (GanBatch(t, step, 0).images_real for t in (plain, mirrored))
        expected = draw_reals(STREAM, IMAGES, BATCH, step, 0).float() / 127.5 - 1
        torch.testing.assert_close(first, expected)
        for image, other in zip(first, second, strict=True):
            is_flipped = torch.equal(other, image.flip(2))
            assert is_flipped or torch.equal(other, image)
            num_mirrored += is_flipped
    assert 64 - 23 < num_mirrored < 64 + 23  # of 128 coins, standard deviation 5.7


def test_ramped_average_follows_closely_at_first() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.999, ramp_up=0.5)
    expected = 0.0
    for step in range(5):
        with torch.no_grad():
            network.weight.fill_(step)
        average.update(network, step)
        decay = 0.0 if step == 0 else 0.5 ** (1 / (0.5 * step))
        expected = decay * expected + (1 - decay) * step
        assert average.module.weight.item() == pytest.approx(expected)


def test_regularisers_run_in_full_precision() -> None:
    trainer = make_trainer(mixed_precision="bf16", r1_gamma=1.0, r1_interval=1, **PATH)
    dtypes: dict[str, set[torch.dtype]] = {"generator": set(), "discriminator": set()}
    for name, seen in dtypes.items():
        layer = [m for m in trainer.modules[name].modules() if isinstance(m, nn.Linear)][-1]
        layer.register_forward_hook(lambda *args, seen=seen: seen.add(args[2].dtype))
    trainer.run_step(0)
    assert all(seen == {torch.float32, torch.bfloat16} for seen in dtypes.values())
    assert GanBatch(trainer, 0, 0).images_generated.dtype == torch.float32
