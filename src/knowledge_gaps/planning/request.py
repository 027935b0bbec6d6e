"""What a probe is asked and what it answers; both cross processes as JSON.

Two cohorts whose requests are equal cost the same, so they are probed once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from knowledge_gaps.planning.inventory import CohortWork, ImageShape
from knowledge_gaps.study import ClassifierCohort, ClassifierRecipe, GanRecipe, Kind

# of a recipe, what decides neither the time nor the memory of a step
_NO_COST = {"steps", "log_every", "early_stopping", "initialisation", "initial_weights"}


@dataclass(frozen=True)
class Network:
    """An architecture with its settings, as a recipe names them."""

    architecture: str
    model: dict[str, Any]


@dataclass(frozen=True)
class ProbeRequest:
    """A training whose step is to be measured.

    Attributes:
        kind: "gans" or "classifiers".
        recipe: of the training, without what costs nothing.
        frozen: networks of the pool; fresh ones of the same architecture take their place.
        truncation: of a classifier's training latents.
        image_shape: channels, height, width.
    """

    kind: str
    recipe: dict[str, Any]
    frozen: tuple[Network, ...]
    truncation: float
    image_shape: ImageShape

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold, and `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ProbeRequest:
        """Build a request from what `to_json` returned."""
        channels, height, width = content["image_shape"]
        frozen = tuple(Network(**network) for network in content["frozen"])
        return cls(**{**content, "image_shape": (channels, height, width), "frozen": frozen})

    def parse_recipe(self, batch_size: int | None = None) -> GanRecipe | ClassifierRecipe:
        """Return the recipe, for one step, with another batch size if one is given."""
        changes = {"steps": 1} if batch_size is None else {"steps": 1, "batch_size": batch_size}
        recipe_type = GanRecipe if self.kind == Kind.GANS else ClassifierRecipe
        return recipe_type.model_validate({**self.recipe, **changes})


@dataclass(frozen=True)
class Measurement:
    """What a probe found.

    Attributes:
        batch_size: that was measured; smaller than the recipe's where time or memory did not
            suffice, and times are extrapolated along a line then.
        seconds_per_step: at `batch_size`, lazy regularisers at their share.
        seconds_per_image: of a forward pass of the trained network alone, in evaluation mode.
        static_bytes: of weights, gradients, averages, optimiser state and frozen networks; below
            `peak_bytes`.
        peak_bytes: of the process at `batch_size`, beyond what it held before.
        limit_bytes: memory that was there for it; None where it cannot be told.
    """

    batch_size: int
    seconds_per_step: float
    seconds_per_image: float
    static_bytes: int
    peak_bytes: int
    limit_bytes: int | None

    def compute_seconds(self, batch_size: int) -> float:
        """Seconds of a step at a batch size."""
        return self.seconds_per_step * batch_size / self.batch_size

    def compute_memory(self, batch_size: int) -> int:
        """Bytes of a training at a batch size: what is there anyway, and a share an image."""
        per_image = (self.peak_bytes - self.static_bytes) / self.batch_size
        return round(self.static_bytes + per_image * batch_size)

    def find_fitting_batch(self, limit_bytes: int) -> int:
        """Return the largest batch size whose memory stays within a limit, 0 for none."""
        per_image = max(self.peak_bytes - self.static_bytes, 1) / self.batch_size
        return max(0, int((limit_bytes - self.static_bytes) / per_image))


def make_request(work: CohortWork, image_shape: ImageShape) -> ProbeRequest:
    """Make the request of a cohort."""
    cohort = work.cohort
    return ProbeRequest(
        kind=work.kind.value,
        recipe=work.recipe.model_dump(mode="json", exclude=_NO_COST),
        frozen=tuple(Network(recipe.architecture, recipe.model) for recipe in work.frozen),
        truncation=cohort.truncation if isinstance(cohort, ClassifierCohort) else 1.0,
        image_shape=image_shape,
    )
