"""Stored images: read alike from a file and from memory, in any order, and written in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.data.images import create_images, load_images, save_array, write_images
from knowledge_gaps.data.store import Images, ImageStore, hold_images, load_array, open_images

SHAPE = (3, 4, 5)


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (23, *SHAPE), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path, images: Images) -> Path:
    save_array(tmp_path / "train.npy", images)
    return tmp_path / "train.npy"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, file: Path, images: Images) -> ImageStore:
    return hold_images(images) if request.param == "memory" else open_images(file)


def test_images_are_read_in_ranges_and_taken_in_any_order(
    store: ImageStore, images: Images
) -> None:
    assert (store.shape, len(store)) == (images.shape, 23)
    for start, stop in ((0, 23), (7, 9), (20, 30), (5, 5), (24, 25)):
        np.testing.assert_array_equal(store.read(start, stop), images[start:stop])
    indices = np.array([22, 0, 6, 7, 7, 13, 0])
    np.testing.assert_array_equal(store.take(indices), images[indices])
    assert store.take(np.empty(0, np.int64)).shape == (0, *SHAPE)
    with pytest.raises(IndexError):
        store.take(np.array([0, 23]))
    before = images.copy()
    store.read(0, 2)[:] = 0  # a copy
    store.take(np.array([0, 1]))[:] = 0
    np.testing.assert_array_equal(store.read(0, 23), before)


def test_file_written_in_parts_is_as_one_written_whole(
    tmp_path: Path, file: Path, images: Images
) -> None:
    path = tmp_path / "parts" / "train.npy"
    create_images(path, (23, *SHAPE))
    for start in (14, 0, 7, 21):
        write_images(path, start, images[start : start + 7])
    assert open_images(path).compute_sha256() == hash_file(path) == hash_file(file)
    with pytest.raises(ValueError, match="no file"):
        hold_images(images).compute_sha256()


@pytest.mark.parametrize("read", [open_images, load_array, load_images])
def test_missing_truncated_and_pickled_files_are_refused(
    file: Path, read: Callable[[Path], object]
) -> None:
    content = file.read_bytes()
    for kept in (0, 5, 60, len(content) - 1):
        file.write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"train\.npy: not a"):
            read(file)
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"not a whole \.npy file"):
        read(file)
    file.unlink()
    with pytest.raises(UserError, match=r"train\.npy: cannot be read \(No such file"):
        read(file)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 60), np.uint8)])
def test_file_that_holds_no_images(tmp_path: Path, array: np.ndarray) -> None:
    save_array(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: holds .*, uint8 \[N, C, H, W\] is needed"):
        open_images(tmp_path / "a.npy")
