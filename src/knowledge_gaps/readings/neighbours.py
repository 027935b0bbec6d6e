"""The closest pairs of a generated image and a training image, as the stage quality found them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.columns import (
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    Cast,
    read_columns,
    read_header,
)
from knowledge_gaps.core.errors import UserError

_DISTANCE = "distance_"  # then the extractor's name


@dataclass(frozen=True)
class Neighbour:
    """A generated image beside the training image nearest to it.

    Attributes:
        cohort: of the generator.
        instance: of the generator.
        image: position in the generator's sample file.
        training_image: position in the training images.
        distance: of their features, in units of the extractor.
    """

    cohort: str
    instance: int
    image: int
    training_image: int
    distance: float


def read_neighbours(path: Path) -> tuple[Neighbour, ...]:
    """Read neighbours.csv, in its order.

    Raises:
        UserError: when the file cannot be read, or a column is missing or holds something else.
    """
    distances = [name for name in read_header(path) if name.startswith(_DISTANCE)]
    if not distances:
        raise UserError(f"{path}: no column starts with {_DISTANCE!r}")
    columns = {
        GENERATOR_COHORT: Cast.NAME,
        GENERATOR_INSTANCE: Cast.COUNT,
        "image": Cast.COUNT,
        "training_image": Cast.COUNT,
        distances[0]: Cast.NUMBER,
    }
    frame = read_columns(path, columns)
    return tuple(
        Neighbour(str(cohort), int(instance), int(image), int(training), float(distance))
        for cohort, instance, image, training, distance in frame.itertuples(index=False)
    )
