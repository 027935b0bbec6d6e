"""One step of the two loops: what is updated, what is frozen, and what a batch is made of."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import to_uint8
from knowledge_gaps.losses import compute_classifier_loss
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.training.gan import Fooling, GanBatch, Phase
from knowledge_gaps.training.instance import explain_shortage
from knowledge_gaps.training.task import check_shares
from knowledge_gaps.training.trainer import build_optimizer
from training_tools import (
    ADAM,
    BATCH,
    LinearStyles,
    SmallNetwork,
    are_equal,
    clone_state,
    make_classifier,
    make_classifier_trainer,
    make_gan_trainer,
    make_generator,
)

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
    alone, fooling = make_gan_trainer(), make_gan_trainer(Fooling(classifiers, 5.0, form))
    for step in range(3):
        alone.run_step(step)
        assert "loss_fooling" in fooling.run_step(step)
    assert all(map(are_equal, before, map(clone_state, classifiers)))
    for classifier in classifiers:
        assert not any(module.training for module in classifier.modules())
        assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    pairs = zip(alone.generator.parameters(), fooling.generator.parameters(), strict=True)
    assert all(not torch.equal(parameter, other) for parameter, other in pairs)


def test_frozen_generators_keep_their_bits() -> None:
    trainer = make_classifier_trainer()
    before = [clone_state(generator) for generator in trainer.generators]
    for step in range(3):
        trainer.run_step(step)
    assert all(map(are_equal, before, map(clone_state, trainer.generators)))
    assert not any(module.training for g in trainer.generators for module in g.modules())


# --- phases


def test_only_the_network_of_a_phase_takes_a_gradient() -> None:
    trainer = make_gan_trainer(r1_gamma=1.0, r1_interval=1)
    seen: list[tuple[str, list[str]]] = []

    def watch(phase: Phase, batch: GanBatch) -> Any:
        trained = [
            name
            for name, module in trainer.modules.items()
            if all(parameter.requires_grad for parameter in module.parameters())
        ]
        seen.append((phase.name, trained))
        return phase.compute_losses(batch)

    trainer.phases = [
        replace(phase, compute_losses=partial(watch, phase)) for phase in trainer.phases
    ]
    trainer.run_step(0)
    discriminator = ["discriminator"]
    expected = [("discriminator", discriminator), ("r1", discriminator)]
    assert seen == [*expected, ("generator", ["generator"])]


def test_lazy_regulariser_runs_every_so_many_steps() -> None:
    trainer = make_gan_trainer(r1_gamma=2.0, r1_interval=3)
    with_penalty = [step for step in range(7) if "r1_penalty" in trainer.run_step(step)]
    assert with_penalty == [0, 3, 6]
    assert [phase.name for phase in make_gan_trainer().phases] == ["discriminator", "generator"]


def test_average_is_the_result_where_there_is_one() -> None:
    plain, averaged = make_gan_trainer(), make_gan_trainer(ema_decay=0.9)
    for step in range(3):
        plain.run_step(step)
        averaged.run_step(step)
    assert plain.get_result() is plain.generator
    assert are_equal(clone_state(plain.get_result()), clone_state(averaged.generator))
    assert not are_equal(clone_state(plain.get_result()), clone_state(averaged.get_result()))


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


# --- accumulated gradients


def test_accumulated_gradient_is_the_mean_over_all_micro_batches() -> None:
    trainer = make_classifier_trainer(gradient_accumulation_steps=3)
    expected = make_classifier(9)
    adam = build_optimizer(trainer.accelerator, expected, ADAM)
    seen = record_inputs(trainer.classifier.network)
    trainer.run_step(0)
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    expected.train()
    for images in seen:
        logits = expected(images)
        (compute_classifier_loss(logits[:BATCH], logits[BATCH:]) / 3).backward()
    adam.step()
    found = trainer.classifier.state_dict()
    torch.testing.assert_close(found, expected.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_step_is_one_update_whatever_is_accumulated(accumulated: int) -> None:
    recipe = {"gradient_accumulation_steps": accumulated, "r1_gamma": 1.0, "r1_interval": 2}
    trainer = make_gan_trainer(Fooling([freeze(make_classifier(1))], 1.0, "sum"), **recipe)
    for step in range(2):
        trainer.run_step(step)
    updates = {  # R1's gradient does not reach the last bias
        name: max(int(entry["step"]) for entry in optimizer.state_dict()["state"].values())
        for name, (optimizer, _) in trainer.optimizers.items()
    }
    assert updates == {"generator": 2, "discriminator": 3}  # one of them R1's


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
    ("error", "device", "raised", "words"),
    [
        (RuntimeError(CPU_ERROR), "cpu", UserError, "^batch_size: 32 images .* of this machine;"),
        (torch.OutOfMemoryError("CUDA"), "cuda", UserError, "^batch_size: 32 images .* of a GPU;"),
        (RuntimeError("shapes do not fit"), "cpu", RuntimeError, "^shapes do not fit$"),
    ],
)
def test_too_little_memory_is_one_line(
    error: RuntimeError, device: str, raised: type[Exception], words: str
) -> None:
    with pytest.raises(raised, match=words), explain_shortage(32, torch.device(device)):
        raise error
