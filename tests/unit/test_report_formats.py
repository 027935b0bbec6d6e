"""How numbers are written, what goes into metrics.json, and rows of images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from knowledge_gaps.readings import formats
from knowledge_gaps.readings.figures import count_columns, draw_image_rows, shrink_images
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.tables import name_bounds, summarise
from knowledge_gaps.report.build import round_metrics
from knowledge_gaps.statistics.chains import Interval

NAN = math.nan
SHOWN = "0.50 [0.20, 0.70]₂"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.format_phi(0.0), "0"),
        (formats.format_phi(0.01), "10⁻²"),
        (formats.format_phi(1.0), "1"),
        (formats.format_phi(30.0), "30"),
        (formats.format_phi(1e-10), "10⁻¹⁰"),
        (formats.format_counts([2000]), "2,000"),
        (formats.format_counts([4, 2, 4, 3]), "2 to 4"),
        (formats.format_things(1, "cohort"), "1 cohort"),
        (formats.format_things(2000, "cohort"), "2,000 cohorts"),
        (formats.format_p(0.0004), "< 0.001"),
        (formats.format_p(0.0125), "0.013"),
        (formats.format_p(NAN), NOTHING),
        (formats.format_number(-0.001), "0.00"),
        (formats.format_number(-0.006), "-0.01"),
        (formats.format_interval(name_bounds("x", Interval(0.5, 0.2, 0.7, 2.0)), "x"), SHOWN),
        (formats.format_bounds(name_bounds("x", Interval(0.5, 0.2, 0.7, 2.0)), "x"), SHOWN[5:]),
        (formats.format_interval(name_bounds("x", Interval(0.5)), "x"), "0.50"),
        (formats.format_interval(name_bounds("x", Interval()), "x"), NOTHING),
        (formats.format_bounds(name_bounds("x", Interval(0.5)), "x"), ""),
        (formats.format_degrees(31.3), "₃₁"),
        (formats.format_degrees(NAN), ""),
        (formats.format_summary(summarise([NAN], "x"), "x"), NOTHING),
        (formats.format_summary(summarise([0.5], "x"), "x"), "0.50"),
        (formats.format_summary(summarise([0.5, 0.5], "x"), "x"), "0.50 ± 0.00"),
        (formats.format_summary(summarise([0, 1, NAN], "x"), "x"), "0.50 ± 0.71 (1 missing)"),
        (formats.format_distance("frechet_random_vgg_4k"), "Fréchet distance"),
        (formats.format_distance("fid_inception_50k"), "FID"),
    ],
)
def test_numbers_are_written_as_readers_expect(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected


def test_metrics_are_rounded_and_leave_out_what_is_missing() -> None:
    found = {"a": {"x": 1 / 3, "y": NAN, "phi": 1e-7}, "b": {"c": {}}, "truncation": 0.7}
    assert round_metrics(found) == {"a": {"x": 0.333333, "phi": 1e-7}, "truncation": 0.7}


def test_large_images_are_shrunk_to_means_of_squares() -> None:
    images = np.zeros((1, 3, 258, 256), dtype=np.uint8)
    images[:, 1, 4:8, 9:12] = 200  # 4 rows and 3 columns, of squares of 3 by 3
    shrunk = shrink_images(images)
    assert (shrunk.shape, shrunk.dtype) == ((1, 3, 86, 85), np.uint8)
    assert shrunk[0, 1, 1:3, 3].tolist() == [133, 133]  # two of three rows each
    assert shrunk.sum() == 2 * 133
    large = images[:, :, :128, :128].repeat(10, axis=0)
    assert (shrink_images(large) == large).all()
    assert [count_columns(each) for each in (large, large[..., :28, :28])] == [10, 20]
    (shown,) = draw_image_rows([("ten", [large])]).axes[0].get_images()
    assert np.asarray(shown.get_array()).shape == (128, 10 * 129 - 1, 3)
    assert shown.get_interpolation() == "antialiased"


@pytest.mark.parametrize("channels", [1, 3])
def test_image_rows_show_the_images_as_they_are(channels: int) -> None:
    images = np.zeros((2, channels, 4, 4), dtype=np.uint8)
    images[1, 0] = 200
    figure = draw_image_rows([("two", [images, images[:1]])])
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert shown.shape[:2] == (4, 4 + 1 + 4 + 6 + 4)  # two images, a gap, one image
    red = shown if channels == 1 else shown[..., 0]
    assert (red[:, :4] == 0).all()
    assert (red[:, 5:9] == 200).all()
    assert (shown[:, 9:15] == 255).all()
