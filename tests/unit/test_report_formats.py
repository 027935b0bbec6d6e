"""How numbers are written, what goes into metrics.json and the plots' CSVs, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from knowledge_gaps.readings import formats
from knowledge_gaps.readings.cohorts import Classes
from knowledge_gaps.readings.curves import average_curves
from knowledge_gaps.readings.figures import (
    ImageRow,
    count_columns,
    draw_image_rows,
    render_png,
    shrink_images,
)
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.generalisation import draw_detecting
from knowledge_gaps.readings.iterations import CohortTable, draw_iterations
from knowledge_gaps.readings.phi_sweep import PhiSweep, draw_phi_sweep
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.readings.tables import Row, summarise
from knowledge_gaps.report.build import round_metrics
from knowledge_gaps.statistics.measures import METRICS

NAN = math.nan
CLASSES = Classes("four classes", 4)
QUALITY = {f"{metric}_mean": NAN for metric in METRICS}


def make_cell(rates: Sequence[float], **others: Any) -> dict[str, Any]:
    return {
        "generator_cohort": "strong",
        "classifier_cohort": "c",
        "detection_rate_low": NAN,
        "detection_rate_high": NAN,
        **summarise(rates, "detection_rate"),
        **summarise([0.5], "auc"),
        **summarise([0.9], "real_accuracy"),
        **others,
    }


def make_phi_row(phi: float = 100.0, fid: Sequence[float] = (NAN,), **bounds: float) -> Row:
    return {
        "held_out": make_cell([0.25, 0.75], phi=phi, **bounds),
        "in_loss": make_cell([0.125]),
        "quality": QUALITY,
        "rates": [0.25, 0.75],
        "fid": list(fid),
        "class_entropy": [0.0],
    }


def make_detecting_row(rates: Sequence[float], **place: float) -> Row:
    pairs = pd.DataFrame({"detection_rate": list(rates), "is_common": False})
    return {"held_out": make_cell(rates, **place), "pairs": pairs}


def make_results(fid_name: str) -> Results:
    names = [fid_name, *(f"{metric}_lenet_4k" for metric in METRICS[1:])]
    empty = pd.DataFrame()
    study: Any = None
    return Results(Path(), study, empty, pd.DataFrame(columns=names), 0)


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
        (formats.format_interval(0.5, 0.25, 0.75), "0.50 [0.25, 0.75]"),
        (formats.format_interval(0.5, NAN, NAN), "0.50"),
        (formats.format_distance("frechet_random_vgg_4k"), "Fréchet distance"),
        (formats.format_distance("fid_inception_50k"), "FID"),
    ],
)
def test_numbers_are_written_as_readers_expect(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([NAN], NOTHING),
        ([0.5], "0.50"),
        ([0.5, 0.5], "0.50 ± 0.00"),
        ([0.0, 1.0, NAN], "0.50 ± 0.71 (1 missing)"),
    ],
)
def test_summary_shows_no_spread_that_it_has_not(values: list[float], text: str) -> None:
    assert formats.format_summary(summarise(values, "x"), "x").replace("\u00a0", " ") == text


def test_metrics_are_rounded_and_leave_out_what_is_missing() -> None:
    found = {"a": {"x": 1 / 3, "y": NAN, "phi": 1e-7}, "b": {"c": {}}, "truncation": 0.7}
    assert round_metrics(found) == {"a": {"x": 0.333333, "phi": 1e-7}, "truncation": 0.7}


def test_metrics_have_the_same_names_whatever_the_value_of_a_sweep() -> None:
    """Else the metrics of two studies that differ in phi would not be compared."""
    for phi in (1e-7, 100.0):
        rows = [make_phi_row(0.0), make_phi_row(phi)]  # the baseline has a group of its own
        metrics = round_metrics(PhiSweep().make_metrics(make_results("fid_lenet_4k"), rows))
        assert metrics["phi_sweep"] == {
            "strong": {
                "phi": phi,
                "held_out_detection": 0.5,
                "held_out_detection_std": 0.353553,
                "in_loss_detection": 0.125,
            }
        }


@pytest.mark.parametrize("distance", ["fid", "frechet"])
def test_plot_of_phi_has_the_name_of_the_distance_and_no_baseline(distance: str) -> None:
    rows = [make_phi_row(0.0), make_phi_row()]
    plot = PhiSweep().make_plots(make_results(f"{distance}_x_4k"), rows)["phi_sweep.csv"]
    assert list(plot.columns)[-5:] == [
        "real_accuracy", distance, "precision", "recall", "class_entropy"
    ]  # fmt: skip
    (row,) = plot.itertuples(index=False)
    assert row[:10] == pytest.approx((100, 2, "strong", 0.125, 0.5, 0.125**0.5, 0.25, 0.75, 0.5, 2))


def test_curves_are_averaged_over_instances() -> None:
    frame = pd.DataFrame(
        {
            "instance": [0, 0, 1, 1],
            "step": [1.0, 2.0, 1.0, 2.0],
            "loss_discriminator": [1.0, 2.0, 3.0, 4.0],
            "loss_generator": [0.0, 0.0, 1.0, 1.0],
            "loss_fooling": [NAN, NAN, NAN, NAN],
        }
    )
    means = average_curves({"base": frame})
    assert list(means["loss_discriminator"]) == [2.0, 3.0]
    assert means["loss_fooling"].isna().all()
    assert list(means) == [
        "cohort", "step", "loss_discriminator", "loss_generator", "loss_fooling"
    ]  # fmt: skip


def test_png_bytes_depend_on_the_figure_alone() -> None:
    cell = make_cell([0.5, 1.0], row=0.0)
    table = CohortTable(["a", "b"], [{**cell, "generator_cohort": name} for name in "ab"])
    first = render_png(draw_iterations(table))
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        assert render_png(draw_iterations(table)) == first
    assert b"matplotlib" not in first


def test_figures_bear_missing_numbers() -> None:
    figure = draw_phi_sweep([make_phi_row(0.0), make_phi_row()], "fid_lenet_4k", CLASSES)
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert figure.axes[0].get_ylim() == (-0.04, 1.04)
    assert render_png(figure).startswith(b"\x89PNG")
    lonely = draw_detecting({"one": [make_detecting_row([], n=2)]}, "n", "generators")
    assert render_png(lonely).startswith(b"\x89PNG")


def test_intervals_of_means_are_drawn_where_there_are_any() -> None:
    bounded = make_phi_row(detection_rate_low=0.125, detection_rate_high=0.875)
    rows = [make_phi_row(10.0), bounded]
    axes = draw_phi_sweep(rows, "fid_lenet_4k", CLASSES).axes[0]
    found = [each for each in axes.collections if isinstance(each, LineCollection)]
    bars = [segment.tolist() for each in found for segment in each.get_segments()]
    assert bars == [[[100.0, 0.125], [100.0, 0.875]]]


@pytest.mark.parametrize(("fids", "scale"), [((1.0, 1000.0), "log"), ((1.0, 10.0), "linear")])
def test_fid_axis_is_logarithmic_over_a_wide_range(fids: tuple[float, ...], scale: str) -> None:
    figure = draw_phi_sweep([make_phi_row(fid=fids)], "fid_lenet_4k", CLASSES)
    assert figure.axes[1].get_yscale() == scale


def test_entropy_has_a_panel_only_where_there_are_classes() -> None:
    with_classes = draw_phi_sweep([make_phi_row()], "fid_lenet_4k", CLASSES).axes
    assert with_classes[2].get_ylim() == (-0.1, 1.7)
    assert [line.get_ydata()[0] for line in with_classes[2].get_lines()][1] == math.log(4)
    without = draw_phi_sweep([make_phi_row()], "frechet_random_vgg_4k", None).axes
    assert [axes.get_ylabel().partition(",")[0] for axes in without][1:] == ["Fréchet distance"]


def test_sweeps_of_several_architectures_have_panels_on_one_scale() -> None:
    panels = {name: [make_detecting_row([1 / 3], n=2)] for name in ("one", "two", "three", "four")}
    figure = draw_detecting(panels, "n", "generators")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == list(panels)
    assert len({axes.get_ylim() for axes in shown}) == 1


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
    (shown,) = draw_image_rows([ImageRow("ten", (large,))]).axes[0].get_images()
    assert np.asarray(shown.get_array()).shape == (128, 10 * 129 - 1, 3)
    assert shown.get_interpolation() == "antialiased"


@pytest.mark.parametrize("channels", [1, 3])
def test_image_rows_show_the_images_as_they_are(channels: int) -> None:
    images = np.zeros((2, channels, 4, 4), dtype=np.uint8)
    images[1, 0] = 200
    figure = draw_image_rows([ImageRow("two", (images, images[:1]))])
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert shown.shape[:2] == (4, 4 + 1 + 4 + 6 + 4)  # two images, a gap, one image
    red = shown if channels == 1 else shown[..., 0]
    assert (red[:, :4] == 0).all()
    assert (red[:, 5:9] == 200).all()
    assert (shown[:, 9:15] == 255).all()
