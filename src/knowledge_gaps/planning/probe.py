"""A few steps of a real training on random images, timed; `python -m` runs it in a process of its
own, so that the peak of its memory is its own.

The trainer, the recipe, the pool's size and the batch are the real ones. Only the reals are random
pixels, and networks of the pool's architectures with fresh weights stand in for the frozen ones:
neither changes what is computed.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import keep_freed_memory
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.data.store import hold_images
from knowledge_gaps.planning.memory import MemoryMeter
from knowledge_gaps.planning.networks import (
    build_classifier,
    build_discriminator,
    build_generator,
    count_networks,
)
from knowledge_gaps.planning.request import Measurement, ProbeRequest
from knowledge_gaps.planning.timing import (
    NUM_ROUNDS,
    Trainer,
    list_step_kinds,
    time_forward,
    time_steps,
)
from knowledge_gaps.study import GanRecipe, Kind
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.classifier import ClassifierTrainer
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.memory import is_shortage
from knowledge_gaps.training.phases import Fooling

_FIRST_BATCH = 2  # images in the step that tells how long the others will take, or few more
_FIRST_SHARE = 0.1  # of the time, for a step that small
_NUM_REALS = 64


class TooLargeError(Exception):
    """Not even the smallest batch fits into the memory."""


def list_batch_sizes(batch_size: int) -> list[int]:
    """List a batch size and its halves down to 2, as far as they are whole, largest first."""
    sizes = [batch_size]
    while sizes[-1] % 2 == 0 and sizes[-1] > 2:
        sizes.append(sizes[-1] // 2)
    return sizes


def measure(request: ProbeRequest, budget_sec: float, largest_batch: int) -> Measurement:
    """Measure a step of the training at the largest batch that time and memory allow.

    Args:
        request: what is trained.
        budget_sec: the probe takes about so long at most, unless its smallest batch takes longer.
        largest_batch: no larger batch is tried.

    Raises:
        TooLargeError: when the smallest batch does not fit into the memory.
        UserError: when the recipe does not fit the images or the machine.
    """
    deadline = time.monotonic() + budget_sec
    meter = MemoryMeter()
    sizes = list_batch_sizes(request.parse_recipe().batch_size)
    sizes = [size for size in sizes if size <= largest_batch] or sizes[-1:]
    smallest = next((size for size in sizes if size <= _FIRST_BATCH), sizes[-1])
    first, round_sec = _measure_at(request, smallest, _FIRST_SHARE * budget_sec, 1, meter)
    for size in sizes[: sizes.index(smallest)]:
        remaining_sec = deadline - time.monotonic()
        # a warm-up and at least one timed step of every kind
        is_slow = 2 * round_sec * size / smallest > remaining_sec
        is_large = first.limit_bytes is not None and first.compute_memory(size) > first.limit_bytes
        if is_slow or is_large:
            continue
        try:
            return _measure_at(request, size, remaining_sec, NUM_ROUNDS, meter)[0]
        except TooLargeError:
            continue
    return first


def build_trainer(request: ProbeRequest, batch_size: int) -> Trainer:
    """Build the trainer that a worker would, with fresh networks in place of the frozen ones."""
    recipe = request.parse_recipe(batch_size)
    shape = request.image_shape
    accelerator = build_accelerator(0, recipe.mixed_precision, recipe.gradient_accumulation_steps)
    generator = torch.Generator().manual_seed(0)
    reals = torch.randint(256, (_NUM_REALS, *shape), generator=generator, dtype=torch.uint8)
    images, stream = hold_images(reals.numpy()), Stream(0, f"{request.kind}/probe", 0)
    own = (recipe.architecture, recipe.model, shape)
    if isinstance(recipe, GanRecipe):
        classifiers = [
            build_classifier(net.architecture, net.model, shape) for net in request.frozen
        ]
        return GanTrainer(
            build_generator(*own),
            build_discriminator(*own),
            Fooling(classifiers, 1.0, "sum"),
            images,
            recipe,
            stream,
            accelerator,
        )
    generators = [build_generator(net.architecture, net.model, shape) for net in request.frozen]
    classifier = build_classifier(*own)
    return ClassifierTrainer(
        classifier, generators, request.truncation, images, recipe, stream, accelerator
    )


def _measure_at(
    request: ProbeRequest, batch_size: int, budget_sec: float, num_rounds: int, meter: MemoryMeter
) -> tuple[Measurement, float]:
    """Measure at one batch size; return also how long a step of every kind took by the clock."""
    gc.collect()  # the trainer of the batch before
    try:
        limit_bytes = meter.start()
        trainer = build_trainer(request, batch_size)
        phases = trainer.phases if isinstance(trainer, GanTrainer) else []
        kinds = list_step_kinds([1, *(phase.interval for phase in phases)])
        seconds, round_sec = time_steps(trainer, kinds, budget_sec, num_rounds)
        peak_bytes = meter.read_peak()
        forward_sec = time_forward(trainer, request.image_shape, batch_size)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not is_shortage(error):
            raise
        raise TooLargeError from error
    static_bytes = count_static_bytes(trainer, request)
    measurement = Measurement(
        batch_size=batch_size,
        seconds_per_step=seconds,
        seconds_per_image=forward_sec / batch_size,
        static_bytes=static_bytes,
        peak_bytes=max(peak_bytes, static_bytes),
        limit_bytes=limit_bytes,
    )
    return measurement, round_sec


def count_static_bytes(trainer: Trainer, request: ProbeRequest) -> int:
    """Count what a training holds at any batch size: networks, gradients, optimisers' state.

    Gradients are those of the network that has most of them: one network's at a time are alive.
    """
    tensors = [
        value for module in trainer.modules.values() for value in module.state_dict().values()
    ]
    gradients = [0]
    for optimizer, _ in trainer.optimizers.values():
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        gradients.append(_count_bytes(parameters))
        tensors += [
            value
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
    other = Kind.CLASSIFIERS if request.kind == Kind.GANS else Kind.GANS
    stored = (
        count_networks(other.value, net.architecture, net.model, request.image_shape)
        for net in request.frozen
    )
    key = "C" if other is Kind.CLASSIFIERS else "G"
    frozen_bytes = sum(counts[key]["stored_bytes"] for counts in stored)
    return _count_bytes(tensors) + max(gradients) + frozen_bytes


def _count_bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answer what `measure.Prober` asks: sizes of networks, or a probe.

    Returns:
        "counts", or "measurement"; "error" for a recipe that cannot run here, "too_large" for one
        whose smallest batch does not fit.
    """
    try:
        if "count" in question:
            return {"counts": [count_networks(*entry) for entry in question["count"]]}
        request = ProbeRequest.from_json(question["request"])
        found = measure(request, question["budget_sec"], question["largest_batch"])
    except UserError as error:
        return {"error": str(error)}
    except TooLargeError:
        return {"too_large": True}
    return {"measurement": asdict(found)}


def main() -> None:
    """Read the question from the file of the first argument, write the answer to the second's."""
    configure_process()
    keep_freed_memory()
    question_file, answer_file = (Path(argument) for argument in sys.argv[1:])
    write_json(answer_file, answer(read_json(question_file)))


if __name__ == "__main__":
    main()
