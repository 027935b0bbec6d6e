"""One step of the two loops: frozen networks, batches, heads, path length, mirrors, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.losses import compute_classifier_loss
from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batches import draw_reals
from knowledge_gaps.training.gan import Fooling, GanBatch, GanTrainer
from knowledge_gaps.training.instance import explain_shortage
from knowledge_gaps.training.task import check_shares
from training_tools import (
    BATCH,
    NO_FOOLING,
    SHAPE,
    STREAM,
    LinearStyles,
    SmallNetwork,
    are_equal,
    clone_state,
    collect,
    make_classifier,
    make_classifier_trainer,
    make_gan_trainer,
    make_generator,
    make_images,
)

PATH_BATCH = 8
IMAGES = make_images(lowest=0)
PATH = {"path_length_weight": 2.0, "path_length_interval": 2, "path_length_decay": 0.75}
CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)"
)


def record_inputs(module: nn.Module) -> list[Tensor]:
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def record_outputs(module: nn.Module) -> list[Any]:
    made: list[Any] = []
    module.register_forward_hook(lambda _, inputs, output: made.append(output))
    return made


# --- frozen networks


@pytest.mark.parametrize("form", ["sum", "weighted"])
def test_frozen_classifiers_keep_their_bits_while_the_generator_is_moved(form: str) -> None:
    classifiers = [make_classifier(seed) for seed in (1, 2)]
    before = [clone_state(classifier) for classifier in classifiers]
    terms = [NO_FOOLING, Fooling(classifiers, 0.0, form), Fooling(classifiers, 5.0, form)]
    alone, ignoring, fooling = map(make_gan_trainer, terms)
    for step in range(3):
        for trainer in (alone, ignoring, fooling):
            logged = trainer.run_step(step)
    assert "loss_fooling" in logged
    assert all(map(are_equal, before, map(clone_state, classifiers)))
    for classifier in classifiers:
        assert not any(module.training for module in classifier.modules())
        assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert are_equal(collect(ignoring), collect(alone))  # phi 0 is the baseline
    pairs = zip(alone.generator.parameters(), fooling.generator.parameters(), strict=True)
    assert all(not torch.equal(parameter, other) for parameter, other in pairs)


def test_inherited_variables_change_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = [make_gan_trainer(gradient_accumulation_steps=2)]
    for name, value in {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "3",
        "ACCELERATE_USE_FSDP": "true",
        "PMI_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    trainers.append(make_gan_trainer(gradient_accumulation_steps=2))
    for trainer in trainers:
        trainer.run_step(0)
        assert trainer.accelerator.gradient_accumulation_steps == 2
        assert trainer.ranks.size == 1
    assert are_equal(*map(collect, trainers))


def test_frozen_generators_keep_their_bits() -> None:
    trainer = make_classifier_trainer()
    before = [clone_state(generator) for generator in trainer.generators]
    for step in range(3):
        trainer.run_step(step)
    assert all(map(are_equal, before, map(clone_state, trainer.generators)))
    assert not any(module.training for g in trainer.generators for module in g.modules())


def test_average_is_the_result_where_there_is_one() -> None:
    plain, averaged = make_gan_trainer(), make_gan_trainer(ema_decay=0.9)
    assert [phase.name for phase in plain.phases] == ["discriminator", "generator"]
    for step in range(3):
        plain.run_step(step)
        averaged.run_step(step)
        assert are_equal(clone_state(plain.generator), clone_state(averaged.generator))
        is_first = are_equal(clone_state(averaged.generator), clone_state(averaged.get_result()))
        assert is_first == (step == 0)  # the average begins with the first step's weights
    assert plain.get_result() is plain.generator


# --- a classifier's batch


def test_batch_is_balanced_both_ways_and_on_the_256_levels() -> None:
    # 6 images: two generators make 2, two 1
    trainer = make_classifier_trainer([make_generator(seed) for seed in range(4)])
    seen = record_inputs(trainer.classifier.network)
    made = [record_outputs(generator) for generator in trainer.generators]
    for step in range(4):
        trainer.run_step(step)
    assert [len(images) for images in seen] == [2 * BATCH] * 4
    assert all(images[:BATCH].min() > 0 for images in seen)  # the reals here are bright
    assert [sum(map(len, images)) for images in made] == [BATCH] * 4
    generated = torch.cat([images[0] for images in made])
    assert torch.equal(to_uint8(seen[0][BATCH:]), to_uint8(generated))
    levels = (seen[0] + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


def test_every_micro_step_has_a_batch_of_its_own() -> None:
    trainer = make_classifier_trainer(gradient_accumulation_steps=2)
    seen = record_inputs(trainer.classifier.network)
    trainer.run_step(0)
    first, second = seen
    assert not torch.equal(first[:BATCH], second[:BATCH])
    assert not torch.equal(first[BATCH:], second[BATCH:])


# --- auxiliary heads


class TwoHeads(nn.Module):
    """A linear network with an auxiliary head in training."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.auxiliary = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        main = self.main(images.flatten(1)).squeeze(1)
        return (main, self.auxiliary(images.flatten(1)).squeeze(1)) if self.training else main


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_auxiliary_heads_add_their_weighted_loss(weight: float) -> None:
    trainer = make_classifier_trainer(network=TwoHeads(), auxiliary_weight=weight)
    made = record_outputs(trainer.classifier.network)
    logged = trainer.run_step(0)
    (heads,) = made
    main, auxiliary = (compute_classifier_loss(h[:BATCH], h[BATCH:]).detach() for h in heads)
    torch.testing.assert_close(logged["loss"], main + weight * auxiliary)
    right = (heads[0] > 0) == (torch.arange(2 * BATCH) < BATCH)  # the main head's alone
    assert logged["accuracy_real"] == right[:BATCH].float().mean()
    assert logged["accuracy_generated"] == right[BATCH:].float().mean()


