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
from knowledge_gaps.core.files import write_json
from knowledge_gaps.data.idx import IMAGE_FILES, LABEL_FILES, Dataset, load_dataset, read_idx
from knowledge_gaps.data.images import save_grid, to_float, to_uint8
from knowledge_gaps.study import DataSettings
from study_tools import REPOSITORY, write_idx

DIGITS = REPOSITORY / "data" / "mnist_reduced"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write a dataset of another name: 12 + 8 images of 5 x 6 px, without checksums."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 8)):
        images = rng.integers(0, 256, (count, 5, 6), dtype=np.uint8)
        write_idx(tmp_path / f"{IMAGE_FILES[split]}.gz", images)
        write_idx(tmp_path / f"{LABEL_FILES[split]}.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def load(directory: Path, **values: object) -> Dataset:
    defaults = {"name": "small", "source": "idx", "directory": directory.name}
    return load_dataset(DataSettings.model_validate({**defaults, **values}), directory.parent)


def make_idx(*shape: int, values: bytes, code: int = 8) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, code, len(shape), *shape) + values


LABELS = "train-labels-idx1-ubyte.gz"
ZIPPED = gzip.compress(make_idx(2, 3, values=b"abcdef"), mtime=0)


def test_plain_and_gzip_files_are_read_alike(tmp_path: Path) -> None:
    for content in (gzip.decompress(ZIPPED), ZIPPED):
        (tmp_path / "values").write_bytes(content)
        assert read_idx(tmp_path / "values").tolist() == [list(b"abc"), list(b"def")]


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
    whole = load(small)
    assert (whole.num_train, whole.num_test, whole.image_shape) == (12, 8, (1, 5, 6))
    images = read_idx(small / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(whole.arrays["test.npy"][:, 0], images)
    assert whole.arrays["train_labels.npy"].dtype == np.int64
    part = load(small, num_train=5, num_test=8)
    for name, count in (("train.npy", 5), ("train_labels.npy", 5), ("test.npy", 8)):
        np.testing.assert_array_equal(part.arrays[name], whole.arrays[name][:count])


def put(name: str, *shape: int) -> Callable[[Path], object]:
    return lambda folder: write_idx(folder / name, np.zeros(shape, np.uint8))


def list_wrongly(*names: str) -> Callable[[Path], object]:
    return lambda folder: write_json(folder / "checksums.json", dict.fromkeys(names, "0"))


LISTED = {"source": "reduced"}


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (put("train-labels-idx1-ubyte", 11), {}, r"train images \(12, 5, 6\) and labels \(11,\)"),
        (put("t10k-labels-idx1-ubyte", 8, 1), {}, r"test images \(8, 5, 6\) .*\(8, 1\)"),
        (put("t10k-images-idx3-ubyte", 8, 30), {}, r"test images \(8, 30\) and labels"),
        (put("t10k-images-idx3-ubyte", 8, 6, 6), {}, r"images are \(5, 6\) px, .*\(6, 6\) px"),
        (put("t10k-images-idx3-ubyte", 8, 0, 6), {}, r"images \(8, 0, 6\) hold no pixel"),
        (lambda folder: (folder / LABELS).unlink(), {}, f"missing, and so is {LABELS}"),
        (Path.exists, {"num_train": 13}, "data.num_train: 13 found, the source has 12 images"),
        (Path.exists, {"name": "mnist"}, "wrong checksum, these are not the values of .*'mnist'"),
        (Path.exists, {"source": "torchvision"}, "torchvision downloads .*mnist, not 'small'"),
        (Path.exists, LISTED, "checksums.json: missing, the reduced sample needs it"),
        (list_wrongly(), LISTED, "checksums.json: does not list train-images-idx3-ubyte.gz"),
        (list_wrongly("train-images-idx3-ubyte.gz"), LISTED, "gz: wrong checksum, sha256 is"),
    ],
)
def test_dataset_is_refused(
    small: Path, spoil: Callable[[Path], object], settings: dict[str, Any], message: str
) -> None:
    spoil(small)
    with pytest.raises(UserError, match=message):
        load(small, **settings)


def test_identity_depends_on_name_values_and_split(small: Path) -> None:
    dataset = load(small)
    identities = {dataset.compute_sha256(), Dataset("other", dataset.arrays).compute_sha256()}
    for name, array in dataset.arrays.items():
        altered = array.copy()
        altered.flat[0] ^= 1
        identities.add(Dataset("small", {**dataset.arrays, name: altered}).compute_sha256())
    assert len(identities) == 6


def test_committed_sample_is_whole() -> None:
    reduced = load(DIGITS, source="reduced", name="mnist")
    assert (reduced.num_train, reduced.num_test) == (20_000, 4_000)
    assert reduced.image_shape == (1, 28, 28)
    expected = "f2774d69720fdfd062019196b44000ecb1f83662335d839f0c45ee9c94f49638"
    assert reduced.compute_sha256() == expected


def test_values_are_scaled_and_come_back_rounded_and_clamped() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = to_float(levels)
    assert (images.dtype, images.min().item(), images.max().item()) == (torch.float32, -1.0, 1.0)
    assert torch.equal(to_uint8(images), levels)
    assert levels.flatten().tolist() == list(range(256))  # the argument is not written to
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
