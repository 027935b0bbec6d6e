"""samples: draw every generator's images once, and keep those that would come out again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.layout import get_samples_directory, get_samples_file
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.data.drawn_samples import DrawnSamples
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_WORK = "knowledge_gaps.stages.sampling"  # what workers import; it brings torch along

_Name = tuple[str, int]  # GAN cohort, instance


@dataclass(frozen=True)
class _Job:
    """A generator whose images are missing."""

    root: Path
    name: _Name
    seed: int
    num_images: int


def run(root: Path, study: Study) -> None:
    """Write data/samples, a file of images for each generator.

    DVC leaves the folder as it is. Images that would come out again stay, what belongs to no
    generator of the study goes, and every other file is replaced, never written into: it may be a
    link to DVC's cache.

    Raises:
        UserError: when a checkpoint is missing or altered, or the disk is full; images that were
            finished before are kept by the next run.
    """
    names = [(name, i) for name, cohort in study.gans.items() for i in range(cohort.instances)]
    drawn = DrawnSamples(root, study)
    missing = [name for name in names if not drawn.is_whole(*name)]
    _remove_others(root, names)
    jobs = [_Job(root, name, study.study.seed, study.evaluation.num_images) for name in missing]
    for job, sha256 in zip(jobs, map_parallel(_draw, jobs, _WORK, uses_gpu=True), strict=True):
        drawn.note(*job.name, sha256)
        print(f"samples: drew {job.name[0]}/{job.name[1]}", flush=True)
    print(f"sampled {count_words(len(jobs), 'generator')}, {len(names) - len(jobs)} known already")


def _draw(job: _Job) -> str:
    # it imports torch, which the process that only looks for what is missing can do without
    from knowledge_gaps.stages.sampling import draw_sample

    draw_sample(job.root, *job.name, job.seed, job.num_images)
    return hash_file(get_samples_file(job.root, *job.name))


def _remove_others(root: Path, names: list[_Name]) -> None:
    """Remove all but the names' own files: what left the study, and halves of a killed run."""
    directory = get_samples_directory(root)
    own = {get_samples_file(root, *name) for name in names}
    cohorts = {path.parent for path in own}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in list(directory.iterdir()):
            is_folder = path.is_dir() and not path.is_symlink()
            if not (is_folder and path in cohorts):
                _remove(path)
                continue
            for file in [entry for entry in path.iterdir() if entry not in own]:
                _remove(file)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror or error})") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
