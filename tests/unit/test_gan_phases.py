"""What StyleGAN2 adds to a GAN's step: path length, mirrored reals, a ramped average, fp16."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.losses import compute_path_length_penalty, compute_path_lengths
from knowledge_gaps.models.registry import StyleGenerator
from knowledge_gaps.study.recipes import OptimizerSettings
from knowledge_gaps.training.batches import draw_reals
from knowledge_gaps.training.gan import GanBatch, GanTrainer
from knowledge_gaps.training.loop import DivergedError, run_training
from knowledge_gaps.training.trainer import WeightAverage
from training_tools import STREAM, Session, are_equal, clone_state, make_gan_trainer, make_images

SHAPE = (1, 4, 4)
BATCH = 8
IMAGES = make_images(SHAPE, 0)
PATH = {"path_length_weight": 2.0, "path_length_interval": 2, "path_length_decay": 0.75}


class LinearStyles(StyleGenerator):
    """Latents are styles, two layers of them; images are a linear map of both."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.to_pixels = nn.Linear(6, 16, bias=False)

    def map_latents(self, latents: Tensor) -> Tensor:
        return (self.scale * latents)[:, None].expand(-1, 2, -1)

    def synthesize(self, styles: Tensor) -> Tensor:
        images: Tensor = self.to_pixels(styles.flatten(1)).view(-1, *SHAPE)
        return images


class LinearDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1)).squeeze(1)
        return logits


def make_trainer(rate: float = 1e-2, generator: Any = None, **keys: Any) -> GanTrainer:
    torch.manual_seed(3)
    networks = LinearStyles() if generator is None else generator, LinearDiscriminator()
    adam = OptimizerSettings(learning_rate=rate, betas=(0.5, 0.9))
    adams = {"generator_optimizer": adam, "discriminator_optimizer": adam}
    usual = {"architecture": "linear", "steps": 6, "batch_size": BATCH, "log_every": 3, **adams}
    return make_gan_trainer(networks=networks, images=IMAGES, **{**usual, **keys})


# ------------------------------------------------------------------------------------ path length


def measure_paths(generator: Any, step: int, num_images: int, micro_step: int = 0) -> Tensor:
    """Path lengths by hand: for images linear in the styles, J^T y is the weights times y."""
    lengths = []
    for index in range(num_images):
        names = ("path_length_noise", step, micro_step, index)
        noise = torch.randn(SHAPE, generator=STREAM.make_generator(*names))
        gradient = generator.to_pixels.weight.T @ (noise.flatten() / 4)  # sqrt(4 x 4 pixels)
        lengths.append(gradient.view(2, 3).square().sum(1).mean().sqrt())
    return torch.stack(lengths)


