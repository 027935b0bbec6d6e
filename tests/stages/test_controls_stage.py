"""controls.csv of a trained smoke study, against direct computations; what is cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from conftest import Refuse
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_samples_file
from knowledge_gaps.data.images import save_array, to_float
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.controlling import Given, get_control
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.stages import controls
from study_tools import change_params, mix_files, read_table, run_stage

KEYS = ["control", "distortion", "generator_cohort", "generator_instance", "classifier_instance"]
TABLE = Path("reports", "smoke", "controls.csv")
DISTORTIONS = get_control("pgd").distortions
# the smoke study's classifiers learnt to detect baseline 0; classifier 0 is in the loss
UNCHANGED = [("baseline", 1), ("fool_all_1", 0), ("fool_all_1", 1)]
NUM_PAIRS = len(UNCHANGED) * 2 + (1 + len(DISTORTIONS)) * 2

pytestmark = pytest.mark.usefixtures("one_worker")


def read(root: Path) -> pd.DataFrame:
    return read_table(root, "controls").fillna({"distortion": 0}).set_index(KEYS).sort_index()


def get_samples(root: Path, gans: str, number: int) -> Path:
    return get_samples_file(root, gans, Instance(0, number))


def load(root: Path, number: int) -> GanClassifier:
    return load_classifier(root / "models" / "classifiers" / "iteration_0" / "0" / str(number))


def score(classifier: GanClassifier, images: np.ndarray) -> np.ndarray:
    """Score images one by one, without the stage."""
    with torch.no_grad():
        prepared = to_float(torch.from_numpy(np.array(images)))
        return np.array([classifier(image[None]).item() for image in prepared])


def test_table_has_every_control_of_every_pair(trained_root: Path) -> None:
    table = read_table(trained_root, "controls")
    generator, classifier = (
        [f"{word}_{end}" for end in ("cohort", "chain", "instance")]
        for word in ("generator", "classifier")
    )
    described = ["control", "distortion", *generator, "gans", *classifier, "in_loss", "num_images"]
    measured = ["detection_rate", "real_accuracy", "auc", "median_score", "median_score_real"]
    assert list(table.columns) == [*described, *measured, "mean_change", "fid_lenet_64"]
    changes = [("none", 0, *one) for one in UNCHANGED] + [("histogram", 0, *UNCHANGED[0])]
    changes += [("pgd", level, *UNCHANGED[0]) for level in DISTORTIONS]
    found = table.fillna({"distortion": 0})[KEYS].itertuples(index=False, name=None)
    assert list(found) == [(*change, number) for change in changes for number in range(2)]
    assert (table["distortion"].isna() == (table["control"] != "pgd")).all()
    assert (table["in_loss"] == (table["classifier_instance"] == 0)).all()
    assert set(table["gans"]) == {"fool_all_1"}
    assert (table["num_images"] == 64).all()


def test_unchanged_images_are_those_of_the_other_tables(trained_root: Path) -> None:
    unchanged = read(trained_root).loc["none", 0]
    assert (unchanged["mean_change"] == 0).all()
    quality = read_table(trained_root, "quality").set_index(
        ["generator_cohort", "generator_instance"]
    )
    detections = read_table(trained_root, "detections").set_index(KEYS[2:])
    for place, row in unchanged.iterrows():
        assert row["fid_lenet_64"] == quality.loc[place[:2], "fid_lenet_64"]
        for name in ("detection_rate", "median_score"):
            assert row[name] == detections.loc[place, name]


def test_attack_goes_further_the_more_it_may_change(trained_root: Path) -> None:
    table = read(trained_root)
    attacked = table.loc[["pgd"]].xs(0, level="classifier_instance")
    assert attacked["median_score"].is_monotonic_increasing
    assert table.loc["none", 0, "baseline", 1, 0]["median_score"] < attacked["median_score"].min()
    changes = attacked["mean_change"].to_numpy()
    assert (changes > 0.5 * np.array(DISTORTIONS)).all()
    assert (changes <= DISTORTIONS).all()


def test_values(trained_copy: Path) -> None:
    """Against a direct computation, on sets in which real and generated images are mixed."""
    prepared = trained_copy / "data" / "prepared"
    reals_file, mixed_file = prepared / "test.npy", get_samples(trained_copy, "baseline", 1)
    reals = open_images(reals_file).copy()
    reals[:64] = mix_files(prepared / "train.npy", get_samples(trained_copy, "fool_all_1", 0))
    save_array(mixed_file, mix_files(mixed_file, reals_file))
    save_array(reals_file, reals)
    change_params(trained_copy, {"evaluation.controls": ["pgd"]})
    run_stage(trained_copy, "controls")
    table, images = read(trained_copy), np.array(open_images(mixed_file))
    attacked = get_control("pgd").change(images, Given(images, [load(trained_copy, 0)]), 8)
    for number in range(2):
        row = table.loc["pgd", 8, "baseline", 1, number]
        scores, scores_real = (
            score(load(trained_copy, number), part) for part in (attacked, reals[:64])
        )
        area = roc_auc_score([1] * 64 + [0] * 64, -np.concatenate([scores, scores_real]))
        assert row["auc"] == pytest.approx(area, abs=3 / 64**2)  # of logits that are nearly tied
        assert row["detection_rate"] == pytest.approx((scores <= 0).mean(), abs=1e-6)
        assert row["real_accuracy"] == pytest.approx((scores_real > 0).mean(), abs=1e-6)
        assert row["median_score"] == pytest.approx(np.median(scores), abs=1e-5)
        assert row["median_score_real"] == pytest.approx(np.median(scores_real), abs=1e-5)
        change = np.abs(attacked.astype(float) - images).mean()
        assert row["mean_change"] == pytest.approx(change, abs=1e-6)
    assert table["auc"].between(0.2, 0.98).any()


def run(root: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """Run the stage; return how many rows it computed, and how many were cached."""
    capsys.readouterr()
    run_stage(root, "controls")
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[:2] == ["controls:", "computed"]
    return [int(word) for word in words if word.isdecimal()]


def test_only_what_is_new_or_changed_is_computed(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (trained_copy / TABLE).read_bytes()
    assert run(trained_copy, capsys) == [0, NUM_PAIRS]
    assert (trained_copy / TABLE).read_bytes() == expected
    hash_code, file = controls.hash_code, "evaluation/controls/histogram.py"
    with monkeypatch.context() as patch:  # another implementation of one control
        patch.setattr(
            controls,
            "hash_code",
            lambda places: "another" if [*places] == [file] else hash_code(places),
        )
        assert run(trained_copy, capsys) == [2, NUM_PAIRS - 2]
    change_params(trained_copy, {"evaluation.controls": ["histogram"]})
    assert run(trained_copy, capsys) == [2, 6]
    for path, num_changed in (
        (get_samples(trained_copy, "fool_all_1", 1), 2),
        (get_samples(trained_copy, "baseline", 0), 0),  # classifiers were trained on it
        (trained_copy / "data" / "prepared" / "train.npy", 8),
    ):
        save_array(path, open_images(path)[::-1].copy())
        assert run(trained_copy, capsys) == [num_changed, 8 - num_changed]
    change_params(trained_copy, {"evaluation.perturbed_images": 20})
    assert run(trained_copy, capsys) == [8, 0]
    table = read_table(trained_copy, "controls")
    assert (table["num_images"] == 20).all()
    assert table["fid_lenet_20"].notna().all()


@pytest.mark.parametrize("changes", [{"evaluation.controls": []}, {"gans.fool_all_1.phi": 0.0}])
def test_table_is_empty_where_nothing_is_asked(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    change_params(trained_copy, changes)
    header = (trained_copy / TABLE).read_text().splitlines()[0]
    assert run(trained_copy, capsys) == [0, 0]
    assert (trained_copy / TABLE).read_text() == f"{header}\n"


def test_unknown_name_is_refused(trained_copy: Path, refuse: Refuse) -> None:
    (trained_copy / TABLE).unlink()
    change_params(trained_copy, {"evaluation.controls": ["pgd", "fgsm"]})
    words = ("evaluation.controls: 'fgsm' found", "one of none, histogram, pgd")
    refuse(trained_copy, "controls", words, str(TABLE))
