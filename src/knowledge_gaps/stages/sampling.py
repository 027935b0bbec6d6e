"""What the workers of samples do: draw a generator's images, stored the way the reals are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.layout import get_instance_directory, get_samples_file
from knowledge_gaps.data.images import save_batches
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.models.frozen import load_generator, read_meta
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images


def draw_sample(root: Path, name: str, instance: int, seed: int, num_images: int) -> None:
    """Write data/samples/COHORT/INSTANCE.npy, uint8 [num_images, C, H, W].

    Args:
        root: the repository's root.
        name: of the GAN cohort.
        instance: index in the cohort.
        seed: the study's.
        num_images: how many.

    Raises:
        UserError: when the checkpoint is missing or altered, or the disk is full.
    """
    batches = _draw(root, name, instance, seed, num_images)
    save_batches(get_samples_file(root, name, instance), num_images, batches)


def _draw(
    root: Path, name: str, instance: int, seed: int, num_images: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the images, uint8 [n, C, H, W]: one batch in memory at a time."""
    cohort, device = f"gans/{name}", find_device()
    directory = get_instance_directory(root, cohort, instance)
    generator = load_generator(directory).to(device)
    stream = Stream(seed, cohort, instance)
    latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation").to(device)
    # layers that draw by themselves, such as noise inputs, draw other numbers than in training
    layers = Stream(seed, f"samples/{name}", instance)
    batches = latents.split(count_sampled(read_meta(directory)["image_shape"]))
    for index, batch in enumerate(batches):
        layers.seed_layers(index, device)
        yield sample_images(generator, batch).cpu().numpy()
