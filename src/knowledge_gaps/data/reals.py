"""The reals of a study, from any of its sources; `kgaps prepare` writes them."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.data.drawn_faces import DrawnFaces
from knowledge_gaps.data.folder import ImageFolder
from knowledge_gaps.data.idx import Dataset, load_dataset
from knowledge_gaps.study import DataSettings

# Each has image_shape, num_train, num_dev (0 without a dev split) and num_test; content, the name
# of the known set that the values are of, whatever the study calls it, or None; has_labels; and
# write(directory, map_images), which returns what dataset.json holds beside shapes and counts.
Reals = Dataset | DrawnFaces | ImageFolder


def open_reals(settings: DataSettings, root: Path) -> Reals:
    """Open the reals of a study before all pixels are read; UserError for what does not fit."""
    if settings.source == "images":
        return ImageFolder(settings, root / settings.directory)
    if settings.source == "dicebear":
        return DrawnFaces(settings)
    return load_dataset(settings, root)
