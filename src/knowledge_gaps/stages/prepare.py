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
from knowledge_gaps.core.files import hash_file, make_key, publish_directory, write_json
from knowledge_gaps.data.images import save_grid
from knowledge_gaps.data.reals import Reals, open_reals
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.registry import FeatureExtractor, find_extractor, load_extractor
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_WORKER_MODULE = "knowledge_gaps.data.reals"
_GRID_IMAGES = 100
_GRID_PX = 1024  # side that a grid of larger images keeps to
_ENLARGED_PX = 64  # images up to this side are shown twice as large
_WAYS_OUT = (
    "'lenet_on_reals' is trained on the labels of IDX files, 'random_vgg' takes images of any kind"
)


def run(root: Path, study: Study) -> None:
    """Write data/prepared; raises UserError for a missing, corrupt or unfitting file."""
    extractor = find_extractor(study.evaluation)
    if extractor.trained_file is None:
        load_extractor(study.evaluation, root)  # its weights are there
    reals = open_reals(study.data, root)
    _check_evaluation(study, reals, extractor)

    def fill(directory: Path) -> None:
        written = reals.write(directory, _map_images)
        write_json(
            directory / layout.DATASET_FILE, {**_describe(study, reals, directory), **written}
        )
        _save_first(directory)
        if extractor.trained_file is not None:  # by a worker, which computes deterministically
            [line] = map_parallel(extractor.train_on, [directory], extractor.__module__)
            print(line)

    publish_directory(root / layout.PREPARED, fill)
    counts = {"training": reals.num_train, "dev": reals.num_dev, "test": reals.num_test}
    words = ", ".join(f"{number} {split}" for split, number in counts.items() if number > 0)
    print(f"prepared reals of {study.data.name}: {words}")


def _describe(study: Study, reals: Reals, directory: Path) -> dict[str, Any]:
    """Describe the reals; trainings depend on the hashes: of train, and for classifiers of both."""
    train, test = (hash_file(directory / n) for n in (layout.TRAIN_IMAGES, layout.TEST_IMAGES))
    dev = hash_file(directory / layout.DEV_IMAGES) if reals.num_dev > 0 else ""
    return {
        "name": study.data.name,
        "image_shape": list(reals.image_shape),
        "num_train": reals.num_train,
        "num_dev": reals.num_dev,
        "num_test": reals.num_test,
        "content": reals.content,
        "sha256": hashlib.sha256(f"{study.data.name}{train}{test}{dev}".encode()).hexdigest(),
        "train": train,
        "train_dev": make_key(train, dev) if dev else train,
    }


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


def _check_evaluation(study: Study, reals: Reals, extractor: type[FeatureExtractor]) -> None:
    """Refuse now what `quality` would refuse after hours of training."""
    num_images = study.evaluation.num_images
    for name, num_split in (("training", reals.num_train), ("test", reals.num_test)):
        if num_images > num_split:
            raise UserError(
                f"evaluation.num_images: {num_images} found, "
                f"the {name} split has {num_split} images"
            )
    misfit = extractor.find_misfit(reals)
    if misfit is not None:
        raise UserError(
            f"evaluation.extractor: {study.evaluation.extractor!r} {misfit} "
            f"({study.data.name!r}); {_WAYS_OUT}"
        )
