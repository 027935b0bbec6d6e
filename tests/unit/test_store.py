"""Stored images: read alike from a file and from memory, in any order, without holding them all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import store as store_module
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


@pytest.fixture(params=["file", "resident", "memory"])
def store(
    request: pytest.FixtureRequest, file: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> ImageStore:
    if request.param == "file":
        monkeypatch.setattr(store_module, "RESIDENT_BYTES", 0)
    return hold_images(images) if request.param == "memory" else open_images(file)


def test_every_range_is_read_as_a_slice_would(store: ImageStore, images: Images) -> None:
    assert (store.shape, len(store)) == (images.shape, 23)
    for start in range(25):
        for stop in range(26):
            np.testing.assert_array_equal(store.read(start, stop), images[start:stop])


def test_images_are_taken_in_any_order_and_twice(store: ImageStore, images: Images) -> None:
    indices = np.array([22, 0, 6, 7, 7, 13, 0])
    np.testing.assert_array_equal(store.take(indices), images[indices])
    assert store.take(np.empty(0, np.int64)).shape == (0, *SHAPE)


def test_returned_images_are_copies(store: ImageStore, images: Images) -> None:
    before = images.copy()
    store.read(0, 2)[:] = 0
    store.take(np.array([0, 1]))[:] = 0
    np.testing.assert_array_equal(store.read(0, 23), before)


@pytest.mark.parametrize("index", [-1, 23])
def test_index_outside_is_refused(store: ImageStore, index: int) -> None:
    with pytest.raises(IndexError, match="of 23 images"):
        store.take(np.array([0, index]))


def test_hash_is_that_of_the_file(file: Path, images: Images) -> None:
    assert open_images(file).compute_sha256() == hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="no file"):
        hold_images(images).compute_sha256()


def test_file_that_is_written_in_parts_is_as_one_written_whole(
    tmp_path: Path, file: Path, images: Images
) -> None:
    path = tmp_path / "parts" / "train.npy"
    create_images(path, (23, *SHAPE))
    for start in (14, 0, 7, 21):
        write_images(path, start, images[start : start + 7])
    assert path.read_bytes() == file.read_bytes()


def test_small_store_is_kept_in_memory(file: Path, images: Images) -> None:
    store = open_images(file)
    store.take(np.array([0]))
    file.unlink()
    np.testing.assert_array_equal(store.take(np.array([5, 5])), images[[5, 5]])


# --- bad files


@pytest.mark.parametrize("read", [open_images, load_array, load_images])
def test_missing_truncated_and_pickled_files_are_refused(file: Path, read: object) -> None:
    assert callable(read)
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


def test_file_that_shrinks_after_it_was_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RESIDENT_BYTES", 0)
    store = open_images(file)
    file.write_bytes(file.read_bytes()[:-1])
    assert store.take(np.array([21])).shape == (1, *SHAPE)
    with pytest.raises(UserError, match=r"train\.npy: truncated since it was opened"):
        store.take(np.array([22]))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4, 5), np.float32),
        np.zeros((2, 60), np.uint8),
        np.asfortranarray(np.zeros((2, 3, 4, 5), np.uint8)),
    ],
    ids=["dtype", "shape", "order of bytes"],
)
def test_file_that_holds_no_images(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=False)
    with pytest.raises(UserError, match=r"a\.npy: holds .*, uint8 \[N, C, H, W\] is needed"):
        open_images(tmp_path / "a.npy")


# --- memory

_TAKE_MANY = """
import resource, sys
import numpy as np
from pathlib import Path
from knowledge_gaps.data.store import open_images
store = open_images(Path(sys.argv[1]))
rng = np.random.default_rng(0)
def take(count):
    for _ in range(count):
        store.take(rng.integers(0, len(store), 16))
take(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
take(200)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, store.shape)
"""


def test_memory_stays_flat_however_many_images_are_drawn(tmp_path: Path) -> None:
    """70,000 images of 256 px are 13 GiB in a sparse file; 3,200 draws touch 600 MiB."""
    file = tmp_path / "train.npy"
    create_images(file, (70_000, 3, 256, 256))
    finished = subprocess.run(
        [sys.executable, "-c", _TAKE_MANY, str(file)], check=True, capture_output=True, text=True
    )
    grown_kib, shape = finished.stdout.split(maxsplit=1)
    assert shape.strip() == "(70000, 3, 256, 256)"
    scale = 1024 if sys.platform == "darwin" else 1
    assert int(grown_kib) / scale < 15 << 10  # a batch has 3 MiB
