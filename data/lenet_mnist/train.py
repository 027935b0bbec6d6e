"""Train the packaged LeNet on all 60,000 MNIST training digits and write its weights and card.

    python data/lenet_mnist/train.py --mnist DIRECTORY_OF_THE_FOUR_IDX_FILES

Run once, by hand; the result is committed. On one machine the same settings give the same bytes.
The network is `knowledge_gaps.evaluation.extractors.lenet`.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_json
from knowledge_gaps.core.seeding import derive_seed, make_generator
from knowledge_gaps.data.idx import read_idx
from knowledge_gaps.data.images import to_float
from knowledge_gaps.evaluation.extractors.lenet import (
    NUM_FEATURES,
    WEIGHTS_PATH,
    LeNet,
)

MIN_TEST_ACCURACY = 0.99
BATCH_SIZE_EVALUATION = 250
MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
COMMAND = "python data/lenet_mnist/train.py --mnist DIR"


@dataclass(frozen=True)
class LeNetSettings:
    """What the weights depend on besides the digits."""

    seed: int = 0
    steps: int = 8000
    batch_size: int = 128
    learning_rate: float = 2e-3  # Adam's, decayed to zero along a cosine
    max_rotation_deg: float = 10.0
    max_scale: float = 0.1  # relative change of size
    max_shift_px: float = 2.0


@dataclass(frozen=True)
class Digits:
    """Labelled digits: images float32 [N, 1, 28, 28] in [-1, 1], labels int64 [N] in 0..9."""

    images: torch.Tensor
    labels: torch.Tensor


def read_digits(directory: Path, split: str) -> Digits:
    """Read the split "train" or "test" of MNIST; raises UserError for a missing or broken file."""
    images, labels = (
        torch.from_numpy(read_idx(directory / MNIST_FILES[f"{split}_{kind}"]).copy())
        for kind in ("images", "labels")
    )
    return Digits(to_float(images.unsqueeze(1)), labels.long())


def distort_digits(
    images: torch.Tensor, settings: LeNetSettings, generator: torch.Generator
) -> torch.Tensor:
    """Rotate, scale and shift every digit by its own random amount; float32 [N, 1, 28, 28]."""
    uniform = torch.rand(len(images), 4, generator=generator) * 2.0 - 1.0  # in [-1, 1)
    angle = uniform[:, 0] * math.radians(settings.max_rotation_deg)
    scale = 1.0 + uniform[:, 1] * settings.max_scale
    shift = (
        uniform[:, 2:] * settings.max_shift_px * 2.0 / LeNet.image_shape[-1]
    )  # the grid spans [-1, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]]
    affine = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # the border is filled with 0, so the background must be 0 while the digits move
    return F.grid_sample(images + 1.0, grid, align_corners=False) - 1.0


def draw_batch(digits: Digits, settings: LeNetSettings, step: int) -> Digits:
    """Draw the batch of one step: every epoch its own order, every step its own distortion."""
    num_batches = max(1, len(digits.labels) // settings.batch_size)  # the rest of an epoch is left
    epoch, batch = divmod(step, num_batches)
    order = make_generator(settings.seed, "lenet_order", epoch)
    indices = torch.randperm(len(digits.labels), generator=order)
    indices = indices[batch * settings.batch_size :][: settings.batch_size]
    distortion = make_generator(settings.seed, "lenet_distortion", step)
    images = distort_digits(digits.images[indices], settings, distortion)
    return Digits(images, digits.labels[indices])


def train_lenet(digits: Digits, settings: LeNetSettings) -> LeNet:
    """Train a LeNet from scratch with Adam on distorted digits, its features normalised at the end.

    Returns:
        The network in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "lenet_init"))
        lenet = LeNet()
    optimizer = torch.optim.Adam(lenet.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.steps)
    for step in range(settings.steps):
        batch = draw_batch(digits, settings, step)
        _, logits = lenet(batch.images)
        loss = F.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    normalise_features(lenet, digits.images)
    return lenet.eval()


@torch.no_grad()
def normalise_features(lenet: LeNet, images: torch.Tensor) -> None:
    """Give the features a root mean square of 1 over these images; the logits stay.

    The cubic kernel of KID, (x.y / F + 1)^3, expects features of this size: much larger ones
    leave only their third power.
    """
    batches = torch.split(images, BATCH_SIZE_EVALUATION)
    sum_squares = math.fsum(float(lenet(batch)[0].square().sum()) for batch in batches)
    factor = math.sqrt(len(images) * NUM_FEATURES / sum_squares)
    lenet.penultimate.weight.mul_(factor)
    lenet.penultimate.bias.mul_(factor)
    lenet.head.weight.div_(factor)


@torch.no_grad()
def measure_accuracy(lenet: LeNet, digits: Digits) -> float:
    """Return the share of digits that the LeNet classifies correctly, in [0, 1]."""
    images = torch.split(digits.images, BATCH_SIZE_EVALUATION)
    labels = torch.split(digits.labels, BATCH_SIZE_EVALUATION)
    batches = zip(images, labels, strict=True)
    num_correct = sum(int((lenet(x)[1].argmax(dim=1) == y).sum()) for x, y in batches)
    return num_correct / len(digits.labels)


def describe_architecture() -> list[str]:
    """List the layers of the LeNet, one a line."""
    return [str(layer) for layer in LeNet().modules() if not list(layer.children())]


def hash_values(directory: Path) -> dict[str, str]:
    """Hash the values of every IDX file, without header, however the file is compressed."""
    paths = {name: directory / MNIST_FILES[name] for name in sorted(MNIST_FILES)}
    return {name: sha256(read_idx(path).tobytes()).hexdigest() for name, path in paths.items()}


def make_card(directory: Path, settings: LeNetSettings, test_accuracy: float) -> dict[str, Any]:
    """Describe the weights: what they are, where they come from and how good they are."""
    return {
        "name": "lenet_mnist",
        "purpose": "features of FID, KID, precision and recall, and classes, of 28x28 grey images",
        "architecture": describe_architecture(),
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
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": settings.steps,
        "test_accuracy": test_accuracy,
        "command": COMMAND,
        "versions": {"torch": torch.__version__.split("+")[0]},
    }


def make_lenet(directory: Path, weights: Path, settings: LeNetSettings) -> float:
    """Train, test and write weights and card; return the accuracy on the test digits.

    Raises:
        UserError: when a file of digits is unusable, or the accuracy is below 0.99; nothing is
            written then.
    """
    lenet = train_lenet(read_digits(directory, "train"), settings)
    test_accuracy = measure_accuracy(lenet, read_digits(directory, "test"))
    if test_accuracy < MIN_TEST_ACCURACY:
        raise UserError(
            f"{weights.name}: not written, test accuracy is {test_accuracy:.4f} after "
            f"{settings.steps} steps, at least {MIN_TEST_ACCURACY} is needed"
        )
    card = make_card(directory, settings, test_accuracy)
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
