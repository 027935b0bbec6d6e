"""The shortcut audit on a small study: it passes as it is, and fails when the path is faulty."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from knowledge_gaps.analyses.audit import measure
from knowledge_gaps.analyses.audit.measure import list_jobs, measure_job, shorten_recipe
from knowledge_gaps.analyses.audit.reading import COLUMNS, read
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.data.images import save_array, to_uint8
from knowledge_gaps.data.store import open_images
from knowledge_gaps.stages import audit
from knowledge_gaps.study import load_study
from study_tools import change_params, run_stage

REPORTS = Path("reports") / "smoke"
# learns a shortcut with every seed, in a second
QUICK = {
    "classifier_recipes.cnn.steps": 150,
    "classifier_recipes.cnn.batch_size": 64,
    "classifier_recipes.cnn.translation_px": 0,
    "classifier_recipes.cnn.optimizer.learning_rate": 1e-2,
}

pytestmark = pytest.mark.usefixtures("one_worker")


def test_every_check_has_its_row(trained_root: Path) -> None:
    table = pd.read_csv(trained_root / REPORTS / "audit.csv", keep_default_na=False)
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
    assert table["instance"].tolist() == ["0", "1", "2", "0", "0", *[""] * 4]
    assert table["steps"].tolist() == ["24"] * 5 + [""] * 4
    assert [int(num) for num in table["num_images"]] == [64] * 5 + [512, 128, 256, 256]
    assert table["num_defects"].tolist() == [""] * 5 + ["0"] * 4
    assert set(table["verdict"][:3]) | set(table["verdict"][5:]) == {"pass"}


@pytest.mark.parametrize(("limit", "steps"), [(3, 3), (600, 24)])
def test_no_more_steps_than_needed(
    trained_root: Path, monkeypatch: pytest.MonkeyPatch, limit: int, steps: int
) -> None:
    monkeypatch.setattr(measure, "AUDIT_STEPS", limit)
    study = load_study(trained_root / "params.yaml")
    jobs = list_jobs(study)
    assert shorten_recipe(study, "cnn").steps == steps
    assert len({(job.cohort, job.instance) for job in jobs}) == 5


def test_sample_file_unlike_the_reals_fails(
    trained_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained_copy / "data" / "samples" / "baseline" / "0" / "1.npy"
    save_array(path, open_images(path).astype(np.float32))
    change_params(trained_copy, {"classifier_recipes.cnn.steps": 2})
    run_stage(trained_copy, "audit")
    said = capsys.readouterr().out
    assert re.search(r"^audit: \d checks passed, 1 failed; \d of 2 known faults", said, re.M)
    found = read(trained_copy / REPORTS)
    assert not found.passed
    assert found.rows[-1].num_defects == 1
    assert "1 sample files are stored in another way" in found.statement


def add_level(images: Tensor) -> Tensor:
    return to_uint8(images + 1 / 127.5)


def test_faulty_path_fails(trained_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # in this process: a worker would not know the conversion
    monkeypatch.setattr("knowledge_gaps.training.batches.to_uint8", add_level)
    monkeypatch.setattr(audit, "map_parallel", lambda run, items, *_, **__: map(run, items))
    monkeypatch.setattr(measure, "FAULTS", {})
    monkeypatch.setattr(measure, "AUDIT_INSTANCES", 2)
    change_params(trained_copy, QUICK)
    run_stage(trained_copy, "audit")
    found = read(trained_copy / REPORTS)
    assert not found.passed
    assert [row.verdict for row in found.rows] == ["fail"] * 5 + ["pass"]  # of sample files
    assert min(row.auc for row in found.select("replay")) > 0.7


def test_control_is_found(trained_copy: Path) -> None:
    change_params(trained_copy, QUICK)
    study = load_study(trained_copy / "params.yaml")
    [job] = [job for job in list_jobs(study) if job.fault == "one_level"]
    row = measure_job(job, trained_copy, study)
    assert row["p_value"] < 0.01
    assert row["auc"] > 0.9


def test_honest_path_passes_for_many_seeds(trained_copy: Path) -> None:
    configure_process()
    change_params(trained_copy, {**QUICK, "classifier_recipes.cnn.steps": 20})
    study, rows = load_study(trained_copy / "params.yaml"), []
    for seed in range(8):
        seeded = study.model_copy(update={"study": study.study.model_copy(update={"seed": seed})})
        rows.append(measure_job(list_jobs(study)[0], trained_copy, seeded))
    assert min(row["p_value"] for row in rows) > 0.01
    assert len({row["median_score"] for row in rows}) == 8
    assert np.mean([row["auc"] for row in rows]) == pytest.approx(0.5, abs=3 * 0.0513 / 8**0.5)
