"""A folder or zip of images: what is stored, in which order, and what is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import image_files
from knowledge_gaps.data.folder import ImageFolder
from knowledge_gaps.data.image_files import open_archive
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.study import DataSettings

# in the order of their names
NAMES = ["00000/a.png", "00000/b.PNG", "00001/a.jpg", "00001/b.jpeg", "c.webp", "d.png"]
FEW = ["0.png", "1.png", "2.png"]


def draw_picture(shade: int, mode: str = "RGB", width: int = 8, height: int = 8) -> Image.Image:
    """Draw a smooth picture, of which JPEG changes little."""
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([20 * shade + 4 * rows, 100 + 4 * columns, 200 - 3 * rows], axis=-1)
    return Image.fromarray(colours.astype(np.uint8)).convert(mode)


def save_all(folder: Path, pictures: dict[str, Image.Image], **options: Any) -> Path:
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        lossless = {"lossless": True} if name.endswith(".webp") else {}
        picture.save(folder / name, **lossless, **options)
    return folder


PICTURES = {name: draw_picture(shade) for shade, name in enumerate(NAMES)}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = save_all(tmp_path / "faces", PICTURES)
    (path / "README.txt").write_text("no image")
    (path / ".hidden.png").write_bytes(b"no image either")
    return path


def pack(directory: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """Pack the images of a folder into an archive beside it."""
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", compression) as packed:
        packed.mkdir("00000")
        for name in reversed(NAMES):
            packed.write(directory / name, name)
        packed.writestr("__MACOSX/._d.png", b"no image")
        packed.writestr("dataset.json", "{}")
    return archive


def read_folder(path: Path, **settings: Any) -> tuple[Images, Images, dict[str, Any]]:
    """Read a folder or archive as `prepare` does; return both splits and their description."""
    open_archive.cache_clear()
    values = {"name": "faces", "source": "images", "directory": "faces", "num_test": 2, **settings}
    target = path.parent / f"prepared{os.urandom(4).hex()}"
    folder = ImageFolder(DataSettings(**values), path)
    described = folder.write(target, lambda function, items, _: map(function, items))
    return open_images(target / "train.npy"), open_images(target / "test.npy"), described


def to_stored(picture: Image.Image) -> Images:
    return np.asarray(picture).reshape(*picture.size[::-1], -1).transpose(2, 0, 1)


def test_images_are_stored_in_the_order_of_their_names(directory: Path) -> None:
    train, test, described = read_folder(directory)
    assert (train.shape, test.shape) == ((4, 3, 8, 8), (2, 3, 8, 8))
    fewer = read_folder(directory, num_train=1, num_test=3)
    np.testing.assert_array_equal(fewer[0], train[:1])
    np.testing.assert_array_equal(fewer[1], np.concatenate([train[3:], test]))
    for name, image in zip(NAMES, np.concatenate([train, test]), strict=True):
        difference = np.abs(image.astype(int) - to_stored(PICTURES[name]))
        assert difference.max() <= (12 if "j" in name else 0), name  # JPEG alone is lossy
    assert described == {"left_out": {}, "checked_against": None}
    for ours, theirs in zip(read_folder(pack(directory)), (train, test, described), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dev_images_are_those_before_the_test_images(directory: Path, tmp_path: Path) -> None:
    train, test, _ = read_folder(directory)
    for num_train, expected in ((None, train[:2]), (1, train[:1])):
        target = tmp_path / f"{num_train}"
        values = {"name": "faces", "source": "images", "directory": "faces", "num_test": 2}
        settings = DataSettings(**values, num_train=num_train, num_dev=2)
        folder = ImageFolder(settings, directory)
        folder.write(target, lambda function, items, _: map(function, items))
        found = [open_images(target / f"{name}.npy") for name in ("train", "dev", "test")]
        for images, wanted in zip(found, (expected, train[2:], test), strict=True):
            np.testing.assert_array_equal(images, wanted)
        assert folder.num_dev == 2


@pytest.mark.parametrize(("mode", "channels"), [("L", None), ("L", 1), ("RGB", None)])
def test_rotated_photograph_is_stored_upright(
    tmp_path: Path, mode: str, channels: int | None
) -> None:
    exif, picture = Image.Exif(), draw_picture(1, mode)
    exif[0x0112] = 6  # orientation: the camera was turned by a quarter
    path = save_all(tmp_path / "turned", dict.fromkeys(FEW, picture), exif=exif)
    expected = np.rot90(to_stored(picture), -1, axes=(1, 2))
    np.testing.assert_array_equal(read_folder(path, channels=channels)[0], expected[None])


def test_larger_images_are_averaged_down(tmp_path: Path) -> None:
    """A fine checkerboard has only its mean left; picking pixels would keep black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pictures = dict.fromkeys(FEW, Image.fromarray(np.full((64, 64), 77, np.uint8)))
    path = save_all(tmp_path / "fine", {**pictures, FEW[0]: Image.fromarray(board)})
    train, test, _ = read_folder(path, resolution_px=8)
    assert train.shape == (1, 1, 8, 8)
    assert np.abs(train[0, 0, 1:-1, 1:-1].astype(int) - 127.5).max() <= 4
    assert (test == 77).all()


