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
    """Hash all that decides a generator's images.

    Args:
        root: of the repository.
        study: its seed and `evaluation.num_images` count.
        name: of the GAN cohort; with the instance it decides the latents.
        instance: index in the cohort.

    Raises:
        UserError: when the generator's weights or its meta.json are missing.
    """
    directory = _get_directory(root, name, instance)
    architecture = read_json(directory / META_FILE).get("architecture", "")
    return make_key(
        [name, instance, study.study.seed, study.evaluation.num_images],
        [hash_file(directory / file) for file in (GENERATOR_FILE, META_FILE)],
        hash_code(_CODE, (architecture,)),
        get_versions(("torch",)),
    )


def save_samples(root: Path, study: Study, name: str, instance: int, device: torch.device) -> str:
    """Write data/samples/COHORT/INSTANCE.npy, uint8 [evaluation.num_images, C, H, W].

    Args:
        root: of the repository.
        study: its seed and `evaluation.num_images` count.
        name: of the GAN cohort.
        instance: index in the cohort.
        device: that the generator runs on.

    Returns:
        The file's sha256.

    Raises:
        UserError: when the checkpoint is missing or altered, or the disk is full.
    """
    path = get_samples_file(root, name, instance)
    num_images = study.evaluation.num_images
    batches = _draw_batches(
        _get_directory(root, name, instance),
        num_images,
        Stream(study.study.seed, f"gans/{name}", instance),
        # layers that draw random numbers, such as noise inputs, draw others than in training
        Stream(study.study.seed, f"samples/{name}", instance),
        device,
    )
    save_batches(path, num_images, batches)
    return hash_file(path)


def _draw_batches(
    directory: Path, num_images: int, stream: Stream, layers: Stream, device: torch.device
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield uint8 [n, C, H, W], one batch in memory at a time."""
    generator = load_generator(directory).to(device)
    latents = draw_latents(stream, num_images, generator.latent_dim, "evaluation").to(device)
    batches = latents.split(count_sampled(read_meta(directory)["image_shape"]))
    for index, batch in enumerate(batches):
        layers.seed_layers(index, device)
        yield sample_images(generator, batch).cpu().numpy()


def _get_directory(root: Path, name: str, instance: int) -> Path:
    return get_instance_directory(root, f"gans/{name}", instance)
