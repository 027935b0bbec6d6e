"""Independent cohorts by `kgaps repro`, which runs stages side by side, against `dvc repro`.

Both train the cohorts of a sweep in a temporary clone. Every run has a seed of its own, for DVC
would take out of its cache what another run has trained.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knowledge_gaps.runtime.devices import count_cores
from knowledge_gaps.runtime.files import dump_json, write_text
from knowledge_gaps.study import PARAMS_FILE
from measuring.pairs import compare, take_turns
from measuring.results import Effort, Figure, Row
from studies.clone import Clone, clone_working_tree
from studies.short_study import (
    DETECTORS,
    POOL,
    describe_classifiers,
    describe_gans,
    make_content,
)

_COMMANDS = ("dvc repro", "kgaps repro")


@dataclass(frozen=True)
class Sizes:
    """What is trained.

    Attributes:
        cohorts: of the sweep.
        instances: of each cohort; a row of the table for each number.
        steps: of each instance.
    """

    cohorts: int = 4
    instances: tuple[int, ...] = (1, count_cores())
    steps: int = 400


def measure_side_by_side(effort: Effort) -> Figure:
    """Measure a sweep whose cohorts have one instance, and one whose cohorts fill the cores."""
    sizes = Sizes(2, (1, 2), 2) if effort.is_quick else Sizes()
    seconds = {}
    for instances in sizes.instances:
        with tempfile.TemporaryDirectory() as folder:
            clone = clone_working_tree(Path(folder) / "clone", write_params(sizes, instances, 0))
            clone.run("dvc", "repro", "prepare")  # what both find done
            seeds = itertools.count(1)
            variants = {
                command: partial(_train, clone, command, sizes, instances, seeds)
                for command in _COMMANDS
            }
            seconds[instances] = take_turns(variants, effort.num_turns)
    rows = [
        Row(
            f"{sizes.cohorts} cohorts, instances in each: {instances}; `dvc repro` / `kgaps repro`",
            compare(*(found[command] for command in _COMMANDS)),
        )
        for instances, found in seconds.items()
    ]
    return Figure(
        "side_by_side",
        "Independent cohorts side by side",
        f"{sizes.cohorts} cohorts of DCGANs that do not stand on one another, as those of a sweep, "
        f"{sizes.steps} steps an instance, trained by `dvc repro` one after the other and by "
        f"`kgaps repro` side by side, with {count_cores()} cores. There is room for a second "
        "cohort where one has fewer instances than there are cores. Both times hold the check of "
        "the study, whose seed is another one in every run.",
        rows,
        measured={"seconds": seconds},
    )


def write_params(sizes: Sizes, instances: int, seed: int) -> str:
    """Write a study whose GAN cohorts do not stand on one another."""
    content = make_content(sizes.steps, sizes.steps)
    content["study"]["seed"] = seed
    names = [f"cohort_{k}" for k in range(sizes.cohorts)]
    content["gans"] = {name: describe_gans(instances) for name in names}
    # a study needs classifiers; these are not trained
    content["pools"] = {POOL: {"extends": "none", "cohort": f"gans/{names[0]}", "instances": [0]}}
    content["classifiers"] = {DETECTORS: describe_classifiers(1, POOL)}
    return dump_json(content)  # JSON is a part of YAML


def _train(clone: Clone, command: str, sizes: Sizes, instances: int, seeds: Iterator[int]) -> float:
    write_text(clone.root / PARAMS_FILE, write_params(sizes, instances, next(seeds)))
    targets = [f"gans@cohort_{k}" for k in range(sizes.cohorts)]
    return clone.time(*command.split(), *targets)
