"""Drawn faces: pixels of a seed, distinct faces, and the makers and licences of styles."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import drawn_faces, images
from knowledge_gaps.data.drawn_faces import DrawnFaces, describe_style, draw_face
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.study import DataSettings

STYLE = "open-peeps"
CC0_FACES = ["lorelei", "notionists", "open-peeps", "pixel-art", "voxel-art"]
SOURCE = {"name": "faces", "source": "dicebear", "directory": "faces", "style": STYLE}
SIZES = {"resolution_px": 8, "num_train": 10, "num_test": 4}


def draw_faces(path: Path, **settings: Any) -> tuple[Images, Images, dict[str, Any]]:
    faces = DrawnFaces(DataSettings.model_validate({**SOURCE, **SIZES, **settings}))
    described = faces.write(path, lambda function, items, _: map(function, items))
    return open_images(path / "train.npy"), open_images(path / "test.npy"), described


def stand_in(monkeypatch: pytest.MonkeyPatch, draw: Callable[[int], int]) -> None:
    """Let a face be of one level, a function of its seed."""

    def draw_level(style: str, seed: str, resolution_px: int, channels: int) -> Images:
        return np.full((channels, resolution_px, resolution_px), draw(int(seed)), np.uint8)

    monkeypatch.setattr(drawn_faces, "draw_face", draw_level)


def test_faces_of_styles_and_seeds_on_a_plain_background() -> None:
    faces = {(style, seed): draw_face(style, seed, 32, 3) for style in CC0_FACES for seed in "01"}
    for (style, _), face in faces.items():
        assert (face.shape, face.dtype) == ((3, 32, 32), np.uint8)
        assert (face[:, 0, 0] == 255).all()
        assert 20 < face.std() < 128
        assert describe_style(style)["licence"] == "CC0 1.0"
    assert len({face.tobytes() for face in faces.values()}) == len(faces)


def test_grey_face_is_the_coloured_one_without_colour() -> None:
    red, green, blue = draw_face("adventurer", "3", 16, 3).astype(float)
    assert np.abs(red - blue).max() > 30
    expected = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601-2, as Pillow's
    grey = draw_face("adventurer", "3", 16, 1)
    assert grey.shape == (1, 16, 16)
    assert np.abs(grey[0] - expected).max() <= 1


def test_splits_are_the_first_distinct_seeds(tmp_path: Path) -> None:
    train, test, described = draw_faces(tmp_path, resolution_px=16)
    expected = np.stack([draw_face(STYLE, str(seed), 16, 3) for seed in range(14)])
    np.testing.assert_array_equal(train, expected[:10])
    np.testing.assert_array_equal(test, expected[10:])
    drawn = described["drawn_faces"]
    assert (drawn["style"], drawn["title"]) == (STYLE, "Open Peeps")
    assert (drawn["creator"], drawn["licence"]) == ("Pablo Stanley", "CC0 1.0")
    assert "publicdomain/zero" in drawn["licence_url"]
    assert set(drawn["versions"]) == {"dicebear-core", "dicebear-styles", "resvg_py"}


@pytest.mark.parametrize("batch_images", [1024, 2])
def test_repeated_face_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_images: int
) -> None:
    monkeypatch.setattr(images, "BATCH_IMAGES", batch_images)
    stand_in(monkeypatch, lambda seed: seed // 3)  # 0 0 0 1 1 1 2 2 2 ...
    train, test, _ = draw_faces(tmp_path)
    assert train[:, 0, 0, 0].tolist() == list(range(10))
    assert test[:, 0, 0, 0].tolist() == [10, 11, 12, 13]


def test_unknown_style_and_one_with_too_few_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, lambda seed: seed % 5)
    message = r"data\.num_train \+ data\.num_test: 14 found, style 'open-peeps' has 5 distinct"
    with pytest.raises(UserError, match=message):
        draw_faces(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"data\.style: 'photographs' found, one of .*lorelei"):
        describe_style("photographs")


@pytest.mark.parametrize("missing", ["dicebear", "resvg_py"])
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"extra faces, {missing} is missing: pip install 'knowledge-gaps\[faces\]'"
    with pytest.raises(UserError, match=message):
        describe_style(STYLE)
