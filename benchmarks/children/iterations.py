"""Runs a fool-all chain iteration by iteration in a process of its own; prints what each took.

    PYTHONPATH=benchmarks python benchmarks/children/iterations.py ROOT --iterations 5
    PYTHONPATH=benchmarks python benchmarks/children/iterations.py ROOT --memory-of 0

An iteration is what a study adds with it: GANs against all classifiers so far, their images,
classifiers against the new GANs, and the pairs that were not scored before; by the project's own
stages, without DVC and tracking. Workers are forked from a server that has made its imports.
Memory is that of one iteration in a process that has run nothing before; it goes on with the files
of the iteration before, and 0 begins anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from children.warm_workers import DETECTIONS, SAMPLES, TRAINING, warm_workers
from knowledge_gaps.stages import classifiers, detections, gans, pools, samples
from knowledge_gaps.study import Study
from measuring.usage import Usage
from studies.short_study import (
    describe_classifiers,
    describe_gans,
    describe_pool,
    make_content,
    write_study,
)

_PHI = 0.1


def make_study(root: Path, num_iterations: int, options: argparse.Namespace) -> Study:
    """Write the study of so many iterations after the baseline's."""
    content = make_content(options.steps, options.steps)
    content["evaluation"]["num_images"] = options.images
    for index in range(num_iterations + 1):
        _add_iteration(content, index, options.instances)
    return write_study(root, content)


def _add_iteration(content: dict[str, Any], index: int, instances: int) -> None:
    fools, phi = (f"c_{index - 1}", _PHI) if index > 0 else ("none", 0.0)
    content["gans"][f"g_{index}"] = describe_gans(instances, fools, phi)
    content["classifiers"][f"c_{index}"] = describe_classifiers(instances, f"g_{index}")
    content["pools"] |= {
        f"g_{index}": describe_pool(f"gans/g_{index}", list(range(instances))),
        f"c_{index}": describe_pool(f"classifiers/c_{index}", [0], fools),
    }


def run_iteration(root: Path, study: Study, index: int) -> None:
    """Run what is new in the study's last iteration."""
    gans.run(root, study, f"g_{index}")
    pools.run(root, study, f"g_{index}")
    classifiers.run(root, study, f"c_{index}")
    pools.run(root, study, f"c_{index}")
    samples.run(root, study)
    detections.run(root, study)


def run_chain(root: Path, options: argparse.Namespace) -> list[float]:
    """Run all iterations from scratch; return the seconds of each."""
    forget(root)
    found = []
    for index in range(options.iterations + 1):
        study = make_study(root, index, options)
        start = time.perf_counter()
        run_iteration(root, study, index)
        found.append(time.perf_counter() - start)
    return found


def measure_memory(root: Path, options: argparse.Namespace) -> int:
    """Run one iteration after those before it; return the peak of the memory."""
    if options.memory_of == 0:
        forget(root)
    study = make_study(root, options.memory_of, options)
    with Usage() as usage:
        run_iteration(root, study, options.memory_of)
    return usage.peak_bytes


def forget(root: Path) -> None:
    """Forget all that was trained and measured before."""
    for name in (".kgaps", "models/gans", "models/classifiers", "data/samples"):
        shutil.rmtree(root / name, ignore_errors=True)


def main() -> None:
    """Run the chain so many times, print."""
    parser = argparse.ArgumentParser(description="Time the iterations of a chain.")
    parser.add_argument("root", type=Path, help="after `kgaps check` and `kgaps prepare`")
    parser.add_argument("--iterations", type=int, default=5, help="after the baseline's")
    parser.add_argument("--instances", type=int, default=2, help="of every cohort")
    parser.add_argument("--steps", type=int, default=50, help="of every training")
    parser.add_argument("--images", type=int, default=500, help="a generator")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--memory-of", type=int, help="an iteration, instead of seconds of all")
    options = parser.parse_args()
    warm_workers((*TRAINING, *SAMPLES, *DETECTIONS))
    with contextlib.redirect_stdout(sys.stderr):
        found: dict[str, object]
        if options.memory_of is None:
            found = {"seconds": [run_chain(options.root, options) for _ in range(options.turns)]}
        else:
            found = {"peak_bytes": measure_memory(options.root, options)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
