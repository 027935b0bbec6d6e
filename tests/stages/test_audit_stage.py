"""The shortcut audit on a small study: it passes as it is, and fails when the path is faulty."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from knowledge_gaps.analyses.audit import measure
from knowledge_gaps.analyses.audit.measure import Job, list_jobs, measure_job, shorten_recipe
from knowledge_gaps.analyses.audit.reading import COLUMNS, NO_FAULT, Audit, read
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.data.images import load_images, save_array, to_uint8
from knowledge_gaps.stages import audit
from knowledge_gaps.study import load_study
from study_tools import change_params, run_stage

# learns a shortcut in a tenth of a second
QUICK = {
    "classifier_recipes.cnn.steps": 100,
    "classifier_recipes.cnn.batch_size": 32,
    "classifier_recipes.cnn.translation_px": 0,
    "classifier_recipes.cnn.optimizer.learning_rate": 1e-2,
}


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")


@pytest.fixture(scope="module")
def table(trained_root: Path) -> pd.DataFrame:
    return pd.read_csv(trained_root / "reports" / "audit.csv", keep_default_na=False)


def run_serially(
    function: Callable[[Any], Any], items: Any, _: str, *, num_workers: int
) -> Iterator[Any]:
    assert num_workers >= 1
    return map(function, items)


def audit_path(root: Path, patch: pytest.MonkeyPatch, convert: Callable[[Tensor], Tensor]) -> Audit:
    """Run the whole stage in this process, with another conversion where samples are made."""
    patch.setattr("knowledge_gaps.training.batches.to_uint8", convert)
    patch.setattr(audit, "map_parallel", run_serially)  # a worker would not know the conversion
    patch.setattr(measure, "FAULTS", {})
    patch.setattr(measure, "AUDIT_INSTANCES", 2)
    change_params(root, QUICK)
    run_stage(root, "audit")
    return read(root)


# --- the table


def test_every_check_has_its_row(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table["check"], table["subject"], table["fault"], strict=True)) == [
        *[("replay", "cnn", "none")] * 3,
        ("control", "cnn", "one_level"),
        ("control", "cnn", "jpeg"),
        ("round_trip", "train", "none"),
        ("round_trip", "test", "none"),
        ("round_trip", "levels", "none"),
        ("sample_files", "samples", "none"),
    ]
    assert table["instance"].tolist() == ["0", "1", "2", "0", "0", "", "", "", ""]
    assert table["steps"].tolist() == ["24"] * 5 + [""] * 4
    assert [int(num) for num in table["num_images"]] == [64] * 5 + [512, 128, 256, 256]
    assert table["num_defects"].tolist() == [""] * 5 + ["0"] * 4
    assert table["verdict"].tolist()[:3] == ["pass"] * 3
    assert table["verdict"].tolist()[5:] == ["pass"] * 4


# --- what it is computed from


def test_only_what_changed_is_trained(
    trained_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage(trained_copy, "audit")
    said = capsys.readouterr().out
    assert "computed 0 rows, 5 cached" in said
    assert re.search(r"^audit: \d checks passed, \d failed; \d of 2 known faults", said, re.M)
    monkeypatch.setattr(measure, "AUDIT_INSTANCES", 4)
    run_stage(trained_copy, "audit")
    assert "computed 1 row, 5 cached" in capsys.readouterr().out
    change_params(trained_copy, {"classifier_recipes.cnn.batch_size": 8})
    run_stage(trained_copy, "audit")
    assert "computed 6 rows, 0 cached" in capsys.readouterr().out


@pytest.mark.parametrize(("limit", "steps"), [(3, 3), (24, 24), (600, 24)])
def test_no_more_steps_than_needed(
    trained_root: Path, monkeypatch: pytest.MonkeyPatch, limit: int, steps: int
) -> None:
    monkeypatch.setattr(measure, "AUDIT_STEPS", limit)
    study = load_study(trained_root / "params.yaml")
    jobs = list_jobs(study)
    assert shorten_recipe(study, "cnn").steps == steps
    assert len({(job.cohort, job.instance) for job in jobs}) == 5


def test_sample_file_unlike_the_reals_fails(trained_copy: Path) -> None:
    path = trained_copy / "data" / "samples" / "baseline" / "1.npy"
    save_array(path, load_images(path).astype(np.float32))
    run_stage(trained_copy, "audit")
    found = read(trained_copy)
    assert not found.passed
    assert found.rows[-1].num_defects == 1
    assert "1 sample files are stored in another way" in found.statement


# --- positive controls: a faulty path makes the audit fail


def add_level(images: Tensor) -> Tensor:
    return to_uint8(images + 1 / 127.5)


def stretch(images: Tensor) -> Tensor:
    low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return ((images - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)


def test_one_level_more_fails(trained_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = audit_path(trained_copy, monkeypatch, add_level)
    assert not found.passed
    assert [row.verdict for row in found.select("replay")] == ["fail", "fail"]
    assert min(row.auc for row in found.select("replay")) > 0.7
    assert all(row.verdict == "fail" for row in found.select("round_trip"))


def test_own_range_fails(trained_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits reach from 0 to 255 or 254, so that only images of one level tell."""
    found = audit_path(trained_copy, monkeypatch, stretch)
    assert not found.passed
    assert found.select("round_trip")[2].verdict == "fail"


@pytest.mark.parametrize(("fault", "is_found"), [("one_level", True), (NO_FAULT, False)])
def test_control_is_found_and_no_fault_is_not(
    trained_copy: Path, fault: str, is_found: bool
) -> None:
    change_params(trained_copy, QUICK)
    study = load_study(trained_copy / "params.yaml")
    row = measure_job(Job("cnn", fault, 0), trained_copy, study)
    assert (row["p_value"] < 0.01) is is_found
    # of a classifier of 24 steps; an honest path's may lie anywhere about chance
    assert (row["auc"] > 0.9) if is_found else (0.4 < row["auc"] < 0.6)


def test_honest_path_passes_for_many_seeds(trained_copy: Path) -> None:
    configure_process()
    change_params(trained_copy, {**QUICK, "classifier_recipes.cnn.steps": 20})
    study, rows = load_study(trained_copy / "params.yaml"), []
    for seed in range(8):
        seeded = study.model_copy(update={"study": study.study.model_copy(update={"seed": seed})})
        rows.append(measure_job(Job("cnn", NO_FAULT, 0), trained_copy, seeded))
    assert min(row["p_value"] for row in rows) > 0.01
    assert len({row["auc"] for row in rows}) == 8
    assert np.mean([row["auc"] for row in rows]) == pytest.approx(0.5, abs=3 * 0.0513 / 8**0.5)
