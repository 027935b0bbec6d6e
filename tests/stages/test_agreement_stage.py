"""Agreement of classifiers: which pairs on which images, and numbers computed without the stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from fabrication import FOOLING, make_study
from knowledge_gaps.analyses.agreement import measure
from knowledge_gaps.analyses.agreement.reading import COLUMNS, read
from knowledge_gaps.data.images import save_array, to_float
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.study import Study
from study_tools import change_params, mix_files, run_stage

PAIRS = [(0, 1), (0, 2), (1, 2)]

pytestmark = pytest.mark.usefixtures("one_worker")

BASE = {"gans": "base", "classifiers": "c"}
CHAIN = [BASE, {"gans": "idle_0"}, {"gans": "fool_0"}, {"gans": "fool_2"}]


def make_fooling_study(**report: object) -> Study:
    return make_study({**FOOLING, "report": report})


MUTUAL = make_fooling_study(
    mutual_fooling=["fool_2", "fool_0"], iterations=[{"gans": "base", "classifiers": "d"}]
)
ITERATIONS = make_fooling_study(iterations=CHAIN)


def test_cohort_is_the_one_that_is_fooled_or_that_of_iteration_0() -> None:
    assert measure.choose_cohort(MUTUAL) == "c"
    assert measure.choose_cohort(ITERATIONS) == "c"
    assert measure.choose_cohort(make_fooling_study(iterations=[{"gans": "base"}])) is None
    assert measure.choose_cohort(make_fooling_study()) is None


def get_cohort(source: measure.Source) -> str:
    assert source.path.parent.name == "0"  # the first chain
    return source.path.parents[1].name


def write_reals(root: Path, num_reals: int) -> Path:
    path = root / "data" / "prepared" / "test.npy"
    save_array(path, np.zeros((num_reals, 1, 2, 2), np.uint8))
    return path


@pytest.mark.parametrize(("num_reals", "share"), [(51, 25), (70, 30)])
def test_held_out_images_are_balanced(tmp_path: Path, num_reals: int, share: int) -> None:
    reals_file = write_reals(tmp_path, num_reals)
    reals, *generated = measure.list_sets(tmp_path, MUTUAL, "c")["reals_and_held_out"]
    assert (reals.is_real, reals.path, reals.num_images) == (True, reals_file, 2 * share)
    samples = tmp_path / "data" / "samples" / "base" / "0"
    assert [(source.path, source.num_images) for source in generated] == [
        (samples / "1.npy", share),
        (samples / "3.npy", share),
    ]
    assert not any(source.is_real or source.in_loss for source in generated)


def test_fooling_cohorts_share_the_images_evenly(tmp_path: Path) -> None:
    write_reals(tmp_path, 50)
    sets = measure.list_sets(tmp_path, MUTUAL, "c")
    sources = sets["fooling"]
    assert sources == sets["fooling_others"]
    assert [(get_cohort(s), s.path.stem, s.num_images, s.in_loss) for s in sources] == [
        *[("fool_2", str(instance), 30, (2,)) for instance in range(2)],
        *[("fool_0", str(instance), 20, (0,)) for instance in range(3)],
    ]
    is_right = np.arange(120) < 60  # on fool_2
    answers = [measure.Answers(is_right, np.eye(120, dtype=np.float32))] * 3
    found = {
        (kind, row["classifier_a"], row["classifier_b"]): (row["num_images"], row["num_errors_a"])
        for kind in ("fooling", "fooling_others")
        for row in measure.compare_pairs(kind, sources, answers)
    }
    # others leave out who fools one of the pair
    assert found == {
        **{("fooling", a, b): (120, 60) for a, b in PAIRS},
        ("fooling_others", 0, 1): (60, 0),
        ("fooling_others", 1, 2): (60, 60),
    }


def test_first_iteration_that_fools_stands_for_all(tmp_path: Path) -> None:
    write_reals(tmp_path, 50)
    sources = measure.list_sets(tmp_path, ITERATIONS, "c")["fooling"]  # idle_0 has a phi of 0
    found = [(get_cohort(source), source.num_images) for source in sources]
    assert found == [("fool_0", 30)] * 3


def test_numbers_by_another_way(trained_copy: Path) -> None:
    prepared, samples = (trained_copy / "data" / name for name in ("prepared", "samples"))
    reals_file, generated_file = prepared / "test.npy", samples / "baseline" / "0" / "1.npy"
    reals = mix_files(prepared / "train.npy", samples / "fool_all_1" / "0" / "0.npy")
    generated = mix_files(generated_file, reals_file)
    save_array(reals_file, reals)
    save_array(generated_file, generated)
    run_stage(trained_copy, "agreement")
    table = pd.read_csv(trained_copy / "reports" / "smoke" / "agreement.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table[list(COLUMNS)[:5]].itertuples(index=False, name=None)) == [
        ("iteration_0", 0, 1, "reals_and_held_out", 128),
        ("iteration_0", 0, 1, "fooling", 128),  # and no others: all fool classifier 0
    ]
    row = table.iloc[0]
    images = torch.from_numpy(np.concatenate([reals, generated]))
    is_real = np.arange(128) < 64
    correct = []
    for instance in range(2):
        directory = trained_copy / f"models/classifiers/iteration_0/0/{instance}"
        classifier = load_classifier(directory)
        with torch.no_grad():
            correct.append((classifier(to_float(images)).numpy() > 0) == is_real)
    assert row["num_errors_a"] == (~correct[0]).sum()
    assert row["num_errors_b"] == (~correct[1]).sum()
    assert row["num_errors_both"] == (~correct[0] & ~correct[1]).sum()
    assert row["error_consistency"] == pytest.approx(cohen_kappa_score(*correct), abs=1e-6)


def test_study_without_iterations_has_no_rows(trained_copy: Path) -> None:
    change_params(trained_copy, {"report.iterations": []})
    run_stage(trained_copy, "agreement")
    path = trained_copy / "reports" / "smoke" / "agreement.csv"
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    assert read(path.parent, None) == {}
