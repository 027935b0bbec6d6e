"""Evaluates random studies in a process of its own, and prints what that took as JSON.

    PYTHONPATH=benchmarks python benchmarks/children/evaluation.py ROOT --cohorts 20

Detections and quality by the project's own stages, nothing known from before. Workers are forked
from a server that has made its imports before the clock starts. Several numbers of images take
turns, each in a folder of its own; the reals are as many where `--reals` is not given. Memory is
that of a process that has run nothing before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from children.warm_workers import DETECTIONS, QUALITY, warm_workers
from knowledge_gaps.core.layout import TRAIN_IMAGES, get_state_directory
from knowledge_gaps.stages import detections, quality
from knowledge_gaps.study import Study
from measuring.pairs import take_turns
from measuring.usage import Usage
from studies.random_study import write_reals, write_study

STAGES: dict[str, ModuleType] = {"detections": detections, "quality": quality}
_PRELOADED = {"detections": DETECTIONS, "quality": QUALITY}
GANS, CLASSIFIERS = "gans", "classifiers"  # names of the cohorts


@dataclass(frozen=True)
class Evaluated:
    """What one stage cost at one number of images: seconds, one a turn."""

    stage: str
    images: int
    seconds: list[float]


def write_random(root: Path, cohorts: int, images: int, reals: int) -> Study:
    """Write random images and untrained classifiers, as many of both; return their study."""
    write_reals(root, reals)
    write_reals(root, reals, TRAIN_IMAGES)
    return write_study(root, {GANS: cohorts}, {CLASSIFIERS: cohorts}, images)


def measure(root: Path, options: argparse.Namespace) -> list[Evaluated]:
    """Measure every stage at every number of images."""
    studies: dict[int, tuple[Path, Study]] = {}
    for images in options.images:
        folder, reals = root / str(images), options.reals or images
        studies[images] = folder, write_random(folder, options.cohorts, images, reals)
    warm_workers([name for stage in options.stages for name in _PRELOADED[stage]])
    variants = {
        (stage, images): partial(_time, *studies[images], stage)
        for stage in options.stages
        for images in options.images
    }
    seconds = take_turns(variants, options.turns)
    return [Evaluated(stage, images, values) for (stage, images), values in seconds.items()]


def measure_memory(root: Path, options: argparse.Namespace) -> int:
    """Return the peak of the memory of one stage at one number of images."""
    [stage], [images] = options.stages, options.images
    folder = root / str(images)
    study = write_random(folder, options.cohorts, images, options.reals or images)
    warm_workers(_PRELOADED[stage])
    forget(folder)
    with Usage() as usage:
        run_stage(folder, study, stage)
    return usage.peak_bytes


def _time(root: Path, study: Study, stage: str) -> float:
    forget(root)
    start = time.perf_counter()
    run_stage(root, study, stage)
    return time.perf_counter() - start


def run_stage(root: Path, study: Study, stage: str) -> None:
    """Run a stage as the command line does, with what it says on the standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        STAGES[stage].run(root, study)


def forget(root: Path) -> None:
    """Forget what was measured before."""
    shutil.rmtree(get_state_directory(root), ignore_errors=True)


def main() -> None:
    """Evaluate, print."""
    parser = argparse.ArgumentParser(description="Time detections and quality.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--cohorts", type=int, default=20, help="generators, and classifiers")
    parser.add_argument("--images", type=int, nargs="+", required=True, help="a generator")
    parser.add_argument("--reals", type=int, help="of each split; as many as images if not given")
    parser.add_argument("--stages", nargs="+", choices=sorted(STAGES), default=sorted(STAGES))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="of one stage, instead of seconds")
    options = parser.parse_args()
    if options.memory:
        print(json.dumps({"peak_bytes": measure_memory(options.root, options)}))
        return
    evaluated = measure(options.root, options)
    print(json.dumps({"evaluated": [asdict(each) for each in evaluated]}))


if __name__ == "__main__":
    main()
