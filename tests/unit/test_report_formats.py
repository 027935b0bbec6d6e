"""How numbers are written, and what goes into metrics.json and the plots' CSVs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from knowledge_gaps.analyses.spectra.figure import list_decibels
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.curves import average_curves
from knowledge_gaps.readings.figures.grids import ImageRow, draw_image_rows, shrink_images
from knowledge_gaps.readings.figures.heat import draw_iteration_table
from knowledge_gaps.readings.figures.style import render_png
from knowledge_gaps.readings.figures.sweeps import (
    draw_detecting_panels,
    draw_detecting_sweep,
    draw_phi_sweep,
)
from knowledge_gaps.readings.formats import (
    NOTHING,
    format_counts,
    format_distance,
    format_number,
    format_p,
    format_phi,
    format_phis,
    format_summary,
)
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.sweeps import (
    DetectingRow,
    FoolingRow,
    GeneralisationSweep,
    HeldOutPair,
)
from knowledge_gaps.readings.tables import (
    Cell,
    IterationTable,
    summarise,
)
from knowledge_gaps.report.metrics import make_headline_metrics
from knowledge_gaps.report.plots import make_plots
from knowledge_gaps.report.setting import Classes
from knowledge_gaps.statistics.bootstrap import Interval
from knowledge_gaps.statistics.measures import FID, METRICS

NAN = math.nan
CLASSES = Classes("four classes", 4)
EMPTY = summarise([])
PHI_ROW = FoolingRow(
    cohort="strong",
    value=100.0,
    classifiers=("c",),
    in_loss=summarise([0.125]),
    held_out=summarise([0.25, 0.75]),
    interval=Interval(0.5, 0.125, 0.875, 1, ()),
    held_out_auc=summarise([0.5, 0.5]),
    held_out_rates=(0.25, 0.75),
    real_accuracy=summarise([0.9]),
    quality=dict.fromkeys(METRICS, EMPTY),
    fids=(NAN,),
    entropies=(0.0,),
)
GENERALISATION_ROW = DetectingRow(
    cohort="two",
    value=2,
    held_out=summarise([1 / 3]),
    interval=None,
    held_out_auc=EMPTY,
    common=EMPTY,
    in_training=EMPTY,
    real_accuracy=EMPTY,
    pairs=(HeldOutPair(0, 2, 1 / 3, NAN, is_common=False),),
)
SWEEP = GeneralisationSweep("base", "cnn", (GENERALISATION_ROW,))
TABLE = IterationTable(
    pairs=PairSet.HELD_OUT,
    classifiers=("c",),
    row_iterations=(0,),
    gans=("base", "fool"),
    cells={
        ("c", "base"): Cell(summarise([0.5, 1.0]), summarise([0.75])),
        ("c", "fool"): Cell(EMPTY, EMPTY),
    },
    fid={"base": summarise([3.0]), "fool": EMPTY},
    real_accuracy={"c": summarise([0.9])},
)
READINGS = Readings(
    held_out=TABLE,
    in_loss=None,
    memoryless=None,
    memoryless_in_loss=None,
    memory=None,
    cells={},
    collapse={},
    mutual_fooling=None,
    clusters=None,
    memory_in_loss=None,
    multi_instance=(),
    truncation=(),
    phi_sweep=(dataclasses.replace(PHI_ROW, cohort="base", value=0.0), PHI_ROW),
    architectures=None,
    architectures_in_loss=None,
    generalisation=(SWEEP,),
    baseline=None,
    quality={"base": {metric: summarise([3.0]) for metric in METRICS}, "fool": PHI_ROW.quality},
    floor=None,
    real_accuracy={"c": EMPTY},
    metric_names={metric: f"{metric}_lenet_4k" for metric in METRICS},
)


@pytest.mark.parametrize(
    ("phi", "text"),
    [
        (0.0, "0"),
        (0.01, "10⁻²"),
        (1.0, "1"),
        (2.5, "2.5"),
        (30.0, "30"),
        (1e6, "10⁶"),
        (1e-10, "10⁻¹⁰"),
    ],
)
def test_phi_is_written_without_padding(phi: float, text: str) -> None:
    assert format_phi(phi) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], NOTHING),
        ([NAN], NOTHING),
        ([0.5], "0.50"),
        ([0.5, 0.5], "0.50 ± 0.00"),
        ([0.0, 1.0], "0.50 ± 0.71"),
        ([0.0, 1.0, NAN], "0.50 ± 0.71 (1 missing)"),
    ],
)
def test_summary_shows_no_spread_that_it_has_not(values: list[float], text: str) -> None:
    assert format_summary(summarise(values)).replace("\u00a0", " ") == text


def test_counts_and_phis_are_written_from_small_to_large() -> None:
    assert format_counts([2000]) == "2,000"
    assert format_counts([4, 2, 4, 3]) == "2 to 4"
    assert format_phis({1.0, 0.1}) == "10⁻¹, 1"


def test_metrics_are_rounded_and_leave_out_what_is_missing() -> None:
    assert make_headline_metrics(READINGS) == {
        "held_out_detection": {"c": {"base": 0.75}},
        "fid": {"base": {"fid_lenet_4k": 3.0}},
        "generalisation": {"two": {"held_out_detection": 0.333333, "num_generators": 2.0}},
        "phi_sweep": {
            "strong": {
                "phi": 100.0,
                "held_out_detection": 0.5,
                "held_out_detection_std": 0.353553,
                "in_loss_detection": 0.125,
            }
        },
    }


def test_metrics_have_the_same_names_whatever_the_value_of_a_sweep() -> None:
    """Else the metrics of two studies that differ in phi would not be compared."""
    for phi in (1e-7, 0.3, 100.0):
        row = dataclasses.replace(PHI_ROW, value=phi)
        metrics = make_headline_metrics(dataclasses.replace(READINGS, phi_sweep=(row,)))
        assert list(metrics["phi_sweep"]) == ["strong"]
        assert metrics["phi_sweep"]["strong"]["phi"] == phi
        assert metrics["phi_sweep"]["strong"]["held_out_detection"] == 0.5


def test_metrics_of_other_sweeps_go_by_their_cohorts_too() -> None:
    fooling = dataclasses.replace(PHI_ROW, cohort="fools_two", value=2)
    detecting = dataclasses.replace(GENERALISATION_ROW, cohort="short", value=0.7)
    readings = dataclasses.replace(READINGS, multi_instance=(fooling,), truncation=(detecting,))
    metrics = make_headline_metrics(readings)
    assert metrics["multi_instance"] == {
        "fools_two": {
            "held_out_detection": 0.5,
            "in_loss_detection": 0.125,
            "num_classifiers": 2.0,
        }
    }
    assert metrics["truncation"] == {"short": {"held_out_detection": 0.333333, "truncation": 0.7}}


def test_metrics_of_several_sweeps_stand_side_by_side() -> None:
    """A cohort stands in one of them at most, so no architecture is needed to tell them apart."""
    other = dataclasses.replace(GENERALISATION_ROW, cohort="other", held_out=summarise([1.0]))
    small = GeneralisationSweep("base", "small", (other,))
    metrics = make_headline_metrics(dataclasses.replace(READINGS, generalisation=(SWEEP, small)))
    assert metrics["generalisation"] == {
        "two": {"held_out_detection": 0.333333, "num_generators": 2.0},
        "other": {"held_out_detection": 1.0, "num_generators": 2.0},
    }


def test_metrics_of_architectures_are_rows_and_columns() -> None:
    metrics = make_headline_metrics(dataclasses.replace(READINGS, architectures=TABLE))
    assert metrics["architectures"] == {"c": {"base": 0.75}}  # a cell without pairs has no key


def test_distance_that_is_no_fid_has_its_own_key_and_column() -> None:
    names = {**READINGS.metric_names, FID: "frechet_random_vgg_4k"}
    readings = dataclasses.replace(READINGS, metric_names=names)
    metrics = make_headline_metrics(readings)
    assert metrics["frechet"] == {"base": {"frechet_random_vgg_4k": 3.0}}
    assert "fid" not in json.dumps(metrics)
    header = make_plots(readings, {})["phi_sweep.csv"].splitlines()[0]
    assert header.endswith(",real_accuracy,frechet,precision,recall,class_entropy")
    assert format_distance("frechet_random_vgg_4k") == "Fréchet distance"
    assert format_distance("fid_inception_50k") == "FID"


def test_plots_hold_the_single_pairs_and_leave_the_baseline_off_the_log_axis() -> None:
    plots = make_plots(READINGS, {})
    assert set(plots) == {
        "iterations.csv",
        "phi_sweep.csv",
        "generalisation.csv",
        "loss_curves.csv",
    }
    assert plots["iterations.csv"].splitlines()[1:] == [
        '"c on base, held_out",held_out,0,c,0,base,0.75,0.353553,0.75,2'
    ]
    header = plots["phi_sweep.csv"].splitlines()[0]  # short names, which dvc.yaml asks for
    assert header.endswith(",real_accuracy,fid,precision,recall,class_entropy")
    assert plots["phi_sweep.csv"].splitlines()[1:] == [
        "100,2,strong,0.125,0.5,0.353553,0.25,0.75,0.5,2,0.9,,,,"
    ]
    assert plots["generalisation.csv"].splitlines()[1:] == ["2,two,0,2,0.333333,,false"]
    assert plots["loss_curves.csv"].splitlines() == [
        "cohort,step,loss_discriminator,loss_generator,loss_fooling"
    ]


def test_curves_are_averaged_over_instances() -> None:
    import pandas as pd

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
    assert list(means["loss_generator"]) == [0.5, 0.5]
    assert means["loss_fooling"].isna().all()


def test_png_bytes_depend_on_the_figure_alone() -> None:
    import matplotlib as mpl

    first = render_png(draw_iteration_table(TABLE))
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        second = render_png(draw_iteration_table(TABLE))
    assert first == second
    assert b"Software" not in first
    assert b"matplotlib" not in first


def test_figures_bear_missing_numbers() -> None:
    figure = draw_phi_sweep(READINGS.phi_sweep, "fid_lenet_4k", CLASSES)
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert figure.axes[0].get_ylim() == (-0.04, 1.04)
    assert render_png(figure).startswith(b"\x89PNG")
    lonely = draw_detecting_sweep(
        [dataclasses.replace(GENERALISATION_ROW, pairs=(), held_out=EMPTY)], "generators"
    )
    assert render_png(lonely).startswith(b"\x89PNG")


def test_intervals_of_means_are_drawn_where_there_are_any() -> None:
    def list_bars(rows: Sequence[FoolingRow]) -> list[list[list[float]]]:
        axes = draw_phi_sweep(rows, "fid_lenet_4k", CLASSES).axes[0]
        found = [each for each in axes.collections if isinstance(each, LineCollection)]
        return [segment.tolist() for each in found for segment in each.get_segments()]

    lonely = dataclasses.replace(PHI_ROW, interval=Interval(0.5, NAN, NAN, 0, ()))
    other = dataclasses.replace(PHI_ROW, value=10.0, interval=None)
    assert list_bars([other, PHI_ROW]) == [[[100.0, 0.125], [100.0, 0.875]]]
    assert list_bars([lonely]) == list_bars([other]) == []


def test_ratios_of_a_collapsed_generator_leave_room_for_the_others() -> None:
    assert list_decibels(-32.0, 25.0) == [0, -1, 1, -2, 2, -3, 3, -10, 10, -30]
    assert list_decibels(-1.5, 0.5) == [0, -1]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "< 0.001"), (0.001, "0.001"), (0.0125, "0.013"), (NAN, NOTHING)]
)
def test_small_p_values_are_not_zero(value: float, text: str) -> None:
    assert format_p(value) == text


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (-0.006, "-0.01"), (0.0, "0.00")])
def test_nothing_is_minus_zero(value: float, text: str) -> None:
    assert format_number(value) == text


def test_fid_axis_is_logarithmic_over_a_wide_range() -> None:
    wide = dataclasses.replace(PHI_ROW, fids=(1.0, 1000.0))
    assert draw_phi_sweep([wide], "fid_lenet_4k", CLASSES).axes[1].get_yscale() == "log"
    narrow = dataclasses.replace(PHI_ROW, fids=(1.0, 10.0))
    assert draw_phi_sweep([narrow], "fid_lenet_4k", CLASSES).axes[1].get_yscale() == "linear"


def test_entropy_has_a_panel_only_where_there_are_classes() -> None:
    with_classes = draw_phi_sweep([PHI_ROW], "fid_lenet_4k", CLASSES).axes
    assert len(with_classes) == 3
    (line,) = [line for line in with_classes[2].get_lines() if line.get_linestyle() == "--"]
    assert line.get_ydata()[0] == pytest.approx(math.log(4))
    assert with_classes[2].get_ylim() == (-0.1, 1.7)
    without = draw_phi_sweep([PHI_ROW], "frechet_random_vgg_4k", None).axes
    assert [axes.get_ylabel().partition(",")[0] for axes in without][1:] == ["Fréchet distance"]


def test_sweeps_of_several_architectures_have_panels_on_one_scale() -> None:
    panels = {name: [GENERALISATION_ROW] for name in ("one", "two", "three", "four")}
    figure = draw_detecting_panels(panels, "generators")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == list(panels)
    assert len({axes.get_ylim() for axes in shown}) == 1


def test_large_images_are_shrunk_to_means_of_squares() -> None:
    images = np.zeros((1, 3, 258, 256), dtype=np.uint8)
    images[:, 1, 4:8, 9:12] = 200  # 4 rows and 3 columns, of squares of 3 by 3
    shrunk = shrink_images(images)
    assert shrunk.shape == (1, 3, 86, 85)
    assert shrunk.dtype == np.uint8
    assert shrunk[0, 1, 1:3, 3].tolist() == [133, 133]  # two of three rows each
    assert shrunk.sum() == 2 * 133
    assert (shrink_images(images[:, :, :128, :128]) == images[:, :, :128, :128]).all()


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
