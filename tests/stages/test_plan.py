"""kgaps plan: the whole of it on the smoke study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.files import read_json, write_json
from study_tools import change_params, hash_tree


def read_cohorts(out: str) -> dict[str, dict[str, Any]]:
    return {row["cohort"]: row for row in json.loads(out)["cohorts"]}


def test_plan_before_anything_ran(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "plan", "--no-probe", "--json")
    assert outcome.code == 0, outcome.err
    plan, rows = json.loads(outcome.out), read_cohorts(outcome.out)
    assert list(rows) == ["gans/baseline", "classifiers/iteration_0", "gans/fool_all_1"]
    baseline = rows["gans/baseline"]
    assert baseline["images"] == 2 * 24 * 16
    assert (baseline["finished"], baseline["steps_left"]) == (0, 48)
    assert plan["hours_left"] is None
    assert plan["disk_bytes"] == {
        "checkpoints": sum(row["disk_bytes"] for row in rows.values()),
        "samples": 4 * 64 * 28 * 28,
        "prepared": (512 + 128) * 28 * 28,
    }
    assert sorted(path.name for path in smoke_root.iterdir()) == ["data", "params.yaml"]


def test_equal_trainings_are_timed_once(
    smoke_root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    same = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 2.0}
    change_params(smoke_root, {"gans.same": same})
    outcome = run_kgaps(smoke_root, "plan", "--json")
    rows = read_cohorts(outcome.out)
    assert outcome.err.count("timing ") == 3
    step = rows["gans/fool_all_1"]["seconds_per_step"]
    assert rows["gans/same"]["seconds_per_step"] == step
    assert rows["gans/fool_all_1"]["seconds_left"] == pytest.approx(48 * step)
    seconds = sum(row["seconds_left"] for row in rows.values())
    assert json.loads(outcome.out)["hours_left"] == pytest.approx(seconds / 3600)
    assert json.loads(outcome.out)["peak_bytes"] > 10**8


def test_plan_of_a_trained_study(trained_copy: Path, run_kgaps: RunKgaps) -> None:
    before = hash_tree(trained_copy / "models")
    outcome = run_kgaps(trained_copy, "plan", "--no-probe")
    assert "hours left: 0.00" in outcome.out
    assert outcome.out.count("2/2") == 3
    change_params(trained_copy, {"classifier_recipes.cnn.steps": 25})
    rows = read_cohorts(run_kgaps(trained_copy, "plan", "--no-probe", "--json").out)
    finished = [rows[name]["finished"] for name in rows]
    assert finished == [2, 0, 0]  # what fools the classifiers trains anew with them
    assert hash_tree(trained_copy / "models") == before


def test_half_trained_instances_count_what_is_left(trained_copy: Path, run_kgaps: RunKgaps) -> None:
    cohort = trained_copy / "models" / "gans" / "baseline"
    meta = read_json(cohort / "1" / "meta.json")
    (cohort / "cohort.json").unlink()
    states = trained_copy / ".kgaps" / "resume" / "gans-baseline"
    write_tensors(states / "0-a" / "state.safetensors", {}, {"counters": json.dumps({"step": 9})})
    write_json(states / "1-b" / "result" / "meta.json", meta)
    rows = read_cohorts(run_kgaps(trained_copy, "plan", "--no-probe", "--json").out)
    assert (rows["gans/baseline"]["finished"], rows["gans/baseline"]["steps_left"]) == (1, 24 - 9)
    assert rows["gans/fool_all_1"]["steps_left"] == 48


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.name": "own", "data.source": "idx"}, ("kgaps: data.name: ", "dvc repro prepare")),
        ({"gan_recipes.dcgan.model.channels": [8, 4, 2]}, ("kgaps: ", "28x28")),
    ],
)
def test_what_cannot_be_trained_is_refused(
    smoke_root: Path, run_kgaps: RunKgaps, changes: dict[str, Any], words: tuple[str, str]
) -> None:
    change_params(smoke_root, changes)
    outcome = run_kgaps(smoke_root, "plan", "--no-probe")
    assert outcome.code == 2
    assert outcome.err.startswith(words[0])
    assert words[1] in outcome.err
