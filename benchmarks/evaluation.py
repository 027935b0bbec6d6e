"""Detections and quality of many generators and classifiers, against going pair by pair."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from knowledge_gaps.core.layout import TEST_IMAGES, TRAIN_IMAGES
from measuring import Effort, Figure, Row, compare, take_turns, time_module
from short_study import COMMANDS, POOL_SIZE, ShortStudy

_STAGES = ("detections", "quality")


def measure_evaluation(effort: Effort) -> Figure:
    """Measure both stages against the naive way."""
    size, num_images = (POOL_SIZE, 40) if effort.is_quick else (8, 500)
    with tempfile.TemporaryDirectory() as folder:
        study = ShortStudy(Path(folder), size, num_images)
        for command in COMMANDS:
            study.run(*command)
        options = ["--reals", *map(study.get_reals_file, (TEST_IMAGES, TRAIN_IMAGES)), "--samples"]
        options += study.list_files("data/samples/*/*/*.npy")
        options += ["--classifiers", *study.list_files("models/classifiers/*/*/*/*.safetensors")]
        naive = partial(time_module, study.root, "baselines.naive_evaluation", *options)
        variants = {("project", stage): partial(study.run, stage) for stage in _STAGES}
        variants |= {("naive", stage): partial(naive, "--stage", stage) for stage in _STAGES}
        seconds = take_turns(variants, effort.num_turns)
    return Figure(
        "evaluation",
        f"Evaluation of {size} x {size} against pair by pair",
        f"{size} generators and as many classifiers, {num_images:,} images each. The naive way "
        "loads the classifier and both sets of images anew for every pair and calls scikit-learn, "
        "and calls torch-fidelity for every set of images, with torch's default threads; it "
        "computes fewer of the measures. Seconds of whole commands, process starts included.",
        [
            Row(
                f"{stage}: naive / project",
                compare(seconds["naive", stage], seconds["project", stage]),
            )
            for stage in _STAGES
        ],
        {"seconds": {" ".join(name): values for name, values in seconds.items()}},
    )
