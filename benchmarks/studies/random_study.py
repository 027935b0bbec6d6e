"""A study whose generators' images are random and whose classifiers are untrained, in a folder.

For timing what comes after training; its numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from knowledge_gaps.data.images import save_array
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.frozen import FORMAT
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.files import write_json
from knowledge_gaps.core.layout import (
    CLASSIFIER_FILE,
    META_FILE,
    TEST_IMAGES,
    get_instance_directory,
    get_prepared_directory,
    get_samples_file,
)
from knowledge_gaps.study import Study

SHAPE = (1, 28, 28)
CNN = CnnSettings(channels=[32, 64])  # as in the reduced study


def write_reals(root: Path, num_images: int, split: str = TEST_IMAGES) -> None:
    """Write the reals of a split: of the test split, those that classifiers are tested on."""
    seed = 0 if split == TEST_IMAGES else 10_000
    write_images(get_prepared_directory(root) / split, num_images, seed)


def write_study(
    root: Path, gans: Mapping[str, int], classifiers: Mapping[str, int], num_images: int
) -> Study:
    """Make a study of cohorts, given with their sizes, and the files of those that have none."""
    for seed, (name, instance) in enumerate(list_instances(gans), start=1):
        write_images(get_samples_file(root, name, instance), num_images, seed)
    for seed, (name, instance) in enumerate(list_instances(classifiers)):
        write_classifier(get_instance_directory(root, f"classifiers/{name}", instance), seed)
    first = next(iter(gans))
    content = {
        "study": {"name": "benchmark", "seed": 0},
        "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist"},
        "gan_recipes": {},
        "classifier_recipes": {},
        "pools": {"first": {"extends": "none", "cohort": f"gans/{first}", "instances": [0]}},
        "gans": {
            name: {"recipe": "dcgan", "instances": instances, "fools": "none", "phi": 0.0}
            for name, instances in gans.items()
        },
        "classifiers": {
            name: {"recipe": "cnn", "instances": instances, "detects": "first"}
            for name, instances in classifiers.items()
        },
        "evaluation": {"num_images": num_images},
        "report": {},
    }
    return Study.model_validate(content)


def list_instances(cohorts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """List all instances of cohorts that are given with their sizes."""
    for name, instances in cohorts.items():
        yield from ((name, instance) for instance in range(instances))


def write_images(path: Path, num_images: int, seed: int) -> None:
    """Write random images, unless the file is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        save_array(path, rng.integers(0, 256, (num_images, *SHAPE), dtype=np.uint8))


def write_classifier(directory: Path, seed: int) -> None:
    """Write a classifier with random weights as a training would, unless it is there."""
    if directory.exists():
        return
    directory.mkdir(parents=True)
    torch.manual_seed(seed)
    spec = make_input_spec(CNN, SHAPE)
    network = GanClassifier(Cnn(CNN, SHAPE), spec)
    meta = {
        "format": FORMAT,
        "kind": "classifiers",
        "architecture": "cnn",
        "settings": {"model": CNN.model_dump()},
        "image_shape": list(SHAPE),
        "input_spec": spec.model_dump(mode="json"),
        "files": {
            CLASSIFIER_FILE: write_tensors(directory / CLASSIFIER_FILE, network.state_dict())
        },
    }
    write_json(directory / META_FILE, meta)
