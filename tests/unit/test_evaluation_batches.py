"""How many images are processed together, and that memory does not grow with their number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from quality_tools import draw_images

from knowledge_gaps.data.images import save_array, save_batches
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.batches import (
    BACKWARD_BATCH,
    BACKWARD_VALUES,
    count_sampled,
    count_scored,
    count_together,
    split_images,
)
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.quality import measure_contrast
from knowledge_gaps.models.input_spec import InputSpec

LARGE = (3, 256, 256)


def make_spec(image_px: int, input_px: int) -> InputSpec:
    sides, half = [(side, side) for side in (image_px, input_px)], (0.5,) * 3
    return InputSpec(channels=3, image_px=sides[0], input_px=sides[1], mean=half, std=half)


@pytest.mark.parametrize(
    ("shape", "forward", "backward", "sampled"),
    [
        ((1, 28, 28), 64, 100, 64),
        ((3, 64, 64), 64, 85, 64),  # 12,288 values an image
        (LARGE, 42, 5, 10),
        ((3, 1024, 1024), 2, 1, 1),
        ((3, 4096, 4096), 1, 1, 1),  # a single one may be larger than all together should be
    ],
)
def test_number_together_falls_with_the_size(
    shape: tuple[int, int, int], forward: int, backward: int, sampled: int
) -> None:
    assert count_together(shape) == forward
    assert count_together(shape, BACKWARD_BATCH, BACKWARD_VALUES) == backward
    assert count_sampled(shape) == sampled


def test_classifier_that_enlarges_images_is_given_fewer() -> None:
    assert count_scored(make_spec(32, 32)) == 64
    assert count_scored(make_spec(32, 224)) == (8 << 20) // (3 * 224 * 224) == 55
    assert count_scored(make_spec(1024, 224)) == 2
    assert count_scored(make_spec(32, 224), BACKWARD_BATCH, BACKWARD_VALUES) == 6


@pytest.mark.parametrize("num_images", [None, 0, 1, 4, 5, 12])
def test_batches_are_the_whole_in_order(tmp_path: Path, num_images: int | None) -> None:
    images = draw_images(11)
    save_array(tmp_path / "images.npy", images)
    expected = images[:num_images]
    for source in (images, open_images(tmp_path / "images.npy")):
        batches = list(split_images(source, 4, num_images))
        sizes = [len(expected[start : start + 4]) for start in range(0, len(expected), 4)]
        assert [len(batch) for batch in batches] == sizes
        assert np.array_equal(np.concatenate([*batches, images[:0]]), expected)


def test_file_of_batches_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    images = draw_images(7)
    save_array(tmp_path / "whole.npy", images)
    save_batches(tmp_path / "parts.npy", 7, iter([images[:3], images[3:4], images[4:]]))
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    with pytest.raises(ValueError, match="7 images came, 8 were announced"):
        save_batches(tmp_path / "more.npy", 8, iter([images[:3], images[3:]]))
    assert not (tmp_path / "more.npy").exists()


def test_memory_stays_flat_however_many_images_there_are(tmp_path: Path) -> None:
    """256 images of 196,608 bytes are 48 MiB; numpy's and Python's memory."""
    save_batches(tmp_path / "images.npy", 256, (draw_images(32, LARGE) for _ in range(8)))
    tracemalloc.start()
    measure_contrast(open_images(tmp_path / "images.npy"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


def test_only_rows_that_are_not_cached_are_computed(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def compute(items: list[str]) -> list[dict[str, Row]]:
        asked.append(items)
        return [{item: {"length": len(item)}} for item in reversed(items)]

    keys = {"one": "1", "three": "2"}
    expected = {"one": {"length": 3}, "three": {"length": 5}}
    assert compute_rows(tmp_path, "lengths", keys, compute) == expected
    found = compute_rows(tmp_path, "lengths", keys | {"five": "3"}, compute)
    assert list(found) == ["one", "three", "five"]  # in the order of the keys
    compute_rows(tmp_path, "lengths", keys, compute, lambda item, row: item != "one")
    compute_rows(tmp_path, "lengths", keys | {"three": "9"}, compute)
    [file] = tmp_path.rglob("lengths.json")
    file.write_text("{")  # damaged
    assert compute_rows(tmp_path, "lengths", keys, compute) == expected
    assert asked == [["one", "three"], ["five"], ["one"], ["three"], ["one", "three"]]


def test_rows_that_were_computed_before_an_error_are_cached(tmp_path: Path) -> None:
    keys = {"first": "1", "second": "2"}

    def fail() -> Iterator[dict[str, Row]]:
        yield {"first": {"value": 1}}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_rows(tmp_path, "values", keys, lambda _: fail())
    rows = compute_rows(tmp_path, "values", keys, lambda items: [{key: {} for key in items}])
    assert rows == {"first": {"value": 1}, "second": {}}