# --- path length


def make_linear_trainer(**keys: Any) -> GanTrainer:
    torch.manual_seed(3)
    networks = LinearStyles(), SmallNetwork()
    return make_gan_trainer(networks=networks, images=IMAGES, **{"batch_size": PATH_BATCH, **keys})


def measure_paths(generator: Any, step: int, micro_step: int = 0) -> Tensor:
    """Path lengths by hand: for images linear in the styles, J^T y is the weights times y."""
    lengths = []
    for index in range(PATH_BATCH // 2):
        names = ("path_length_noise", step, micro_step, index)
        noise = torch.randn(SHAPE, generator=STREAM.make_generator(*names))
        gradient = generator.to_pixels.weight.T @ (noise.flatten() / 8)  # sqrt(8 x 8 pixels)
        lengths.append(gradient.view(2, 3).square().sum(1).mean().sqrt())
    return torch.stack(lengths)


def test_path_length_phase_has_its_hand_values() -> None:
    still = OptimizerSettings(learning_rate=1e-30)
    trainer = make_linear_trainer(generator_optimizer=still, discriminator_optimizer=still, **PATH)
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
    trainer = make_linear_trainer(gradient_accumulation_steps=2, **PATH)
    trainer.scalars["path_length_mean"] = torch.tensor(0.5)
    trainer.phases = trainer.phases[-1:]
    lengths = torch.cat([measure_paths(trainer.generator, 0, micro) for micro in range(2)])
    penalty, mean = (lengths - 0.5).square().mean().detach(), 0.75 * 0.5 + 0.25 * lengths.mean()
    logged = trainer.run_step(0)
    torch.testing.assert_close(logged["path_length_penalty"], penalty)
    torch.testing.assert_close(trainer.scalars["path_length_mean"], mean.detach())


# --- mirrors, precision


def test_about_half_of_the_reals_are_mirrored_and_nothing_else() -> None:
    plain, mirrored = (make_linear_trainer(mirror=mirror) for mirror in (False, True))
    num_mirrored = 0
    for step in range(16):
        first, second = (GanBatch(t, step, 0).images_real for t in (plain, mirrored))
        expected = draw_reals(STREAM, IMAGES, PATH_BATCH, step, 0).float() / 127.5 - 1
        torch.testing.assert_close(first, expected)
        for image, other in zip(first, second, strict=True):
            is_flipped = torch.equal(other, image.flip(2))
            assert is_flipped or torch.equal(other, image)
            num_mirrored += is_flipped
    assert 64 - 23 < num_mirrored < 64 + 23  # of 128 coins, standard deviation 5.7


def test_regularisers_run_in_full_precision() -> None:
    trainer = make_linear_trainer(mixed_precision="bf16", r1_gamma=1.0, r1_interval=1, **PATH)
    dtypes: dict[str, set[torch.dtype]] = {"generator": set(), "discriminator": set()}
    for name, seen in dtypes.items():
        layer = [m for m in trainer.modules[name].modules() if isinstance(m, nn.Linear)][-1]
        layer.register_forward_hook(lambda *args, seen=seen: seen.add(args[2].dtype))
    trainer.run_step(0)
    assert all(seen == {torch.float32, torch.bfloat16} for seen in dtypes.values())
    assert GanBatch(trainer, 0, 0).images_generated.dtype == torch.float32


# --- batches that do not fit


def test_ranks_share_every_batch_evenly() -> None:
    keys = {"batch_size": 32, "path_length_weight": 2.0, "path_length_shrink": 8}
    recipe = make_gan_trainer(networks=(LinearStyles(), SmallNetwork()), **keys).recipe
    check_shares(recipe, 4)  # batches of 32 and 4
    with pytest.raises(UserError, match=r"batch_size // path_length_shrink: 4 images .* 8 proc"):
        check_shares(recipe, 8)
    with pytest.raises(UserError, match="batch_size: 32 images found, a multiple of the 3"):
        check_shares(recipe, 3)


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (RuntimeError(CPU_ERROR), UserError, "^batch_size: 32 images .* of this machine;"),
        (torch.OutOfMemoryError("CUDA"), UserError, "^batch_size: 32 images .* of a GPU;"),
        (RuntimeError("shapes do not fit"), RuntimeError, "^shapes do not fit$"),
    ],
)
def test_too_little_memory_is_one_line(
    error: RuntimeError, raised: type[Exception], words: str
) -> None:
    with pytest.raises(raised, match=words), explain_shortage(32):
        raise error
