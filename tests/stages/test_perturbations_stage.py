"""perturbations.csv of a trained smoke study, against a direct computation; what is cached."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from conftest import Refuse
from knowledge_gaps.data.images import save_array, to_float
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.perturbing import list_perturbations
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.stages import perturbations
from study_tools import change_params, get_samples, mix_files, read_table, run_stage

GENERATOR = ["generator_cohort", "generator_chain", "generator_instance"]
KEYS = ["perturbation", *GENERATOR, "classifier_instance"]
# the reference of the smoke study is baseline/1; the classifiers learnt to detect baseline/0
GENERATORS = [("baseline", 0, 1), ("fool_all_1", 0, 0), ("fool_all_1", 0, 1)]
NUM_PAIRS = len(GENERATORS) * 2
MEASURES = ["detection_rate", "real_accuracy", "auc", "detection_at_5pct"]

pytestmark = pytest.mark.usefixtures("one_worker")


def test_table_has_every_perturbation_of_every_pair(trained_root: Path) -> None:
    table = read_table(trained_root, "perturbations")
    pair = [*GENERATOR, "classifier_cohort", "classifier_chain", "classifier_instance"]
    described = ["perturbation", *pair, "in_loss", "in_training", "num_images"]
    assert list(table.columns) == [*described, *MEASURES]
    found = list(table[KEYS].itertuples(index=False, name=None))
    assert found == [
        (name, *generator, classifier)
        for name, generator, classifier in itertools.product(
            list_perturbations(), GENERATORS, range(2)
        )
    ]
    in_loss = (table["generator_cohort"] == "fool_all_1") & (table["classifier_instance"] == 0)
    assert (table["in_loss"] == in_loss).all()
    assert not table["in_training"].any()
    assert (table["num_images"] == 64).all()
    assert table[MEASURES].notna().all(axis=None)


def test_unchanged_images_are_detected_as_often_as_elsewhere(trained_root: Path) -> None:
    table, detections = (read_table(trained_root, name) for name in ("perturbations", "detections"))
    unchanged = table[table["perturbation"] == "none"].set_index(KEYS[1:])["detection_rate"]
    expected = detections.set_index(KEYS[1:])["detection_rate"][unchanged.index]
    pd.testing.assert_series_equal(unchanged, expected)


def score(root: Path, classifier: int, images: npt.NDArray[np.uint8], name: str) -> np.ndarray:
    """Score images one by one, without the stage."""
    network = load_classifier(root / f"models/classifiers/iteration_0/0/{classifier}")
    perturbed = torch.from_numpy(list_perturbations()[name].apply(np.array(images), 0))
    with torch.no_grad():
        return np.array([network(to_float(image[None])).item() for image in perturbed])


def test_values(trained_copy: Path) -> None:
    """Against a direct computation, on sets in which real and generated images are mixed."""
    names = ["noise_16", "jpeg_75"]
    change_params(trained_copy, {"evaluation.perturbations": names})
    prepared = trained_copy / "data" / "prepared"
    reals_file, mixed_file = prepared / "test.npy", get_samples(trained_copy, "fool_all_1", 0, 1)
    reals = open_images(reals_file).copy()
    (prepared / "dev.npy").unlink()  # as in a study without a dev split
    reals[:64] = mix_files(prepared / "train.npy", get_samples(trained_copy, "fool_all_1", 0, 0))
    save_array(mixed_file, mix_files(mixed_file, reals_file))
    save_array(reals_file, reals)
    run_stage(trained_copy, "perturbations")
    table = read_table(trained_copy, "perturbations").set_index(KEYS)
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["none", *names[::-1]]
    for name, classifier in itertools.product(["none", *names], range(2)):
        real, dev = (score(trained_copy, classifier, part, name) for part in np.split(reals, 2))
        scores = score(trained_copy, classifier, open_images(mixed_file), name)
        row = table.loc[name, "fool_all_1", 0, 1, classifier]
        labels = [1] * 64 + [0] * 64
        area = roc_auc_score(labels, -np.concatenate([scores, real]))
        assert row["auc"] == pytest.approx(area, abs=3 / 64**2)  # of logits that are nearly tied
        assert row["detection_rate"] == pytest.approx((scores <= 0).mean(), abs=1e-6)
        assert row["real_accuracy"] == pytest.approx((real > 0).mean(), abs=1e-6)
        # 3 of 64 dev reals may be called generated
        expected = (scores < np.sort(dev)[3]).mean()
        assert row["detection_at_5pct"] == pytest.approx(expected, abs=1.1 / 64)
    assert table.sort_index().loc["none", "fool_all_1"]["auc"].between(0.2, 0.8).any()


def run(root: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """Run the stage; return how many rows it computed, and how many were cached."""
    capsys.readouterr()
    run_stage(root, "perturbations")
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[:2] == ["perturbations:", "computed"]
    return [int(word) for word in words if word.isdecimal()]


def test_only_what_is_new_or_changed_is_computed(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_rows = NUM_PAIRS * len(list_perturbations())
    expected = (trained_copy / "reports" / "smoke" / "perturbations.csv").read_bytes()
    assert run(trained_copy, capsys) == [0, num_rows]
    assert (trained_copy / "reports" / "smoke" / "perturbations.csv").read_bytes() == expected
    # another implementation of one perturbation
    other = list_perturbations()["resize"].file
    hash_module = perturbations.hash_module
    with monkeypatch.context() as patch:
        patch.setattr(
            perturbations,
            "hash_module",
            lambda path: "another" if path == other else hash_module(path),
        )
        assert run(trained_copy, capsys) == [NUM_PAIRS, num_rows - NUM_PAIRS]
    # fewer perturbations, then a new cohort
    change_params(trained_copy, {"evaluation.perturbations": ["levels_32"]})
    assert run(trained_copy, capsys) == [0, 2 * NUM_PAIRS]
    entry = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 0.5}
    change_params(trained_copy, {"gans.negative": entry})
    images = open_images(get_samples(trained_copy, "baseline", 0, 0))
    save_array(get_samples(trained_copy, "negative", 0, 0), 255 - images)
    assert run(trained_copy, capsys) == [4, 2 * NUM_PAIRS]
    for path, num_changed in (
        (get_samples(trained_copy, "fool_all_1", 0, 1), 4),
        (get_samples(trained_copy, "baseline", 0, 0), 0),  # no classifier is asked about it
        (trained_copy / "data" / "prepared" / "test.npy", 2 * NUM_PAIRS + 4),
    ):
        save_array(path, open_images(path)[::-1].copy())
        assert run(trained_copy, capsys) == [num_changed, 2 * NUM_PAIRS + 4 - num_changed]
    change_params(trained_copy, {"evaluation.perturbed_images": 20})
    assert run(trained_copy, capsys) == [2 * NUM_PAIRS + 4, 0]
    assert (read_table(trained_copy, "perturbations")["num_images"] == 20).all()


def test_dev_reals_are_a_split_of_their_own_where_there_is_one(trained_copy: Path) -> None:
    change_params(trained_copy, {"evaluation.perturbations": ["jpeg_95"]})
    prepared = trained_copy / "data" / "prepared"
    before = read_table(trained_copy, "perturbations").set_index(KEYS)
    save_array(prepared / "dev.npy", open_images(prepared / "test.npy")[64:])
    run_stage(trained_copy, "perturbations")
    found = read_table(trained_copy, "perturbations").set_index(KEYS)
    pd.testing.assert_frame_equal(found, before.loc[found.index])
    # dev reals that are the generated images
    save_array(prepared / "dev.npy", open_images(get_samples(trained_copy, "fool_all_1", 0, 0)))
    run_stage(trained_copy, "perturbations")
    found = read_table(trained_copy, "perturbations").set_index(KEYS)
    rates = found.sort_index().loc[("none", "fool_all_1", 0, 0), "detection_at_5pct"]
    assert rates.tolist() == [pytest.approx(3 / 64, abs=1e-6)] * 2


def test_threshold_without_enough_reals_is_left_out_and_said(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(trained_copy, {"evaluation.perturbations": ["jpeg_95"]})
    path = trained_copy / "data" / "prepared" / "dev.npy"
    save_array(path, open_images(path)[:19])
    run_stage(trained_copy, "perturbations")
    assert "perturbations: 19 reals are left to set a threshold, 20" in capsys.readouterr().out
    table = read_table(trained_copy, "perturbations")
    assert table["detection_at_5pct"].isna().all()
    assert table[MEASURES[:3]].notna().all(axis=None)


@pytest.mark.parametrize(
    "changes", [{"evaluation.perturbations": []}, {"gans.fool_all_1.phi": 0.0}]
)
def test_table_is_empty_where_nothing_is_asked(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    change_params(trained_copy, changes)
    header = (trained_copy / "reports" / "smoke" / "perturbations.csv").read_text().splitlines()[0]
    assert run(trained_copy, capsys) == [0, 0]
    assert (trained_copy / "reports" / "smoke" / "perturbations.csv").read_text() == f"{header}\n"


def test_unknown_name_is_refused(trained_copy: Path, refuse: Refuse) -> None:
    (trained_copy / "reports" / "smoke" / "perturbations.csv").unlink()
    change_params(trained_copy, {"evaluation.perturbations": ["jpeg_95", "gamma"]})
    words = ("evaluation.perturbations: 'gamma' found", "one of none, blur_0.4")
    refuse(trained_copy, "perturbations", words, "reports/smoke/perturbations.csv")
