"""prepare: read and verify the reals once, and write what training and evaluation read."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import publish_directory, write_json
from knowledge_gaps.core.layout import (
    DATASET_FILE,
    GRID_FILE,
    TEST_IMAGES,
    TRAIN_IMAGES,
    get_prepared_directory,
    get_state_directory,
)
from knowledge_gaps.data.images import save_grid
from knowledge_gaps.data.reals import Reals, open_reals
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.registry import find_weights, get_extractor
from knowledge_gaps.study import Study

_GRID_IMAGES = 100
_GRID_PX = 1024  # side that a grid of larger images keeps to
_ENLARGED_PX = 64  # images up to this side are shown twice as large


def run(root: Path, study: Study) -> None:
    """Write data/prepared; raises UserError for a missing, corrupt or unfitting file."""
    extractor = get_extractor(study.evaluation.extractor)
    extractor.identify(find_weights(study.evaluation, root))  # its weights are there
    state = get_state_directory(root) / "prepare"
    reals = open_reals(study.data, root, state)
    _check_evaluation(study, reals)

    def fill(directory: Path) -> None:
        written = reals.write(directory)
        described = {
            "name": study.data.name,
            "image_shape": list(reals.image_shape),
            "num_train": reals.num_train,
            "num_test": reals.num_test,
            "sha256": _hash_splits(study.data.name, directory),
        }
        _save_first(directory)
        write_json(directory / DATASET_FILE, {**described, **written})

    publish_directory(get_prepared_directory(root), fill)
    shutil.rmtree(state, ignore_errors=True)
    print(f"prepared {reals.num_train} + {reals.num_test} reals of {study.data.name}")


def _hash_splits(name: str, directory: Path) -> str:
    """Hash name and files of a dataset, for people who compare datasets."""
    digest = hashlib.sha256(name.encode())
    for split in (TRAIN_IMAGES, TEST_IMAGES):
        digest.update(open_images(directory / split).compute_sha256().encode())
    return digest.hexdigest()


def _save_first(directory: Path) -> None:
    """Show the first training images, fewer where they are large."""
    store = open_images(directory / TRAIN_IMAGES)
    side_px = max(store.shape[2:])
    num_images = min(_GRID_IMAGES, max(1, _GRID_PX // side_px) ** 2)
    scale = 2 if side_px <= _ENLARGED_PX else 1
    save_grid(directory / GRID_FILE, store.read(0, num_images), scale)


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