def refuse(path: Path, *words: str, **settings: Any) -> str:
    with pytest.raises(UserError) as refusal:
        read_folder(path, **settings)
    message = str(refusal.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("compression", "reason"), [(zipfile.ZIP_STORED, "CRC"), (zipfile.ZIP_DEFLATED, "Error -3")]
)
def test_broken_archive(directory: Path, compression: int, reason: str) -> None:
    archive = pack(directory, compression)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        place = packed.getinfo("c.webp").header_offset + 30 + len("c.webp")
    content[place : place + 20] = bytes(byte ^ 255 for byte in content[place : place + 20])
    archive.write_bytes(content)
    refuse(archive, "1 images", "c.webp (cannot be unpacked", reason)
    archive.write_bytes(content[:-30])
    refuse(archive, "faces.zip: not a whole zip archive")


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def deepen(path: Path) -> None:
    """Say in a PNG file's header that it has 16 bits a channel; Pillow cannot write such a one."""
    content = bytearray(path.read_bytes())
    content[24] = 16
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (damage, "damaged"),
    (lambda path: path.write_bytes(b"a text"), "not a PNG, JPEG or WebP image"),
    (lambda path: draw_picture(1, "CMYK").save(path, format="JPEG"), "mode CMYK, RGB is needed"),
    (lambda path: draw_picture(1, height=9).save(path), "8 x 9 px, a square image is needed"),
    (lambda path: draw_picture(1, "RGB", 16, 16).save(path), "16 px, others have 8 px"),
    (
        lambda path: draw_picture(1).save(path, save_all=True, append_images=[draw_picture(2)]),
        "2 frames, one is needed",
    ),
    (deepen, "16 bits a channel, 8 are needed"),
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
    refuse(directory, "1 images cannot be used", f"00000/b.PNG ({reason}")


def test_bad_names(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as a folder with the bytes caf\xe9.png is listed; not every file system takes such a name
    monkeypatch.setattr(image_files, "_list_files", lambda _: iter(["caf\udce9.png"]))
    refuse(directory, r"'caf\udce9.png' found, a name in UTF-8 is needed")
    monkeypatch.setattr(image_files, "_list_files", lambda _: iter(["README.txt"]))
    refuse(directory, "holds no image", "PNG, JPEG and WebP")
    monkeypatch.setattr(image_files, "_list_files", lambda _: iter(["d.png", "d.png"]))
    refuse(directory, "holds d.png twice")  # as an archive may have them


def test_all_bad_images_are_printed_and_a_few_are_in_the_message(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES[1:]:
        damage(directory / name)
    message = refuse(directory, "5 images", "00000/b.PNG", "00001/b.jpeg")
    assert "d.png" not in message
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == NAMES[1:]
    for name in NAMES:
        draw_picture(1, "RGBA").save(directory / name, format="PNG")
    refuse(directory, "none of its 6 images", "00000/a.png (mode RGBA, L or RGB is needed)")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_test": 6}, "1 + 6 found, {} has 6 images"),
        (
            {"num_test": 2, "num_dev": 4},
            "data.num_dev + data.num_test: 1 + 4 + 2 found, {} has 6 im",
        ),
        ({"num_train": 4, "allow_bad": ["c.webp"]}, "4 + 2 found, {} has 5 images"),
        ({"allow_bad": ["c.webp"]}, "data.allow_bad: 'c.webp' found, that image can be used"),
        ({"allow_bad": ["x.png"]}, "data.allow_bad: 'x.png' found, {} has no such image"),
        ({"resolution_px": 16}, "00000/a.png (8 px, 16 px or more are needed)"),
    ],
)
def test_settings_that_do_not_fit(directory: Path, settings: dict[str, Any], words: str) -> None:
    refuse(directory, words.format(directory), **settings)


def test_bad_images_that_are_allowed_by_name_are_left_out(directory: Path) -> None:
    every = np.concatenate(read_folder(directory)[:2])
    for name in ("00000/b.PNG", "c.webp"):
        damage(directory / name)
    train, test, described = read_folder(directory, allow_bad=["c.webp", "00000/b.PNG"])
    np.testing.assert_array_equal(train, every[[0, 2]])
    np.testing.assert_array_equal(test, every[[3, 5]])
    assert set(described["left_out"]) == {"00000/b.PNG", "c.webp"}
    assert described["left_out"]["c.webp"].startswith("damaged")


def list_checksums(directory: Path) -> dict[str, str]:
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in NAMES}


@pytest.mark.parametrize("place", ["checksums.json", "manifest.json", "../faces.checksums.json"])
def test_checksums_are_checked(directory: Path, place: str) -> None:
    for altered in ({}, {"d.png": "0" * 64}):
        listing = {**list_checksums(directory), "README.txt": "0" * 64, **altered}
        (directory / place).write_text(json.dumps(listing))
        if not altered:
            assert read_folder(directory)[2]["checked_against"] == Path(place).name
    refuse(directory, "1 images", "d.png (wrong checksum, sha256 is", f"{'0' * 64} is listed")


def test_checksums_of_an_archive_are_in_it_or_beside_it(directory: Path) -> None:
    archive, text = pack(directory), json.dumps(list_checksums(directory))
    (directory.parent / "faces.checksums.json").write_text(text)
    assert read_folder(archive)[2]["checked_against"] == "faces.checksums.json"
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("checksums.json", json.dumps({"d.png": "0" * 64}))
    refuse(archive, "6 images", "00000/a.png (its checksum is not listed)")


def test_bad_listing(directory: Path) -> None:
    file = directory / "manifest.json"
    file.write_text(json.dumps({**list_checksums(directory), "z.png": "0" * 64}))
    refuse(directory, "lists 7 images, 1 of them are missing, the first is z.png")
    file.write_text("[]")
    refuse(directory, "faces: manifest.json: holds a list")
