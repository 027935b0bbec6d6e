"""samples: draw every generator's images once, and keep those that would come out the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.layout import get_samples_directory, get_samples_file
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.samples import list_generators, make_samples_key
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_WORK = "knowledge_gaps.evaluation.sampling"  # only workers import it, and torch with it

_Name = tuple[str, int]  # GAN cohort, instance


def run(root: Path, study: Study) -> None:
    """Write data/samples, a file of images for each generator.

    DVC leaves the folder as it is (`persist`). Images that would come out the same stay, what
    belongs to no generator of the study is removed, and every other file is replaced, never written
    into: it may be a link into DVC's cache.

    Raises:
        UserError: when a checkpoint is missing or altered, or the disk is full; images that were
            finished before are kept by the next run.
    """
    names = list_generators(study)

    def is_valid(name: _Name, row: Row) -> bool:
        path = get_samples_file(root, *name)
        return path.is_file() and hash_file(path) == row["sha256"]

    def compute(missing: list[_Name]) -> Iterator[dict[_Name, Row]]:
        hashes = map_parallel(partial(_save, root, study), missing, _WORK, uses_gpu=True)
        for (cohort, instance), sha256 in zip(missing, hashes, strict=True):
            print(f"samples: drew {cohort}/{instance}", flush=True)
            yield {(cohort, instance): {"sha256": sha256}}

    keys = {name: make_samples_key(root, study, *name) for name in names}
    _remove_others(get_samples_directory(root), {get_samples_file(root, *name) for name in names})
    compute_rows(root, "samples", keys, compute, is_valid)


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
