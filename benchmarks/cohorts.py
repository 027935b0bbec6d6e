"""A cohort of GANs or classifiers by the project, against a plain loop over its instances.

Both are processes of their own, started in turns: the project's path is a cohort's own, workers and
published directory included; the loop is in `baselines`. The images that are shown are the same, so
the ratio of seconds is that of images a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from children import Answer, run_script
from knowledge_gaps.study import Kind
from pairs import compare, take_turns
from results import Effort, Figure, Row, Target
from short_study import (
    DETECTORS,
    GANS,
    get_reals_file,
    list_generator_files,
    make_cohorts_root,
)

_OWN, _LOOP = "own", "loop"


@dataclass(frozen=True)
class Sizes:
    """What is trained: so many instances, for so many steps."""

    instances: int = 8
    steps: int = 150


def measure_gans(effort: Effort) -> Figure:
    """Measure a cohort of DCGANs."""
    sizes = Sizes(2, 4) if effort.is_quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(root, sizes.steps, sizes.instances, with_classifiers=False)
        loop = partial(
            run_script, "baselines/dcgan_loop.py", get_reals_file(root), *_list_options(sizes)
        )
        own = partial(_run_own, root, Kind.GANS, GANS, sizes)
        return _measure("gans", "DCGANs", own, loop, sizes, effort, 2.5)


def measure_classifiers(effort: Effort) -> Figure:
    """Measure a cohort of classifiers against three generators."""
    sizes = Sizes(2, 4) if effort.is_quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(root, sizes.steps, sizes.instances, with_classifiers=True)
        files = (get_reals_file(root), *list_generator_files(root))
        options = _list_options(sizes)
        loop = partial(run_script, "baselines/classifier_loop.py", *files, *options)
        own = partial(_run_own, root, Kind.CLASSIFIERS, DETECTORS, sizes)
        return _measure("classifiers", "classifiers", own, loop, sizes, effort, 2.0)


def _list_options(sizes: Sizes) -> tuple[object, ...]:
    return "--instances", sizes.instances, "--steps", sizes.steps


def _run_own(root: Path, kind: Kind, cohort: str, sizes: Sizes) -> Answer:
    return run_script("cohort_child.py", root, kind.value, cohort, "--sizes", sizes.instances)


def _measure(
    name: str,
    title: str,
    own: Callable[[], Answer],
    loop: Callable[[], Answer],
    sizes: Sizes,
    effort: Effort,
    target: float,
) -> Figure:
    """Let both take turns; tell both ratios."""
    answers: dict[str, list[Answer]] = {_OWN: [], _LOOP: []}

    def run(side: str, start: Callable[[], Answer]) -> float:
        answers[side].append(start())
        return answers[side][-1].wall_sec

    walls = take_turns(
        {_OWN: partial(run, _OWN, own), _LOOP: partial(run, _LOOP, loop)}, effort.num_turns
    )
    trained = [answer.content["trained"][0]["seconds"][0] for answer in answers[_OWN]]
    looped = [answer.content["seconds"] for answer in answers[_LOOP]]
    what = f"{sizes.instances} {title}, images a second"
    goal = Target(target, is_least=True)
    return Figure(
        name,
        f"A cohort of {sizes.instances} {title} against a plain loop",
        f"The recipe of settings/mnist_reduced.yaml for {sizes.steps} steps an instance: the "
        "project's cohort, one process a core, against a plain eager PyTorch loop that trains one "
        "instance after the other with torch's default threads "
        f"({answers[_LOOP][0].content['threads']} here). Process starts are told apart: a study's "
        f"cohort has them once, and trains more than {sizes.steps} steps.",
        [
            Row(f"{what}: project / loop, trainings alone", compare(looped, trained), "x", goal),
            Row(
                f"{what}: project / loop, process starts included",
                compare(walls[_LOOP], walls[_OWN]),
            ),
        ],
        measured={
            "steps": sizes.steps,
            "instances": sizes.instances,
            "own_sec": trained,
            "loop_sec": looped,
            "own_wall_sec": walls[_OWN],
            "loop_wall_sec": walls[_LOOP],
        },
    )
