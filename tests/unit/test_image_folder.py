"""A folder or zip of images: what is stored, in which order, and what is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import blocks, image_files
from knowledge_gaps.data.folder import BAD_IMAGES_FILE, ImageFolder
from knowledge_gaps.data.image_files import open_archive
from knowledge_gaps.data.image_listing import read_listing
from knowledge_gaps.data.images import load_images
from knowledge_gaps.data.store import Images
from knowledge_gaps.study import DataSettings

SIDE_PX = 8
# in the order of their names
NAMES = ["00000/a.png", "00000/b.PNG", "00001/a.jpg", "00001/b.jpeg", "c.webp", "d.png"]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[blocks.Block]:
    """Make blocks in this process, and note which were made."""
    noted: list[blocks.Block] = []

    def map_here(
        function: Callable[[blocks.Block], None], items: Sequence[blocks.Block], _: str
    ) -> Iterator[None]:
        for item in items:
            noted.append(item)
            yield function(item)

    monkeypatch.setattr(blocks, "map_parallel", map_here)
    return noted


@pytest.fixture
def pictures() -> dict[str, Image.Image]:
    """Draw one smooth picture for each name, so that JPEG changes little of it."""
    return {name: draw_picture(shade) for shade, name in enumerate(NAMES)}


@pytest.fixture
def directory(tmp_path: Path, pictures: dict[str, Image.Image]) -> Path:
    path = tmp_path / "faces"
    for name, picture in pictures.items():
        save_picture(path / name, picture)
    (path / "README.txt").write_text("no image")
    (path / ".hidden.png").write_bytes(b"no image either")
    return path


def draw_picture(shade: int, mode: str = "RGB", size: tuple[int, int] = (SIDE_PX,) * 2) -> Any:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([20 * shade + 4 * rows, 100 + 4 * columns, 200 - 3 * rows], axis=-1)
    return Image.fromarray(colours.astype(np.uint8)).convert(mode)


def save_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        options = {"lossless": True, **options}
    picture.save(path, **options)


def read_folder(path: Path, **settings: Any) -> tuple[Images, Images, dict[str, Any]]:
    """Read a folder or archive as `prepare` does; return both splits and what is said of them."""
    read_listing.cache_clear()
    open_archive.cache_clear()
    values = {"name": "faces", "source": "images", "directory": "faces", "num_test": 2, **settings}
    target = path.parent / f"prepared{os.urandom(4).hex()}"
    state = path.parent / "state"
    described = ImageFolder(DataSettings(**values), path, state).write(target)
    return load_images(target / "train"), load_images(target / "test"), described


def to_stored(picture: Image.Image) -> Images:
    return np.asarray(picture).reshape(*picture.size[::-1], -1).transpose(2, 0, 1)


# --- what is stored


def test_images_are_stored_in_the_order_of_their_names(
    directory: Path, pictures: dict[str, Image.Image]
) -> None:
    train, test, described = read_folder(directory)
    assert (train.shape, test.shape) == ((4, 3, 8, 8), (2, 3, 8, 8))
    for name, image in zip(NAMES, np.concatenate([train, test]), strict=True):
        difference = np.abs(image.astype(int) - to_stored(pictures[name]))
        assert difference.max() <= (12 if "j" in name else 0), name  # JPEG alone is lossy
    assert described == {"left_out": {}, "checked_against": None}


def test_jpeg_is_stored_as_it_decodes(directory: Path) -> None:
    train, _, _ = read_folder(directory)
    with Image.open(directory / "00001" / "a.jpg") as picture:
        np.testing.assert_array_equal(train[2], to_stored(picture))


def test_archive_and_folder_are_alike(directory: Path) -> None:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.mkdir("00000")
        for name in reversed(NAMES):
            packed.write(directory / name, name)
        packed.writestr("__MACOSX/._d.png", b"no image")
        packed.writestr("dataset.json", "{}")
    for ours, theirs in zip(read_folder(archive), read_folder(directory), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_first_train_and_last_test(directory: Path) -> None:
    every = np.concatenate(read_folder(directory)[:2])
    train, test, _ = read_folder(directory, num_train=1, num_test=3)
    np.testing.assert_array_equal(train, every[:1])
    np.testing.assert_array_equal(test, every[3:])


def test_grey_images(tmp_path: Path) -> None:
    for index in range(3):
        save_picture(tmp_path / "grey" / f"{index}.png", draw_picture(index, "L"))
    for settings in ({}, {"channels": 1}):
        train, _, _ = read_folder(tmp_path / "grey", **settings)
        np.testing.assert_array_equal(train, to_stored(draw_picture(0, "L"))[None])


def test_rotated_photograph_is_stored_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned by a quarter
    picture = draw_picture(1)
    for index in range(3):
        save_picture(tmp_path / "turned" / f"{index}.png", picture, exif=exif)
    train, _, _ = read_folder(tmp_path / "turned")
    np.testing.assert_array_equal(train[0], np.rot90(to_stored(picture), -1, axes=(1, 2)))


def test_larger_images_are_averaged_down(tmp_path: Path) -> None:
    """A fine checkerboard has only its mean left; picking pixels would keep black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    flat = np.full((64, 64), 77, np.uint8)
    for index, pixels in enumerate([board, flat, flat]):
        save_picture(tmp_path / "fine" / f"{index}.png", Image.fromarray(pixels))
    train, test, _ = read_folder(tmp_path / "fine", resolution_px=8)
    assert train.shape == (1, 1, 8, 8)
    assert np.abs(train[0, 0, 1:-1, 1:-1].astype(int) - 127.5).max() <= 4
    assert (test == 77).all()


