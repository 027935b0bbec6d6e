"""Training through the real stages: an instance's bytes depend on what it is, on nothing else.

Not on workers, not on neighbours, not on how often it was interrupted and by what.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowledge_gaps.core.errors import StoppedError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.training.instance import build_trainer, train_instance
from knowledge_gaps.training.ranks import build_accelerator
from study_tools import change_params, copy_root, hash_tree, run_stage
from training_tools import Session, forget_accelerator

BASELINE = Path("models") / "gans" / "baseline"


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    forget_accelerator()
    yield
    forget_accelerator()


def train_baseline(root: Path) -> dict[str, str]:
    """Train the baseline in this process's workers; return the hashes of its files."""
    run_stage(root, "gans", "baseline")
    return hash_tree(root / BASELINE)


@pytest.fixture
def fresh_root(trained_root: Path, tmp_path: Path) -> Path:
    """Return a study whose reals are prepared and whose baseline is not trained."""
    return copy_root(trained_root, tmp_path / "fresh", str(BASELINE))


# --- what the bytes depend on


def test_number_of_workers_changes_nothing(trained_root: Path, fresh_root: Path) -> None:
    # two workers trained the cohorts of trained_root
    assert train_baseline(fresh_root) == hash_tree(trained_root / BASELINE)
    cohort = Path("models") / "classifiers" / "iteration_0"
    shutil.rmtree(fresh_root / cohort)
    run_stage(fresh_root, "classifiers", "iteration_0")
    assert hash_tree(fresh_root / cohort) == hash_tree(trained_root / cohort)


def test_instance_trained_alone(trained_root: Path, fresh_root: Path) -> None:
    change_params(fresh_root, {"gans.baseline.instances": 1})
    train_baseline(fresh_root)
    expected = hash_tree(trained_root / BASELINE / "0")
    assert hash_tree(fresh_root / BASELINE / "0") == expected
    assert not (fresh_root / BASELINE / "1").exists()


def test_instances_differ(trained_root: Path) -> None:
    for cohort in ("gans/baseline", "gans/fool_all_1", "classifiers/iteration_0"):
        first, second = (hash_tree(trained_root / "models" / cohort / name) for name in "01")
        assert first.keys() == second.keys()
        assert all(first[name] != second[name] for name in first)


def test_instances_begin_with_weights_of_their_own(trained_root: Path) -> None:
    tasks = make_tasks(
        trained_root, load_study(trained_root / "params.yaml"), Kind.GANS, "baseline"
    )
    first, second, again = (
        next(build_trainer(task, build_accelerator(0)).generator.parameters())
        for task in (*tasks[:2], tasks[0])
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_seed_changes_bytes(trained_root: Path, fresh_root: Path) -> None:
    change_params(fresh_root, {"study.seed": 1})
    found, expected = train_baseline(fresh_root), hash_tree(trained_root / BASELINE)
    assert found.keys() == expected.keys()
    assert all(found[name] != expected[name] for name in expected)


def test_manifest_and_meta_hash_what_is_there(trained_root: Path) -> None:
    for kind in Kind:
        for directory in sorted((trained_root / "models" / kind).iterdir()):
            hashes = hash_tree(directory)
            manifest = read_json(directory / "cohort.json")
            for entry in manifest["instances"]:
                name = entry["instance"]
                assert entry["sha256"] == hashes.pop(f"{name}/meta.json")
                meta = read_json(directory / str(name) / "meta.json")
                assert meta["weights"] in meta["files"]
                for file_name, sha256 in meta["files"].items():
                    assert sha256 == hashes.pop(f"{name}/{file_name}")
            assert list(hashes) == ["cohort.json"]


def test_lineage_names_the_pool(trained_root: Path) -> None:
    models = trained_root / "models"
    classifier = read_json(models / "classifiers" / "iteration_0" / "0" / "meta.json")
    lineage = read_json(models / "gans" / "fool_all_1" / "1" / "meta.json")["lineage"]
    sha256 = classifier["files"]["classifier.safetensors"]
    member = {"cohort": "classifiers/iteration_0", "instance": 0, "sha256": sha256}
    assert lineage["pool"] == [member]
    reals = hash_tree(trained_root / "data" / "prepared")["train.npy"]
    assert lineage["data"] == {"name": "mnist", "sha256": reals}


def test_initial_weights_are_lineage_and_decide_the_state(trained_root: Path) -> None:
    study = load_study(trained_root / "params.yaml")
    task = make_tasks(trained_root, study, Kind.CLASSIFIERS, "iteration_0")[0]
    assert "initial_weights" not in task.describe()["lineage"]
    other = dataclasses.replace(task, initial_weights_sha256="ab" * 32)
    assert other.describe()["lineage"]["initial_weights"] == {"sha256": "ab" * 32}
    assert other.compute_identity() != task.compute_identity()


# --- settings of a recipe, resuming


def train_one(root: Path, directory: Path) -> tuple[bytes, pd.DataFrame]:
    """Train instance 0 of fool_all_1 in this process; return its generator and its curves."""
    task = make_tasks(root, load_study(root / "params.yaml"), Kind.GANS, "fool_all_1")[0]
    train_instance(task, 0, directory, directory.with_suffix(".state"), Session())
    weights = (directory / "generator.safetensors").read_bytes()
    return weights, pd.read_csv(directory / "curves.csv")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ema_decay", None),
        ("ema_decay", 0.5),
        ("r1_gamma", 0.0),
        ("r1_interval", 3),
        ("gradient_accumulation_steps", 2),
        ("max_gradient_norm", 1e-6),
        ("mixed_precision", "bf16"),
        ("batch_size", 8),
        ("log_every", 18),
        ("generator_optimizer.schedule", "linear"),
        ("discriminator_optimizer.schedule", "cosine"),
        ("generator_optimizer.weight_decay", 0.1),
        ("model.kernel_px", 6),
    ],
)
def test_setting_counts(
    trained_root: Path, trained_copy: Path, tmp_path: Path, key: str, value: Any
) -> None:
    change_params(trained_copy, {f"gan_recipes.dcgan.{key}": value})
    weights, curves = train_one(trained_copy, tmp_path / "result")
    usual = trained_root / "models" / "gans" / "fool_all_1" / "0" / "generator.safetensors"
    # how often a row is written changes the curves alone
    assert (weights == usual.read_bytes()) == (key == "log_every")
    assert curves["step"].tolist() == ([18, 24] if key == "log_every" else [8, 16, 24])
    losses = curves[["loss_discriminator", "loss_generator", "loss_fooling"]]
    assert losses.gt(0).all(axis=None)
    assert losses.lt(20).all(axis=None)


@pytest.mark.parametrize("cohort", ["gans/fool_all_1", "classifiers/iteration_0"])
def test_resumed_between_two_rows_of_the_curves(
    trained_root: Path, tmp_path: Path, cohort: str
) -> None:
    kind, _, name = cohort.partition("/")
    study = load_study(trained_root / "params.yaml")
    task = make_tasks(trained_root, study, Kind(kind), name)[0]
    result, state = tmp_path / "result", tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        train_instance(task, 0, result, state, Session(11))
    assert not result.exists()
    train_instance(task, 0, result, state, Session())
    assert hash_tree(result) == hash_tree(trained_root / "models" / cohort / "0")
