"""Seconds of a training's step: a few steps of the real trainer in this process.

The reals are random pixels and the pool's networks fresh: neither changes what is computed.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import lcm

import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.models.networks import build_classifier, build_discriminator, build_generator
from knowledge_gaps.models.registry import ImageShape
from knowledge_gaps.study import ClassifierRecipe, GanRecipe
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import Fooling, GanTrainer

Recipe = GanRecipe | ClassifierRecipe
Trainer = GanTrainer | ClassifierTrainer

_NUM_REALS = 64
_NUM_ROUNDS = 3  # timed steps of every kind, after a round that warms up
_SLOW_SEC = 20.0  # a round that takes longer is the last one


def time_training(recipe: Recipe, frozen: Sequence[Recipe], shape: ImageShape) -> float | str:
    """Return the mean seconds of a step on one core or GPU; or why it cannot run here."""
    try:
        trainer = build_trainer(recipe, frozen, shape)
        phases = trainer.phases if isinstance(trainer, GanTrainer) else []
        return time_steps(trainer, list_step_kinds([1, *(phase.interval for phase in phases)]))
    except torch.OutOfMemoryError:
        return f"batch_size {recipe.batch_size} does not fit into the GPU's memory"
    except (UserError, ValueError) as error:  # a precision that this machine does not have
        return str(error).splitlines()[0]


def build_trainer(recipe: Recipe, frozen: Sequence[Recipe], shape: ImageShape) -> Trainer:
    """Build the trainer of a recipe, with fresh networks in the place of its pool's.

    Raises UserError or ValueError for what this machine or the images do not allow.
    """
    pixels = torch.randint(256, (_NUM_REALS, *shape), dtype=torch.uint8)
    images, stream = pixels.numpy(), Stream(0, "plan", Instance(0, 0))
    own = (recipe.architecture, recipe.model, shape)
    if isinstance(recipe, GanRecipe):
        pool = [build_classifier(member.architecture, member.model, shape) for member in frozen]
        networks = build_generator(*own), build_discriminator(*own)
        return GanTrainer(*networks, Fooling(pool, 1.0, "sum"), images, recipe, stream)
    generators = [build_generator(member.architecture, member.model, shape) for member in frozen]
    classifier = build_classifier(*own)
    return ClassifierTrainer(classifier, generators, 1.0, images, recipe, stream)


def list_step_kinds(intervals: Sequence[int]) -> dict[int, int]:
    """List one step for each set of phases that run together, and how many of a period are such.

    A phase runs where its interval divides the step.
    """
    period = lcm(*intervals)
    kinds = [tuple(step % interval == 0 for interval in intervals) for step in range(period)]
    return {kinds.index(kind): count for kind, count in Counter(kinds).items()}


def time_steps(trainer: Trainer, kinds: dict[int, int]) -> float:
    """Return a step's mean seconds over a period of `list_step_kinds`."""
    device, period = trainer.accelerator.device, sum(kinds.values())
    rounds: list[list[float]] = []
    while len(rounds) <= _NUM_ROUNDS and (not rounds or sum(rounds[-1]) < _SLOW_SEC):
        steps = [step + len(rounds) * period for step in kinds]
        rounds.append([time_call(partial(trainer.run_step, step), device) for step in steps])
    medians: list[float] = [
        statistics.median(times) for times in zip(*(rounds[1:] or rounds), strict=True)
    ]
    return sum(s * count for s, count in zip(medians, kinds.values(), strict=True)) / period


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call: on a CPU those of this process, which has one thread."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started_at = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started_at
