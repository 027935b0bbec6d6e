"""Evaluation images that are there: what they were drawn from, and whether they are whole.

For every generator a row of a cache, under the key of what decides its images, holds the sha256 of
their file. No torch here: a process that finds nothing to draw stays light.
"""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.cache import Row, RowCache, make_key
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import (
    GENERATOR_FILE,
    META_FILE,
    get_instance_directory,
    get_samples_file,
)
from knowledge_gaps.study import Kind, Study

_TABLE = "samples"
_SHA256 = "sha256"
_VERSIONS = ("torch",)


class DrawnSamples:
    """The images that were drawn here, by what they were drawn from.

    Args:
        root: the repository's root.
        study: the present one.
    """

    def __init__(self, root: Path, study: Study) -> None:
        self._root, self._study = root, study
        self._cache = RowCache(root, _TABLE)
        self._keys: dict[tuple[str, int], str] = {}

    def has_file(self, name: str, instance: int) -> bool:
        """Tell whether there are images of what a generator is now, without reading them.

        Args:
            name: of the GAN cohort.
            instance: index in the cohort.

        Raises:
            UserError: when the generator's weights or its meta.json are missing.
        """
        is_there = get_samples_file(self._root, name, instance).is_file()
        return self._find_row(name, instance) is not None and is_there

    def is_whole(self, name: str, instance: int) -> bool:
        """Tell whether the images are those of the generator, byte for byte; as `has_file`."""
        row = self._find_row(name, instance)
        path = get_samples_file(self._root, name, instance)
        return row is not None and path.is_file() and hash_file(path) == row[_SHA256]

    def note(self, name: str, instance: int, sha256: str) -> None:
        """Note images that are whole now."""
        self._cache.put(self._find_key(name, instance), {_SHA256: sha256})
        self._cache.save()

    def _find_row(self, name: str, instance: int) -> Row | None:
        return self._cache.get(self._find_key(name, instance))

    def _find_key(self, name: str, instance: int) -> str:
        if (name, instance) not in self._keys:
            self._keys[name, instance] = self._make_key(name, instance)
        return self._keys[name, instance]

    def _make_key(self, name: str, instance: int) -> str:
        directory = get_instance_directory(self._root, f"{Kind.GANS}/{name}", instance)
        generator = [hash_file(directory / file) for file in (GENERATOR_FILE, META_FILE)]
        architecture = read_json(directory / META_FILE).get("architecture", "")
        return make_key(
            [name, instance],  # decide the latents
            generator,
            self._study.study.seed,
            self._study.evaluation.num_images,
            hash_code(("models", "data/images.py", "core/seeding.py"), (architecture,)),
            get_versions(_VERSIONS),
        )
