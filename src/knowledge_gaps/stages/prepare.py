"""prepare: read and verify the reals once, and write what training and evaluation read."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, publish_directory, write_json
from knowledge_gaps.data.images import save_grid
from knowledge_gaps.data.reals import Reals, open_reals
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.registry import get_extractor, load_extractor
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_WORKER_MODULE = "knowledge_gaps.data.reals"
_GRID_IMAGES = 100
_GRID_PX = 1024  # side that a grid of larger images keeps to
_ENLARGED_PX = 64  # images up to this side are shown twice as large


def run(root: Path, study: Study) -> None:
    """Write data/prepared; raises UserError for a missing, corrupt or unfitting file."""
    load_extractor(study.evaluation, root)  # its weights are there
    reals = open_reals(study.data, root)
    _check_evaluation(study, reals)

    def fill(directory: Path) -> None:
        written = reals.write(directory, _map_images)
        train, test = (
            hash_file(directory / name) for name in (layout.TRAIN_IMAGES, layout.TEST_IMAGES)
        )
        described = {
            "name": study.data.name,
            "image_shape": list(reals.image_shape),
            "num_train": reals.num_train,
            "num_test": reals.num_test,
            "sha256": hashlib.sha256(f"{study.data.name}{train}{test}".encode()).hexdigest(),
            "train": train,
        }
        _save_first(directory)
        write_json(directory / layout.DATASET_FILE, {**described, **written})

    publish_directory(root / layout.PREPARED, fill)
    print(f"prepared {reals.num_train} + {reals.num_test} reals of {study.data.name}")


def _map_images(function: Any, items: Sequence[Any], title: str) -> Iterator[Any]:
    results = map_parallel(function, items, _WORKER_MODULE)
    yield from track(results, title, len(items), disable=not sys.stdout.isatty())


def _save_first(directory: Path) -> None:
    """Show the first training images, fewer where they are large."""
    images = open_images(directory / layout.TRAIN_IMAGES)
    side_px = max(images.shape[2:])
    num_images = min(_GRID_IMAGES, max(1, _GRID_PX // side_px) ** 2)
    scale = 2 if side_px <= _ENLARGED_PX else 1
    save_grid(directory / layout.GRID_FILE, images[:num_images], scale)


def _check_evaluation(study: Study, reals: Reals) -> None:
    """Refuse now what `quality` would refuse after hours of training."""
    num_images = study.evaluation.num_images
    for name, num_split in (("training", reals.num_train), ("test", reals.num_test)):
        if num_images > num_split:
            raise UserError(
                f"evaluation.num_images: {num_images} found, "
                f"the {name} split has {num_split} images"
            )
    needed = get_extractor(study.evaluation.extractor).image_shape
    fits = all(size in (None, found) for size, found in zip(needed, reals.image_shape, strict=True))
    if not fits:
        wanted = " x ".join("any" if size is None else str(size) for size in needed)
        found = " x ".join(map(str, reals.image_shape))
        raise UserError(
            f"evaluation.extractor: {study.evaluation.extractor!r} needs images of {wanted} "
            f"(channels, height, width), {study.data.name!r} has {found}"
        )
