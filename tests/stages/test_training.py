"""Training through the real stages: an instance's bytes depend on what it is, on nothing else.

Not on workers, not on neighbours, not on where it was resumed; `trained_root` was trained by two
workers side by side. See `test_interruption` for the same through the command line.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.images import save_array
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.assignment import Assignment
from knowledge_gaps.execution.cohort import make_tasks
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.training.instance import build_trainer, train_instance
from study_tools import change_params, hash_tree
from training_tools import Session


def test_instances_differ(trained_root: Path) -> None:
    for cohort in ("gans/baseline", "gans/fool_all_1", "classifiers/iteration_0"):
        first, second = (hash_tree(trained_root / "models" / cohort / f"0/{k}") for k in range(2))
        assert first.keys() == second.keys()
        assert all(first[name] != second[name] for name in first)


def test_instances_begin_with_weights_of_their_own(trained_root: Path) -> None:
    study = load_study(trained_root / "params.yaml")
    tasks = make_tasks(trained_root, study, Kind.GANS, "baseline")
    tasks += [tasks[0], dataclasses.replace(tasks[0], seed=1)]
    first, second, again, other = (
        next(build_trainer(task).modules["generator"].parameters()) for task in tasks
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_manifest_and_meta_hash_what_is_there(trained_root: Path) -> None:
    for kind in Kind:
        for directory in sorted((trained_root / "models" / kind).iterdir()):
            hashes = hash_tree(directory)
            manifest = read_json(directory / "cohort.json")
            assert manifest["format"] == 2
            for entry in manifest["instances"]:
                name = f"{entry['chain']}/{entry['instance']}"
                assert entry["sha256"] == hashes.pop(f"{name}/meta.json")
                meta = read_json(directory / name / "meta.json")
                assert meta["weights"] in meta["files"]
                for file_name, sha256 in meta["files"].items():
                    assert sha256 == hashes.pop(f"{name}/{file_name}")
            assert list(hashes) == ["cohort.json"]


def test_lineage_names_the_pool(trained_root: Path) -> None:
    models = trained_root / "models"
    classifier = read_json(models / "classifiers/iteration_0/0/0/meta.json")
    meta = read_json(models / "gans/fool_all_1/0/1/meta.json")
    lineage, sha256 = meta["lineage"], classifier["files"]["classifier.safetensors"]
    member = {"cohort": "classifiers/iteration_0", "chain": 0, "instance": 0, "sha256": sha256}
    assert lineage["pool"] == [member]
    reals = hash_tree(trained_root / "data" / "prepared")["train.npy"]
    assert lineage["data"] == {"name": "mnist", "sha256": reals}
    study = load_study(trained_root / "params.yaml")
    task = make_tasks(trained_root, study, Kind.GANS, "fool_all_1", Instance(0, 1))[0]
    assert meta["identity"] == task.compute_identity()
    assert (meta["format"], meta["chain"], meta["instance"]) == (2, 0, 1)


def test_state_depends_on_initial_weights_and_on_no_number_of_instances(trained_copy: Path) -> None:
    study = load_study(trained_copy / "params.yaml")
    task = make_tasks(trained_copy, study, Kind.CLASSIFIERS, "iteration_0")[0]
    assert "initial_weights" not in task.describe()["lineage"]
    other = dataclasses.replace(task, initial_weights_sha256="ab" * 32)
    assert other.describe()["lineage"]["initial_weights"] == {"sha256": "ab" * 32}
    assert other.directory != task.directory
    change_params(trained_copy, {"classifiers.iteration_0.instances": 3})
    study = load_study(trained_copy / "params.yaml")
    again = make_tasks(trained_copy, study, Kind.CLASSIFIERS, "iteration_0")
    assert [task.directory for task in again].index(task.directory) == 0


def test_dev_reals_count_where_early_stopping_reads_them(trained_copy: Path) -> None:
    def make_task() -> Assignment:
        study = load_study(trained_copy / "params.yaml")
        return make_tasks(trained_copy, study, Kind.CLASSIFIERS, "iteration_0")[0]

    dev = trained_copy / "data" / "prepared" / "dev.npy"
    assert make_task().dev_sha256 is None
    stopping = {"num_images": 8, "check_every": 4, "patience": 1}
    change_params(trained_copy, {"classifier_recipes.cnn.early_stopping": stopping})
    task = make_task()
    assert task.describe()["lineage"]["data_dev"] == {"sha256": hash_file(dev)}
    trainer = build_trainer(task)
    np.testing.assert_array_equal(trainer._images_checked, open_images(dev))
    save_array(dev, open_images(dev)[::-1])
    assert make_task().directory != task.directory
    dev.unlink()
    with pytest.raises(UserError, match=r"data/prepared/dev\.npy: cannot be read"):
        make_task()
    change_params(trained_copy, {"data.num_dev": None})
    assert make_task().dev_sha256 is None


# --- settings, resuming


def train_one(root: Path, directory: Path) -> tuple[bytes, pd.DataFrame]:
    """Train instance 0 of fool_all_1 in this process; return its generator and its curves."""
    task = make_tasks(root, load_study(root / "params.yaml"), Kind.GANS, "fool_all_1")[0]
    train_instance(task, 0, directory, directory.with_suffix(".state"), Session())
    weights = (directory / "generator.safetensors").read_bytes()
    return weights, pd.read_csv(directory / "curves.csv")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study.seed", 1),
        ("gan_recipes.dcgan.ema_decay", None),
        ("gan_recipes.dcgan.r1_gamma", 0.0),
        ("gan_recipes.dcgan.r1_interval", 3),
        ("gan_recipes.dcgan.gradient_accumulation_steps", 2),
        ("gan_recipes.dcgan.max_gradient_norm", 1e-6),
        ("gan_recipes.dcgan.mixed_precision", "bf16"),
        ("gan_recipes.dcgan.batch_size", 8),
        ("gan_recipes.dcgan.log_every", 18),
        ("gan_recipes.dcgan.generator_optimizer.schedule", "linear"),
        ("gan_recipes.dcgan.discriminator_optimizer.schedule", "cosine"),
        ("gan_recipes.dcgan.generator_optimizer.weight_decay", 0.1),
        ("gan_recipes.dcgan.model.kernel_px", 6),
    ],
)
def test_setting_counts(
    trained_root: Path, trained_copy: Path, tmp_path: Path, key: str, value: Any
) -> None:
    change_params(trained_copy, {key: value})
    weights, curves = train_one(trained_copy, tmp_path / "result")
    usual = trained_root / "models/gans/fool_all_1/0/0/generator.safetensors"
    is_of_curves = key.endswith("log_every")  # how often a row is written changes them alone
    assert (weights == usual.read_bytes()) == is_of_curves
    assert curves["step"].tolist() == ([18, 24] if is_of_curves else [8, 16, 24])
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
    assert hash_tree(result) == hash_tree(trained_root / "models" / cohort / "0/0")
