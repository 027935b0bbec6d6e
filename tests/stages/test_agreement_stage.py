"""Agreement of classifiers: which pairs on which images, and numbers computed without the stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import cohen_kappa_score

from knowledge_gaps.analyses.agreement.measure import choose_cohort, list_held_out, list_pairs
from knowledge_gaps.analyses.agreement.reading import COLUMNS, read
from knowledge_gaps.data.images import load_images, save_array, to_float
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import check_graph
from study_tools import SMOKE_FILE, change_params, run_stage

PAIRS = [(0, 1), (0, 2), (1, 2)]
SMOKE = yaml.safe_load(SMOKE_FILE.read_text(encoding="utf-8"))
FOOLING_STUDY: dict[str, Any] = {
    "study": {"name": "fooling", "seed": 0},
    "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist"},
    "gan_recipes": SMOKE["gan_recipes"],
    "classifier_recipes": SMOKE["classifier_recipes"],
    "pools": {
        "seen": {"extends": "none", "cohort": "gans/base", "instances": [0, 2]},
        "c0": {"extends": "none", "cohort": "classifiers/c", "instances": [0]},
        "c2": {"extends": "none", "cohort": "classifiers/c", "instances": [2]},
    },
    "gans": {
        "base": {"recipe": "dcgan", "instances": 4, "fools": "none", "phi": 0.0},
        "fool_0": {"recipe": "dcgan", "instances": 3, "fools": "c0", "phi": 1.0},
        "fool_2": {"recipe": "dcgan", "instances": 2, "fools": "c2", "phi": 1.0},
        "idle_0": {"recipe": "dcgan", "instances": 2, "fools": "c0", "phi": 0.0},
    },
    "classifiers": {
        "c": {"recipe": "cnn", "instances": 3, "detects": "seen"},
        "d": {"recipe": "cnn", "instances": 2, "detects": "seen"},
    },
    "evaluation": {"num_images": 30},
}


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")


def make_study(**report: Any) -> Study:
    study = Study.model_validate({**FOOLING_STUDY, "report": report})
    check_graph(study)
    return study


MUTUAL = make_study(
    mutual_fooling=["fool_2", "fool_0"], iterations=[{"gans": "base", "classifiers": "d"}]
)
ITERATIONS = make_study(
    iterations=[
        {"gans": "base", "classifiers": "c"},
        {"gans": "idle_0"},
        {"gans": "fool_0"},
        {"gans": "fool_2"},
    ]
)


# --- who is compared on what


def test_cohort_is_the_one_that_is_fooled_or_that_of_iteration_0() -> None:
    assert choose_cohort(MUTUAL) == "c"
    assert choose_cohort(ITERATIONS) == "c"
    assert choose_cohort(make_study(iterations=[{"gans": "base"}])) is None
    assert choose_cohort(make_study()) is None


def write_reals(root: Path, num_reals: int) -> Path:
    path = root / "data" / "prepared" / "test.npy"
    save_array(path, np.zeros((num_reals, 1, 2, 2), np.uint8))
    return path


@pytest.mark.parametrize(("num_reals", "share"), [(51, 25), (70, 30)])
def test_held_out_images_are_balanced(tmp_path: Path, num_reals: int, share: int) -> None:
    reals_file = write_reals(tmp_path, num_reals)
    reals, *generated = list_held_out(tmp_path, MUTUAL, "c")
    assert reals.is_real
    assert reals.path == reals_file
    assert reals.num_images == 2 * share
    samples = tmp_path / "data" / "samples" / "base"
    assert [(source.path, source.num_images) for source in generated] == [
        (samples / "1.npy", share),
        (samples / "3.npy", share),
    ]
    assert not any(source.is_real or source.in_loss for source in generated)


def test_fooling_cohorts_share_the_images_evenly(tmp_path: Path) -> None:
    write_reals(tmp_path, 50)
    pairs = {
        (pair.on_images, pair.classifier_a, pair.classifier_b): pair
        for pair in list_pairs(tmp_path, MUTUAL, "c")
    }
    assert [
        (s.path.parent.name, s.path.stem, s.num_images, s.in_loss)
        for s in pairs["fooling", 0, 1].scored
    ] == [
        *[("fool_2", str(instance), 30, (2,)) for instance in range(2)],
        *[("fool_0", str(instance), 20, (0,)) for instance in range(3)],
    ]
    # others leave out who fools one of the pair
    kept = {key: {source.path.parent.name for source in pair.kept} for key, pair in pairs.items()}
    assert kept == {
        **{("reals_and_held_out", a, b): {"prepared", "base"} for a, b in PAIRS},
        **{("fooling", a, b): {"fool_0", "fool_2"} for a, b in PAIRS},
        ("fooling_others", 0, 1): {"fool_2"},
        ("fooling_others", 1, 2): {"fool_0"},
    }


def test_first_iteration_that_fools_stands_for_all(tmp_path: Path) -> None:
    write_reals(tmp_path, 50)
    [*_, pair] = list_pairs(tmp_path, ITERATIONS, "c")  # idle_0 has a phi of 0
    found = [(source.path.parent.name, source.num_images) for source in pair.scored]
    assert found == [("fool_0", 30)] * 3


# --- the table


def mix(first: Path, second: Path) -> npt.NDArray[np.uint8]:
    """Take 40 images of one file and 24 of the other: what no classifier finds easy."""
    return np.concatenate([load_images(first)[:40], load_images(second)[:24]])


def test_numbers_by_another_way(trained_copy: Path) -> None:
    prepared, samples = (trained_copy / "data" / name for name in ("prepared", "samples"))
    reals_file, generated_file = prepared / "test.npy", samples / "baseline" / "1.npy"
    reals = mix(prepared / "train.npy", samples / "fool_all_1" / "0.npy")
    generated = mix(generated_file, reals_file)
    save_array(reals_file, reals)
    save_array(generated_file, generated)
    run_stage(trained_copy, "agreement")
    table = pd.read_csv(trained_copy / "reports" / "agreement.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table[list(COLUMNS)[:5]].itertuples(index=False, name=None)) == [
        ("iteration_0", 0, 1, "reals_and_held_out", 128),
        ("iteration_0", 0, 1, "fooling", 128),  # and no others: all fool classifier 0
    ]
    row = table.iloc[0]
    images = torch.from_numpy(np.concatenate([reals, generated]))
    is_real = np.arange(128) < 64
    correct, features = [], []
    for instance in range(2):
        directory = trained_copy / "models" / "classifiers" / "iteration_0" / str(instance)
        classifier = load_classifier(directory)
        layers = classifier.network.layers
        with torch.no_grad():
            correct.append((classifier(to_float(images)).numpy() > 0) == is_real)
            features.append(layers(to_float(images)).double().numpy())
    assert row["num_errors_a"] == (~correct[0]).sum()
    assert row["num_errors_b"] == (~correct[1]).sum()
    assert row["num_errors_both"] == (~correct[0] & ~correct[1]).sum()
    assert row["observed_agreement"] == pytest.approx((correct[0] == correct[1]).mean(), abs=1e-6)
    assert row["error_consistency"] == pytest.approx(cohen_kappa_score(*correct), abs=1e-6)
    centred = [values - values.mean(axis=0) for values in features]
    cross = np.linalg.norm(centred[0].T @ centred[1]) ** 2
    plain = cross / np.prod([np.linalg.norm(values.T @ values) for values in centred])
    assert row["num_cka_images"] == 128
    assert row["cka"] == pytest.approx(plain, abs=0.05)  # the plain estimate is a little higher


def test_study_without_iterations_has_no_rows(trained_copy: Path) -> None:
    change_params(trained_copy, {"report.iterations": []})
    run_stage(trained_copy, "agreement")
    path = trained_copy / "reports" / "agreement.csv"
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    assert read(trained_copy, None) == {}
