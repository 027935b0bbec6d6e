"""Drawn faces: pixels of a seed, distinct faces, and the makers and licences of styles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data import drawn_faces
from knowledge_gaps.data.drawn_faces import DrawnFaces, describe_style, draw_face
from knowledge_gaps.data.store import Images, open_images
from knowledge_gaps.study import DataSettings

STYLE = "open-peeps"
SETTINGS = {"name": "faces", "source": "dicebear", "directory": "faces", "style": STYLE}
SETTINGS |= {"resolution_px": 8, "num_train": 10, "num_test": 4}


def draw_faces(path: Path, **settings: Any) -> tuple[Images, Images, dict[str, Any]]:
    faces = DrawnFaces(DataSettings.model_validate({**SETTINGS, **settings}))
    described = faces.write(path, lambda function, items, _: map(function, items))
    return open_images(path / "train.npy"), open_images(path / "test.npy"), described


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Let a face be of one level, the one of its seed."""
    levels: dict[int, int] = {}

    def draw_level(style: str, seed: int, resolution_px: int, channels: int) -> Images:
        return np.full((channels, resolution_px, resolution_px), levels[seed], np.uint8)

    monkeypatch.setattr(drawn_faces, "draw_face", draw_level)
    return levels


def test_faces_of_styles_and_seeds_on_a_plain_background() -> None:
    styles = ["lorelei", "notionists", "open-peeps", "pixel-art", "voxel-art"]
    faces = {(style, seed): draw_face(style, seed, 32, 3) for style in styles for seed in (0, 1)}
    for (style, _), face in faces.items():
        assert (face.shape, face.dtype) == ((3, 32, 32), np.uint8)
        assert (face[:, 0, 0] == 255).all()
        assert 20 < face.std() < 128
        assert describe_style(style)["licence"] == "CC0 1.0"
    assert len({face.tobytes() for face in faces.values()}) == len(faces)
    red, green, blue = draw_face("adventurer", 3, 16, 3).astype(float)
    assert np.abs(red - blue).max() > 30
    grey = draw_face("adventurer", 3, 16, 1)
    assert grey.shape == (1, 16, 16)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601-2, as Pillow's
    assert np.abs(grey[0] - expected).max() <= 1


def test_splits_are_the_first_distinct_seeds(tmp_path: Path) -> None:
    train, test, described = draw_faces(tmp_path, resolution_px=16)
    expected = np.stack([draw_face(STYLE, seed, 16, 3) for seed in range(14)])
    np.testing.assert_array_equal(np.concatenate([train, test]), expected)
    assert (len(train), len(test)) == (10, 4)
    drawn = described["drawn_faces"]
    assert (drawn["style"], drawn["title"]) == (STYLE, "Open Peeps")
    assert (drawn["creator"], drawn["licence"]) == ("Pablo Stanley", "CC0 1.0")
    assert "publicdomain/zero" in drawn["licence_url"]
    assert set(drawn["versions"]) == {"dicebear-core", "dicebear-styles", "resvg_py"}


def test_repeated_face_is_skipped(tmp_path: Path, stand_in: dict[int, int]) -> None:
    stand_in |= {seed: seed // 3 for seed in range(140)}  # 0 0 0 1 1 1 2 2 2 ...
    train, test, _ = draw_faces(tmp_path)
    assert train[:, 0, 0, 0].tolist() == list(range(10))
    assert test[:, 0, 0, 0].tolist() == [10, 11, 12, 13]


def test_dev_faces_lie_between_training_and_test_faces(
    tmp_path: Path, stand_in: dict[int, int]
) -> None:
    stand_in |= {seed: seed for seed in range(17)}
    train, test, _ = draw_faces(tmp_path, num_dev=3)
    splits = (train, open_images(tmp_path / "dev.npy"), test)
    levels = [split[:, 0, 0, 0].tolist() for split in splits]
    assert levels == [list(range(10)), [10, 11, 12], [13, 14, 15, 16]]


def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: dict[int, int]
) -> None:
    stand_in |= {seed: seed % 5 for seed in range(140)}
    message = r"data\.num_train \+ data\.num_test: 14 found, style 'open-peeps' has 5 distinct"
    with pytest.raises(UserError, match=message):
        draw_faces(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"data\.style: 'photographs' found, one of .*lorelei"):
        describe_style("photographs")
    for missing in ("resvg_py", "dicebear"):
        monkeypatch.setitem(sys.modules, missing, None)
        message = rf"extra faces, {missing} is missing: pip install 'knowledge-gaps\[faces\]'"
        with pytest.raises(UserError, match=message):
            describe_style(STYLE)
