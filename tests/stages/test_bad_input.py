"""Bad params: exit 2 and one line that names the key or file; no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Refuse
from study_tools import change_params, start_kgaps

RESNET = {
    "classifier_recipes.cnn.architecture": "resnet50",
    "classifier_recipes.cnn.model": {},
    "classifier_recipes.cnn.initialisation": "imagenet",
}
EARLY = {"num_images": 8, "check_every": 4, "patience": 1}

# what is changed in params.yaml beyond what is told when it is read, and what the line must say
BAD_PARAMS: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [
    (
        {"evaluation.extractor": "lenet5"},
        ("evaluation.extractor", "'lenet5'", "one of inception, lenet, random_vgg"),
    ),
    ({"report": None}, ("report", "missing")),  # DVC refuses a section that is not there
    ({"data.directory": ""}, ("data.directory", "no path", "found ''")),
    ({"data.directory": "data/prepared/train"}, ("data.directory", "overlaps", "data/prepared")),
    ({"data.directory": "./data"}, ("data.directory", "overlaps with data/")),
    ({"gan_recipes.dcgan.architecture": "dcgam"}, ("gan_recipes.dcgan", "'dcgam'", "known: dcgan")),
    ({"gan_recipes.dcgan.model.depth": 3}, ("gan_recipes.dcgan", "depth", "unknown key")),
    ({"classifier_recipes.cnn.model.channels": []}, ("classifier_recipes.cnn", "channels", "1")),
    (
        {"gan_recipes.dcgan.model.channels": [8, 8, 8]},
        ("gan_recipes.dcgan", "model.channels", "28x28 px", "multiple of 8"),
    ),
    (
        {"classifier_recipes.cnn.translation_px": 28},
        ("classifier_recipes.cnn: translation_px: 28", "shorter side is 28 px"),
    ),
    (
        {"gan_recipes.dcgan.path_length_weight": 2.0},
        ("gan_recipes.dcgan: path_length_weight", "2.0", "'dcgan' has no styles", "0.0"),
    ),
    (
        {"classifier_recipes.cnn.gradient_checkpointing": True},
        ("classifier_recipes.cnn: gradient_checkpointing", "true", "'cnn' has no blocks", "false"),
    ),
    (
        {"classifier_recipes.cnn.initialisation": "imagenet"},
        ("classifier_recipes.cnn: initialisation", "'imagenet'", "'cnn'", "known: inception_v3"),
    ),
    (
        {**RESNET, "classifier_recipes.cnn.model": {"width_divisor": 4}},
        ("classifier_recipes.cnn: initialisation", "width_divisor 1", "found 4"),
    ),
    (
        {**RESNET, "classifier_recipes.cnn.initial_weights": "absent.pth"},
        ("initial_weights", "absent.pth is missing", "resnet50-11ad3fa6.pth", "downloaded"),
    ),
    (
        {"classifier_recipes.cnn.early_stopping": EARLY},
        ("cnn.early_stopping.held_out_generators: 1", "classifiers.iteration_0", "pool of 1"),
    ),
]


@pytest.mark.parametrize(("changes", "words"), BAD_PARAMS, ids=lambda value: next(iter(value)))
def test_params(
    smoke_root: Path, refuse: Refuse, changes: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    change_params(smoke_root, changes)
    refuse(smoke_root, "check", ("params.yaml", *words), "models/pools/none.json")


def test_params_file(smoke_root: Path, refuse: Refuse) -> None:
    path = smoke_root / "params.yaml"
    path.write_text("study: " + "[" * 3000)
    refuse(smoke_root, "check", ("params.yaml", "nested too deeply"), "models/pools/none.json")
    path.unlink()
    refuse(smoke_root, "check", ("params.yaml", "missing"), "models/pools/none.json")


def test_no_traceback_of_the_real_process(smoke_root: Path) -> None:
    change_params(smoke_root, {"gans.fool_all_1.phi": -1.0})
    process = start_kgaps(smoke_root, "check")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "gans.fool_all_1.phi" in err
