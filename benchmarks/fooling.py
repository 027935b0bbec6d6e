"""What frozen classifiers in the loss cost a GAN's step."""

from __future__ import annotations

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.planning.timing import Trainer, build_trainer, time_call
from knowledge_gaps.study.load import load_study
from measuring import Effort, Figure, Row, compare, take_turns
from short_study import CLASSIFIER_RECIPE, GAN_RECIPE, REDUCED_FILE

_COUNTS = (0, 1, 4, 10)  # classifiers in the loss
_SHAPE = (1, 28, 28)


class Stepper:
    """A trainer that goes on from period to period of its lazy regulariser."""

    def __init__(self, num_classifiers: int) -> None:
        study = load_study(REDUCED_FILE)
        recipe = study.gan_recipes[GAN_RECIPE]
        frozen = [study.classifier_recipes[CLASSIFIER_RECIPE]] * num_classifiers
        self._trainer: Trainer = build_trainer(recipe, frozen, _SHAPE)
        self._period, self._step = recipe.r1_interval, 0

    def time_period(self) -> float:
        """Train for one period; return a step's mean seconds."""
        first, self._step = self._step, self._step + self._period

        def train() -> None:
            for step in range(first, self._step):
                self._trainer.run_step(step)

        return time_call(train, self._trainer.accelerator.device) / self._period


def measure_fooling(effort: Effort) -> Figure:
    """Measure a step with so many classifiers in the loss, to one with none."""
    configure_process()
    steppers = {count: Stepper(count) for count in _COUNTS}
    for stepper in steppers.values():
        stepper.time_period()  # a warm-up
    variants = {count: stepper.time_period for count, stepper in steppers.items()}
    seconds = take_turns(variants, effort.num_turns * (1 if effort.is_quick else 3))
    return Figure(
        "fooling",
        "What classifiers in the loss cost",
        "Steps of the reduced study's DCGAN with frozen CNNs in its loss, to a step with none: "
        "means over a period of R1, in one process of one thread, by its CPU seconds.",
        [
            Row(f"step with {count} in the loss / with none", compare(seconds[count], seconds[0]))
            for count in _COUNTS[1:]
        ],
        {"seconds_per_step": {str(count): values for count, values in seconds.items()}},
    )
