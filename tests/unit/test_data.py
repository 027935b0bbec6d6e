"""Reals: the IDX format, checksums, the committed sample, and the one conversion of values."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, write_json
from knowledge_gaps.data.idx import (
    CHECKSUMS_FILE,
    IMAGE_FILES,
    LABEL_FILES,
    Dataset,
    load_dataset,
    read_idx,
    write_idx,
)
from knowledge_gaps.data.images import save_grid, to_float, to_uint8
from knowledge_gaps.study import DataSettings

ROOT = Path(__file__).parents[2]
REDUCED = ROOT / "data" / "mnist_reduced"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write a dataset of another name: 12 + 8 images of 5 x 6 px, without checksums."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 8)):
        images = rng.integers(0, 256, (count, 5, 6), dtype=np.uint8)
        write_idx(tmp_path / f"{IMAGE_FILES[split]}.gz", images)
        write_idx(tmp_path / f"{LABEL_FILES[split]}.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def make_settings(directory: Path, **values: object) -> DataSettings:
    defaults = {"name": "small", "source": "idx", "directory": str(directory)}
    return DataSettings.model_validate({**defaults, **values})


def make_idx(*shape: int, values: bytes, code: int = 8) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, code, len(shape), *shape) + values


ZIPPED = gzip.compress(make_idx(2, 3, values=b"abcdef"), mtime=0)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 28, 28)])
def test_idx_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values, path = np.random.default_rng(1).integers(0, 256, shape, np.uint8), tmp_path / "values"
    write_idx(path, values)
    np.testing.assert_array_equal(read_idx(path), values, strict=True)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(read_idx(path), values, strict=True)


def test_idx_bytes_follow_the_format_and_no_clock(tmp_path: Path) -> None:
    sha256 = write_idx(tmp_path / "a.gz", np.array([[1, 2, 3]], dtype=np.uint8))
    packed = (tmp_path / "a.gz").read_bytes()
    assert gzip.decompress(packed).hex() == "00000802" + "00000001" + "00000003" + "010203"
    assert packed[4:8] == b"\0\0\0\0"  # gzip's timestamp
    assert hash_file(tmp_path / "a.gz") == sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad magic number nothing"),
        (make_idx(2, values=b"ab", code=9), "bad magic number 00000901"),
        (make_idx(2, 3, values=b"")[:9], r"truncated inside the header \(9 bytes\)"),
        (make_idx(2, 3, values=b"abcde"), r"holds 17 bytes, its header \(2, 3\) needs 18"),
        (ZIPPED[:-9], "truncated or corrupt gzip"),
        (ZIPPED + b"rest", "truncated or corrupt gzip"),
        (make_idx(2**31, 2**31, 4, values=b""), r"its header .* needs 18446744073709551632"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        read_idx(path)
    assert str(refusal.value).startswith(str(path))


def test_first_images_are_taken_of_splits_apart(small: Path) -> None:
    whole = load_dataset(make_settings(Path(small.name)), small.parent)
    assert (whole.num_train, whole.num_test, whole.image_shape) == (12, 8, (1, 5, 6))
    images = read_idx(small / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(whole.arrays["test.npy"][:, 0], images)
    assert whole.arrays["train_labels.npy"].dtype == np.int64
    part = load_dataset(make_settings(small, num_train=5, num_test=8), ROOT)
    for name, count in (("train.npy", 5), ("train_labels.npy", 5), ("test.npy", 8)):
        np.testing.assert_array_equal(part.arrays[name], whole.arrays[name][:count])


def put(name: str, *shape: int) -> Callable[[Path], object]:
    return lambda folder: write_idx(folder / name, np.zeros(shape, np.uint8))


def put_listing(listed: dict[str, str]) -> Callable[[Path], object]:
    return lambda folder: write_json(folder / CHECKSUMS_FILE, listed)


def unlink_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").unlink()


def alter_nothing(folder: Path) -> None: ...


LISTED = {"source": "reduced"}


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (put("train-labels-idx1-ubyte", 11), {}, r"train images \(12, 5, 6\) and labels \(11,\)"),
        (put("t10k-labels-idx1-ubyte", 8, 1), {}, r"test images \(8, 5, 6\) .*\(8, 1\)"),
        (put("t10k-images-idx3-ubyte", 8, 30), {}, r"test images \(8, 30\) and labels"),
        (put("t10k-images-idx3-ubyte", 8, 6, 6), {}, r"images are \(5, 6\) px, .*\(6, 6\) px"),
        (put("t10k-images-idx3-ubyte", 8, 0, 6), {}, r"images \(8, 0, 6\) hold no pixel"),
        (unlink_labels, {}, "labels-idx1-ubyte: missing, and so is train-labels-idx1-ubyte.gz"),
        (alter_nothing, {"num_train": 13}, "data.num_train: 13 found, the source has 12 images"),
        (alter_nothing, {"name": "mnist"}, "wrong checksum, these are not the values of .*'mnist'"),
        (alter_nothing, {"source": "torchvision"}, "torchvision downloads .*mnist, not 'small'"),
        (alter_nothing, LISTED, "checksums.json: missing, the reduced sample needs it"),
        (put_listing({}), LISTED, "checksums.json: does not list train-images-idx3-ubyte.gz"),
        (put_listing({f"{IMAGE_FILES['train']}.gz": "0"}), LISTED, "gz: wrong checksum, sha256 is"),
    ],
)
def test_dataset_is_refused(
    small: Path, spoil: Callable[[Path], object], settings: dict[str, Any], message: str
) -> None:
    spoil(small)
    with pytest.raises(UserError, match=message):
        load_dataset(make_settings(small, **settings), ROOT)


def test_identity_depends_on_name_values_and_split(small: Path) -> None:
    dataset = load_dataset(make_settings(small), ROOT)
    identities = {dataset.compute_sha256(), Dataset("other", dataset.arrays).compute_sha256()}
    for name, array in dataset.arrays.items():
        altered = array.copy()
        altered.flat[0] ^= 1
        identities.add(Dataset("small", {**dataset.arrays, name: altered}).compute_sha256())
    assert len(identities) == 6
    assert load_dataset(make_settings(small), ROOT).compute_sha256() == dataset.compute_sha256()


def test_committed_sample_is_whole() -> None:
    reduced = load_dataset(make_settings(REDUCED, source="reduced", name="mnist"), ROOT)
    assert (reduced.num_train, reduced.num_test) == (20_000, 4_000)
    assert reduced.image_shape == (1, 28, 28)
    expected = "f2774d69720fdfd062019196b44000ecb1f83662335d839f0c45ee9c94f49638"
    assert reduced.compute_sha256() == expected


def test_all_levels_survive_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = to_float(levels)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (-1.0, 1.0)
    assert torch.equal(to_uint8(images), levels)
    assert levels.flatten().tolist() == list(range(256))  # the argument is not written to


def test_generated_values_are_rounded_and_clamped() -> None:
    step = 1 / 127.5
    values = torch.tensor([-2.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 0.999, 1.0, 1.7])
    before = values.clone()
    assert to_uint8(values.view(1, 1, 1, 7)).flatten().tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert torch.equal(values, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_images_row_by_row(tmp_path: Path, channels: int) -> None:
    images = np.stack([np.full((channels, 2, 3), 10 * index, np.uint8) for index in range(1, 6)])
    save_grid(tmp_path / "grid.png", images, scale=2)
    with Image.open(tmp_path / "grid.png") as picture:
        pixels = np.asarray(picture).reshape(8, 18, channels)  # 2 rows of 3, enlarged twice
    corners = pixels[::4, ::6, 0]
    np.testing.assert_array_equal(corners, [[10, 20, 30], [40, 50, 0]])
    assert (pixels[:4, :6] == 10).all()
