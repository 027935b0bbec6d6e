"""Readings of the two tables, and figures of them, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from scipy import stats

from fabrication import DETECTION_FILLERS, QUALITY_FILLERS, SMALL, make_study, widen, write
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.cohort_tables import draw_iterations
from knowledge_gaps.readings.cohorts import Classes
from knowledge_gaps.readings.detecting_sweeps import draw_detecting
from knowledge_gaps.readings.figures import render_figure
from knowledge_gaps.readings.fooling_sweeps import draw_phi_sweep
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import PairSet, Row, find_metric, read_detections, read_quality

# base: 3 generators. c: 3 classifiers, trained on base/0 and base/1. fool: 2 generators, trained
# against c/0. d: 2 classifiers, trained on fool/0. weak: as fool, with a small phi. n1: 1
# classifier, trained on base/0.
_PAIRS = """\
generator_cohort,generator_instance,classifier_cohort,classifier_instance,in_loss,in_training,num_images,detection_rate,real_accuracy,auc
base,0,c,0,false,true,100,1.00,0.90,1.00
base,0,c,1,false,true,100,1.00,0.94,1.00
base,0,c,2,false,true,100,1.00,0.98,1.00
base,1,c,0,false,true,100,1.00,0.90,1.00
base,1,c,1,false,true,100,1.00,0.94,1.00
base,1,c,2,false,true,100,1.00,0.98,1.00
base,2,c,0,false,false,100,0.80,0.90,0.90
base,2,c,1,false,false,100,0.90,0.94,0.95
base,2,c,2,false,false,100,1.00,0.98,1.00
fool,0,c,0,true,false,100,0.01,0.90,0.30
fool,0,c,1,false,false,100,0.20,0.94,0.40
fool,0,c,2,false,false,100,0.40,0.98,0.60
fool,1,c,0,true,false,100,0.03,0.90,0.32
fool,1,c,1,false,false,100,0.60,0.94,0.70
fool,1,c,2,false,false,100,0.80,0.98,0.90
fool,0,d,0,False,True,100,0.99,0.96,0.99
fool,0,d,1,False,True,100,0.99,0.97,0.99
fool,1,d,0,False,False,100,0.70,0.96,0.80
fool,1,d,1,False,False,100,,0.97,
base,0,d,0,false,false,100,0.10,0.96,0.50
base,1,d,0,false,false,100,0.20,0.96,0.50
base,2,d,0,false,false,100,0.30,0.96,0.50
weak,0,c,0,true,false,100,0.50,0.90,0.75
weak,0,c,1,false,false,100,0.70,0.94,0.85
weak,0,c,2,false,false,100,0.90,0.98,0.95
weak,0,d,0,false,false,100,0.00,0.96,0.10
base,0,n1,0,false,true,100,1.00,0.91,1.00
base,1,n1,0,false,false,100,0.60,0.91,0.70
base,2,n1,0,false,false,100,0.40,0.91,0.60
"""
_CHAINS = {"generator_chain": "0", "classifier_chain": "0"}
DETECTIONS = widen(_PAIRS, {**_CHAINS, **DETECTION_FILLERS})
_GENERATORS = """\
generator_cohort,generator_instance,phi,fid_lenet_4k,kid_lenet_4k,precision_lenet_4k,recall_lenet_4k,class_entropy_lenet_4k
real,0,,1.0,0.0,0.9,0.9,2.3
base,0,0.0,10,0.1,0.5,0.4,2.2
base,1,0.0,12,0.1,0.5,0.4,2.2
base,2,0.0,14,0.1,0.5,0.4,2.2
fool,0,1.0,20,0.2,0.4,0.3,1.0
fool,1,1.0,,,,,0.0
weak,0,0.01,11,0.1,0.5,0.4,2.1
"""
NAN = math.nan
_METRICS = {f"{name}_lenet_4k": value for name, value in QUALITY_FILLERS.items()}
QUALITY = widen(_GENERATORS, {"generator_chain": "0", **_METRICS, "collapse": "intact"})
CLASSES = Classes("four classes", 4)
TABLES = {"quality": (QUALITY, read_quality), "detections": (DETECTIONS, read_detections)}


def make_results(
    root: Path, quality: str = QUALITY, shifts: Sequence[float] = (0.0,), **changes: float
) -> Results:
    """Read the tables, with all rates shifted in each chain; changes are of phi by GAN cohort."""
    phis = {f"gans.{name}.phi": phi for name, phi in changes.items()}
    study = make_study({**SMALL, "study.chains": len(shifts), **phis})
    rows = pd.read_csv(StringIO(DETECTIONS))
    chains = (
        rows.assign(
            generator_chain=chain,
            classifier_chain=chain,
            detection_rate=(rows["detection_rate"] + shift).clip(0, 1),
        )
        for chain, shift in enumerate(shifts)
    )
    path = write(root / "detections.csv", pd.concat(chains).to_csv(index=False))
    quality_path = write(root / "quality.csv", quality)
    return Results(root, study, read_detections(path), read_quality(quality_path), 0)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(tmp_path)


def get(row: Row, measure: str, *statistics: str) -> list[float]:
    return [row[f"{measure}_{name}"] for name in statistics]


@pytest.mark.parametrize(
    ("pairs", "row", "column", "expected"),
    [  # mean, std, num, missing
        ("held_out", "c", "base", (0.9, 0.1, 3, 0)),  # base/2 alone
        ("held_out", "c", "fool", (0.5, math.sqrt(0.2 / 3), 4, 0)),  # c/1 and c/2 alone
        ("held_out", "d", "base", (0.2, 0.1, 3, 0)),
        ("held_out", "d", "fool", (0.7, NAN, 1, 1)),  # fool/1, and one rate is missing
        ("in_loss", "c", "fool", (0.02, math.sqrt(0.0002), 2, 0)),
        ("in_loss", "d", "fool", (NAN, NAN, 0, NAN)),
    ],
)
def test_cells_of_iterations(
    results: Results, pairs: str, row: str, column: str, expected: tuple[float, ...]
) -> None:
    table = results.read("iterations")[pairs]
    assert (table.classifiers, table.gans) == (["c", "d"], ["base", "fool"])
    found = get(table.cells[row, column], "detection_rate", "mean", "std", "num", "missing")
    assert found == pytest.approx(expected, nan_ok=True)


def test_frame_has_coordinates_intervals_and_signals(tmp_path: Path) -> None:
    results = make_results(tmp_path, shifts=(-0.08, 0.0, 0.08))
    cell = results.select("iterations", PairSet.HELD_OUT)[1]  # c on fool
    assert [cell[name] for name in ("row", "column", "lag")] == [0, 1, 1]
    numbers = ("chains", "generators", "classifiers", "pairs")
    assert [cell[f"num_{name}"] for name in numbers] == [3, 2, 2, 12]
    # means of chains 0.42, 0.5, 0.58; in logits a standard error has four times its size
    half = stats.t.isf(0.025, 2) * 0.08 / math.sqrt(3) * 4
    expected = [0.5, 1 / (1 + math.exp(half)), 1 / (1 + math.exp(-half)), 2]
    ends = ("", "_low", "_high", "_degrees")
    assert [cell[f"detection_rate{end}"] for end in ends] == pytest.approx(expected)
    assert [cell[f"num_{word}"] for word in ("detected", "gone", "unknown")] == [6, 6, 0]
    assert [cell["auc_mean"], cell["auc"]] == pytest.approx([0.65, 0.65])
    missing = results.select("iterations", PairSet.HELD_OUT)[3]  # d on fool: fool/1 by d/0 alone
    assert [missing["detection_rate_num"], missing["detection_rate_missing"]] == [3, 3]
    assert cell["c2st_log10_p_max"] == -12.5
    every = results.cells[results.cells.reading == "all"]
    assert not every.duplicated(["pairs", "classifier_cohort", "generator_cohort"]).any()
    assert results.find(PairSet.IN_LOSS, "c", "base") is None


def test_one_chain_has_means_and_no_interval(results: Results) -> None:
    frame = results.cells
    assert (frame["num_chains"] <= 1).all()
    bounds = frame[[name for name in frame if name.endswith(("_low", "_high", "_degrees"))]]
    assert bounds.shape[1] == 30  # of ten measures
    assert bounds.isna().all(axis=None)
    assert frame["detection_rate"].notna().any()


def test_numbers_of_one_cohort_count_each_instance_once(results: Results) -> None:
    assert get(results.quality_rows["base"], "fid", "mean", "std") == [12.0, 2.0]
    assert get(results.quality_rows["fool"], "fid", "num", "missing") == [1, 1]
    accuracy = get(results.accuracy_rows["c"], "real_accuracy", "mean", "std", "num")
    assert accuracy == pytest.approx([0.94, 0.04, 3])


def test_iteration_without_classifiers_makes_no_row(results: Results) -> None:
    table = results.read("memoryless")["held_out"]
    assert (table.classifiers, table.gans) == (["d"], ["base", "fool"])
    assert table.cells["d", "base"]["row"] == 1


def test_phi_sweep_reads_the_fooled_cohort_and_the_baseline(results: Results) -> None:
    rows = results.read("phi_sweep")
    assert [row["held_out"]["generator_cohort"] for row in rows] == ["base", "weak", "fool"]
    base, weak, fool = rows
    assert base["rates"] == [0.8, 0.9, 1.0]  # classifiers of d are not asked
    assert base["in_loss"]["num_pairs"] == 0
    assert weak["in_loss"]["detection_rate_mean"] == 0.5
    assert weak["rates"] == [0.7, 0.9]
    assert get(fool["held_out"], "detection_rate", "min", "max") == [0.2, 0.8]
    assert get(fool["held_out"], "real_accuracy", "mean", "num") == pytest.approx([0.96, 2])
    assert fool["fid"] == pytest.approx([20.0, NAN], nan_ok=True)
    assert fool["quality"]["class_entropy_mean"] == 0.5


@pytest.mark.parametrize(("distance", "phi"), [("fid", 1e-7), ("frechet", 0.1)])
def test_numbers_of_the_phi_sweep_have_the_same_names_for_every_phi(
    tmp_path: Path, distance: str, phi: float
) -> None:
    """Else the metrics of two studies that differ in phi would not be compared."""
    results = make_results(tmp_path, QUALITY.replace("fid_", f"{distance}_"), weak=phi)
    sweep, rows = list_readings()["phi_sweep"], results.read("phi_sweep")
    metrics = sweep.make_metrics(results, rows)["phi_sweep"]
    assert set(metrics) == {"weak", "fool"}  # the baseline has a group of its own
    std = math.sqrt(0.02)
    expected = {"phi": phi, "in_loss_detection": 0.5, "class_entropy_lenet_4k": 2.1}
    expected |= {"held_out_detection": 0.8, "held_out_detection_std": std}
    assert metrics["weak"] == pytest.approx(expected | {f"{distance}_lenet_4k": 11.0})
    plot = sweep.make_plots(results, rows)["phi_sweep.csv"]
    assert list(plot)[-4:] == [distance, "precision", "recall", "class_entropy"]
    weak, _ = plot.itertuples(index=False)
    values = (phi, math.log10(phi), "weak", 0.5, 0.8, std, 0.7, 0.9, 0.9, 2, 0.96, 11)
    assert weak[:12] == pytest.approx(values)


def test_generalisation_knows_which_generators_are_common(results: Results) -> None:
    ((one, two),) = results.read("generalisation")
    # n1 was trained on a generator of "weak" too, which is another matter
    assert [row["held_out"]["n"] for row in (one, two)] == [1, 2]
    assert one["held_out"]["classifier_cohort"] == "n1"
    assert one["held_out"]["detection_rate_mean"] == pytest.approx(0.5)
    assert one["in_training"]["detection_rate_mean"] == 1.0
    assert one["common"]["rate_mean"] == 0.4  # base/1 is trained on by c
    assert list(one["pairs"]["is_common"]) == [False, True]
    assert two["common"]["rate_mean"] == two["held_out"]["detection_rate_mean"]
    assert two["accuracy"]["real_accuracy_mean"] == pytest.approx(0.94)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("quality", "fid", "other", r"quality\.csv: no column starts with 'fid_'"),
        ("quality", "kid_std", "other", "no column starts with 'kid_std_'"),
        ("quality", "base,1", "base,0", "generator_instance 0: the row is there twice"),
        ("detections", "in_loss", "other", r"detections\.csv: column 'in_loss' is missing"),
        ("detections", "base,2,c,0,false", "base,2,c,0,maybe", "'in_loss', line 8: found 'maybe'"),
        ("detections", "base,2,c,0", "base,two,c,0", "'generator_instance', line 8: found 'two'"),
        ("detections", "0.80,0.90,0.90", "1.80,0.90,0.90", "'detection_rate', line 8: found '1.80"),
        ("detections", "base,2,c,0", "base,2,c,1", "instance 2, .*the row is there twice"),
    ],
)
def test_bad_column_or_value_is_named(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    text, read = TABLES[file]
    path = write(tmp_path / f"{file}.csv", text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read(path)


def test_metric_is_not_found_by_the_start_of_another_ones_name(results: Results) -> None:
    turned = results.quality[results.quality.columns[::-1]]
    assert find_metric(turned, "kid") == "kid_lenet_4k"
    assert find_metric(turned, "kid_std") == "kid_std_lenet_4k"


@pytest.mark.parametrize("table", [TABLE_ITERATIONS, TABLE_ARCHITECTURES, TABLE_MUTUAL_FOOLING])
def test_paper_tables_are_whole(table: PaperTable) -> None:
    size = len(table.names)
    for block in [table.means] if table.stds is None else [table.means, table.stds]:
        assert [len(row) for row in block] == [size] * size
        assert all(0 <= value <= 1 for row in block for value in row)
    assert table.fid is None or len(table.fid) == size


def test_png_bytes_depend_on_the_figure_alone(results: Results) -> None:
    table = results.read("iterations")["held_out"]
    first = render_figure(draw_iterations(table), "png")
    with mpl.rc_context({"font.size": 20, "axes.grid": False}):
        assert render_figure(draw_iterations(table), "png") == first
    assert b"matplotlib" not in first


@pytest.mark.parametrize(
    ("fids", "scale"), [([1.0, 1000.0], "log"), ([1.0, 10.0], "linear"), ([NAN], "linear")]
)
def test_figure_of_phi_bears_missing_numbers(
    results: Results, fids: list[float], scale: str
) -> None:
    base, _, fool = results.read("phi_sweep")
    bounds = {"detection_rate_low": 0.125, "detection_rate_high": 0.875}
    cells = (dict.fromkeys(bounds, NAN) | {"phi": 0.1}, bounds)  # an interval of the last alone
    rows = [{**fool, "fid": fids, "held_out": fool["held_out"] | cell} for cell in cells]
    figure = draw_phi_sweep([base, *rows], "fid_lenet_4k", CLASSES)
    rate, fid, entropy = figure.axes
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert rate.get_ylim() == (-0.04, 1.04)
    found = [each for each in rate.collections if isinstance(each, LineCollection)]
    bars = [segment.tolist() for each in found for segment in each.get_segments()]
    assert bars == [[[1.0, 0.125], [1.0, 0.875]]]
    assert fid.get_yscale() == scale
    assert entropy.get_ylim() == (-0.1, 1.7)
    assert entropy.get_lines()[1].get_ydata()[0] == math.log(4)
    assert render_figure(figure, "png").startswith(b"\x89PNG")
    assert len(draw_phi_sweep(rows, "frechet_random_vgg_4k", None).axes) == 2
    of_own = draw_phi_sweep(rows, "fid_lenet_bars_4k", Classes("their classes", None)).axes[2]
    assert of_own.get_ylim()[0] == -0.1
    assert not of_own.get_lines()[1:]  # no line at a largest entropy


def test_sweeps_of_several_architectures_have_panels_on_one_scale(results: Results) -> None:
    (rows,) = results.read("generalisation")
    titles = ["one", "two", "three", "four"]
    figure = draw_detecting(dict.fromkeys(titles, rows), "n", "generators")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == titles
    assert len({axes.get_ylim() for axes in shown}) == 1
    empty = [{**rows[0], "pairs": rows[0]["pairs"][:0]}]
    assert render_figure(draw_detecting({"one": empty}, "n", "generators"), "png")
