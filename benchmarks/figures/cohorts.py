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

from knowledge_gaps.study import Kind
from measuring.pairs import compare, take_turns
from measuring.processes import Answer, run_script
from measuring.results import Effort, Figure, Row, Target
from studies.short_study import (
    DETECTORS,
    GANS,
    get_reals_file,
    list_generator_files,
    make_cohorts_root,
)

_OWN, _LOOP, _NARROW = "own", "loop", "one thread"
_NARROW_SHARE = 4  # the loop of one thread, which is told beside the target, trains this part


@dataclass(frozen=True)
class Sizes:
    """What is trained: so many instances, for so many steps."""

    instances: int = 8
    steps: int = 300


def measure_gans(effort: Effort) -> Figure:
    """Measure a cohort of DCGANs."""
    sizes = Sizes(2, 4) if effort.is_quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(root, sizes.steps, sizes.instances, with_classifiers=False)
        loop = partial(run_script, "baselines/dcgan_loop.py", get_reals_file(root))
        own = partial(_run_own, root, Kind.GANS, GANS, sizes)
        answers = _take_turns(own, loop, sizes, effort)
    return _tell("gans", "DCGANs", answers, sizes, 2.5)


def measure_classifiers(effort: Effort) -> Figure:
    """Measure a cohort of classifiers against three generators."""
    sizes = Sizes(2, 4) if effort.is_quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(root, sizes.steps, sizes.instances, with_classifiers=True)
        files = (get_reals_file(root), *list_generator_files(root))
        loop = partial(run_script, "baselines/classifier_loop.py", *files)
        own = partial(_run_own, root, Kind.CLASSIFIERS, DETECTORS, sizes)
        answers = _take_turns(own, loop, sizes, effort)
    return _tell("classifiers", "classifiers", answers, sizes, 2.0)


def _run_own(root: Path, kind: Kind, cohort: str, sizes: Sizes) -> Answer:
    return run_script("children/cohort.py", root, kind.value, cohort, "--sizes", sizes.instances)


def _take_turns(
    own: Callable[[], Answer], loop: Callable[..., Answer], sizes: Sizes, effort: Effort
) -> dict[str, list[Answer]]:
    """Let the project, the loop, and the loop of one thread train in turns; return each's answers.

    Args:
        own: trains the project's cohort.
        loop: trains, with further options.
        sizes: what is trained.
        effort: how many turns.
    """
    answers: dict[str, list[Answer]] = {_OWN: [], _LOOP: [], _NARROW: []}
    options = ("--steps", sizes.steps, "--instances")
    part = sizes.instances // _NARROW_SHARE or 1
    starts: dict[str, Callable[[], Answer]] = {
        _OWN: own,
        _LOOP: partial(loop, *options, sizes.instances),
        _NARROW: partial(loop, *options, part, "--threads", 1),
    }

    def run(side: str) -> float:
        answers[side].append(starts[side]())
        return answers[side][-1].wall_sec

    take_turns({side: partial(run, side) for side in starts}, effort.num_turns)
    return answers


def _tell(
    name: str, title: str, answers: dict[str, list[Answer]], sizes: Sizes, target: float
) -> Figure:
    """Tell the ratios."""
    trained = [answer.content["trained"][0]["seconds"][0] for answer in answers[_OWN]]
    looped = [answer.content["seconds"] for answer in answers[_LOOP]]
    times = sizes.instances / (sizes.instances // _NARROW_SHARE or 1)
    narrow = [times * answer.content["seconds"] for answer in answers[_NARROW]]
    walls = {side: [answer.wall_sec for answer in answers[side]] for side in (_OWN, _LOOP)}
    what = f"{sizes.instances} {title}, images a second: project / "
    goal = Target(target, is_least=True)
    return Figure(
        name,
        f"A cohort of {sizes.instances} {title} against a plain loop",
        f"The recipe of settings/mnist_reduced.yaml for {sizes.steps} steps an instance: the "
        "project's cohort, one process a core, against a plain eager PyTorch loop that trains one "
        "instance after the other with torch's default threads "
        f"({answers[_LOOP][0].content['threads']} here). Both clocks start when the first "
        "network has been built. Process starts are told apart: a study's "
        f"cohort has them once, and trains more than {sizes.steps} steps. The loop of one thread "
        f"trains one instance in {times:g}, and its seconds count so many times.",
        [
            Row(f"{what}loop, trainings alone", compare(looped, trained), "x", goal),
            Row(f"{what}loop, process starts included", compare(walls[_LOOP], walls[_OWN])),
            Row(f"{what}loop of one thread, trainings alone", compare(narrow, trained)),
        ],
        measured={
            "steps": sizes.steps,
            "instances": sizes.instances,
            "own_sec": trained,
            "loop_sec": looped,
            "one_thread_sec": narrow,
            "wall_sec": walls,
        },
    )
