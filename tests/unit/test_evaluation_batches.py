"""How many images are processed together, and that memory does not grow with their number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from quality_tools import draw_images

from knowledge_gaps.data.images import save_array, save_batches
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.batches import count_sampled, count_scored, split_images
from knowledge_gaps.evaluation.quality import measure_contrast
from knowledge_gaps.models.input_spec import InputSpec

LARGE = (3, 256, 256)


@pytest.mark.parametrize(
    ("image_px", "input_px", "forward", "backward", "sampled"),
    [
        (28, 28, 64, 100, 64),
        (64, 64, 64, 85, 64),  # 12,288 values an image
        (256, 256, 42, 5, 10),
        (1024, 1024, 2, 1, 1),
        (4096, 4096, 1, 1, 1),  # a single one may be larger than all together should be
        (32, 224, 55, 6, 64),  # enlarged: 8 << 20 values by 3 * 224 * 224
        (1024, 224, 2, 1, 1),
    ],
)
def test_number_together_falls_with_the_size(
    image_px: int, input_px: int, forward: int, backward: int, sampled: int
) -> None:
    sides, half = [(side, side) for side in (image_px, input_px)], (0.5,) * 3
    spec = InputSpec(channels=3, image_px=sides[0], input_px=sides[1], mean=half, std=half)
    assert count_scored(spec) == forward
    assert count_scored(spec, has_gradients=True) == backward
    assert count_sampled((3, image_px, image_px)) == sampled


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
