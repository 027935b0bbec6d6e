"""Stored images: mapped from a file, and written in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.data.images import create_images, save_array, write_images
from knowledge_gaps.data.store import Images, load_array, open_images

SHAPE = (3, 4, 5)


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (23, *SHAPE), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path, images: Images) -> Path:
    save_array(tmp_path / "train.npy", images)
    return tmp_path / "train.npy"


def test_file_written_in_parts_is_as_one_written_whole(
    tmp_path: Path, file: Path, images: Images
) -> None:
    path = tmp_path / "parts" / "train.npy"
    create_images(path, (23, *SHAPE))
    for start in (14, 0, 7, 21):
        write_images(path, start, images[start : start + 7])
    assert hash_file(path) == hash_file(file)
    opened = open_images(path)
    np.testing.assert_array_equal(opened, images, strict=True)
    with pytest.raises(ValueError, match="read-only"):
        opened[0] = 0


@pytest.mark.parametrize("read", [open_images, load_array])
def test_what_is_no_whole_file_is_refused(file: Path, read: Callable[[Path], object]) -> None:
    content = file.read_bytes()
    for kept in (0, 5, 60, len(content) - 1):
        file.write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"train\.npy: not a whole \.npy file"):
            read(file)
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"not a whole \.npy file"):
        read(file)
    with file.open("wb") as archive:  # of the name of a .npy file
        np.savez(archive, images=np.zeros((2, *SHAPE), np.uint8))
    with pytest.raises(UserError, match=r"train\.npy: not a whole \.npy file"):
        read(file)
    file.unlink()
    with pytest.raises(UserError, match=r"train\.npy: cannot be read \(No such file"):
        read(file)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 60), np.uint8)])
def test_file_that_holds_no_images(tmp_path: Path, array: np.ndarray) -> None:
    save_array(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: holds .*, uint8 \[N, C, H, W\] is needed"):
        open_images(tmp_path / "a.npy")
