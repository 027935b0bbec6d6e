"""What evaluation images were drawn from, noted beside them: whether they would come out again.

A note, data/samples/COHORT/INSTANCE.json, holds the key of what decides the images, and the sha256
of their file. It is written after the images, so images without one, or with another sha256, were
cut short or altered. No torch here: a process that finds nothing to draw stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knowledge_gaps.runtime.cache import make_key
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import hash_file, read_json, write_json
from knowledge_gaps.runtime.layout import (
    GENERATOR_FILE,
    META_FILE,
    get_instance_directory,
    get_samples_file,
    get_samples_note,
)
from knowledge_gaps.runtime.provenance import get_versions, hash_code
from knowledge_gaps.study import Kind, Study

_VERSIONS = ("torch",)


def make_sample_key(root: Path, study: Study, name: str, instance: int) -> str:
    """Name what the images of a generator are drawn from, by content.

    Args:
        root: the repository's root.
        study: the present one.
        name: of the GAN cohort.
        instance: index in the cohort.

    Raises:
        UserError: when the generator's weights or its meta.json are missing.
    """
    directory = get_instance_directory(root, f"{Kind.GANS}/{name}", instance)
    generator = [hash_file(directory / file) for file in (GENERATOR_FILE, META_FILE)]
    architecture = read_json(directory / META_FILE).get("architecture", "")
    code = [hash_code("stages.sampling", (architecture,)), get_versions(_VERSIONS)]
    return make_key(generator, study.study.seed, study.evaluation.num_images, code)


def note_sample(root: Path, name: str, instance: int, key: str) -> None:
    """Note what the images of an instance, which are whole now, were drawn from.

    Raises:
        UserError: when the disk is full or the folder cannot be written.
    """
    sha256 = hash_file(get_samples_file(root, name, instance))
    write_json(get_samples_note(root, name, instance), {"key": key, "sha256": sha256})


def is_drawn_from(root: Path, name: str, instance: int, key: str) -> bool:
    """Tell whether there are images that were drawn from this, without reading them."""
    is_there = get_samples_file(root, name, instance).is_file()
    return is_there and _read_note(root, name, instance).get("key") == key


def is_sample_whole(root: Path, name: str, instance: int, key: str) -> bool:
    """Tell whether the images are, byte for byte, those that were drawn from this."""
    if not is_drawn_from(root, name, instance, key):
        return False
    sha256 = hash_file(get_samples_file(root, name, instance))
    return sha256 == _read_note(root, name, instance).get("sha256")


def _read_note(root: Path, name: str, instance: int) -> dict[str, Any]:
    try:
        return read_json(get_samples_note(root, name, instance))
    except UserError:  # a damaged one is worth no more than none
        return {}
