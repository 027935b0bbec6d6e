"""The reals of a study, wherever they come from: what `prepare` writes as shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from knowledge_gaps.data.drawn_faces import DrawnFaces
from knowledge_gaps.data.folder import ImageFolder
from knowledge_gaps.data.source import load_dataset
from knowledge_gaps.study import DataSettings


class Reals(Protocol):
    """Reals that are known by shape and number, before their pixels are read."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""

    @property
    def num_train(self) -> int:
        """How many images train."""

    @property
    def num_test(self) -> int:
        """How many images measure."""

    def write(self, directory: Path) -> dict[str, Any]:
        """Write the shards of both splits, and labels where there are some.

        Returns:
            What dataset.json says of them beside name, shape and numbers.
        """


def open_reals(settings: DataSettings, root: Path, state: Path) -> Reals:
    """Open the reals of a study.

    Args:
        settings: the study's `data` section.
        root: what a relative directory is relative to.
        state: folder of what is kept of an interrupted run.

    Raises:
        UserError: when something is missing, corrupt, of the wrong checksum or does not fit.
    """
    if settings.source == "images":
        return ImageFolder(settings, root / settings.directory, state)
    if settings.source == "dicebear":
        return DrawnFaces(settings, state)
    return load_dataset(settings, root)
