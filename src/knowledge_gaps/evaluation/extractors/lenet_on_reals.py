"""The extractor for labelled images other than MNIST's: a LeNet trained on a study's own reals.

`prepare` trains it on the train split, with a fixed seed, so that the same reals give the same
features in every study. Its metrics carry the data's name, such as fid_lenet_fashion_mnist_4k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from knowledge_gaps.core import layout
from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json, write_json
from knowledge_gaps.data.reals import Reals
from knowledge_gaps.data.store import load_array, open_images
from knowledge_gaps.evaluation.lenet import (
    MIN_SIDE_PX,
    NUM_FEATURES,
    SIDE_MULTIPLE_PX,
    LabelledImages,
    LeNetExtractor,
    LeNetSettings,
    describe_lenet,
    measure_accuracy,
    train_lenet,
)

SETTINGS = LeNetSettings(steps=2000)


class LeNetOnReals(LeNetExtractor):
    """A LeNet of the study's own: features float32 [N, 84], logits of the classes of its labels."""

    image_shape = (None, None, None)
    trained_file = "lenet.safetensors"

    @classmethod
    def find_misfit(cls, reals: Reals) -> str | None:
        """Ask for labels, and for sides that two poolings divide."""
        if not reals.has_labels:
            return "is trained on labels, and these reals have none"
        sides_px = reals.image_shape[1:]
        if min(sides_px) < MIN_SIDE_PX or any(side_px % SIDE_MULTIPLE_PX for side_px in sides_px):
            found = " x ".join(map(str, sides_px))
            return (
                f"needs sides that are multiples of {SIDE_MULTIPLE_PX} px from {MIN_SIDE_PX} px "
                f"on, these reals have {found}"
            )
        return None

    @classmethod
    def train_on(cls, prepared: Path) -> str:
        """Train it on the train split; write its weights, and a card with the accuracy on dev.

        Without a dev split the accuracy is that on the test split. Raises UserError when the labels
        are all the same.
        """
        classes = np.unique(load_array(prepared / layout.TRAIN_LABELS_FILE))
        if len(classes) < 2:
            raise UserError(
                f"evaluation.extractor: 'lenet_on_reals' needs two classes or more, the labels of "
                f"the training images are all {classes[0]}"
            )
        training = _read_split(prepared, layout.TRAIN_IMAGES, layout.TRAIN_LABELS_FILE, classes)
        channels, height, width = training.images.shape[1:]
        shape = channels, height, width
        lenet = train_lenet(lambda: cls(shape, len(classes)), training, SETTINGS)
        split, files = "test", (layout.TEST_IMAGES, layout.TEST_LABELS_FILE)
        if (prepared / layout.DEV_IMAGES).exists():
            split, files = "dev", (layout.DEV_IMAGES, layout.DEV_LABELS_FILE)
        accuracy = measure_accuracy(lenet, _read_split(prepared, *files, classes))
        card = {
            "name": "lenet_on_reals",
            "image_shape": list(shape),
            "input": f"float32 [N, {channels}, {height}, {width}] in [-1, 1]",
            "outputs": {
                "features": f"float32 [N, {NUM_FEATURES}], after ReLU, root mean square 1 over the "
                "training images",
                "logits": f"float32 [N, {len(classes)}]",
            },
            "classes": classes.tolist(),
            "training_images": {
                "number": len(training.labels),
                "sha256": hash_file(prepared / layout.TRAIN_IMAGES),
                "sha256_of_labels": hash_file(prepared / layout.TRAIN_LABELS_FILE),
            },
            "accuracy": {"split": split, "value": accuracy},
            **describe_lenet(lenet, SETTINGS),
            "sha256": write_tensors(prepared / cls.trained_file, lenet.state_dict()),
        }
        write_json((prepared / cls.trained_file).with_suffix(".json"), card)
        return f"trained lenet_on_reals: accuracy {accuracy:.4f} on the {split} split"

    @classmethod
    def load(cls, weights: Path | None) -> LeNetOnReals:
        """Load what `train_on` wrote, whose sha256 is on the card beside it."""
        assert weights is not None
        card: dict[str, Any] = read_json(weights.with_suffix(".json"))
        lenet = cls(tuple(card["image_shape"]), len(card["classes"]))
        lenet.load_state_dict(read_tensors(weights, sha256=card["sha256"]))
        return lenet.eval().requires_grad_(False)


def _read_split(
    prepared: Path, images_file: str, labels_file: str, classes: np.ndarray[Any, Any]
) -> LabelledImages:
    """Read a split with its labels as indices of the classes; another label has index -1."""
    labels = load_array(prepared / labels_file)
    indices = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    indices[classes[indices] != labels] = -1
    images = np.array(open_images(prepared / images_file))
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(indices))


EXTRACTOR = LeNetOnReals