def test_images_of_the_right_size_are_not_resized(directory: Path) -> None:
    for ours, theirs in zip(
        read_folder(directory, resolution_px=8), read_folder(directory), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_images_of_several_sizes_are_brought_to_one(directory: Path) -> None:
    save_picture(directory / "00000" / "a.png", draw_picture(0, size=(16, 16)))
    train, _, _ = read_folder(directory, resolution_px=4)
    assert train.shape == (4, 3, 4, 4)


# --- what is refused


def refuse(path: Path, *words: str, **settings: Any) -> str:
    with pytest.raises(UserError) as refusal:
        read_folder(path, **settings)
    message = str(refusal.value)
    assert not [word for word in words if word not in message], message
    assert "\n" not in message
    return message


def test_missing_directory(tmp_path: Path) -> None:
    refuse(tmp_path / "faces", "faces: missing", "folder or a zip archive")


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("no image")
    refuse(tmp_path, "holds no image", "PNG, JPEG and WebP")


@pytest.mark.parametrize("content", [b"", b"PK no archive"])
def test_broken_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.zip").write_bytes(content)
    refuse(tmp_path / "faces.zip", "faces.zip: not a whole zip archive")


def test_truncated_archive(directory: Path) -> None:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(directory / NAMES[0], NAMES[0])
    archive.write_bytes(archive.read_bytes()[:-30])
    refuse(archive, "faces.zip: not a whole zip archive")


def test_damaged_entry_of_an_archive(directory: Path) -> None:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for name in NAMES:
            packed.write(directory / name, name)
        offset = packed.getinfo("c.webp").header_offset + 60
    content = bytearray(archive.read_bytes())
    content[offset] ^= 1
    archive.write_bytes(content)
    refuse(archive, "1 images", "c.webp (cannot be unpacked", "CRC")


def test_archive_with_a_name_twice(directory: Path) -> None:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(directory / "d.png", "d.png")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.write(directory / "d.png", "d.png")
    refuse(archive, "holds d.png twice")


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def make_deep_png() -> bytes:
    """A colour image of 16 bits a channel, which Pillow reads as one of 8 but cannot write."""

    def make_chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 16, 2, 0, 0, 0)
    row = b"\0" + bytes(range(6 * SIDE_PX))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * SIDE_PX)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (damage, "damaged"),
    (lambda path: path.write_bytes(b"a text"), "not a PNG, JPEG or WebP image"),
    (lambda path: path.write_bytes(b""), "not a PNG, JPEG or WebP image"),
    (lambda path: draw_picture(1, "L").save(path), "mode L, RGB is needed"),
    (lambda path: draw_picture(1, "RGBA").save(path), "mode RGBA, RGB is needed"),
    (lambda path: draw_picture(1, "P").save(path), "mode P, RGB is needed"),
    (lambda path: draw_picture(1, "CMYK").save(path, format="JPEG"), "mode CMYK, RGB is needed"),
    (lambda path: draw_picture(1, size=(8, 9)).save(path), "8 x 9 px, a square image is needed"),
    (lambda path: draw_picture(1, size=(4, 4)).save(path), "4 px, others have 8 px"),
    (lambda path: draw_picture(1, size=(16, 16)).save(path), "16 px, others have 8 px"),
    (
        lambda path: draw_picture(1).save(path, save_all=True, append_images=[draw_picture(2)]),
        "2 frames, one is needed",
    ),
    (lambda path: path.write_bytes(make_deep_png()), "16 bits a channel, 8 are needed"),
    (
        lambda path: draw_picture(1).save(path, transparency=(20, 100, 200)),
        "a transparent colour, none is needed",
    ),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_image_that_cannot_be_used(
    directory: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    spoil(directory / "00000" / "b.PNG")
    message = refuse(directory, "1 images cannot be used", f"00000/b.PNG ({reason}")
    listed = (directory.parent / "state" / BAD_IMAGES_FILE).read_text()
    assert str(directory.parent / "state" / BAD_IMAGES_FILE) in message
    assert listed.startswith(f"00000/b.PNG: {reason}")


def test_name_that_is_not_utf8(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as a folder with the bytes caf\xe9.png is listed; not every file system takes such a name
    monkeypatch.setattr(image_files, "_list_folder", lambda _: {"caf\udce9.png": "1 1"})
    refuse(directory, r"'caf\udce9.png' found, a name in UTF-8 is needed")


def test_image_of_another_format(directory: Path) -> None:
    draw_picture(1).save(directory / "e.gif")
    refuse(directory, "e.gif (not a PNG, JPEG or WebP image)")


def test_image_that_is_too_small_is_not_enlarged(directory: Path) -> None:
    save_picture(directory / "d.png", draw_picture(1, size=(16, 16)))
    refuse(directory, "5 images", "00000/a.png (8 px, 16 px or more are needed)", resolution_px=16)


def test_all_bad_images_are_listed_and_a_few_are_shown(directory: Path) -> None:
    for name in NAMES[1:]:
        damage(directory / name)
    message = refuse(directory, "5 images", "00000/b.PNG", "00001/b.jpeg")
    assert "d.png" not in message
    listed = (directory.parent / "state" / BAD_IMAGES_FILE).read_text().splitlines()
    assert [line.split(":")[0] for line in listed] == NAMES[1:]


def test_no_image_can_be_used(directory: Path) -> None:
    for name in NAMES:
        draw_picture(1, "RGBA").save(directory / name, format="PNG")
    refuse(directory, "none of its 6 images", "00000/a.png (mode RGBA, L or RGB is needed)")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"num_train": 5, "num_test": 2}, "5 + 2"),
        ({"num_test": 6}, "1 + 6"),
        ({"num_train": 4, "num_test": 2, "allow_bad": ["c.webp"]}, "4 + 2"),
    ],
)
def test_splits_that_overlap(directory: Path, settings: dict[str, Any], found: str) -> None:
    damage(directory / "c.webp")
    num_usable = 5 if "allow_bad" in settings else 6
    refuse(directory, f"{found} found", f"has {num_usable} images", **settings)


