"""Readings of the two tables against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from fabrication import DETECTION_FILLERS, GANS, QUALITY_FILLERS, make_study, widen, write
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import (
    PairSet,
    Row,
    find_metric,
    read_detections,
    read_quality,
    select_pairs,
    summarise,
)

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
DETECTIONS = widen(_PAIRS, DETECTION_FILLERS)
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
QUALITY = widen(
    _GENERATORS, {f"{name}_lenet_4k": value for name, value in QUALITY_FILLERS.items()}
).replace("collapse_lenet_4k", "collapse")
STUDY = {  # n1 is trained on a generator of another cohort too
    "pools": {
        "c_0": {"extends": "none", "cohort": "classifiers/c", "instances": [0]},
        "base_1": {"extends": "none", "cohort": "gans/base", "instances": [0]},
        "base_2": {"extends": "base_1", "cohort": "gans/base", "instances": [1]},
        "fool_1": {"extends": "none", "cohort": "gans/fool", "instances": [0]},
        "mixed": {"extends": "base_1", "cohort": "gans/weak", "instances": [0]},
    },
    "gans": {
        "base": GANS,
        "fool": {**GANS, "instances": 2, "fools": "c_0", "phi": 1.0},
        "weak": {**GANS, "instances": 1, "fools": "c_0", "phi": 0.01},
    },
    "classifiers": {
        "c": {"recipe": "cnn", "instances": 3, "detects": "base_2"},
        "d": {"recipe": "cnn", "instances": 2, "detects": "fool_1"},
        "n1": {"recipe": "cnn", "instances": 1, "detects": "mixed"},
    },
    "report": {
        "iterations": [{"gans": "base", "classifiers": "c"}, {"gans": "fool", "classifiers": "d"}],
        "memoryless": [{"gans": "base"}, {"gans": "fool", "classifiers": "d"}],
        "phi_sweep": ["fool", "weak"],
        "generalisation": [{"gans": "base", "classifiers": ["c", "n1"]}],
        "architectures": [
            {"classifiers": "c", "gans": "fool"},
            {"classifiers": "d", "gans": "base"},
        ],
    },
}


@pytest.fixture
def detections(tmp_path: Path) -> pd.DataFrame:
    return read_detections(write(tmp_path / "detections.csv", DETECTIONS))


@pytest.fixture
def quality(tmp_path: Path) -> pd.DataFrame:
    return read_quality(write(tmp_path / "quality.csv", QUALITY))


@pytest.fixture
def results(detections: pd.DataFrame, quality: pd.DataFrame, tmp_path: Path) -> Results:
    return Results(tmp_path, make_study(STUDY), detections, quality, seed=0)


def get(row: Row, measure: str, *statistics: str) -> list[float]:
    return [row[f"{measure}_{name}"] for name in statistics]


@pytest.mark.parametrize(
    ("values", "mean", "std", "num", "missing"),
    [([1.0, 3.0, NAN], 2.0, math.sqrt(2), 2, 1), ([0.5], 0.5, NAN, 1, 0), ([], NAN, NAN, 0, 0)],
)
def test_summary_divides_by_one_less(
    values: list[float], mean: float, std: float, num: int, missing: int
) -> None:
    found = get(summarise(values, "x"), "x", "mean", "std", "num", "missing")
    assert found == pytest.approx([mean, std, num, missing], nan_ok=True)


def test_held_out_leaves_out_both_kinds_of_training(detections: pd.DataFrame) -> None:
    generators = select_pairs(detections, PairSet.HELD_OUT, "base", "c")
    assert set(generators["generator_instance"]) == {2}
    classifiers = select_pairs(detections, PairSet.HELD_OUT, "fool", "c")
    assert set(classifiers["classifier_instance"]) == {1, 2}
    assert set(select_pairs(detections, PairSet.IN_LOSS, "fool")["classifier_instance"]) == {0}


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
    table = list_readings()["iterations"].read(results)[pairs]
    assert (table.classifiers, table.gans) == (["c", "d"], ["base", "fool"])
    found = get(table.cells[row, column], "detection_rate", "mean", "std", "num", "missing")
    assert found == pytest.approx(expected, nan_ok=True)


def test_frame_has_coordinates_intervals_and_signals(results: Results) -> None:
    cell = results.select("iterations", PairSet.HELD_OUT)[1]  # c on fool
    assert [cell[name] for name in ("row", "column", "lag")] == [0, 1, 1]
    assert [cell[f"num_{name}"] for name in ("generators", "classifiers", "pairs")] == [2, 2, 4]
    assert cell["detection_rate"] == pytest.approx(0.5)
    assert 0 <= cell["detection_rate_low"] < 0.5 < cell["detection_rate_high"] <= 1
    assert [cell[f"num_{word}"] for word in ("detected", "gone", "unknown")] == [2, 2, 0]
    assert cell["auc_mean"] == pytest.approx(0.65)
    assert cell["c2st_log10_p_max"] == -12.5
    every = results.cells[results.cells.reading == "all"]
    assert len(every) == len(
        every[["pairs", "classifier_cohort", "generator_cohort"]].value_counts()
    )
    assert results.find(PairSet.IN_LOSS, "c", "base") is None


def test_numbers_of_one_cohort_count_each_instance_once(results: Results) -> None:
    assert get(results.quality_rows["base"], "fid", "mean", "std") == [12.0, 2.0]
    assert get(results.quality_rows["fool"], "fid", "num", "missing") == [1, 1]
    accuracy = get(results.accuracy_rows["c"], "real_accuracy", "mean", "std", "num")
    assert accuracy == pytest.approx([0.94, 0.04, 3])


def test_iteration_without_classifiers_makes_no_row(results: Results) -> None:
    table = list_readings()["memoryless"].read(results)["held_out"]
    assert (table.classifiers, table.gans) == (["d"], ["base", "fool"])
    assert table.cells["d", "base"]["row"] == 1


def test_phi_sweep_reads_the_fooled_cohort_and_the_baseline(results: Results) -> None:
    rows = list_readings()["phi_sweep"].read(results)
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


def test_generalisation_knows_which_generators_are_common(results: Results) -> None:
    ((one, two),) = list_readings()["generalisation"].read(results)
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
    ("name", "words"),
    [
        ("fid", "no column starts with 'fid_'"),
        ("kid_std", "no column starts with 'kid_std_'"),
        ("collapse", "column 'collapse' is missing"),
    ],
)
def test_missing_column_of_quality_is_named(tmp_path: Path, name: str, words: str) -> None:
    path = write(tmp_path / "quality.csv", QUALITY.replace(name, "other", 1))
    with pytest.raises(UserError, match=rf"quality\.csv: {words}"):
        read_quality(path)


def test_metric_is_not_found_by_the_start_of_another_ones_name(quality: pd.DataFrame) -> None:
    turned = quality[quality.columns[::-1]]
    assert find_metric(turned, "kid") == "kid_lenet_4k"
    assert find_metric(turned, "kid_std") == "kid_std_lenet_4k"


def test_distance_is_found_under_either_name(tmp_path: Path) -> None:
    text = QUALITY.replace("fid_lenet_4k", "frechet_random_vgg_4k")
    renamed = read_quality(write(tmp_path / "quality.csv", text))
    assert find_metric(renamed, "fid") == "frechet_random_vgg_4k"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("in_loss", "other", r"column 'in_loss' is missing"),
        ("c2st_log10_p", "other", r"column 'c2st_log10_p' is missing"),
        ("base,2,c,0,false", "base,2,c,0,maybe", r"'in_loss', line 8: found 'maybe', true or"),
        ("base,2,c,0", "base,two,c,0", r"'generator_instance', line 8: found 'two', a whole"),
        ("100,0.80,0.90,0.90", "100,1.80,0.90,0.90", r"'detection_rate', line 8: found '1.80'"),
        ("base,2,c,0", "base,2,c,1", r"generator_instance 2, .*the row is there twice"),
    ],
)
def test_bad_value_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "detections.csv", DETECTIONS.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_detections(path)


@pytest.mark.parametrize("table", [TABLE_ITERATIONS, TABLE_ARCHITECTURES, TABLE_MUTUAL_FOOLING])
def test_paper_tables_are_whole(table: PaperTable) -> None:
    for block in [table.means] if table.stds is None else [table.means, table.stds]:
        assert len(block) == len(table.rows)
        assert all(len(row) == len(table.columns) for row in block)
        assert all(0 <= value <= 1 for row in block for value in row)
    assert table.fid is None or len(table.fid) == len(table.columns)
