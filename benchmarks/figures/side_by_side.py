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
    """The cohorts of one sweep.

    Attributes:
        cohorts: of the sweep.
        instances: of each cohort.
        steps: of each instance.
    """

    cohorts: int
    instances: int
    steps: int


# one that leaves cores free, about as long as those of the reduced study; one that fills them all
_CASES = (Sizes(4, 1, 1200), Sizes(4, count_cores(), 400))
_QUICK_CASES = (Sizes(2, 1, 2), Sizes(2, 2, 2))


def measure_side_by_side(effort: Effort) -> Figure:
    """Measure a sweep whose cohorts have one instance, and one whose cohorts fill the cores."""
    cases = _QUICK_CASES if effort.is_quick else _CASES
    seconds = {_describe(sizes): _time_both(sizes, effort) for sizes in cases}
    rows = [
        Row(
            f"{case}; `dvc repro` / `kgaps repro`",
            compare(*(found[command] for command in _COMMANDS)),
        )
        for case, found in seconds.items()
    ]
    return Figure(
        "side_by_side",
        "Independent cohorts side by side",
        "Cohorts of DCGANs that do not stand on one another, as those of a sweep, trained by "
        f"`dvc repro` one after the other and by `kgaps repro` side by side, with {count_cores()} "
        "cores. There is room for a second cohort where one has fewer instances than there are "
        "cores. Both times hold the check of the study, whose seed is another one in every run.",
        rows,
        measured={"seconds": seconds},
    )


def _describe(sizes: Sizes) -> str:
    instances = f"{sizes.instances} instance{'s' if sizes.instances > 1 else ''}"
    return f"{sizes.cohorts} cohorts of {instances}, {sizes.steps:,} steps"


def _time_both(sizes: Sizes, effort: Effort) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_working_tree(Path(folder) / "clone", write_params(sizes, 0))
        clone.run("dvc", "repro", "prepare")  # what both find done
        seeds = itertools.count(1)
        variants = {command: partial(_train, clone, command, sizes, seeds) for command in _COMMANDS}
        return take_turns(variants, effort.num_turns)


def write_params(sizes: Sizes, seed: int) -> str:
    """Write a study whose GAN cohorts do not stand on one another."""
    content = make_content(sizes.steps, sizes.steps)
    content["study"]["seed"] = seed
    names = [f"cohort_{k}" for k in range(sizes.cohorts)]
    content["gans"] = {name: describe_gans(sizes.instances) for name in names}
    # a study needs classifiers; these are not trained
    content["pools"] = {POOL: {"extends": "none", "cohort": f"gans/{names[0]}", "instances": [0]}}
    content["classifiers"] = {DETECTORS: describe_classifiers(1, POOL)}
    return dump_json(content)  # JSON is a part of YAML


def _train(clone: Clone, command: str, sizes: Sizes, seeds: Iterator[int]) -> float:
    write_text(clone.root / PARAMS_FILE, write_params(sizes, next(seeds)))
    targets = [f"gans@cohort_{k}" for k in range(sizes.cohorts)]
    return clone.time(*command.split(), *targets)
