"""prepare: folders of images, drawn faces and other digits through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Refuse
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.evaluation.extractors import lenet_on_reals
from knowledge_gaps.evaluation.lenet import LeNetSettings
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.stages import prepare
from knowledge_gaps.study import Kind, load_study
from study_tools import change_params, hash_tree, read_table, run_stage, write_idx

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
    assert [described[f"num_{split}"] for split in ("train", "dev", "test")] == [64, 0, 32]
    assert (described["train_dev"], described["content"]) == (described["train"], None)
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


# --- labelled images that are no digits

LABELS = (3, 5, 9)
BARS = {"name": "some-bars", "source": "idx", "directory": "data/bars", "num_dev": 30}


def draw_bars(num_images: int, height: int, width: int) -> tuple[Images, Images]:
    """Draw a bright bar along the top, the left or the diagonal on noise; return labels as well."""
    rng = np.random.default_rng(num_images)
    images = rng.integers(0, 100, (num_images, height, width), dtype=np.uint8)
    kinds = np.arange(num_images) % 3
    images[kinds == 0, :4] = 255
    images[kinds == 1, :, :4] = 255
    for step in range(min(height, width)):
        images[kinds == 2, step, step] = 255
    return images, np.array(LABELS, np.uint8)[kinds]


def write_bars(root: Path, height: int = 16, width: int = 20) -> None:
    for split, count in (("train", 120), ("t10k", 24)):
        images, labels = draw_bars(count, height, width)
        (root / "data" / "bars").mkdir(exist_ok=True)
        write_idx(root / "data" / "bars" / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(root / "data" / "bars" / f"{split}-labels-idx1-ubyte.gz", labels)


def test_lenet_of_the_study_is_trained_and_measures_quality(
    smoke_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(function: Any, items: Any, *_: Any, **__: Any) -> Any:
        return map(function, items)

    for stage in ("prepare", "quality"):
        monkeypatch.setattr(f"knowledge_gaps.stages.{stage}.map_parallel", run_here)
    monkeypatch.setattr(lenet_on_reals, "SETTINGS", LeNetSettings(steps=60, batch_size=30))
    set_data(smoke_root, BARS, "lenet_on_reals")
    write_bars(smoke_root)
    run_stage(smoke_root, "prepare")
    files = hash_tree(smoke_root / PREPARED)
    described, card = (read_json(smoke_root / PREPARED / f"{n}.json") for n in ("dataset", "lenet"))
    assert [described[f"num_{split}"] for split in ("train", "dev", "test")] == [90, 30, 24]
    assert described["train"] == files["train.npy"] != described["train_dev"]
    assert (card["classes"], card["image_shape"]) == (list(LABELS), [1, 16, 20])
    assert card["accuracy"] == {"split": "dev", "value": pytest.approx(1.0, abs=0.1)}
    assert (card["sha256"], card["steps"]) == (files["lenet.safetensors"], 60)
    assert card["training_images"]["number"] == 90
    samples = smoke_root / "data" / "samples"
    tops = draw_bars(48, 16, 20)[0][::3, None]  # of one class
    for cohort, images in (("baseline", draw_bars(16, 16, 20)[0][:, None]), ("fool_all_1", tops)):
        for instance in range(2):
            save_array(samples / cohort / "0" / f"{instance}.npy", images)
    run_stage(smoke_root, "quality")
    quality = read_table(smoke_root, "quality").set_index("generator_cohort")
    assert (
        quality["fid_lenet_some_bars_16"].groupby("generator_cohort").mean().idxmax()
        == "fool_all_1"
    )
    missing = quality["missing_classes_lenet_some_bars_16"].groupby("generator_cohort").mean()
    assert missing.to_dict() == {"real": 0, "baseline": 0, "fool_all_1": 2}
    assert quality["collapse"]["fool_all_1"].tolist() == ["collapsed"] * 2
    run_stage(smoke_root, "prepare")
    assert hash_tree(smoke_root / PREPARED) == files


@pytest.mark.parametrize(
    ("extractor", "sides_px", "labels", "words"),
    [
        (
            "lenet",
            (28, 28),
            None,
            ("'lenet' is for MNIST's digits", "('mnist')", "'lenet_on_reals'"),
        ),
        ("lenet_on_reals", (28, 30), None, ("multiples of 4 px from 16 px on", "have 28 x 30")),
        ("lenet_on_reals", (12, 16), None, ("multiples of 4 px from 16 px on", "have 12 x 16")),
        ("lenet_on_reals", (16, 16), 7, ("two classes or more", "are all 7")),
    ],
)
def test_extractor_that_does_not_fit_is_refused(
    smoke_root: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    extractor: str,
    sides_px: tuple[int, int],
    labels: int | None,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(prepare, "map_parallel", lambda function, items, _: map(function, items))
    set_data(smoke_root, {**BARS, "name": "mnist", "source": "reduced"}, extractor)
    write_bars(smoke_root, *sides_px)
    directory = smoke_root / "data" / "bars"
    if labels is not None:
        write_idx(directory / "train-labels-idx1-ubyte.gz", np.full(120, labels, np.uint8))
    write_json(directory / "checksums.json", hash_tree(directory))
    refuse(smoke_root, "prepare", ("evaluation.extractor: ", *words), "data/prepared")


@pytest.mark.parametrize(
    ("data", "extractor", "words"),
    [
        ({}, "random_vgg", ("1 images cannot be used: 00000/00007.png", "data.allow_bad")),
        ({"directory": "data/nowhere"}, "random_vgg", ("data/nowhere", "missing")),
        ({"num_train": 8}, "random_vgg", ("evaluation.num_images", "training split has 8")),
        ({"num_test": 8}, "random_vgg", ("evaluation.num_images", "test split has 8")),
        (
            {"num_dev": 49, "num_train": 16},
            "random_vgg",
            ("num_dev + data.num_test: 16 + 49 + 32",),
        ),
        (
            {},
            "lenet_on_reals",
            ("evaluation.extractor: 'lenet_on_reals'", "on labels", "have none"),
        ),
        ({}, "lenet", ("evaluation.extractor: 'lenet'", "1 x 28 x 28 (chann", "have 3 x 8 x 8")),
    ],
)
def test_bad_data_is_refused(
    images_root: Path, refuse: Refuse, data: dict[str, Any], extractor: str, words: tuple[str, ...]
) -> None:
    set_data(images_root, {**SQUARES, **data}, extractor)
    (images_root / "data" / "squares" / "00000" / "00007.png").write_bytes(b"\x89PNG")
    refuse(images_root, "prepare", words, "data/prepared")
