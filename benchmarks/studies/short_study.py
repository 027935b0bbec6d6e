"""A study in a folder, made of the reduced one's recipes with few steps, for timing trainings.

`random_study` is for what comes after training. The study is written as params.yaml, and data and
trained pools come by the project's own commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knowledge_gaps.core.files import dump_json, write_text
from knowledge_gaps.core.layout import (
    GENERATOR_FILE,
    TRAIN_IMAGES,
    get_instance_directory,
    get_prepared_directory,
)
from knowledge_gaps.study import PARAMS_FILE, Study, load_study
from knowledge_gaps.study.load import read_yaml
from measuring.processes import REPOSITORY, run_kgaps

REDUCED_FILE = REPOSITORY / "settings" / "mnist_reduced.yaml"
GAN_RECIPE, CLASSIFIER_RECIPE = "dcgan", "cnn"
POOL, POOL_SIZE = "generators", 3  # what classifiers learn to detect, as in the reduced study
GANS, DETECTORS = "cohort", "detectors"  # the cohorts that are timed


def make_content(gan_steps: int, classifier_steps: int) -> dict[str, Any]:
    """Return the reduced study as plain values, without cohorts, with so many steps."""
    content: dict[str, Any] = read_yaml(REDUCED_FILE)
    content["gan_recipes"][GAN_RECIPE]["steps"] = gan_steps
    content["classifier_recipes"][CLASSIFIER_RECIPE]["steps"] = classifier_steps
    content |= {"pools": {}, "gans": {}, "classifiers": {}, "report": {}}
    content["study"]["name"] = "benchmark"
    return content


def describe_gans(instances: int, fools: str = "none", phi: float = 0.0) -> dict[str, Any]:
    """Describe a GAN cohort."""
    return {"recipe": GAN_RECIPE, "instances": instances, "fools": fools, "phi": phi}


def describe_classifiers(instances: int, detects: str) -> dict[str, Any]:
    """Describe a classifier cohort."""
    return {"recipe": CLASSIFIER_RECIPE, "instances": instances, "detects": detects}


def describe_pool(cohort: str, instances: list[int], extends: str = "none") -> dict[str, Any]:
    """Describe a pool."""
    return {"extends": extends, "cohort": cohort, "instances": instances}


def write_study(root: Path, content: dict[str, Any]) -> Study:
    """Write params.yaml, of which JSON is a part, with a link to the reals; return the study."""
    data = root / content["data"]["directory"]
    if not data.exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        data.symlink_to(REPOSITORY / content["data"]["directory"])
    write_text(root / PARAMS_FILE, dump_json(content))
    return load_study(root / PARAMS_FILE)


def make_cohorts_root(root: Path, steps: int, instances: int, with_classifiers: bool) -> None:
    """Prepare a folder in which cohorts of GANs, and of classifiers, can be trained.

    Args:
        root: of the study.
        steps: of every training.
        instances: of the cohorts.
        with_classifiers: train the generators of their pool, too.
    """
    content = make_content(steps, steps)
    content["gans"] = {GANS: describe_gans(instances), POOL: describe_gans(POOL_SIZE)}
    content["pools"] = {POOL: describe_pool(f"gans/{POOL}", list(range(POOL_SIZE)))}
    content["classifiers"] = {DETECTORS: describe_classifiers(instances, POOL)}
    write_study(root, content)
    run_kgaps(root, "check")
    run_kgaps(root, "prepare")
    if with_classifiers:
        run_kgaps(root, "gans", POOL)
        run_kgaps(root, "pools", POOL)


def get_reals_file(root: Path) -> Path:
    """The training reals."""
    return get_prepared_directory(root) / TRAIN_IMAGES


def list_generator_files(root: Path) -> list[Path]:
    """The pool's weights."""
    return [
        get_instance_directory(root, f"gans/{POOL}", instance) / GENERATOR_FILE
        for instance in range(POOL_SIZE)
    ]
