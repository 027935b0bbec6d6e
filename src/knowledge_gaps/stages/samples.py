"""samples: draw every generator's images once, and keep those that would come out the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, make_key, read_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_generators

_WORK = "knowledge_gaps.evaluation.sampling"  # only workers import it, and torch with it
_CODE = (
    "core/seeding.py",
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/sampling.py",
    "models",
    "training/batches.py",
)

_Name = tuple[str, int]  # GAN cohort, instance


def run(root: Path, study: Study) -> None:
    """Write data/samples, a file of images for each generator; raises UserError for a bad one.

    DVC leaves the folder as it is (`persist`). Images that would come out the same stay, what
    belongs to no generator of the study is removed, and every other file is replaced, never written
    into: it may be a link into DVC's cache.
    """
    names = list_generators(study)

    def is_valid(name: _Name, row: Row) -> bool:
        path = layout.get_samples_file(root, *name)
        return path.is_file() and hash_file(path) == row["sha256"]

    def compute(missing: list[_Name]) -> Iterator[dict[_Name, Row]]:
        hashes = map_parallel(partial(_save, root, study), missing, _WORK, uses_gpu=True)
        for (cohort, instance), sha256 in zip(missing, hashes, strict=True):
            print(f"samples: drew {cohort}/{instance}", flush=True)
            yield {(cohort, instance): {"sha256": sha256}}

    keys = {name: _make_key(root, study, *name) for name in names}
    kept = {layout.get_samples_file(root, *name) for name in names}
    _remove_others(root / layout.SAMPLES, kept)
    compute_rows(root, "samples", keys, compute, is_valid)


def _make_key(root: Path, study: Study, cohort: str, instance: int) -> str:
    """Hash all that decides an instance's images; raises UserError for a missing checkpoint."""
    directory = layout.get_instance_directory(root, f"gans/{cohort}", instance)
    return make_key(
        [cohort, instance, study.study.seed, study.evaluation.num_images],  # decide the latents
        [hash_file(directory / file) for file in (layout.GENERATOR_FILE, layout.META_FILE)],
        hash_code(_CODE, (read_json(directory / layout.META_FILE).get("architecture", ""),)),
        get_versions(("torch",)),
    )


def _save(root: Path, study: Study, name: _Name) -> str:
    from knowledge_gaps.evaluation.sampling import save_samples

    return save_samples(root, study, *name, find_device())


def _remove_others(directory: Path, kept: set[Path]) -> None:
    """Remove what left the study and temporary files of a killed run, links included."""
    cohorts = {path.parent for path in kept}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in [*directory.iterdir(), *directory.glob("*/*")]:
            if path in kept or (path in cohorts and not path.is_symlink()):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror or error})") from error
