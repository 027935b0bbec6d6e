"""The tables detections and quality, made by the real stages of a trained smoke study."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.images import save_array, to_float
from knowledge_gaps.data.store import load_array, open_images
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.statistics.measures import DETECTION_MEASURES, METRICS
from study_tools import change_params, get_samples, hash_tree, mix_files, read_table, run_stage

GANS = ("baseline", "fool_all_1")
ALL = list(itertools.product(GANS, [0], range(2)))  # cohort, chain, number
GENERATOR = ["generator_cohort", "generator_chain", "generator_instance"]
PAIR = [*GENERATOR, "classifier_cohort", "classifier_chain", "classifier_instance"]


pytestmark = pytest.mark.usefixtures("one_worker")


def add_cohort(root: Path) -> None:
    """Add a GAN cohort of one instance, whose images are negatives of a known one's."""
    entry = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 0.5}
    change_params(root, {"gans.negative": entry})
    images = open_images(get_samples(root, "baseline", 0, 0))
    save_array(get_samples(root, "negative", 0, 0), 255 - images)


def test_detections_have_every_pair_once(trained_root: Path) -> None:
    detections = read_table(trained_root, "detections")
    described = [*PAIR, "in_loss", "in_training", "num_images"]
    assert list(detections.columns) == [*described, *DETECTION_MEASURES]
    found = list(detections[PAIR].itertuples(index=False, name=None))
    expected = itertools.product(GANS, [0], range(2), ["iteration_0"], [0], range(2))
    assert found == list(expected)
    assert (detections["num_images"] == 64).all()
    assert (detections[detections["in_training"]]["auc"] > 0.9).all()  # something was learnt
    for row in detections.to_dict("records"):
        gans, _, generator, _, _, classifier = (row[name] for name in PAIR)
        assert row["in_loss"] is (gans == "fool_all_1" and classifier == 0)
        assert row["in_training"] is (gans == "baseline" and generator == 0)


def test_in_loss_goes_through_extended_pools(trained_copy: Path) -> None:
    pool = {"extends": "c0", "cohort": "classifiers/iteration_0", "instances": [1]}
    change_params(trained_copy, {"pools.c0_c1": pool, "gans.fool_all_1.fools": "c0_c1"})
    run_stage(trained_copy, "detections")
    in_loss = read_table(trained_copy, "detections").groupby("generator_cohort")["in_loss"].all()
    assert in_loss.to_dict() == {"baseline": False, "fool_all_1": True}


def score(root: Path, classifier: int, images_file: Path) -> np.ndarray:
    """Score images one by one, without the stage."""
    network = load_classifier(root / f"models/classifiers/iteration_0/0/{classifier}")
    images = torch.from_numpy(open_images(images_file))
    with torch.no_grad():
        return np.array([network(to_float(image[None])).item() for image in images])


def test_detection_values(trained_copy: Path) -> None:
    """Against a direct computation, on sets in which real and generated images are mixed."""
    prepared = trained_copy / "data" / "prepared"
    reals_file, mixed_file = prepared / "test.npy", get_samples(trained_copy, "baseline", 0, 1)
    reals = mix_files(prepared / "train.npy", get_samples(trained_copy, "fool_all_1", 0, 0))
    save_array(mixed_file, mix_files(mixed_file, reals_file))
    save_array(reals_file, reals)
    run_stage(trained_copy, "detections")
    rows = read_table(trained_copy, "detections").set_index(PAIR)
    for classifier, generator in itertools.product(range(2), ALL):
        real = score(trained_copy, classifier, reals_file)
        scores = score(trained_copy, classifier, get_samples(trained_copy, *generator))
        row = rows.loc[(*generator, "iteration_0", 0, classifier)]
        above = (real[:, None] > scores[None]) + 0.5 * (real[:, None] == scores[None])
        assert row["detection_rate"] == pytest.approx(np.mean(scores <= 0), abs=1e-6)
        assert row["real_accuracy"] == pytest.approx(np.mean(real > 0), abs=1e-6)
        # in batches two logits may round to the other order: one pair of 64 x 64
        assert row["auc"] == pytest.approx(above.mean(), abs=3 / 64**2)
    mixed = rows.loc["baseline", 0, 1][["detection_rate", "real_accuracy", "auc"]]
    assert mixed.gt(0.2).all(axis=None)
    assert mixed.lt(0.8).all(axis=None)