# --- bad images that are allowed by name


def test_allowed_bad_images_are_left_out(directory: Path) -> None:
    every = np.concatenate(read_folder(directory)[:2])
    for name in ("00000/b.PNG", "c.webp"):
        damage(directory / name)
    train, test, described = read_folder(directory, allow_bad=["c.webp", "00000/b.PNG"])
    np.testing.assert_array_equal(train, every[[0, 2]])
    np.testing.assert_array_equal(test, every[[3, 5]])
    assert set(described["left_out"]) == {"00000/b.PNG", "c.webp"}
    assert described["left_out"]["c.webp"].startswith("damaged")


def test_other_bad_images_are_still_refused(directory: Path) -> None:
    for name in ("00000/b.PNG", "c.webp"):
        damage(directory / name)
    message = refuse(directory, "1 images", "c.webp", allow_bad=["00000/b.PNG"])
    assert "b.PNG" not in message


@pytest.mark.parametrize("name", ["00000/b.PNG", "c.webp"])
def test_fine_image_is_not_allowed_to_be_bad(directory: Path, name: str) -> None:
    refuse(directory, f"data.allow_bad: '{name}' found, that image can", allow_bad=[name])
    settings = {"allow_bad": [name], "num_train": 1, "num_test": 1}  # it is in no split
    refuse(directory, f"data.allow_bad: '{name}' found, that image can", **settings)


