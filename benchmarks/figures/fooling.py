"""What frozen classifiers in the loss cost a GAN's step, and how that grows with their number.

Steps of the real trainer, with fresh networks in the place of trained ones, by
`knowledge_gaps.planning`. Seconds are those of the process, of one thread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from knowledge_gaps.planning.probe import build_trainer
from knowledge_gaps.planning.request import Network, ProbeRequest
from knowledge_gaps.planning.timing import Trainer, time_call
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import keep_freed_memory
from knowledge_gaps.study import load_study
from measuring.pairs import compare, fit_line, take_turns
from measuring.results import Effort, Figure, Growth, Row, Target
from studies.short_study import CLASSIFIER_RECIPE, GAN_RECIPE, REDUCED_FILE

_COUNTS = (0, 1, 2, 3, 4, 5, 10)  # classifiers in the loss
_FITTED = _COUNTS[1:]  # the first one may cost more than another one
_TOLD = (1, 4, 10)
_SHAPE = (1, 28, 28)
_TARGET = 1.25


def measure_fooling(effort: Effort) -> Figure:
    """Measure a step with so many classifiers in the loss, to one with none."""
    configure_process()
    keep_freed_memory()
    period = _read_recipe()["r1_interval"]
    steppers = {count: Stepper(build(count), period) for count in _COUNTS}
    for stepper in steppers.values():
        stepper.time_period()  # a warm-up
    num_turns = effort.num_turns if effort.is_quick else 3 * effort.num_turns
    seconds = take_turns(
        {count: stepper.time_period for count, stepper in steppers.items()}, num_turns
    )
    ratios = {count: compare(values, seconds[0]) for count, values in seconds.items()}
    slope = fit_line(_FITTED, [ratios[count].median for count in _FITTED])
    return Figure(
        "fooling",
        "What classifiers in the loss cost",
        f"Steps of the reduced study's DCGAN with frozen CNNs in its loss, to a step with none: "
        f"means over {period} steps (a period of R1), in one process of one thread, by its "
        "CPU seconds.",
        [
            Row(
                f"step with {count} in the loss / with none",
                ratios[count],
                "x",
                Target(_TARGET, is_least=False) if count == 1 else None,
            )
            for count in _TOLD
        ],
        [
            Growth(
                f"a fool-all step, {_FITTED[0]} to {_FITTED[-1]} classifiers in the loss",
                slope,
                "of a step with none, a classifier",
            )
        ],
        {"seconds_per_step": {str(count): values for count, values in seconds.items()}},
    )


class Stepper:
    """A trainer that goes on from period to period."""

    def __init__(self, trainer: Trainer, period: int) -> None:
        self._trainer, self._period, self._step = trainer, period, 0

    def time_period(self) -> float:
        """Train for one period of the lazy regulariser; return a step's mean seconds."""
        device = self._trainer.accelerator.device
        seconds = 0.0
        for step in range(self._step, self._step + self._period):
            seconds += time_call(partial(self._trainer.run_step, step), device)
        self._step += self._period
        return seconds / self._period


def build(num_classifiers: int) -> Trainer:
    """Build the trainer of a DCGAN with so many CNNs in its loss."""
    model = load_study(REDUCED_FILE).classifier_recipes[CLASSIFIER_RECIPE].model
    recipe = _read_recipe()
    frozen = (Network(CLASSIFIER_RECIPE, model),) * num_classifiers
    request = ProbeRequest("gans", recipe, frozen, 1.0, _SHAPE)
    return build_trainer(request, recipe["batch_size"])


def _read_recipe() -> dict[str, Any]:
    return load_study(REDUCED_FILE).gan_recipes[GAN_RECIPE].model_dump(mode="json")
