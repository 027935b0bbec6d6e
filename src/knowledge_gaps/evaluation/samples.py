"""Which images are sampled, of which generators; no torch, which a stage may have no need of."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.files import hash_file, make_key, read_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import GENERATOR_FILE, META_FILE, get_instance_directory
from knowledge_gaps.study import Study

_CODE = (
    "core/seeding.py",
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/sampling.py",
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
