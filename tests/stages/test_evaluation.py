"""Samples and the two tables, made by the real stages of a trained smoke study."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info, threadpool_limits

from knowledge_gaps.core import cache
from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.data.images import (
    load_array,
    load_images,
    save_array,
    save_batches,
    to_float,
    to_uint8,
)
from knowledge_gaps.evaluation import samples as sampling
from knowledge_gaps.evaluation.extractors.lenet import load_lenet
from knowledge_gaps.evaluation.quality.neighbours import Nearest, find_nearest
from knowledge_gaps.execution import parallel
from knowledge_gaps.models.frozen import load_classifier, load_generator
from knowledge_gaps.stages import quality as quality_stage
from knowledge_gaps.stages import samples as samples_stage
from knowledge_gaps.study import PARAMS_FILE, load_study
from knowledge_gaps.training.batches import Stream, draw_latents
from study_tools import change_params, hash_tree, run_stage

GANS = ("baseline", "fool_all_1")
ALL = list(itertools.product(GANS, range(2)))
COLUMNS = [
    "generator_cohort",
    "generator_instance",
    "classifier_cohort",
    "classifier_instance",
    "in_loss",
    "in_training",
    "num_images",
    "detection_rate",
    "real_accuracy",
    "auc",
    "balanced_accuracy",
    "average_precision",
    "detection_at_1pct_false_alarms",
    "detection_at_5pct_false_alarms",
    "equal_error_rate",
    "calibration_error",
    "c2st_log10_p",
]
QUALITY_COLUMNS = [
    "generator_cohort",
    "generator_instance",
    "phi",
    "fid_lenet_64",
    "kid_lenet_64",
    "kid_std_lenet_64",
    "precision_lenet_64",
    "recall_lenet_64",
    "density_lenet_64",
    "coverage_lenet_64",
    "class_entropy_lenet_64",
    "missing_classes_lenet_64",
    "memorised_lenet_64",
    "collapse",
]


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")


@pytest.fixture(scope="module")
def detections(trained_root: Path) -> pd.DataFrame:
    return pd.read_csv(trained_root / "reports" / "detections.csv")


@pytest.fixture(scope="module")
def quality(trained_root: Path) -> pd.DataFrame:
    return pd.read_csv(trained_root / "reports" / "quality.csv")


def get_samples(root: Path, cohort: str, instance: int) -> Path:
    return root / "data" / "samples" / cohort / f"{instance}.npy"


def add_cohort(root: Path) -> None:
    """Add a GAN cohort of one instance, whose images are negatives of a known one's."""
    entry = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 0.5}
    change_params(root, {"gans.negative": entry})
    images = load_images(get_samples(root, "baseline", 0))
    get_samples(root, "negative", 0).parent.mkdir()
    save_array(get_samples(root, "negative", 0), 255 - images)


# -------------------------------------------------------------------------------------- samples


def test_samples_are_stored_as_reals_are(trained_root: Path) -> None:
    reals = load_images(trained_root / "data" / "prepared" / "test" / "00000.npy")
    for cohort, instance in itertools.product(GANS, range(2)):
        images = load_images(get_samples(trained_root, cohort, instance))
        assert images.shape == (64, *reals.shape[1:])
        assert images.dtype == reals.dtype
        assert len({image.tobytes() for image in images}) == 64


def test_samples_depend_on_instance_and_seed(trained_root: Path, trained_copy: Path) -> None:
    def read(root: Path) -> list[bytes]:
        return [get_samples(root, *key).read_bytes() for key in ALL]

    assert len(set(read(trained_root))) == 4
    shutil.rmtree(trained_copy / "data" / "samples")
    run_stage(trained_copy, "samples")
    assert read(trained_copy) == read(trained_root)
    change_params(trained_copy, {"study.seed": 7})
    run_stage(trained_copy, "samples")
    same = [a == b for a, b in zip(read(trained_copy), read(trained_root), strict=True)]
    assert same == [False] * 4


