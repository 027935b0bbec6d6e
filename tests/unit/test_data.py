"""Reals: the IDX format, checksums, the committed sample, and the one conversion of values."""

from __future__ import annotations

import gzip
import shutil
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
# labels 0 to 9 among the official training digits of ranks 20,000 to 23,999
DEV_COUNTS = [365, 450, 363, 414, 427, 359, 439, 415, 395, 373]


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


def write_dev(folder: Path, count: int) -> dict[str, Any]:
    """Write a pair of dev files of so many images beside the others; return their arrays."""
    images = np.random.default_rng(1).integers(0, 256, (count, 5, 6), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8)
    write_idx(folder / f"{IMAGE_FILES['dev']}.gz", images)
    write_idx(folder / LABEL_FILES["dev"], labels)
    return {"dev.npy": images[:, None], "dev_labels.npy": labels}


@pytest.mark.parametrize("num_train", [None, 5])
def test_dev_is_the_end_of_the_training_file(small: Path, num_train: int | None) -> None:
    whole, cut = load(small).arrays, load(small, num_train=num_train, num_dev=4)
    assert (cut.num_train, cut.num_dev, cut.num_test) == (num_train or 8, 4, 8)
    for name in ("train", "test"):
        for file in (f"{name}.npy", f"{name}_labels.npy"):
            np.testing.assert_array_equal(cut.arrays[file], whole[file][: len(cut.arrays[file])])
    for file in ("dev.npy", "dev_labels.npy"):
        np.testing.assert_array_equal(cut.arrays[file], whole[f"train{file[3:]}"][8:])


def test_dev_files_leave_the_training_images_alone(small: Path) -> None:
    whole, written = load(small).arrays, write_dev(small, 6)
    assert load(small).arrays.keys() == whole.keys()  # nobody asks for a dev split
    found = load(small, num_dev=4)
    assert (found.num_train, found.num_dev) == (12, 4)
    for name, array in whole.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    for name, array in written.items():
        np.testing.assert_array_equal(found.arrays[name], array[:4])


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
        (Path.exists, {"num_dev": 12}, r"num_train \+ data.num_dev: 1 \+ 12 found, .* 12 training"),
        (
            Path.exists,
            {"num_dev": 3, "num_train": 10},
            r"data.num_dev: 10 \+ 3 found, .* has 12 tr",
        ),
        (lambda folder: write_dev(folder, 3), {"num_dev": 4}, "data.num_dev: 4 found, .* has 3 im"),
        (put("dev-labels-idx1-ubyte", 9), {"num_dev": 4}, "dev-images-idx3-ubyte: missing"),
        (
            lambda folder: (write_dev(folder, 4), put("dev-images-idx3-ubyte", 4, 6, 6)(folder)),
            {"num_dev": 4},
            r"training images are \(5, 6\) px, dev images \(6, 6\) px",
        ),
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
    with_dev = load(DIGITS, source="reduced", name="mnist", num_dev=4000)
    assert (with_dev.num_dev, with_dev.num_train) == (4000, 20_000)
    splits = [with_dev.arrays[f"{name}.npy"] for name in ("train", "test", "dev")]
    assert len({image.tobytes() for split in splits for image in split}) == 28_000  # no digit twice
    np.testing.assert_array_equal(splits[0], reduced.arrays["train.npy"])
    labels = with_dev.arrays["dev_labels.npy"]
    assert np.bincount(labels.astype(int)).tolist() == DEV_COUNTS


def test_content_is_known_by_values_and_not_by_the_name(small: Path) -> None:
    assert load(DIGITS, name="squares", num_train=100, num_dev=100).content == "mnist"
    assert load(small, name="squares").content is None
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        shutil.copyfile(DIGITS / f"{name}.gz", small / f"{name}.gz")
    write_idx(small / "t10k-images-idx3-ubyte.gz", np.zeros((8, 28, 28), np.uint8))
    assert load(small, name="digits").content is None  # one file of two


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
