"""judges.csv, made by the real stage of a trained smoke study."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from study_tools import change_params, get_samples, mix_files, read_table, run_stage

JUDGES = ("grey_levels", "radial_spectrum", "probe")  # of the smoke study
GENERATORS = list(itertools.product(("baseline", "fool_all_1"), [0], range(2)))
NAMES = ["judge", "pool", "generator_cohort", "generator_chain", "generator_instance"]
NUM_IMAGES, NUM_TRAINED = 64, 32

pytestmark = pytest.mark.usefixtures("one_worker")


def test_every_judge_scores_every_generator_once(trained_root: Path) -> None:
    table = read_table(trained_root, "judges")
    measured = ["num_images", "detection_rate", "real_accuracy", "auc"]
    assert list(table.columns) == [*NAMES, "in_training", *measured]
    expected = [(judge, "baseline_1", *one) for judge in JUDGES for one in GENERATORS]
    assert list(table[NAMES].itertuples(index=False, name=None)) == expected
    for row in table.to_dict("records"):
        is_member = (row["generator_cohort"], row["generator_instance"]) == ("baseline", 0)
        assert row["in_training"] is is_member
        assert row["num_images"] == (NUM_IMAGES - NUM_TRAINED if is_member else NUM_IMAGES)
    # images of hardly trained GANs have hardly any black pixel
    assert (table[table["judge"] == "grey_levels"]["auc"] > 0.95).all()


def count_levels(images: np.ndarray) -> np.ndarray:
    """Count the levels of grey images one by one: 0, then 15 bins, then 255."""
    edges = [0, 1, *(1 + np.ceil(np.arange(1, 15) * 254 / 15)), 255, 256]
    return np.array([np.histogram(image, edges)[0] / image.size for image in images])


def test_values_by_a_direct_computation(trained_copy: Path) -> None:
    """On sets in which real and generated images are mixed, so that no judge is always right."""
    prepared = trained_copy / "data" / "prepared"
    file, reals_file = get_samples(trained_copy, "baseline", 0, 0), prepared / "train.npy"
    save_array(file, mix_files(file, reals_file))
    save_array(reals_file, mix_files(reals_file, get_samples(trained_copy, "fool_all_1", 0, 0)))
    change_params(trained_copy, {"evaluation.judges": ["grey_levels"]})
    run_stage(trained_copy, "judges")
    rows = read_table(trained_copy, "judges").set_index(NAMES)
    reals = count_levels(open_images(reals_file)[:NUM_IMAGES])
    generated = count_levels(open_images(file)[:NUM_TRAINED])
    features = np.concatenate([reals, generated])
    mean, std = features.mean(axis=0), features.std(axis=0)
    std[std == 0] = 1
    weights = np.repeat([96 / (2 * 64), 96 / (2 * 32)], [64, 32])  # both kinds have one sum
    model = LogisticRegression(max_iter=200).fit(
        (features - mean) / std, np.repeat([1, 0], [64, 32]), weights
    )
    real = model.decision_function((count_levels(open_images(prepared / "test.npy")) - mean) / std)
    for one in GENERATORS:
        images = open_images(get_samples(trained_copy, *one))
        images = images[NUM_TRAINED:] if one == ("baseline", 0, 0) else images
        scores = model.decision_function((count_levels(images) - mean) / std)
        above = (real[:, None] > scores[None]) + 0.5 * (real[:, None] == scores[None])
        row = rows.loc["grey_levels", "baseline_1", *one]
        assert row["detection_rate"] == pytest.approx(np.mean(scores <= 0), abs=1e-6)
        assert row["real_accuracy"] == pytest.approx(np.mean(real > 0), abs=1e-6)
        assert row["auc"] == pytest.approx(above.mean(), abs=1e-3)  # ties after rounding
    assert 0.05 < rows.loc["grey_levels", "baseline_1", "baseline", 0, 0]["detection_rate"] < 0.95


def test_only_what_is_new_or_changed_is_computed(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(num_computed: int, num_cached: int) -> None:
        capsys.readouterr()
        run_stage(trained_copy, "judges")
        words = f"judges: computed {num_computed} row{'' if num_computed == 1 else 's'}"
        assert f"{words}, {num_cached} cached" in capsys.readouterr().out

    judges = list(JUDGES[:2])  # without the probe, which takes seconds
    num_judges, num_rows = len(judges), len(judges) * len(GENERATORS)
    before = read_table(trained_copy, "judges")[:num_rows]
    change_params(trained_copy, {"evaluation.judges": judges})
    run(0, num_rows)
    change_params(trained_copy, {"evaluation.judges": [*judges, "patches"]})
    run(len(GENERATORS), num_rows)
    assert read_table(trained_copy, "judges")[:num_rows].equals(before)
    change_params(trained_copy, {"evaluation.judges": judges})
    entry = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 0.5}
    change_params(trained_copy, {"gans.negative": entry})
    images = open_images(get_samples(trained_copy, "baseline", 0, 0))
    save_array(get_samples(trained_copy, "negative", 0, 0), 255 - images)
    run(num_judges, num_rows)
    num_rows += num_judges
    prepared = trained_copy / "data" / "prepared"
    for path, num_changed in (
        (get_samples(trained_copy, "fool_all_1", 0, 1), num_judges),
        (get_samples(trained_copy, "baseline", 0, 0), num_rows),  # trained on
        (prepared / "test.npy", num_rows),
        (prepared / "train.npy", num_rows),
    ):
        save_array(path, open_images(path)[::-1].copy())
        run(num_changed, num_rows - num_changed)


def test_pool_of_two_has_equal_shares_and_both_are_in_training(trained_copy: Path) -> None:
    pool = {"extends": "baseline_1", "cohort": "gans/fool_all_1", "instances": [1]}
    classifiers = {"recipe": "cnn", "instances": 1, "detects": "both"}
    changes = {"pools.both": pool, "classifiers.others": classifiers}
    change_params(trained_copy, {**changes, "evaluation.judges": ["steps"]})
    run_stage(trained_copy, "judges")
    table = read_table(trained_copy, "judges")
    assert table["pool"].tolist() == 4 * ["baseline_1"] + 4 * ["both"]
    assert table["in_training"].tolist() == [True, False, False, False, True, False, False, True]
    assert table["num_images"].tolist() == [32, 64, 64, 64, 32, 64, 64, 32]


def test_study_without_judges_has_an_empty_table(trained_copy: Path) -> None:
    change_params(trained_copy, {"evaluation.judges": []})
    run_stage(trained_copy, "judges")
    assert len(read_table(trained_copy, "judges")) == 0
