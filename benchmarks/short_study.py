"""A study in a folder, made of the reduced one's recipes with few steps, for timing its commands.

The study is written as params.yaml; data and networks come by the project's own commands.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_gaps.core.files import dump_json, write_text
from knowledge_gaps.core.layout import PREPARED, TEST_IMAGES, TRAIN_IMAGES
from knowledge_gaps.data.store import open_images
from knowledge_gaps.study import PARAMS_FILE, read_yaml
from measuring import REPOSITORY, time_module

REDUCED_FILE = REPOSITORY / "settings" / "mnist_reduced.yaml"
GAN_RECIPE, CLASSIFIER_RECIPE = "dcgan", "cnn"
GANS, CLASSIFIERS, POOL = "some", "others", "three"  # the cohorts, and the pool of the classifiers
COMMANDS = (("gans", GANS), ("pools", POOL), ("classifiers", CLASSIFIERS), ("samples",))
POOL_SIZE = 3  # generators that classifiers learn to detect, as in the reduced study


class ShortStudy:
    """A study with a cohort of GANs and one of classifiers, ready to be trained.

    Args:
        root: an empty folder.
        instances: of both cohorts, at least `POOL_SIZE`.
        num_images: of every generator in evaluation.
    """

    def __init__(self, root: Path, instances: int, num_images: int = 500) -> None:
        self.root, self._instances, self._num_images = root, instances, num_images
        data = read_yaml(REDUCED_FILE)["data"]["directory"]
        (root / data).parent.mkdir(parents=True)
        (root / data).symlink_to(REPOSITORY / data)
        self.set_steps(1)
        for command in ("check", "prepare"):
            self.run(command)
        for split in (TRAIN_IMAGES, TEST_IMAGES):
            images = open_images(root / PREPARED / split)
            np.save(self.get_reals_file(split), images)

    def set_steps(self, steps: int) -> None:
        """Write the study, with so many steps a training."""
        content: dict[str, Any] = read_yaml(REDUCED_FILE)
        content["study"] |= {"name": "benchmark", "chains": 1}
        content["gan_recipes"][GAN_RECIPE]["steps"] = steps
        content["classifier_recipes"][CLASSIFIER_RECIPE]["steps"] = steps
        pool = {"extends": "none", "cohort": f"gans/{GANS}", "instances": list(range(POOL_SIZE))}
        gans = {"recipe": GAN_RECIPE, "fools": "none", "phi": 0.0}
        classifiers = {"recipe": CLASSIFIER_RECIPE, "detects": POOL}
        content |= {"pools": {POOL: pool}, "report": {}}
        content["gans"] = {GANS: {**gans, "instances": self._instances}}
        content["classifiers"] = {CLASSIFIERS: {**classifiers, "instances": self._instances}}
        content["evaluation"]["num_images"] = self._num_images
        write_text(self.root / PARAMS_FILE, dump_json(content))  # JSON is a part of YAML

    def run(self, *command: str) -> float:
        """Run a command of the project that has nothing from before; return its seconds."""
        shutil.rmtree(self.root / ".kgaps", ignore_errors=True)
        if command[0] in ("gans", "classifiers"):
            shutil.rmtree(self.root / "models" / command[0], ignore_errors=True)
        return time_module(self.root, "knowledge_gaps", *command)

    def get_reals_file(self, split: str) -> Path:
        """The reals of a split as one .npy file, uint8 [N, 1, 28, 28]."""
        return self.root / f"{split}.npy"

    def list_files(self, pattern: str) -> list[Path]:
        """List files by a pattern in the order of instances, of which there are less than ten."""
        return sorted(self.root.glob(pattern))