@pytest.mark.parametrize(
    ("stage", "tables", "num_new", "num_known"),
    [("detections", ["detections"], 2, 8), ("quality", ["quality", "neighbours"], 1, 5)],
)
def test_only_what_is_new_or_changed_is_computed(
    trained_root: Path,
    trained_copy: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    tables: list[str],
    num_new: int,
    num_known: int,
) -> None:
    def run(num_computed: int, num_cached: int) -> None:
        run_stage(trained_copy, stage)
        words = f"{num_computed} row{'' if num_computed == 1 else 's'}"
        assert f"{stage}: computed {words}, {num_cached} cached" in capsys.readouterr().out

    run(0, num_known)
    add_cohort(trained_copy)
    run(num_new, num_known)
    for name in tables:
        text = (trained_copy / "reports" / "smoke" / f"{name}.csv").read_text()
        assert text.startswith((trained_root / "reports" / "smoke" / f"{name}.csv").read_text())
        assert text.splitlines()[-1].startswith("negative,0,0,")
    num_rows, prepared = num_known + num_new, trained_copy / "data" / "prepared"
    for path, num_changed in (
        (get_samples(trained_copy, "fool_all_1", 0, 1), num_new),
        (prepared / "test.npy", num_rows),
        (prepared / "train.npy", num_rows if stage == "quality" else 0),
    ):
        save_array(path, open_images(path)[::-1].copy())
        run(num_changed, num_rows - num_changed)


def test_tables_without_a_cache_by_another_number_of_workers(
    trained_root: Path, trained_copy: Path
) -> None:
    shutil.rmtree(trained_copy / ".kgaps")
    for stage in ("detections", "quality"):
        run_stage(trained_copy, stage)  # by one worker; two made those of trained_root
    for name in ("detections.csv", "quality.csv", "neighbours.csv"):
        found, expected = (
            root / "reports" / "smoke" / name for root in (trained_copy, trained_root)
        )
        assert found.read_bytes() == expected.read_bytes()
    for folder in ("models", "data"):  # inputs are left alone
        assert hash_tree(trained_copy / folder) == hash_tree(trained_root / folder)


def test_quality_has_every_generator_and_the_floor(trained_root: Path) -> None:
    quality = read_table(trained_root, "quality")
    names = [f"{metric}_lenet_64" for metric in METRICS]
    assert list(quality.columns) == [*GENERATOR, "phi", *names, "collapse"]
    found = list(quality[GENERATOR].itertuples(index=False, name=None))
    assert found == [("real", 0, 0), *ALL]
    phi = quality.set_index("generator_cohort")["phi"]
    assert math.isnan(phi["real"])
    assert (phi["baseline"] == 0).all()
    assert (phi["fool_all_1"] == 1).all()


def test_collapse_of_known_images(trained_copy: Path) -> None:
    """Copies of training reals, blank sheets, one digit again and again, two digits of ten."""
    prepared = trained_copy / "data" / "prepared"
    reals = open_images(prepared / "train.npy")
    of_two = reals[np.isin(load_array(prepared / "train_labels.npy"), (0, 1))][:64]
    images = {
        ("baseline", 0, 0): (reals[100:164], "intact"),
        ("baseline", 0, 1): (np.full_like(reals[:64], 255), "empty"),
        ("fool_all_1", 0, 0): (reals[:1].repeat(64, axis=0), "collapsed"),
        ("fool_all_1", 0, 1): (of_two, "collapsed"),
    }
    for key, (made, _) in images.items():
        save_array(get_samples(trained_copy, *key), made)
    run_stage(trained_copy, "quality")
    rows = read_table(trained_copy, "quality").set_index(GENERATOR)
    assert {key: rows.loc[key, "collapse"] for key in images} == {
        key: verdict for key, (_, verdict) in images.items()
    }
    assert rows.loc[("baseline", 0, 0), "memorised_lenet_64"] == 1
    assert rows.loc[("baseline", 0, 1), "memorised_lenet_64"] == 0
    neighbours = read_table(trained_copy, "neighbours")
    copies = neighbours[neighbours["generator_cohort"] == "baseline"]
    assert len(copies) == 10
    assert (copies["distance_lenet"] < 1e-4).all()
    assert (copies["generator_instance"] == 0).all()
    assert (copies["training_image"] == 100 + copies["image"]).all()


def test_number_of_images_names_the_metrics_and_files_have_as_many(trained_copy: Path) -> None:
    change_params(trained_copy, {"evaluation.num_images": 32})
    run_stage(trained_copy, "quality")
    assert "fid_lenet_32" in read_table(trained_copy, "quality").columns
    path = get_samples(trained_copy, "fool_all_1", 0, 1)
    save_array(path, open_images(path)[:31])
    message = r"fool_all_1/0/1\.npy: holds 31 images, evaluation\.num_images needs 32"
    with pytest.raises(UserError, match=message):
        run_stage(trained_copy, "quality")