def test_bad_image_between_the_splits_is_allowed(directory: Path) -> None:
    damage(directory / "00001" / "a.jpg")
    train, _, described = read_folder(directory, allow_bad=["00001/a.jpg"], num_train=1, num_test=1)
    assert len(train) == 1
    assert list(described["left_out"]) == ["00001/a.jpg"]


def test_name_of_no_image_is_refused(directory: Path) -> None:
    refuse(directory, "data.allow_bad: 'x.png' found", "no such image", allow_bad=["x.png"])


# --- checksums


def list_checksums(directory: Path) -> dict[str, str]:
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in NAMES}


@pytest.mark.parametrize("place", ["checksums.json", "manifest.json", "../faces.checksums.json"])
def test_checksums_are_checked(directory: Path, place: str) -> None:
    (directory / place).write_text(
        json.dumps({**list_checksums(directory), "README.txt": "0" * 64})
    )
    assert read_folder(directory)[2]["checked_against"] == Path(place).name
    save_picture(directory / "d.png", draw_picture(9))
    refuse(directory, "1 images", "d.png (wrong checksum, sha256 is", Path(place).name)


def test_checksums_in_an_archive_and_beside_it(directory: Path) -> None:
    archive = directory.with_suffix(".zip")
    checksums = list_checksums(directory)
    with zipfile.ZipFile(archive, "w") as packed:
        for name in NAMES:
            packed.write(directory / name, name)
    (directory.parent / "faces.manifest.json").write_text(json.dumps(checksums))
    assert read_folder(archive)[2]["checked_against"] == "faces.manifest.json"
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("checksums.json", json.dumps({**checksums, "d.png": "0" * 64}))
    refuse(archive, "d.png (wrong checksum")


def test_image_that_is_missing_or_not_listed(directory: Path) -> None:
    checksums = list_checksums(directory)
    (directory / "checksums.json").write_text(json.dumps({**checksums, "z.png": "0" * 64}))
    refuse(directory, "lists 7 images, 1 of them are missing, the first is z.png")
    del checksums["c.webp"]
    (directory / "checksums.json").write_text(json.dumps(checksums))
    refuse(directory, "c.webp (not in checksums.json)")


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"a.png": 1}', '{"a.png": "abc"}', pytest.param("[" * 100_000, id="deep")]
)
def test_listing_that_is_none(directory: Path, text: str) -> None:
    (directory / "manifest.json").write_text(text)
    refuse(directory, "manifest.json")


# --- an interrupted run is taken up


def test_blocks_are_kept_and_mended_files_read_again(
    directory: Path, made: list[blocks.Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_IMAGES", 2)
    good = (directory / "c.webp").read_bytes()
    expected = np.concatenate(read_folder(directory)[:2])
    assert [block.items for block in made] == [tuple(NAMES[i : i + 2]) for i in (0, 2, 4)]
    damage(directory / "c.webp")
    made.clear()
    refuse(directory, "c.webp")
    assert [block.items for block in made] == [("c.webp", "d.png")]
    made.clear()
    read_folder(directory, num_test=1, allow_bad=["c.webp"])  # the border moved, no block did
    assert [block.items for block in made] == [("d.png",)]
    (directory / "c.webp").write_bytes(good)
    made.clear()
    np.testing.assert_array_equal(np.concatenate(read_folder(directory)[:2]), expected)
    assert [block.items for block in made] == [("c.webp", "d.png")]


def test_block_that_was_not_finished_is_made_again(
    directory: Path, made: list[blocks.Block]
) -> None:
    expected = np.concatenate(read_folder(directory)[:2])
    state = directory.parent / "state"
    files = sorted(state.glob("*.npy"))
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].with_suffix(".json").unlink()
    made.clear()
    np.testing.assert_array_equal(np.concatenate(read_folder(directory)[:2]), expected)
    assert len(made) == 2


def test_another_form_is_another_block(directory: Path, made: list[blocks.Block]) -> None:
    read_folder(directory)
    made.clear()
    assert read_folder(directory, resolution_px=4)[0].shape == (4, 3, 4, 4)
    assert len(made) == 2


def test_shards_take_no_second_place_on_disk(directory: Path) -> None:
    read_folder(directory)
    [shard] = directory.parent.glob("prepared*/train/00000.npy")
    assert shard.stat().st_nlink == 2
    buffer = io.BytesIO()
    np.save(buffer, load_images(shard))
    assert shard.read_bytes() == buffer.getvalue()
