"""Trainings that cannot begin or end: exit 2, one line, and no result."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.layout import CODE_FINGERPRINTS
from knowledge_gaps.data.images import save_array
from knowledge_gaps.execution.cohort import make_tasks, train_cohort
from knowledge_gaps.execution.fingerprint import write_fingerprints
from knowledge_gaps.study import PARAMS_FILE, Kind, load_study
from study_tools import change_params, hash_tree, run_stage, start_kgaps

Refuse = Callable[..., Any]

BASELINE = "models/gans/baseline"
CLASSIFIER = "models/classifiers/iteration_0/0/0/classifier.safetensors"


@pytest.fixture
def root(trained_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a study whose GANs are not trained."""
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    shutil.rmtree(trained_copy / "models" / "gans" / "fool_all_1")
    shutil.rmtree(trained_copy / BASELINE)
    return trained_copy


def use_odd_images(root: Path) -> None:
    images = np.zeros((32, 1, 30, 30), np.uint8)
    save_array(root / "data" / "prepared" / "train.npy", images)


def make_pool_stale(root: Path) -> None:
    path = root / "models" / "pools" / "c0.json"
    manifest = read_json(path)
    manifest["members"][0]["sha256"] = "0" * 64
    write_json(path, manifest)


def record_other_code(root: Path) -> None:
    file = root / CODE_FINGERPRINTS
    write_json(file, {**read_json(file), "gans": {"baseline": "torch 1.0"}})


def ask_for_two_chains(root: Path) -> None:
    change_params(root, {"study.chains": 2})


@pytest.mark.parametrize(
    ("spoil", "cohort", "words"),
    [
        (
            use_odd_images,
            "baseline",
            ("gans/baseline/0/0", "gans/baseline/0/1", "model.channels", "30x30", "multiple of 4"),
        ),
        (make_pool_stale, "fool_all_1", (CLASSIFIER, "0" * 64, "dvc repro")),
        (record_other_code, "baseline", ("gans/baseline: ", "torch 1.0", "`kgaps check`")),
        (str, "baseline --instance 1", ("--instance: '1' found, CHAIN/K such as 0/2",)),
        (str, "baseline --instance 2/0", ("--instance: 2/0 found, 0/1 is the last of gans/ba",)),
        (ask_for_two_chains, "fool_all_1", ("models/pools/c0.json: chain 1 has 0 of 1 members",)),
    ],
)
def test_refused(
    root: Path, refuse: Refuse, spoil: Callable[[Path], None], cohort: str, words: tuple[str, ...]
) -> None:
    spoil(root)
    refuse(root, f"gans {cohort}", words, f"models/gans/{cohort.split()[0]}")


def test_code_is_recorded_anew_while_a_cohort_is_trained(trained_root: Path, root: Path) -> None:
    """DVC reads the record at the end; the states are kept for the code that trained them."""
    study = load_study(root / PARAMS_FILE)
    tasks = make_tasks(root, study, Kind.GANS, "baseline")
    with pytest.raises(UserError, match=r"^gans/baseline: .*torch 1\.0"):
        train_cohort(tasks, lambda *_: record_other_code(root))
    assert not (root / BASELINE).exists()
    write_fingerprints(root, study)
    train_cohort(tasks, print, lambda *_: pytest.fail("something was left to train"))
    assert hash_tree(root / BASELINE) == hash_tree(trained_root / BASELINE)


def test_disk_is_full_while_training(
    trained_root: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a process whose files cannot grow would leave half a file of a module that is new to Python
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def limit() -> None:  # in the child: its workers inherit the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    process = start_kgaps(root, "gans", "baseline", preexec_fn=limit)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert "gans/baseline/0/0: " in err
    assert ".safetensors: cannot be written" in err
    assert not (root / BASELINE).exists()
    run_stage(root, "gans", "baseline")  # there is room again
    assert hash_tree(root / BASELINE) == hash_tree(trained_root / BASELINE)
