"""Stored images: shards and single files read alike, in any order, without holding them all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import images as images_module
from knowledge_gaps.data import store as store_module
from knowledge_gaps.data.images import load_images, save_array, save_shards
from knowledge_gaps.data.store import Images, hold_images, name_shard, open_images

SHAPE = (3, 4, 5)


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (23, *SHAPE), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the images as shards of 7, 7, 7 and 2, and let no store be kept in memory."""
    monkeypatch.setattr(images_module, "SHARD_BYTES", 7 * 60 + 59)
    monkeypatch.setattr(store_module, "RESIDENT_BYTES", 0)
    save_shards(tmp_path / "train", images)
    return tmp_path / "train"


def test_shards_hold_as_many_images_as_fit(folder: Path) -> None:
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["00000.npy", "00001.npy", "00002.npy", "00003.npy"]
    assert [len(np.load(file)) for file in files] == [7, 7, 7, 2]


def test_folder_is_one_row_of_images(folder: Path, images: Images) -> None:
    store = open_images(folder)
    assert store.shape == (23, *SHAPE)
    assert len(store) == 23
    np.testing.assert_array_equal(load_images(folder), images)


def test_every_range_is_read_as_a_slice_would(folder: Path, images: Images) -> None:
    store = open_images(folder)
    for start in range(25):
        for stop in range(26):
            np.testing.assert_array_equal(store.read(start, stop), images[start:stop])


def test_images_are_taken_in_any_order_and_twice(folder: Path, images: Images) -> None:
    indices = np.array([22, 0, 6, 7, 7, 13, 14, 21, 20, 0])
    np.testing.assert_array_equal(open_images(folder).take(indices), images[indices])
    assert open_images(folder).take(np.empty(0, np.int64)).shape == (0, *SHAPE)


def test_file_folder_and_memory_are_alike(tmp_path: Path, images: Images) -> None:
    save_array(tmp_path / "one.npy", images)
    save_shards(tmp_path / "train", iter(images))
    indices = np.array([3, 22, 3])
    for store in (
        open_images(tmp_path / "one.npy"),
        open_images(tmp_path / "train"),
        hold_images(images),
    ):
        assert store.shape == images.shape
        np.testing.assert_array_equal(store.take(indices), images[indices])
        np.testing.assert_array_equal(store.read(2, 9), images[2:9])
        np.testing.assert_array_equal(np.concatenate(list(store.iterate(5))), images)
        assert [len(part) for part in store.iterate(5)] == [5, 5, 5, 5, 3]


def test_what_is_read_is_the_callers_own(images: Images) -> None:
    store = hold_images(images)
    before = images.copy()
    store.read(0, 2)[:] = 0
    store.take(np.array([0, 1]))[:] = 0
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("index", [-1, 23])
def test_index_outside_is_refused(folder: Path, index: int) -> None:
    with pytest.raises(IndexError, match="of 23 images"):
        open_images(folder).take(np.array([0, index]))


def test_hash_is_that_of_the_files_in_order(tmp_path: Path, folder: Path, images: Images) -> None:
    content = b"".join((folder / name_shard(index)).read_bytes() for index in range(4))
    assert open_images(folder).compute_sha256() == hashlib.sha256(content).hexdigest()
    save_array(tmp_path / "one.npy", images)
    one = hashlib.sha256((tmp_path / "one.npy").read_bytes()).hexdigest()
    assert open_images(tmp_path / "one.npy").compute_sha256() == one
    with pytest.raises(ValueError, match="no files"):
        hold_images(images).compute_sha256()


def test_small_store_is_kept_in_memory(tmp_path: Path, images: Images) -> None:
    save_shards(tmp_path / "train", images)
    store = open_images(tmp_path / "train")
    store.take(np.array([0]))
    (tmp_path / "train" / "00000.npy").unlink()
    np.testing.assert_array_equal(store.take(np.array([5, 5])), images[[5, 5]])


# --- what is refused


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train: cannot be read \(No such file"):
        open_images(tmp_path / "train")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"train: holds no shard, 00000\.npy is needed"):
        open_images(tmp_path / "train")


def test_lost_shard(folder: Path) -> None:
    (folder / "00001.npy").unlink()
    with pytest.raises(UserError, match=r"00001\.npy: missing, 00002\.npy is there"):
        open_images(folder)


def test_shard_of_another_shape(folder: Path) -> None:
    save_array(folder / "00002.npy", np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(UserError, match=r"00002\.npy: holds images \(3, 4, 4\), .*\(3, 4, 5\)"):
        open_images(folder)


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_truncated_shard(folder: Path, kept: int) -> None:
    file = folder / "00003.npy"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"00003\.npy: not a whole \.npy file"):
        open_images(folder)


def test_shard_that_shrinks_after_it_was_opened(folder: Path) -> None:
    store = open_images(folder)
    file = folder / "00003.npy"
    file.write_bytes(file.read_bytes()[:-1])
    np.testing.assert_array_equal(store.take(np.array([21])).shape, (1, *SHAPE))
    with pytest.raises(UserError, match=r"00003\.npy: truncated since it was opened"):
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
    """300 images of 512 px are 225 MiB in sparse files; 3,200 draws touch all of them."""
    directory = tmp_path / "train"
    directory.mkdir()
    for index in range(3):
        file = directory / name_shard(index)
        np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(100, 3, 512, 512))
    finished = subprocess.run(
        [sys.executable, "-c", _TAKE_MANY, str(directory)],
        check=True,
        capture_output=True,
        text=True,
    )
    grown_kib, shape = finished.stdout.split(maxsplit=1)
    assert shape.strip() == "(300, 3, 512, 512)"
    scale = 1024 if sys.platform == "darwin" else 1
    assert int(grown_kib) / scale < 30 << 10  # a batch has 12 MiB
