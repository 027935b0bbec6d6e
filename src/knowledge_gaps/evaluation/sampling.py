"""Images sampled from trained generators, stored as the reals are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.layout import get_instance_directory, get_samples_file
from knowledge_gaps.data.images import save_batches
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.models.frozen import load_generator, read_meta
from knowledge_gaps.study import Study
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images


def save_samples(root: Path, study: Study, name: str, instance: int, device: torch.device) -> str:
    """Write data/samples/COHORT/INSTANCE.npy, uint8 [evaluation.num_images, C, H, W].

    Returns the file's sha256; raises UserError for a bad checkpoint or a full disk.
    """
    seed, num_images = study.study.seed, study.evaluation.num_images
    directory = get_instance_directory(root, f"gans/{name}", instance)
    generator = load_generator(directory).to(device)
    stream = Stream(seed, f"gans/{name}", instance)
    latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation").to(device)
    batches = latents.split(count_sampled(read_meta(directory)["image_shape"]))
    # layers that draw random numbers, such as noise inputs, draw others than in training
    layers = Stream(seed, f"samples/{name}", instance)

    def draw() -> Iterator[npt.NDArray[np.uint8]]:
        for index, batch in enumerate(batches):
            layers.seed_layers(index, device)
            yield sample_images(generator, batch).cpu().numpy()

    path = get_samples_file(root, name, instance)
    save_batches(path, num_images, draw())
    return hash_file(path)
