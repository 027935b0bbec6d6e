"""A cohort of GANs or classifiers by the project, against a plain loop over its instances."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from knowledge_gaps.core.layout import TRAIN_IMAGES
from measuring import Effort, Figure, Row, compare, take_turns, time_module
from short_study import CLASSIFIERS, GANS, POOL, POOL_SIZE, ShortStudy

_OWN, _LOOP, _NARROW = "project", "plain loop", "plain loop of one thread"


def measure_gans(effort: Effort) -> Figure:
    """Measure a cohort of DCGANs."""
    return _measure(effort, "gans", GANS, "DCGANs")


def measure_classifiers(effort: Effort) -> Figure:
    """Measure a cohort of classifiers against three generators."""
    return _measure(effort, "classifiers", CLASSIFIERS, "classifiers")


def _measure(effort: Effort, kind: str, cohort: str, name: str) -> Figure:
    instances, steps = (POOL_SIZE, 4) if effort.is_quick else (4, 400)
    with tempfile.TemporaryDirectory() as folder:
        study, generators = ShortStudy(Path(folder), instances), []
        if kind == "classifiers":
            study.run("gans", GANS)
            study.run("pools", POOL)
            generators = study.list_files("models/gans/*/*/*/generator.safetensors")[:POOL_SIZE]
        study.set_steps(steps)
        options = ("--steps", steps, "--instances", instances)
        files = (study.get_reals_file(TRAIN_IMAGES), *generators)
        loop = partial(time_module, study.root, "baselines.train", *files, *options)
        seconds = take_turns(
            {
                _OWN: partial(study.run, kind, cohort),
                _LOOP: loop,
                _NARROW: partial(loop, "--threads", 1),
            },
            effort.num_turns,
        )
    return Figure(
        kind,
        f"A cohort of {instances} {name} against a plain loop",
        f"The recipe of settings/mnist_reduced.yaml for {steps} steps an instance: `kgaps {kind}`, "
        "one process a core, against a plain eager PyTorch loop that trains one instance after the "
        "other, with torch's default threads and with one. Seconds of whole commands, process "
        "starts included; a study trains longer, so they count less there.",
        [
            Row(f"{loop_name} / project, seconds", compare(seconds[loop_name], seconds[_OWN]))
            for loop_name in (_LOOP, _NARROW)
        ],
        {"seconds": seconds},
    )
