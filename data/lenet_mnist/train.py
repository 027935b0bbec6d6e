"""Train the packaged LeNet on all 60,000 MNIST training digits and write its weights and card.

    python data/lenet_mnist/train.py --mnist DIRECTORY_OF_THE_FOUR_IDX_FILES

Run once, by hand; the result is committed. On one machine the same settings give the same bytes.
Network and training are `knowledge_gaps.evaluation.lenet`.
"""

from __future__ import annotations

import argparse
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_json
from knowledge_gaps.data.idx import read_idx
from knowledge_gaps.evaluation.extractors.lenet import WEIGHTS_PATH, LeNet
from knowledge_gaps.evaluation.lenet import (
    LabelledImages,
    LeNetSettings,
    describe_lenet,
    measure_accuracy,
    train_lenet,
)

MIN_TEST_ACCURACY = 0.99
MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
COMMAND = "python data/lenet_mnist/train.py --mnist DIR"


def read_digits(directory: Path, split: str) -> LabelledImages:
    """Read the split "train" or "test" of MNIST; raises UserError for a missing or broken file."""
    images, labels = (
        torch.from_numpy(read_idx(directory / MNIST_FILES[f"{split}_{kind}"]).copy())
        for kind in ("images", "labels")
    )
    return LabelledImages(images.unsqueeze(1), labels.long())


def hash_values(directory: Path) -> dict[str, str]:
    """Hash the values of every IDX file, without header, however the file is compressed."""
    paths = {name: directory / MNIST_FILES[name] for name in sorted(MNIST_FILES)}
    return {name: sha256(read_idx(path).tobytes()).hexdigest() for name, path in paths.items()}


def make_card(
    directory: Path, lenet: LeNet, settings: LeNetSettings, test_accuracy: float
) -> dict[str, Any]:
    """Describe the weights: what they are, where they come from and how good they are."""
    return {
        "name": "lenet_mnist",
        "purpose": "features of FID, KID, precision and recall, and classes, of 28x28 grey images",
        "input": "float32 [N, 1, 28, 28] in [-1, 1]",
        "outputs": {
            "features": "float32 [N, 84], after ReLU, root mean square 1 over the training digits",
            "logits": "float32 [N, 10]",
        },
        "training_data": {
            "name": "MNIST, all 60,000 training digits; tested on the 10,000 test digits",
            "origin": "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
            "licence": "CC BY-SA 3.0",
            "sha256_of_values": hash_values(directory),
        },
        "test_accuracy": test_accuracy,
        "command": COMMAND,
        **describe_lenet(lenet, settings),
    }


def make_lenet(directory: Path, weights: Path, settings: LeNetSettings) -> float:
    """Train, test and write weights and card; return the accuracy on the test digits.

    Raises:
        UserError: when a file of digits is unusable, or the accuracy is below 0.99; nothing is
            written then.
    """
    lenet = train_lenet(LeNet, read_digits(directory, "train"), settings)
    test_accuracy = measure_accuracy(lenet, read_digits(directory, "test"))
    if test_accuracy < MIN_TEST_ACCURACY:
        raise UserError(
            f"{weights.name}: not written, test accuracy is {test_accuracy:.4f} after "
            f"{settings.steps} steps, at least {MIN_TEST_ACCURACY} is needed"
        )
    card = make_card(directory, lenet, settings, test_accuracy)
    card["sha256"] = write_tensors(weights, lenet.state_dict())
    write_json(weights.with_suffix(".json"), card)
    return test_accuracy


def main() -> None:
    """Train on one thread and print one line."""
    defaults = LeNetSettings()
    parser = argparse.ArgumentParser(description="Train the packaged LeNet on MNIST.")
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the four IDX files")
    parser.add_argument("--out", type=Path, default=WEIGHTS_PATH, help="safetensors file to write")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="optimiser updates")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = LeNetSettings(seed=options.seed, steps=options.steps)
    print(f"test accuracy {make_lenet(options.mnist, options.out, settings):.4f}")


if __name__ == "__main__":
    main()
