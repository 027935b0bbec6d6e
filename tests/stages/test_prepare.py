"""prepare: folders, archives and drawn faces through the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Refuse
from data_tools import map_here, write_reals
from knowledge_gaps.core.files import read_json
from knowledge_gaps.data.idx import read_idx
from knowledge_gaps.data.images import load_images
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.stages import prepare
from knowledge_gaps.study.load import load_study
from knowledge_gaps.study.recipes import Kind
from study_tools import change_params, hash_tree, run_stage

MAP_IMAGES = prepare._map_images

IMAGES = {
    "name": "squares",
    "source": "images",
    "directory": "data/squares",
    "num_train": None,
    "num_test": 32,
}


@pytest.fixture(autouse=True)
def _few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_map_images", map_here)


@pytest.fixture
def images_root(smoke_root: Path) -> Path:
    """Return a study of a folder of 96 random images of 8 px, in colour."""
    set_data(smoke_root, **IMAGES)
    for index, content in enumerate(pack_images(96, 8)):
        path = smoke_root / "data" / "squares" / f"{index // 50:05d}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return smoke_root


def set_data(root: Path, **data: Any) -> None:
    """Replace the section data, and ask for few images of an extractor that takes all."""
    change_params(root, {"data": data, "evaluation": {"num_images": 16, "extractor": "random_vgg"}})


def pack_images(count: int, side_px: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    packed = []
    for pixels in rng.integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        packed.append(buffer.getvalue())
    return packed


def test_folder_is_prepared(images_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_map_images", MAP_IMAGES)  # by workers, as for everybody
    run_stage(images_root, "prepare")
    prepared = images_root / "data" / "prepared"
    assert sorted(hash_tree(prepared)) == [
        "dataset.json",
        "samples.png",
        "test.npy",
        "train.npy",
    ]
    described = read_json(prepared / "dataset.json")
    assert described["name"] == "squares"
    assert described["image_shape"] == [3, 8, 8]
    assert (described["num_train"], described["num_test"]) == (64, 32)
    every = np.concatenate([load_images(prepared / name) for name in ("train.npy", "test.npy")])
    for content, image in zip(pack_images(96, 8), every, strict=True):
        with Image.open(io.BytesIO(content)) as picture:
            np.testing.assert_array_equal(np.asarray(picture).transpose(2, 0, 1), image)


def test_hash_depends_on_every_image(images_root: Path) -> None:
    prepared = images_root / "data" / "prepared"
    run_stage(images_root, "prepare")
    files = hash_tree(prepared)
    run_stage(images_root, "prepare")
    assert hash_tree(prepared) == files
    before = read_json(prepared / "dataset.json")["sha256"]
    Image.new("RGB", (8, 8)).save(images_root / "data" / "squares" / "00001" / "00095.png")
    run_stage(images_root, "prepare")
    assert read_json(prepared / "dataset.json")["sha256"] != before


def test_trainings_record_the_hash_of_the_reals(images_root: Path) -> None:
    run_stage(images_root, "check")
    run_stage(images_root, "prepare")
    study = load_study(images_root / "params.yaml")
    [first, _] = make_tasks(images_root, study, Kind.GANS, "baseline")
    assert first.data_sha256 == hash_tree(images_root / "data" / "prepared")["train.npy"]


def test_drawn_faces_are_prepared_and_named_so(smoke_root: Path) -> None:
    set_data(
        smoke_root,
        name="open-peeps",
        source="dicebear",
        directory="data/drawn_faces",
        style="open-peeps",
        resolution_px=16,
        num_train=40,
        num_test=16,
    )
    run_stage(smoke_root, "prepare")
    prepared = smoke_root / "data" / "prepared"
    described = read_json(prepared / "dataset.json")
    assert described["drawn_faces"]["licence"] == "CC0 1.0"
    assert described["image_shape"] == [3, 16, 16]
    every = np.concatenate([load_images(prepared / name) for name in ("train.npy", "test.npy")])
    assert len({image.tobytes() for image in every}) == 56


def test_fashion_mnist_by_its_idx_files(smoke_root: Path) -> None:
    """Any set in IDX format is read; known values are those of MNIST alone."""
    directory = smoke_root / "data" / "fashion-mnist"
    write_reals(directory)
    set_data(smoke_root, name="fashion-mnist", source="idx", directory="data/fashion-mnist")
    run_stage(smoke_root, "prepare")
    prepared = smoke_root / "data" / "prepared"
    assert read_json(prepared / "dataset.json")["name"] == "fashion-mnist"
    images = read_idx(directory / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(load_images(prepared / "test.npy")[:, 0], images)
    assert (prepared / "train_labels.npy").exists()


# --- bad input


BAD_DATA: dict[str, tuple[Callable[[Path], Any], dict[str, Any], tuple[str, ...]]] = {
    "missing directory": (
        lambda _: None,
        {"directory": "data/nowhere"},
        ("data/nowhere", "missing"),
    ),
    "unreadable image": (
        lambda path: (path / "00000" / "00007.png").write_bytes(b"\x89PNG"),
        {},
        ("00000/00007.png", "1 images cannot be used", "data.allow_bad"),
    ),
    "no power of two": (lambda _: None, {"resolution_px": 12}, ("data", "12", "power of two")),
    "too few images": (lambda _: None, {"num_train": 65}, ("65 + 32", "96 images")),
    "fewer than are evaluated": (lambda _: None, {"num_test": 8}, ("evaluation.num_images", "8")),
    "unknown style": (
        lambda _: None,
        {"source": "dicebear", "style": "x", "num_train": 32, "resolution_px": 8},
        ("data.style", "'x'"),
    ),
}


@pytest.mark.parametrize(("spoil", "changes", "words"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused(
    images_root: Path,
    refuse: Refuse,
    spoil: Callable[[Path], Any],
    changes: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    spoil(images_root / "data" / "squares")
    set_data(images_root, **{**IMAGES, **changes})
    refuse(images_root, "prepare", words, "data/prepared")


def test_extractor_that_does_not_fit_is_refused_first(images_root: Path, refuse: Refuse) -> None:
    change_params(images_root, {"evaluation.extractor": "lenet"})
    words = ("evaluation.extractor", "1 x 28 x 28 (channels, height, width)", "has 3 x 8 x 8")
    refuse(images_root, "prepare", words, "data/prepared")
