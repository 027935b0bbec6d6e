"""Detections and quality of many generators and classifiers, against going pair by pair.

The images are random and the networks untrained: neither changes what is computed. The naive way
is `baselines/naive_evaluation.py`, the project's `children/evaluation.py`; both are processes of
their own, started in turns.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measuring.pairs import compare, take_turns
from measuring.processes import Answer, run_script
from measuring.results import Effort, Figure, Row, Target

_OWN, _NAIVE = "own", "naive"
_STAGES = ("detections", "quality")
_TARGET = 5.0


@dataclass(frozen=True)
class Sizes:
    """What is evaluated: generators and classifiers, images of each generator, reals a split."""

    cohorts: int = 20
    images: int = 500
    reals: int = 1000


def measure_matrix(effort: Effort) -> Figure:
    """Measure both stages against the naive way."""
    sizes = Sizes(2, 40, 60) if effort.is_quick else Sizes()
    answers: dict[str, list[Answer]] = {_OWN: [], _NAIVE: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, sizes)

        def run(side: str) -> float:
            start = run_own if side == _OWN else run_naive
            answers[side].append(start(root, sizes))
            return answers[side][-1].wall_sec

        variants = {side: partial(run, side) for side in (_OWN, _NAIVE)}
        walls = take_turns(variants, effort.num_turns)
    own = {stage: [_find(answer, stage) for answer in answers[_OWN]] for stage in _STAGES}
    naive = {stage: [answer.content[stage] for answer in answers[_NAIVE]] for stage in _STAGES}
    return _tell(sizes, own, naive, walls)


def write_files(root: Path, sizes: Sizes) -> None:
    """Write images and networks, by measuring nothing; files that are there stay as they are."""
    run_script("children/evaluation.py", root, *_list_options(sizes), "--turns", 0)


def run_own(root: Path, sizes: Sizes) -> Answer:
    """Evaluate by the project's stages."""
    return run_script("children/evaluation.py", root, *_list_options(sizes))


def run_naive(root: Path, sizes: Sizes) -> Answer:
    """Evaluate pair by pair, the same files."""
    options = ("--cohorts", sizes.cohorts, "--images", sizes.images)
    return run_script("baselines/naive_evaluation.py", root / str(sizes.images), *options)


def _list_options(sizes: Sizes) -> tuple[object, ...]:
    return "--cohorts", sizes.cohorts, "--images", sizes.images, "--reals", sizes.reals


def _find(answer: Answer, stage: str) -> float:
    [seconds] = [each["seconds"] for each in answer.content["evaluated"] if each["stage"] == stage]
    return float(seconds[0])


def _tell(
    sizes: Sizes,
    own: dict[str, list[float]],
    naive: dict[str, list[float]],
    walls: dict[str, list[float]],
) -> Figure:
    own_both = [sum(pair) for pair in zip(*own.values(), strict=True)]
    naive_both = [sum(pair) for pair in zip(*naive.values(), strict=True)]
    side = f"{sizes.cohorts} x {sizes.cohorts}"
    goal = Target(_TARGET, is_least=True)
    return Figure(
        "evaluation",
        f"Evaluation of {side} against pair by pair",
        f"{sizes.cohorts} generators and as many classifiers, {sizes.images:,} random images each "
        f"and {sizes.reals:,} reals (fewer than a study's, for the naive way takes its time). The "
        "naive way loads the classifier and both sets of images anew for every pair and calls "
        "scikit-learn, and calls torch-fidelity for every set of images, with torch's default "
        "threads; it computes fewer of the measures.",
        [
            Row(
                f"detections of {side}: naive / project",
                compare(naive["detections"], own["detections"]),
                "x",
                goal,
            ),
            Row(
                f"quality of {sizes.cohorts + 1} sets: naive / project",
                compare(naive["quality"], own["quality"]),
                "x",
                goal,
            ),
            Row("both: naive / project", compare(naive_both, own_both), "x", goal),
            Row(
                "both, process starts included: naive / project",
                compare(walls[_NAIVE], walls[_OWN]),
            ),
        ],
        measured={"own_sec": own, "naive_sec": naive, "wall_sec": walls},
    )
