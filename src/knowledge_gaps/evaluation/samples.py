"""Images sampled from trained generators, stored as the reals are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from knowledge_gaps.core.cache import make_key
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import (
    GENERATOR_FILE,
    META_FILE,
    get_instance_directory,
    get_samples_file,
)
from knowledge_gaps.data.images import save_batches
from knowledge_gaps.evaluation.batches import count_sampled
from knowledge_gaps.models.frozen import load_generator, read_meta
from knowledge_gaps.study import Study
from knowledge_gaps.training.batches import Stream, draw_latents, sample_images

_CODE = (
    "core/seeding.py",
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/samples.py",
    "models",
    "training/batches.py",
)


def list_generators(study: Study) -> list[tuple[str, int]]:
    """List all trained generators of a study as (cohort, instance)."""
    return [(name, i) for name, cohort in study.gans.items() for i in range(cohort.instances)]


def make_samples_key(root: Path, study: Study, name: str, instance: int) -> str:
    """Hash all that decides the images of an instance of a GAN cohort.

    Raises:
        UserError: when the generator's weights or its meta.json are missing.
    """
    directory = get_instance_directory(root, f"gans/{name}", instance)
    return make_key(
        [name, instance, study.study.seed, study.evaluation.num_images],  # decide the latents
        [hash_file(directory / file) for file in (GENERATOR_FILE, META_FILE)],
        hash_code(_CODE, (read_json(directory / META_FILE).get("architecture", ""),)),
        get_versions(("torch",)),
    )


def save_samples(root: Path, study: Study, name: str, instance: int, device: torch.device) -> str:
    """Write data/samples/COHORT/INSTANCE.npy, uint8 [evaluation.num_images, C, H, W].

    Returns:
        The file's sha256.

    Raises:
        UserError: when the checkpoint is missing or altered, or the disk is full.
    """
    path, num_images = get_samples_file(root, name, instance), study.evaluation.num_images
    save_batches(path, num_images, _draw_batches(root, study, name, instance, device))
    return hash_file(path)


def _draw_batches(
    root: Path, study: Study, name: str, instance: int, device: torch.device
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield uint8 [n, C, H, W], one batch in memory at a time."""
    seed, num_images = study.study.seed, study.evaluation.num_images
    directory = get_instance_directory(root, f"gans/{name}", instance)
    generator = load_generator(directory).to(device)
    stream = Stream(seed, f"gans/{name}", instance)
    latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation").to(device)
    # layers that draw random numbers, such as noise inputs, draw others than in training
    layers = Stream(seed, f"samples/{name}", instance)
    batches = latents.split(count_sampled(read_meta(directory)["image_shape"]))
    for index, batch in enumerate(batches):
        layers.seed_layers(index, device)
        yield sample_images(generator, batch).cpu().numpy()
