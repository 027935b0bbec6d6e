"""A full training step of StyleGAN2, against a textbook's with the same networks and weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from baselines.textbook_stylegan2 import TextbookTrainer, check_same_function
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.models.architectures.stylegan2.discriminator import StyleGan2Discriminator
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.networks import build_discriminator, build_generator
from knowledge_gaps.planning.timing import build_trainer, list_step_kinds, time_call
from knowledge_gaps.study.recipes import GanRecipe
from measuring import Effort, Figure, Row, compare, take_turns

R1_INTERVAL, PATH_LENGTH_INTERVAL = 16, 4
_SHAPE = (3, 32, 32)
_BATCH_SIZE, _NUM_REALS = 8, 64


def make_recipe() -> GanRecipe:
    """Describe the training: settings/ffhq_paper.yaml with narrow networks."""
    adam = {"learning_rate": 2e-3, "betas": (0.0, 0.99)}
    return GanRecipe.model_validate(
        {
            "architecture": "stylegan2",
            "model": {"channel_base": 1024, "max_channels": 64},
            "steps": 1,
            "batch_size": _BATCH_SIZE,
            "ema_decay": 0.998,
            "r1_gamma": 1.0,
            "r1_interval": R1_INTERVAL,
            "path_length_weight": 2.0,
            "path_length_interval": PATH_LENGTH_INTERVAL,
            "generator_optimizer": adam,
            "discriminator_optimizer": adam,
        }
    )


def build_textbook(recipe: GanRecipe) -> TextbookTrainer:
    """Build the textbook's trainer with this project's networks, and check that it is the same."""
    own = ("stylegan2", recipe.model, _SHAPE)
    generator, discriminator = build_generator(*own), build_discriminator(*own)
    assert isinstance(generator, StyleGan2Generator)
    assert isinstance(discriminator, StyleGan2Discriminator)
    check_same_function(generator, discriminator)
    reals = torch.randint(256, (_NUM_REALS, *_SHAPE), dtype=torch.uint8)
    return TextbookTrainer(generator, discriminator, reals, recipe)


def measure_stylegan2(effort: Effort) -> Figure:
    """Measure a step of the project and of the textbook."""
    configure_process()
    torch.manual_seed(0)
    recipe = make_recipe()
    trainer, textbook = build_trainer(recipe, [], _SHAPE), build_textbook(recipe)
    variants = {
        "project": partial(_time_period, trainer.run_step),
        "textbook": partial(_time_period, textbook.run_step),
    }
    take_turns(variants, 1)  # a warm-up
    seconds = take_turns(variants, effort.num_turns)
    return Figure(
        "stylegan2",
        "A step of StyleGAN2",
        f"The recipe of settings/ffhq_paper.yaml with narrow networks (64 channels at most), "
        f"{_SHAPE[-1]} px, batches of {_BATCH_SIZE}, both regularisers at their share, in float32; "
        "one process of one thread, by its CPU seconds. The textbook's step convolves with grouped "
        "weights for every sample and takes one loss after the other.",
        [Row("textbook / project, seconds", compare(seconds["textbook"], seconds["project"]))],
        {"seconds_per_step": seconds},
    )


def _time_period(run_step: Callable[[int], object]) -> float:
    """Time a step of every kind; return the mean step's seconds over a period."""
    kinds = list_step_kinds([1, R1_INTERVAL, PATH_LENGTH_INTERVAL])
    device = torch.device("cpu")
    times = (time_call(partial(run_step, step), device) * n for step, n in kinds.items())
    return sum(times) / sum(kinds.values())
