"""prepare: read and verify the reals once, and write what training and evaluation read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from knowledge_gaps.data.images import save_array, save_grid
from knowledge_gaps.data.source import Dataset, load_dataset
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import publish_directory, write_json
from knowledge_gaps.runtime.layout import (
    DATASET_FILE,
    GRID_FILE,
    TEST_IMAGES_FILE,
    TEST_LABELS_FILE,
    TRAIN_IMAGES_FILE,
    TRAIN_LABELS_FILE,
    get_prepared_directory,
)
from knowledge_gaps.study import EXTRACTOR_IMAGE_SHAPES, Study

_GRID_IMAGES = 100


def run(root: Path, study: Study) -> None:
    """Write data/prepared; raises UserError for a missing, corrupt or unfitting file."""
    dataset = load_dataset(study.data, root)
    _check_evaluation(study, dataset)
    described = {
        "name": dataset.name,
        "image_shape": list(dataset.train.images.shape[1:]),
        "num_train": len(dataset.train.images),
        "num_test": len(dataset.test.images),
        "sha256": dataset.compute_sha256(),
    }

    def fill(directory: Path) -> None:
        save_array(directory / TRAIN_IMAGES_FILE, dataset.train.images)
        save_array(directory / TRAIN_LABELS_FILE, dataset.train.labels)
        save_array(directory / TEST_IMAGES_FILE, dataset.test.images)
        save_array(directory / TEST_LABELS_FILE, dataset.test.labels)
        save_grid(directory / GRID_FILE, np.ascontiguousarray(dataset.train.images[:_GRID_IMAGES]))
        write_json(directory / DATASET_FILE, described)

    publish_directory(get_prepared_directory(root), fill)
    print(f"prepared {described['num_train']} + {described['num_test']} reals of {dataset.name}")


def _check_evaluation(study: Study, dataset: Dataset) -> None:
    """Refuse now what `quality` would refuse after hours of training."""
    num_images = study.evaluation.num_images
    for name, split in (("training", dataset.train), ("test", dataset.test)):
        if num_images > len(split.images):
            raise UserError(
                f"evaluation.num_images: {num_images} found, "
                f"the {name} split has {len(split.images)} images"
            )
    shape = dataset.train.images.shape[1:]
    needed = EXTRACTOR_IMAGE_SHAPES[study.evaluation.extractor]
    if shape != needed:
        raise UserError(
            f"evaluation.extractor: {study.evaluation.extractor!r} needs images of {needed} "
            f"(channels, height, width), {dataset.name!r} has {shape}"
        )