def test_path_length_phase_has_its_hand_values() -> None:
    trainer = make_trainer(rate=1e-30, **PATH)
    generator: Any = trainer.generator
    mean = 0.0
    for step in range(4):
        logged = trainer.run_step(step)
        if step % 2 == 1:
            assert "path_length_penalty" not in logged
            continue
        lengths = measure_paths(generator, step, BATCH // 2)
        penalty = (lengths - mean).square().mean()
        torch.testing.assert_close(logged["path_length_penalty"], penalty)
        mean = 0.75 * mean + 0.25 * lengths.mean().item()
        assert float(logged["path_length_mean"]) == pytest.approx(mean)
        assert float(trainer.scalars["path_length_mean"]) == pytest.approx(mean)


def test_path_length_moves_the_generator_alone_by_its_weighted_gradient() -> None:
    trainer = make_trainer(**PATH)
    phase = trainer.phases[-1]
    assert (phase.name, phase.network, phase.interval) == ("path_length", "generator", 2)
    loss, _ = phase.compute_losses(GanBatch(trainer, 0, 0))
    generator: Any = trainer.generator
    lengths = measure_paths(generator, 0, BATCH // 2)
    torch.testing.assert_close(loss, 2.0 * 2 * lengths.square().mean())  # weight times interval


def test_accumulated_path_length_is_that_of_all_micro_steps() -> None:
    """The gradient of every micro-step pulls towards one mean, and that is moved once."""
    trainer = make_trainer(gradient_accumulation_steps=2, **PATH)
    trainer.scalars["path_length_mean"] = torch.tensor(0.5)
    trainer.phases = trainer.phases[-1:]
    generator: Any = trainer.generator
    lengths = torch.cat([measure_paths(generator, 0, BATCH // 2, micro) for micro in range(2)])
    penalty, mean = (lengths - 0.5).square().mean().detach(), 0.75 * 0.5 + 0.25 * lengths.mean()
    logged = trainer.run_step(0)
    torch.testing.assert_close(logged["path_length_penalty"], penalty)
    torch.testing.assert_close(trainer.scalars["path_length_mean"], mean.detach())


def test_path_length_needs_styles() -> None:
    plain = nn.Module()
    plain.latent_dim = 3  # type: ignore[assignment]
    plain.weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match=r"^path_length_weight: 2\.0 found, .*'linear' has no styl"):
        make_trainer(generator=plain, **PATH)


def test_path_lengths_can_be_differentiated_again() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    styles = torch.ones(2, 1, 1, requires_grad=True)
    images = (scale * styles).view(2, 1, 1, 1)
    lengths = compute_path_lengths(images, styles, torch.full((2, 1, 1, 1), -2.0))
    assert lengths.tolist() == [6.0, 6.0]
    compute_path_length_penalty(lengths, torch.tensor(1.0)).backward()
    assert scale.grad is not None
    assert scale.grad.item() == 20  # d/ds (2 s - 1)^2


# ---------------------------------------------------------------------------------------- mirrors


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
    # 128 coins: 64 expected, standard deviation 5.7
    assert 64 - 23 < num_mirrored < 64 + 23


# ------------------------------------------------------------------------------------- the average


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


# ------------------------------------------------------------------------------------------- fp16


def make_scaled_trainer(scale: float, **keys: Any) -> GanTrainer:
    """Make what a GPU would have: fp16 autocast and a loss scaler; this one is on the CPU."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    accelerator.native_amp = True
    return make_trainer(accelerator=accelerator, mixed_precision="fp16", **keys)


def test_overflowing_updates_are_skipped_and_the_training_goes_on(tmp_path: Path) -> None:
    trainer = make_scaled_trainer(2.0**60, steps=60, max_gradient_norm=1.0)
    before = {name: clone_state(module) for name, module in trainer.modules.items()}
    trainer.run_step(0)
    for name, state in before.items():  # both updates were skipped
        assert are_equal(state, clone_state(trainer.modules[name]))
    curves, steps = run_training(trainer, trainer.recipe, tmp_path / "state", Session())
    assert trainer.accelerator.scaler.get_scale() < 2.0**30
    assert steps == 60
    assert all(math.isfinite(value) for row in curves.rows for value in row.values())
    for name, state in before.items():
        moved = clone_state(trainer.modules[name])
        assert not any(torch.equal(state[key], moved[key]) for key in state if "weight" in key)


def test_clipping_sees_gradients_without_the_scale() -> None:
    trainer = make_scaled_trainer(2.0**10, max_gradient_norm=1e-3)
    norms: list[float] = []
    for optimizer, _ in trainer.optimizers.values():
        optimizer.optimizer.register_step_pre_hook(  # type: ignore[attr-defined]
            lambda adam, *_: norms.append(
                float(torch.cat([p.grad.flatten() for p in adam.param_groups[0]["params"]]).norm())
            )
        )
    trainer.run_step(0)
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_scaler_is_resumed(tmp_path: Path) -> None:
    def train(name: str, stop: int | None = None) -> GanTrainer:
        trainer = make_scaled_trainer(2.0**60)
        run_training(trainer, trainer.recipe, tmp_path / name, Session(stop))
        return trainer

    whole = train("whole")
    with pytest.raises(StoppedError):
        train("resumed", 3)
    resumed = train("resumed")
    scales = [trainer.accelerator.scaler.get_scale() for trainer in (whole, resumed)]
    assert scales[0] == scales[1]
    for name, module in whole.modules.items():
        assert are_equal(clone_state(module), clone_state(resumed.modules[name]))


def test_training_of_which_every_loss_overflows_has_diverged(tmp_path: Path) -> None:
    trainer = make_scaled_trainer(1.0)
    with torch.no_grad():
        trainer.modules["discriminator"].head.weight.fill_(1e5)  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match="loss_discriminator is nan before step 3"):
        run_training(trainer, trainer.recipe, tmp_path / "state", Session())


def test_regularisers_run_in_full_precision() -> None:
    trainer = make_trainer(mixed_precision="bf16", r1_gamma=1.0, r1_interval=1, **PATH)
    dtypes: dict[str, set[torch.dtype]] = {}
    networks: Any = trainer.modules
    layers = {"G": networks["generator"].to_pixels, "D": networks["discriminator"].head}
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: dtypes.setdefault(name, set()).add(output.dtype)
        )
    trainer.run_step(0)
    assert dtypes == {name: {torch.float32, torch.bfloat16} for name in "GD"}
    assert GanBatch(trainer, 0, 0).images_generated.dtype == torch.float32