def test_samples_are_those_of_the_latents_in_order(trained_root: Path) -> None:
    """Against a direct computation, without the stage."""
    for cohort, instance in ALL:
        generator = load_generator(trained_root / "models" / "gans" / cohort / str(instance))
        stream = Stream(0, f"gans/{cohort}", instance)
        latents = draw_latents(stream, 64, generator.latent_dim, "evaluation")
        with torch.no_grad():
            expected = to_uint8(generator.sample(latents, 1.0)).numpy()
        found = load_images(get_samples(trained_root, cohort, instance))
        assert np.array_equal(found, expected)


def test_more_samples_of_a_smaller_cohort(trained_copy: Path) -> None:
    changes = {"gans.fool_all_1.instances": 1, "evaluation.num_images": 300}
    change_params(trained_copy, changes)
    run_stage(trained_copy, "samples")
    directory = get_samples(trained_copy, "fool_all_1", 0).parent
    assert sorted(path.name for path in directory.iterdir()) == ["0.npy"]
    assert len(load_images(directory / "0.npy")) == 300  # more than one batch of latents


def identify_samples(root: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """Tell files of images apart: one that was written anew is another, whatever is in it."""
    found = {key: get_samples(root, *key).stat() for key in ALL}
    return {key: (status.st_ino, status.st_mtime_ns) for key, status in found.items()}


def list_new(before: dict[Any, Any], after: dict[Any, Any]) -> list[Any]:
    return [key for key in after if after[key] != before[key]]


def test_nothing_is_drawn_twice(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, before = hash_tree(trained_copy / "data" / "samples"), identify_samples(trained_copy)
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", None)  # no worker is started
    run_stage(trained_copy, "samples")
    assert capsys.readouterr().out == "samples: computed 0 rows, 4 cached\n"
    assert identify_samples(trained_copy) == before
    assert hash_tree(trained_copy / "data" / "samples") == tree


def test_only_the_samples_of_a_new_cohort_are_drawn(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = identify_samples(trained_copy)
    gans = trained_copy / "models" / "gans"
    shutil.copytree(gans / "fool_all_1", gans / "added")
    entry = {"recipe": "dcgan", "instances": 2, "fools": "c0", "phi": 1.0}
    change_params(trained_copy, {"gans.added": entry})
    run_stage(trained_copy, "samples")
    out = capsys.readouterr().out
    assert out.endswith("samples: computed 2 rows, 4 cached\n")
    assert out.count("samples: drew added/") == 2
    assert identify_samples(trained_copy) == before
    images = [get_samples(trained_copy, name, 0).read_bytes() for name in ("added", "fool_all_1")]
    assert images[0] != images[1]  # the same generator, and latents of its own


@pytest.mark.parametrize("changed", ["evaluation.num_images", "study.seed"])
def test_params_that_decide_all_samples(trained_copy: Path, changed: str) -> None:
    before = identify_samples(trained_copy)
    change_params(trained_copy, {changed: 48})
    run_stage(trained_copy, "samples")
    assert list_new(before, identify_samples(trained_copy)) == ALL


def test_code_that_decides_all_samples(trained_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify_samples(trained_copy)
    monkeypatch.setattr(sampling, "hash_code", lambda *asked: "of other code")
    run_stage(trained_copy, "samples")
    assert list_new(before, identify_samples(trained_copy)) == ALL


@pytest.mark.parametrize("name", ["generator.safetensors", "meta.json"])
def test_samples_of_a_generator_that_was_trained_anew_are_drawn(
    trained_copy: Path, name: str
) -> None:
    before = identify_samples(trained_copy)
    directory = trained_copy / "models" / "gans" / "baseline" / "1"
    if name == "meta.json":
        write_json(directory / name, {**read_json(directory / name), "remark": "another"})
    else:
        tensors = read_tensors(directory / name)
        altered = {key: value.flip(0) for key, value in tensors.items()}
        meta = read_json(directory / "meta.json")
        meta["files"][name] = write_tensors(directory / name, altered)
        write_json(directory / "meta.json", meta)
    run_stage(trained_copy, "samples")
    assert list_new(before, identify_samples(trained_copy)) == [("baseline", 1)]


def invert(path: Path) -> None:
    save_array(path, 255 - load_images(path))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "altered": invert,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("text", [None, '{"', "[]"])
def test_samples_that_nothing_is_known_of_are_drawn_anew(
    trained_root: Path, trained_copy: Path, text: str | None
) -> None:
    before = identify_samples(trained_copy)
    known = trained_copy / ".kgaps" / "cache" / "samples.json"
    known.unlink() if text is None else known.write_text(text, encoding="utf-8")
    run_stage(trained_copy, "samples")
    assert list_new(before, identify_samples(trained_copy)) == ALL
    samples = Path("data") / "samples"
    assert hash_tree(trained_copy / samples) == hash_tree(trained_root / samples)


@pytest.mark.parametrize("damage", DAMAGES)
def test_samples_that_are_not_whole_are_drawn_anew(
    trained_root: Path, trained_copy: Path, damage: str
) -> None:
    before = identify_samples(trained_copy)
    DAMAGES[damage](get_samples(trained_copy, "baseline", 1))
    run_stage(trained_copy, "samples")
    assert list_new(before, identify_samples(trained_copy)) == [("baseline", 1)]
    samples = Path("data") / "samples"
    assert hash_tree(trained_copy / samples) == hash_tree(trained_root / samples)


def test_samples_that_left_the_study_and_halves_are_removed(
    trained_root: Path, trained_copy: Path
) -> None:
    samples = trained_copy / "data" / "samples"
    shutil.copytree(samples / "baseline", samples / "earlier")
    (samples / "baseline" / ".1.npy.9.tmp").write_bytes(b"half")
    (samples / ".baseline.9.tmp").mkdir()
    shutil.copyfile(samples / "baseline/1.npy", samples / "baseline/2.npy")
    before = identify_samples(trained_copy)
    run_stage(trained_copy, "samples")
    assert identify_samples(trained_copy) == before
    assert hash_tree(samples) == hash_tree(trained_root / "data" / "samples")
    assert sorted(path.name for path in samples.iterdir()) == list(GANS)


def test_files_that_are_links_to_a_cache_are_replaced(trained_copy: Path, tmp_path: Path) -> None:
    """DVC may link a folder's files to its cache, where nobody may write."""
    cached = {}
    for number, link in enumerate((Path.symlink_to, Path.hardlink_to)):
        file, target = get_samples(trained_copy, "baseline", number), tmp_path / f"{number}.npy"
        shutil.move(file, target)
        target.chmod(0o444)
        link(file, target)
        cached[target] = target.read_bytes()
    before = identify_samples(trained_copy)
    run_stage(trained_copy, "samples")
    assert identify_samples(trained_copy) == before  # a link is as good as a file
    change_params(trained_copy, {"evaluation.num_images": 48})
    run_stage(trained_copy, "samples")
    assert {target: target.read_bytes() for target in cached} == cached
    assert len(load_images(get_samples(trained_copy, "baseline", 0))) == 48
    assert not get_samples(trained_copy, "baseline", 0).is_symlink()


def test_samples_that_were_finished_before_an_error_are_kept(
    trained_root: Path, trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(trained_copy / "data" / "samples")
    weights = trained_copy / "models" / "gans" / "fool_all_1" / "0" / "generator.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"gans/fool_all_1/0/generator\.safetensors: sha256 is"):
        run_stage(trained_copy, "samples")
    assert not get_samples(trained_copy, "fool_all_1", 0).exists()
    files = {("baseline", i): get_samples(trained_copy, "baseline", i).stat() for i in range(2)}
    weights.write_bytes(content)
    capsys.readouterr()
    run_stage(trained_copy, "samples")
    out = capsys.readouterr().out
    assert "drew baseline" not in out
    assert "drew fool_all_1/0" in out
    for key, status in files.items():
        assert get_samples(trained_copy, *key).stat() == status
    assert hash_tree(trained_copy / "data") == hash_tree(trained_root / "data")


@pytest.mark.parametrize("moment", ["in a file", "before its note"])
def test_samples_that_were_finished_before_a_kill_are_kept(
    trained_root: Path, trained_copy: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    shutil.rmtree(trained_copy / "data" / "samples")
    (trained_copy / ".kgaps" / "cache" / "samples.json").unlink()
    left = str(get_samples(trained_copy, "fool_all_1", 0))

    class Killed(BaseException):
        """What no code here expects, like the end of the process."""

    def map_and_be_killed(function: Any, jobs: Any, *_: Any, **__: Any) -> Any:
        yield from map(function, jobs)

    def save_half(path: Path, num_images: int, batches: Any) -> None:
        if str(path) == left:
            path.parent.mkdir(parents=True)
            path.with_name(".0.npy.9.tmp").write_bytes(next(iter(batches)).tobytes())
            raise Killed
        save_batches(path, num_images, batches)

    put = cache.RowCache.put

    def put_or_be_killed(known: Any, key: str, row: dict[str, Any]) -> None:
        if Path(left).exists():
            raise Killed
        put(known, key, row)

    with monkeypatch.context() as patch:
        patch.setattr(samples_stage, "map_parallel", map_and_be_killed)
        if moment == "in a file":
            patch.setattr(sampling, "save_batches", save_half)
        else:
            patch.setattr(cache.RowCache, "put", put_or_be_killed)
        with pytest.raises(Killed):
            run_stage(trained_copy, "samples")
    kept = {("baseline", i): get_samples(trained_copy, "baseline", i).stat() for i in range(2)}
    half = get_samples(trained_copy, "fool_all_1", 0)
    before = half.stat() if half.exists() else None
    run_stage(trained_copy, "samples")
    assert {key: get_samples(trained_copy, *key).stat() for key in kept} == kept
    assert half.stat() != before
    assert hash_tree(trained_copy / "data") == hash_tree(trained_root / "data")


def test_number_of_workers_changes_no_sample(
    trained_root: Path, trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    shutil.rmtree(trained_copy / "data" / "samples")
    run_stage(trained_copy, "samples")
    assert hash_tree(trained_copy / "data") == hash_tree(trained_root / "data")


# ----------------------------------------------------------------------------------- detections


def test_detections_have_every_pair_once(detections: pd.DataFrame) -> None:
    assert list(detections.columns) == COLUMNS
    found = list(detections[COLUMNS[:4]].itertuples(index=False, name=None))
    assert found == list(itertools.product(GANS, range(2), ["iteration_0"], range(2)))
    assert (detections["num_images"] == 64).all()


def test_detections_know_who_met_whom(detections: pd.DataFrame) -> None:
    pair = detections.set_index(COLUMNS[:4])
    for gan, generator, classifier, instance in pair.index:
        row = pair.loc[gan, generator, classifier, instance]
        assert row["in_loss"] == (gan == "fool_all_1" and instance == 0)
        assert row["in_training"] == (gan == "baseline" and generator == 0)
    assert detections["in_loss"].dtype == bool


def test_in_loss_goes_through_extended_pools(trained_copy: Path) -> None:
    pool = {"extends": "c0", "cohort": "classifiers/iteration_0", "instances": [1]}
    change_params(trained_copy, {"pools.c0_c1": pool, "gans.fool_all_1.fools": "c0_c1"})
    run_stage(trained_copy, "detections")
    table = pd.read_csv(trained_copy / "reports" / "detections.csv")
    assert table.groupby("generator_cohort")["in_loss"].all().to_dict() == {
        "baseline": False,
        "fool_all_1": True,
    }


def score(root: Path, classifier: int, images_file: Path) -> np.ndarray:
    """Score images one by one, without the stage."""
    network = load_classifier(root / "models" / "classifiers" / "iteration_0" / str(classifier))
    images = torch.from_numpy(load_images(images_file))
    with torch.no_grad():
        return np.array([network(to_float(image[None])).item() for image in images])


def mix(first: Path, second: Path) -> np.ndarray:
    """Take 40 images of one file and 24 of the other: what no classifier finds easy."""
    return np.concatenate([load_images(first)[:40], load_images(second)[:24]])


def test_detection_values(trained_copy: Path) -> None:
    """Against a direct computation, on sets in which real and generated images are mixed."""
    prepared = trained_copy / "data" / "prepared"
    reals_file, mixed_file = prepared / "test/00000.npy", get_samples(trained_copy, "baseline", 1)
    reals = mix(prepared / "train/00000.npy", get_samples(trained_copy, "fool_all_1", 0))
    generated = mix(mixed_file, prepared / "test/00000.npy")
    save_array(reals_file, reals)
    save_array(mixed_file, generated)
    run_stage(trained_copy, "detections")
    table = pd.read_csv(trained_copy / "reports" / "detections.csv")
    for classifier in range(2):
        real = score(trained_copy, classifier, reals_file)
        for cohort, generator in itertools.product(GANS, range(2)):
            scores = score(trained_copy, classifier, get_samples(trained_copy, cohort, generator))
            [row] = table[
                (table["generator_cohort"] == cohort)
                & (table["generator_instance"] == generator)
                & (table["classifier_instance"] == classifier)
            ].to_dict("records")
            above = (real[:, None] > scores[None]) + 0.5 * (real[:, None] == scores[None])
            assert row["detection_rate"] == pytest.approx(np.mean(scores <= 0), abs=1e-6)
            assert row["real_accuracy"] == pytest.approx(np.mean(real > 0), abs=1e-6)
            balanced = (np.mean(scores <= 0) + np.mean(real > 0)) / 2
            assert row["balanced_accuracy"] == pytest.approx(balanced, abs=1e-6)
            # in batches two logits may round to the other order: one pair of 64 x 64
            assert row["auc"] == pytest.approx(above.mean(), abs=3 / 64**2)
    mixed = table[(table["generator_cohort"] == "baseline") & (table["generator_instance"] == 1)]
    assert mixed[["detection_rate", "real_accuracy", "auc"]].gt(0.2).all(axis=None)
    assert mixed[["detection_rate", "real_accuracy", "auc"]].lt(0.8).all(axis=None)


def test_p_value_of_an_inverted_pair_is_a_plain_zero(trained_copy: Path) -> None:
    """Reals and generated images change places; log10 of nearly 1 is a little below 0."""
    prepared = trained_copy / "data" / "prepared"
    save_array(prepared / "test/00000.npy", load_images(get_samples(trained_copy, "baseline", 0)))
    reals = load_images(prepared / "train/00000.npy")[:64]
    save_array(get_samples(trained_copy, "baseline", 1), reals)
    run_stage(trained_copy, "detections")
    path = trained_copy / "reports" / "detections.csv"
    lines = [line for line in path.read_text().splitlines() if line.startswith("baseline,1,")]
    assert [float(line.split(",")[COLUMNS.index("auc")]) < 0.1 for line in lines] == [True] * 2
    assert [line.split(",")[-1] for line in lines] == ["0.000000"] * 2


def test_a_classifier_learns_something(detections: pd.DataFrame) -> None:
    assert (detections[detections["in_training"]]["auc"] > 0.9).all()


def test_detections_of_a_new_cohort_score_only_new_pairs(
    trained_root: Path, trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage(trained_copy, "detections")
    assert "computed 0 rows, 8 cached" in capsys.readouterr().out
    path = trained_copy / "reports" / "detections.csv"
    expected = (trained_root / "reports" / "detections.csv").read_text()
    assert path.read_text() == expected
    add_cohort(trained_copy)
    run_stage(trained_copy, "detections")
    assert "computed 2 rows, 8 cached" in capsys.readouterr().out
    text = path.read_text()
    assert text.startswith(expected)
    assert [line.split(",")[:4] for line in text.splitlines()[-2:]] == [
        ["negative", "0", "iteration_0", "0"],
        ["negative", "0", "iteration_0", "1"],
    ]


def test_detections_score_again_what_changed(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = get_samples(trained_copy, "fool_all_1", 1)
    save_array(path, 255 - load_images(path))
    run_stage(trained_copy, "detections")
    assert "computed 2 rows, 6 cached" in capsys.readouterr().out


def test_detections_without_a_cache(trained_root: Path, trained_copy: Path) -> None:
    shutil.rmtree(trained_copy / ".kgaps")
    run_stage(trained_copy, "detections")  # by one worker; two made those of trained_root
    name = Path("reports") / "detections.csv"
    assert (trained_copy / name).read_bytes() == (trained_root / name).read_bytes()


def test_dropped_cohort_leaves_the_table(trained_copy: Path) -> None:
    changes = {"gans.fool_all_1": None, "report.phi_sweep": ["baseline"], "report.iterations": []}
    change_params(trained_copy, changes)
    for command in ("detections", "quality"):
        run_stage(trained_copy, command)
        table = pd.read_csv(trained_copy / "reports" / f"{command}.csv")
        assert set(table["generator_cohort"]) <= {"baseline", "real"}


# -------------------------------------------------------------------------------------- quality


def test_quality_has_every_generator_and_the_floor(quality: pd.DataFrame) -> None:
    assert list(quality.columns) == QUALITY_COLUMNS
    found = list(quality[QUALITY_COLUMNS[:2]].itertuples(index=False, name=None))
    assert found == [("real", 0), *itertools.product(GANS, range(2))]
    phi = quality.set_index("generator_cohort")["phi"]
    assert math.isnan(phi["real"])
    assert (phi["baseline"] == 0).all()
    assert (phi["fool_all_1"] == 1).all()


def test_floor_is_below_every_generator(quality: pd.DataFrame) -> None:
    floor, generated = quality.iloc[0], quality.iloc[1:]
    assert (generated["fid_lenet_64"] > floor["fid_lenet_64"]).all()
    assert (generated["kid_lenet_64"] > floor["kid_lenet_64"]).all()
    for name in ("recall_lenet_64", "density_lenet_64", "coverage_lenet_64"):
        assert (generated[name] < floor[name]).all()
    shares = quality[["precision_lenet_64", "recall_lenet_64", "coverage_lenet_64"]]
    assert shares.ge(0).all(axis=None)
    assert shares.le(1).all(axis=None)
    assert floor["memorised_lenet_64"] == 1 / 64  # of 64 test reals, one is below their quantile
    assert floor["collapse"] == "intact"


def extract(path: Path, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Extract features and logits by the LeNet itself, in one batch."""
    features, logits = load_lenet().extract(torch.from_numpy(load_images(path)[:num_images]))
    return features.numpy().astype(np.float64), logits.numpy()


def test_memorised_and_neighbours_are_those_of_all_pairs(
    trained_root: Path, quality: pd.DataFrame
) -> None:
    prepared = trained_root / "data" / "prepared"
    training, _ = extract(prepared / "train/00000.npy", 512)
    test, _ = extract(prepared / "test/00000.npy", 64)
    threshold = np.quantile(cdist(test, training).min(axis=1), 0.01)
    memorised = quality.set_index(["generator_cohort", "generator_instance"])["memorised_lenet_64"]
    neighbours = pd.read_csv(trained_root / "reports" / "neighbours.csv")
    assert list(neighbours.columns) == [
        "generator_cohort",
        "generator_instance",
        "image",
        "training_image",
        "distance_lenet",
    ]
    for cohort in GANS:
        pairs = []
        for instance in range(2):
            images, _ = extract(get_samples(trained_root, cohort, instance), 64)
            distances = cdist(images, training)
            nearest = distances.min(axis=1)
            assert memorised[cohort, instance] == np.mean(nearest < threshold)
            indices = distances.argmin(axis=1)
            pairs += list(zip(nearest, [instance] * 64, range(64), indices, strict=True))
        expected = sorted(pairs)[:10]
        rows = neighbours[neighbours["generator_cohort"] == cohort]
        assert rows["distance_lenet"].tolist() == pytest.approx([p[0] for p in expected], abs=1e-4)
        assert list(zip(rows["generator_instance"], rows["image"], strict=True)) == [
            pair[1:3] for pair in expected
        ]
        assert rows["training_image"].tolist() == [pair[3] for pair in expected]
    assert set(neighbours["generator_cohort"]) == set(GANS)


def test_missing_classes_of_the_samples(trained_root: Path, quality: pd.DataFrame) -> None:
    rows = quality.set_index(["generator_cohort", "generator_instance"])["missing_classes_lenet_64"]

    def count(path: Path) -> list[int]:
        predicted = extract(path, 64)[1].argmax(axis=1).tolist()
        return [predicted.count(number) for number in range(10)]

    real = count(trained_root / "data" / "prepared" / "test" / "00000.npy")
    for key in itertools.product(GANS, range(2)):
        generated = count(get_samples(trained_root, *key))
        assert rows[key] == sum(10 * a < b for a, b in zip(generated, real, strict=True))


def test_collapse_of_known_images(trained_copy: Path) -> None:
    """Copies of training reals, blank sheets, one digit again and again, two digits of ten."""
    prepared = trained_copy / "data" / "prepared"
    reals, labels = load_images(prepared / "train/00000.npy"), load_train_labels(trained_copy)
    of_two = reals[np.isin(labels, (0, 1))][:64]
    images = {
        ("baseline", 0): (reals[100:164], "intact"),
        ("baseline", 1): (np.full_like(reals[:64], 255), "empty"),
        ("fool_all_1", 0): (reals[:1].repeat(64, axis=0), "collapsed"),
        ("fool_all_1", 1): (of_two, "collapsed"),
    }
    for key, (made, _) in images.items():
        save_array(get_samples(trained_copy, *key), made)
    run_stage(trained_copy, "quality")
    table = pd.read_csv(trained_copy / "reports" / "quality.csv")
    rows = table.set_index(["generator_cohort", "generator_instance"])
    assert {key: rows.loc[key, "collapse"] for key in images} == {
        key: verdict for key, (_, verdict) in images.items()
    }
    assert rows.loc[("baseline", 0), "memorised_lenet_64"] == 1
    assert rows.loc[("baseline", 1), "memorised_lenet_64"] == 0
    neighbours = pd.read_csv(trained_copy / "reports" / "neighbours.csv")
    copies = neighbours[neighbours["generator_cohort"] == "baseline"]
    assert (copies["distance_lenet"] < 1e-4).all()
    assert (copies["generator_instance"] == 0).all()
    assert (copies["training_image"] == 100 + copies["image"]).all()


def load_train_labels(root: Path) -> np.ndarray:
    return load_array(root / "data" / "prepared" / "train_labels.npy")


def test_class_entropy_of_the_samples(trained_root: Path, quality: pd.DataFrame) -> None:
    lenet = load_lenet()
    rows = quality.set_index(["generator_cohort", "generator_instance"])["class_entropy_lenet_64"]
    files = {key: get_samples(trained_root, *key) for key in itertools.product(GANS, range(2))}
    files["real", 0] = trained_root / "data" / "prepared" / "train" / "00000.npy"
    for key, path in files.items():
        images = torch.from_numpy(load_images(path)[:64])
        classes = lenet.extract(images)[1].argmax(dim=1).numpy()
        shares = np.unique(classes, return_counts=True)[1] / 64
        assert rows[key] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-5)


def test_quality_measures_only_what_is_new(
    trained_root: Path, trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_cohort(trained_copy)
    run_stage(trained_copy, "quality")
    assert "computed 1 row, 5 cached" in capsys.readouterr().out
    for table, last in (("quality", "negative,0,0.5"), ("neighbours", "negative,0,")):
        text = (trained_copy / "reports" / f"{table}.csv").read_text()
        assert text.startswith((trained_root / "reports" / f"{table}.csv").read_text())
        assert text.splitlines()[-1].startswith(last)


@pytest.mark.parametrize("split", ["train", "test"])
def test_quality_is_measured_again_on_other_reals(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    path = trained_copy / "data" / "prepared" / split / "00000.npy"
    save_array(path, load_images(path)[::-1].copy())
    run_stage(trained_copy, "quality")
    assert "computed 5 rows, 0 cached" in capsys.readouterr().out


def test_libraries_below_keep_to_one_thread(
    trained_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def count_threads(*features: np.ndarray) -> Nearest:
        threads.extend(library["num_threads"] for library in threadpool_info())
        return find_nearest(*features)

    monkeypatch.setattr(quality_stage, "find_nearest", count_threads)
    jobs = quality_stage._list_jobs(trained_root, load_study(trained_root / PARAMS_FILE))
    with threadpool_limits(limits=2):
        quality_stage._measure(jobs["baseline", 0])
        assert 2 in {library["num_threads"] for library in threadpool_info()}
    assert set(threads) == {1}


def test_quality_without_a_cache(trained_root: Path, trained_copy: Path) -> None:
    shutil.rmtree(trained_copy / ".kgaps")
    run_stage(trained_copy, "quality")
    for name in ("reports/quality.csv", "reports/neighbours.csv"):
        assert (trained_copy / name).read_bytes() == (trained_root / name).read_bytes()


def test_number_of_images_names_the_metrics(trained_copy: Path) -> None:
    change_params(trained_copy, {"evaluation.num_images": 32})
    run_stage(trained_copy, "quality")
    table = pd.read_csv(trained_copy / "reports" / "quality.csv")
    assert "fid_lenet_32" in table.columns
    assert "fid_lenet_64" not in table.columns


# ------------------------------------------------------------------- trained, stored, evaluated


def test_stored_generator_makes_its_own_grid(trained_root: Path) -> None:
    """The grid was drawn at the end of the training, the generator comes back from its file."""
    from PIL import Image

    for cohort, instance in itertools.product(GANS, range(2)):
        directory = trained_root / "models" / "gans" / cohort / str(instance)
        generator = load_generator(directory)
        stream = Stream(0, f"gans/{cohort}", instance)
        with torch.no_grad():
            images = to_uint8(generator(draw_latents(stream, 64, generator.latent_dim, "grid")))
        grid = np.asarray(Image.open(directory / "samples.png"))[::2, ::2]
        tiles = grid.reshape(8, 28, 8, 28).transpose(0, 2, 1, 3).reshape(64, 28, 28)
        assert np.array_equal(tiles, images[:, 0].numpy())


def test_stages_leave_their_inputs_alone(trained_root: Path, trained_copy: Path) -> None:
    for stage in ("samples", "detections", "quality"):
        run_stage(trained_copy, stage)
    assert hash_tree(trained_copy / "models") == hash_tree(trained_root / "models")
    assert hash_tree(trained_copy / "data" / "prepared") == hash_tree(
        trained_root / "data" / "prepared"
    )


def test_prepared_reals_are_the_first_of_the_source(trained_root: Path) -> None:
    from knowledge_gaps.data.idx import read_idx

    source = trained_root / "data" / "mnist_reduced"
    for name, file_name, count in (("train", "train", 512), ("test", "t10k", 128)):
        images = read_idx(source / f"{file_name}-images-idx3-ubyte.gz")[:count, None]
        prepared = load_images(trained_root / "data" / "prepared" / name / "00000.npy")
        assert hashlib.sha256(prepared).digest() == hashlib.sha256(images.copy()).digest()
