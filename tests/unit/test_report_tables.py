"""Readings of the two tables against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.cells import list_keys, make_cells
from knowledge_gaps.readings.collected import make_readings
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.sweeps import make_detecting_sweep, make_fooling_sweep
from knowledge_gaps.readings.tables import (
    find_metric,
    make_iteration_table,
    read_detections,
    read_quality,
    select_pairs,
    summarise,
)
from knowledge_gaps.study import Iteration, Study
from knowledge_gaps.study.schema import ArchitecturePair
from report_tools import DETECTION_FILLERS, QUALITY_FILLERS, widen

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
QUALITY = widen(_GENERATORS, QUALITY_FILLERS)
MIXED_STUDY = {  # its classifiers are trained on generators of two cohorts
    "study": {"name": "mixed", "seed": 0},
    "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist"},
    "gan_recipes": {},
    "classifier_recipes": {
        "cnn": {
            "architecture": "cnn",
            "steps": 1,
            "batch_size": 2,
            "optimizer": {"learning_rate": 0.1},
        }
    },
    "pools": {
        "base_2": {"extends": "none", "cohort": "gans/base", "instances": [0, 1]},
        "mixed": {"extends": "base_2", "cohort": "gans/fool", "instances": [0]},
    },
    "gans": {
        "base": {"recipe": "dcgan", "instances": 3, "fools": "none", "phi": 0.0},
        "fool": {"recipe": "dcgan", "instances": 2, "fools": "none", "phi": 0.0},
    },
    "classifiers": {"c": {"recipe": "cnn", "instances": 3, "detects": "mixed"}},
    "evaluation": {"num_images": 100},
    "report": {"generalisation": [{"gans": "base", "classifiers": ["c"]}]},
}
ITERATIONS = [Iteration(gans="base", classifiers="c"), Iteration(gans="fool", classifiers="d")]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def detections(tmp_path: Path) -> pd.DataFrame:
    return read_detections(write(tmp_path / "detections.csv", DETECTIONS))


@pytest.fixture
def quality(tmp_path: Path) -> pd.DataFrame:
    return read_quality(write(tmp_path / "quality.csv", QUALITY))


def test_summarise_divides_by_one_less() -> None:
    summary = summarise([1.0, 3.0, math.nan])
    assert summary.mean == 2.0
    assert summary.std == pytest.approx(math.sqrt(2.0))
    assert (summary.minimum, summary.maximum) == (1.0, 3.0)
    assert (summary.num, summary.num_missing) == (2, 1)


def test_summarise_has_no_spread_of_one_number_and_no_mean_of_none() -> None:
    one, none = summarise([0.5]), summarise([])
    assert one.mean == 0.5
    assert math.isnan(one.std)
    assert none.num == 0
    assert math.isnan(none.mean)


def test_held_out_leaves_out_both_kinds_of_training(detections: pd.DataFrame) -> None:
    generators = select_pairs(detections, PairSet.HELD_OUT, "base", "c")
    assert set(generators["generator_instance"]) == {2}
    classifiers = select_pairs(detections, PairSet.HELD_OUT, "fool", "c")
    assert set(classifiers["classifier_instance"]) == {1, 2}
    assert set(select_pairs(detections, PairSet.IN_LOSS, "fool")["classifier_instance"]) == {0}


def test_iteration_table_over_held_out_pairs(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    table = make_iteration_table(detections, quality, ITERATIONS)
    assert (table.classifiers, table.row_iterations, table.gans) == (
        ("c", "d"),
        (0, 1),
        ("base", "fool"),
    )
    same = table.cells["c", "base"]  # base/2 alone
    assert same.detection.mean == pytest.approx(0.9)
    assert same.detection.std == pytest.approx(0.1)
    assert same.detection.num == 3
    assert same.auc.mean == pytest.approx(0.95)
    later = table.cells["c", "fool"]  # c/1 and c/2 alone
    assert later.detection.num == 4
    assert later.detection.mean == pytest.approx(0.5)
    assert later.detection.std == pytest.approx(math.sqrt((0.09 + 0.01 + 0.01 + 0.09) / 3))
    assert later.auc.mean == pytest.approx(0.65)
    assert table.cells["d", "base"].detection.mean == pytest.approx(0.2)
    alone = table.cells["d", "fool"].detection  # fool/1, and one rate is missing
    assert (alone.mean, alone.num, alone.num_missing) == (0.7, 1, 1)
    assert math.isnan(alone.std)


def test_iteration_table_margins(detections: pd.DataFrame, quality: pd.DataFrame) -> None:
    table = make_iteration_table(detections, quality, ITERATIONS)
    assert (table.fid["base"].mean, table.fid["base"].std) == (12.0, 2.0)
    assert (table.fid["fool"].num, table.fid["fool"].num_missing) == (1, 1)
    accuracy = table.real_accuracy["c"]  # each classifier once, however many rows it has
    assert accuracy.num == 3
    assert accuracy.mean == pytest.approx(0.94)
    assert accuracy.std == pytest.approx(0.04)


def test_iteration_table_of_the_classifiers_in_the_loss(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    table = make_iteration_table(detections, quality, ITERATIONS, PairSet.IN_LOSS)
    assert table.cells["c", "fool"].detection.mean == pytest.approx(0.02)
    assert table.cells["c", "fool"].detection.num == 2
    assert [cell.detection.num for cell in table.cells.values()] == [0, 2, 0, 0]


def test_iteration_without_classifiers_makes_no_row(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    iterations = [Iteration(gans="base"), Iteration(gans="fool", classifiers="d")]
    table = make_iteration_table(detections, quality, iterations)
    assert (table.classifiers, table.row_iterations) == (("d",), (1,))
    assert table.gans == ("base", "fool")


def test_phi_sweep_sees_with_the_eyes_of_the_fooled_cohort(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    values = {"fool": 1.0, "weak": 0.01, "base": 0.0}
    cells = make_cells(detections, list_keys(detections), seed=0)
    rows = make_fooling_sweep(detections, quality, cells, values)
    assert [row.cohort for row in rows] == ["base", "weak", "fool"]
    base, weak, fool = rows
    assert base.held_out_rates == (0.8, 0.9, 1.0)  # classifiers of d are not asked
    assert base.in_loss.num == 0
    assert weak.in_loss.mean == 0.5
    assert weak.held_out_rates == (0.7, 0.9)
    assert (fool.held_out.minimum, fool.held_out.maximum) == (0.2, 0.8)
    assert fool.held_out.mean == pytest.approx(0.5)
    assert fool.interval == cells[PairSet.HELD_OUT, "c", "fool"].measures["detection_rate"]
    assert fool.interval.point == pytest.approx(0.5)
    assert fool.held_out_auc.mean == pytest.approx(0.65)
    assert fool.real_accuracy.num == 2
    assert fool.real_accuracy.mean == pytest.approx(0.96)
    assert fool.fids[0] == 20.0
    assert math.isnan(fool.fids[1])
    assert fool.quality["class_entropy"].mean == 0.5


def test_generalisation_counts_the_generators_of_its_own_cohort(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    study = Study.model_validate(MIXED_STUDY)
    (sweep,) = make_readings(detections, quality, study, seed=0).generalisation
    (row,) = sweep.rows
    assert (sweep.gans, sweep.architecture) == ("base", "cnn")
    assert row.value == 2  # and one of "fool", which is another matter


def test_generalisation_knows_which_generators_are_common(detections: pd.DataFrame) -> None:
    cells = make_cells(detections, list_keys(detections), seed=0)
    one, two = make_detecting_sweep(detections, cells, "base", {"c": 2, "n1": 1})
    assert one.interval == cells[PairSet.HELD_OUT, "n1", "base"].measures["detection_rate"]
    assert make_detecting_sweep(detections, {}, "base", {"c": 2})[0].interval is None
    assert (one.cohort, one.value) == ("n1", 1)
    assert one.held_out.mean == pytest.approx(0.5)
    assert one.in_training.mean == 1.0
    assert one.common.mean == 0.4  # base/1 is trained on by c
    assert [pair.is_common for pair in one.pairs] == [False, True]
    assert two.common == two.held_out
    assert [pair.classifier_instance for pair in two.pairs] == [0, 1, 2]
    assert two.real_accuracy.mean == pytest.approx(0.94)


@pytest.mark.parametrize("column", ["in_loss", "auc", "c2st_log10_p", "classifier_instance"])
def test_missing_column_of_detections_is_named(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "detections.csv", DETECTIONS.replace(column, "other", 1))
    with pytest.raises(UserError, match=rf"detections\.csv: column '{column}' is missing"):
        read_detections(path)


@pytest.mark.parametrize("metric", ["fid", "kid", "kid_std", "class_entropy", "memorised"])
def test_missing_metric_of_quality_is_named(tmp_path: Path, metric: str) -> None:
    path = write(tmp_path / "quality.csv", QUALITY.replace(metric, "other", 1))
    with pytest.raises(UserError, match=rf"quality\.csv: no column starts with '{metric}_'"):
        read_quality(path)


@pytest.mark.parametrize("column", ["phi", "collapse"])
def test_missing_key_of_quality_is_named(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "quality.csv", QUALITY.replace(column, "other", 1))
    with pytest.raises(UserError, match=rf"quality\.csv: column '{column}' is missing"):
        read_quality(path)


def test_metric_is_not_found_by_the_start_of_another_ones_name(quality: pd.DataFrame) -> None:
    turned = quality[quality.columns[::-1]]
    assert find_metric(turned, "kid") == "kid_lenet_4k"
    assert find_metric(turned, "kid_std") == "kid_std_lenet_4k"


def test_distance_is_found_under_either_name(tmp_path: Path) -> None:
    text = QUALITY.replace("fid_lenet_4k", "frechet_random_vgg_4k")
    renamed = read_quality(write(tmp_path / "quality.csv", text))
    assert find_metric(renamed, "fid") == "frechet_random_vgg_4k"
    table = make_iteration_table(
        read_detections(write(tmp_path / "d.csv", DETECTIONS)), renamed, ITERATIONS
    )
    assert table.fid["base"].mean == 12.0


def test_architecture_entries_are_read_as_rows_and_columns(
    detections: pd.DataFrame, quality: pd.DataFrame
) -> None:
    entries = [
        ArchitecturePair(classifiers="c", gans="fool"),
        ArchitecturePair(classifiers="d", gans="base"),
    ]
    table = make_iteration_table(detections, quality, entries)
    assert table.cells["c", "fool"].detection.num == 4  # c/0 is in the loss
    assert table.cells["c", "fool"].detection.mean == pytest.approx(0.5)
    assert table.cells["d", "base"].detection.mean == pytest.approx(0.2)
    assert table.cells["c", "base"].detection.mean == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base,2,c,0,false", "base,2,c,0,maybe", r"'in_loss', line 8: found 'maybe', true or"),
        ("base,2,c,0", "base,two,c,0", r"'generator_instance', line 8: found 'two', a whole"),
        ("100,0.80,0.90,0.90", "100,1.80,0.90,0.90", r"'detection_rate', line 8: found '1.80'"),
        ("100,0.80,0.90,0.90", "100,high,0.90,0.90", r"'detection_rate', line 8: found 'high'"),
        ("base,2,c,0", ",2,c,0", r"'generator_cohort', line 8: found '', a name"),
        ("base,2,c,0", "base,2,c,1", r"generator_instance 2, .*the row stands twice"),
    ],
)
def test_bad_value_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "detections.csv", DETECTIONS.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_detections(path)


@pytest.mark.parametrize("content", ["", 'a,b\n"1,2\n', "a\n1,2,3\n4,5\n"])
def test_file_that_is_no_table_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"detections\.csv"):
        read_detections(write(tmp_path / "detections.csv", content))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"quality\.csv: cannot be read"):
        read_quality(tmp_path / "quality.csv")


@pytest.mark.parametrize("table", [TABLE_ITERATIONS, TABLE_ARCHITECTURES, TABLE_MUTUAL_FOOLING])
def test_paper_tables_are_whole(table: PaperTable) -> None:
    for block in [table.means] if table.stds is None else [table.means, table.stds]:
        assert len(block) == len(table.rows)
        assert all(len(row) == len(table.columns) for row in block)
        assert all(0 <= value <= 1 for row in block for value in row)
    assert table.fid is None or len(table.fid) == len(table.columns)
