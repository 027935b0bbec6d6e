"""prepare: folders of images and drawn faces through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Refuse
from knowledge_gaps.core.files import read_json
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.stages import prepare
from knowledge_gaps.study import Kind, load_study
from study_tools import change_params, hash_tree, run_stage

PREPARED = Path("data") / "prepared"
SQUARES = {"name": "squares", "source": "images", "directory": "data/squares", "num_test": 32}


@pytest.fixture(scope="module")
def drawn() -> Images:
    return np.random.default_rng(0).integers(0, 256, (96, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def images_root(smoke_root: Path, drawn: Images) -> Path:
    """Return a study of a folder of 96 random images of 8 px, in colour."""
    set_data(smoke_root, SQUARES)
    for index, pixels in enumerate(drawn):
        path = smoke_root / "data" / "squares" / f"{index // 50:05d}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
    return smoke_root


def set_data(root: Path, data: dict[str, Any], extractor: str = "random_vgg") -> None:
    """Replace the section data, and ask for few images of an extractor, unless named of any."""
    change_params(root, {"data": data, "evaluation": {"num_images": 16, "extractor": extractor}})


def load_prepared(root: Path) -> Images:
    files = (root / PREPARED / name for name in ("train.npy", "test.npy"))
    return np.concatenate([open_images(file) for file in files])


def test_folder_is_prepared(images_root: Path, drawn: Images) -> None:
    run_stage(images_root, "prepare")
    files = hash_tree(images_root / PREPARED)
    assert sorted(files) == ["dataset.json", "samples.png", "test.npy", "train.npy"]
    described = read_json(images_root / PREPARED / "dataset.json")
    assert (described["name"], described["image_shape"]) == ("squares", [3, 8, 8])
    assert (described["num_train"], described["num_test"]) == (64, 32)
    np.testing.assert_array_equal(load_prepared(images_root), drawn)
    Image.new("RGB", (8, 8)).save(images_root / "data" / "squares" / "00001" / "00095.png")
    run_stage(images_root, "prepare")
    assert read_json(images_root / PREPARED / "dataset.json")["sha256"] != described["sha256"]
    run_stage(images_root, "check")
    tasks = make_tasks(images_root, load_study(images_root / "params.yaml"), Kind.GANS, "baseline")
    assert {task.data_sha256 for task in tasks} == {files["train.npy"]}


def test_drawn_faces_are_prepared_and_named_so(
    smoke_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_map_images", lambda function, items, _: map(function, items))
    faces = {"name": "open-peeps", "source": "dicebear", "directory": "data/drawn_faces"}
    sizes = {"resolution_px": 16, "num_train": 40, "num_test": 16}
    set_data(smoke_root, {**faces, **sizes, "style": "open-peeps"})
    run_stage(smoke_root, "prepare")
    described = read_json(smoke_root / PREPARED / "dataset.json")
    assert described["drawn_faces"]["licence"] == "CC0 1.0"
    assert described["image_shape"] == [3, 16, 16]
    assert len({image.tobytes() for image in load_prepared(smoke_root)}) == 56


@pytest.mark.parametrize(
    ("data", "extractor", "words"),
    [
        ({}, "random_vgg", ("1 images cannot be used: 00000/00007.png", "data.allow_bad")),
        ({"directory": "data/nowhere"}, "random_vgg", ("data/nowhere", "missing")),
        ({"num_train": 8}, "random_vgg", ("evaluation.num_images", "training split has 8")),
        ({"num_test": 8}, "random_vgg", ("evaluation.num_images", "test split has 8")),
        ({}, "lenet", ("evaluation.extractor: 'lenet'", "1 x 28 x 28 (chann", "has 3 x 8 x 8")),
    ],
)
def test_bad_data_is_refused(
    images_root: Path, refuse: Refuse, data: dict[str, Any], extractor: str, words: tuple[str, ...]
) -> None:
    set_data(images_root, {**SQUARES, **data}, extractor)
    (images_root / "data" / "squares" / "00000" / "00007.png").write_bytes(b"\x89PNG")
    refuse(images_root, "prepare", words, "data/prepared")
