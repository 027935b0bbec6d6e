"""Seconds of a step whose phases do not all run at every step, and of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import lcm

import torch

from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.models.registry import Generator, ImageShape
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import GanTrainer

NUM_ROUNDS = 5  # timed steps of every kind, where time allows
_STEADY_SEC = 2.0  # small networks are timed for so long, for their steps scatter

Trainer = GanTrainer | ClassifierTrainer


def list_step_kinds(intervals: Sequence[int]) -> dict[int, int]:
    """List the kinds of step that lazy phases make, one step number for each.

    Args:
        intervals: of all phases; a phase runs where its interval divides the step.

    Returns:
        From a step number to how many steps of one period are of its kind.
    """
    period = lcm(*intervals)
    kinds = [tuple(step % interval == 0 for interval in intervals) for step in range(period)]
    return {kinds.index(kind): count for kind, count in Counter(kinds).items()}


def time_steps(
    trainer: Trainer, kinds: dict[int, int], budget_sec: float, num_rounds: int
) -> tuple[float, float]:
    """Time steps of every kind, round by round, after a round of warming up.

    Args:
        trainer: freshly built.
        kinds: of `list_step_kinds`.
        budget_sec: no round begins later; where warming up takes longer, its times are taken.
        num_rounds: at least; more than one go on until they have taken a while.

    Returns:
        The mean step's seconds over a period, and how long a round took by the clock.
    """
    started_at = time.monotonic()
    rounds = [_time_round(trainer, kinds, 0)]
    round_sec = time.monotonic() - started_at
    if round_sec < budget_sec:
        warm_at, rounds = time.monotonic(), []
        while not _is_enough(len(rounds), num_rounds, time.monotonic() - warm_at):
            rounds.append(_time_round(trainer, kinds, len(rounds) + 1))
            if time.monotonic() - started_at > budget_sec:
                break
        round_sec = (time.monotonic() - warm_at) / len(rounds)
    return statistics.fmean(_find_medians(rounds, kinds)), round_sec


def _is_enough(num_made: int, num_rounds: int, seconds: float) -> bool:
    return num_made >= num_rounds and (num_rounds == 1 or seconds >= _STEADY_SEC)


def _time_round(trainer: Trainer, kinds: dict[int, int], index: int) -> list[float]:
    device, period = trainer.accelerator.device, sum(kinds.values())
    steps = (step + index * period for step in kinds)
    return [time_call(partial(trainer.run_step, step), device) for step in steps]


def _find_medians(rounds: list[list[float]], kinds: dict[int, int]) -> list[float]:
    """Return the median seconds of every step of a period."""
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return [
        median for median, count in zip(medians, kinds.values(), strict=True) for _ in range(count)
    ]


def time_forward(trainer: Trainer, image_shape: ImageShape, batch_size: int) -> float:
    """Time a forward pass of the result, as evaluation will make many of; return its seconds."""
    device = trainer.accelerator.device
    network = freeze(trainer.get_result())
    if isinstance(network, Generator):
        stream = Stream(0, "gans/probe", 0)
        latents = draw_latents(stream, batch_size, network.latent_dim, "evaluation").to(device)
        run: Callable[[], object] = partial(sample_images, network, latents)
    else:
        run = partial(network, torch.zeros(batch_size, *image_shape, device=device))
    with torch.no_grad():
        return min(time_call(run, device) for _ in range(2))


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call: on a CPU those of this process, which has one thread.

    So a machine that is busy with something else now disturbs the plan but little.
    """
    if device.type != "cuda":
        started_at = time.process_time()
        run()
        return time.process_time() - started_at
    torch.cuda.synchronize(device)
    started_at = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started_at
