"""kgaps plan: the whole of it on the smoke study, without probes and with them in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.files import write_json
from knowledge_gaps.execution.tasks import make_tasks
from knowledge_gaps.planning import estimate, measure, probe, standing, timing
from knowledge_gaps.planning.estimate import Knowledge
from knowledge_gaps.planning.inventory import find_reals, list_cohorts
from knowledge_gaps.planning.request import Measurement
from knowledge_gaps.stages import plan
from knowledge_gaps.study import Kind, load_study
from study_tools import change_params, hash_tree


@pytest.fixture(autouse=True)
def _stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer probes here, for starting a process takes seconds; DVC knows nothing of the folder."""

    def ask(question: dict[str, Any], timeout_sec: float | None) -> dict[str, Any]:
        answer = probe.answer(question)
        return dict(json.loads(json.dumps(answer)))

    monkeypatch.setattr(measure, "_ask", ask)
    monkeypatch.setattr(plan, "ask_dvc", lambda root: None)
    monkeypatch.setattr(timing, "_STEADY_SEC", 0.0)


def read_rows(out: str) -> dict[str, dict[str, Any]]:
    return {row["stage"]: row for row in json.loads(out)["rows"]}


def test_plan_before_anything_ran(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "plan", "--no-probe", "--json")
    assert outcome.code == 0, outcome.err
    rows, totals = read_rows(outcome.out), json.loads(outcome.out)["totals"]
    assert list(rows) == [
        "prepare",
        "gans@baseline",
        "classifiers@iteration_0",
        "gans@fool_all_1",
        "samples",
        "detections",
    ]
    assert rows["prepare"]["disk_bytes"] == (512 + 128) * 28 * 28
    assert rows["samples"]["disk_bytes"] == 4 * 64 * 28 * 28
    assert rows["gans@baseline"]["images_shown"] == 2 * 24 * 16
    assert (totals["trainings"], totals["trainings_left"]) == (6, 6)
    assert totals["hours"] is None
    assert sorted(path.name for path in smoke_root.iterdir()) == [".kgaps", "data", "params.yaml"]


def test_plan_with_probes(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "plan", "--json", "--probe-sec", "30")
    rows = read_rows(outcome.out)
    gans = rows["gans@baseline"]
    makespan = {1: 48, 2: 24}[min(2, _count_workers())]
    assert gans["seconds"] == pytest.approx(makespan * gans["seconds_per_step"])
    assert gans["memory_bytes"] > 0
    assert json.loads(outcome.out)["totals"]["hours_left"] > 0
    assert outcome.err.count("probe ") == 3
    again = run_kgaps(smoke_root, "plan", "--json", "--probe-sec", "30")
    assert "probe " not in again.err
    assert read_rows(again.out)["gans@baseline"]["seconds"] == gans["seconds"]


def test_plan_of_a_trained_study(trained_copy: Path, run_kgaps: RunKgaps) -> None:
    before = hash_tree(trained_copy / "models")
    outcome = run_kgaps(trained_copy, "plan", "--no-probe")
    assert "DVC does not answer" in outcome.err
    [total] = [line for line in outcome.out.splitlines() if line.startswith("total")]
    assert total.split()[1:3] == ["6", "0"]
    change_params(trained_copy, {"classifier_recipes.cnn.steps": 25})
    outcome = run_kgaps(trained_copy, "plan", "--no-probe", "--json")
    left = {name: row["trainings_left"] for name, row in read_rows(outcome.out).items()}
    assert left["gans@baseline"] == 0
    assert left["classifiers@iteration_0"] == left["gans@fool_all_1"] == 2
    assert hash_tree(trained_copy / "models") == before


def test_half_trained_instances_count_what_is_left(trained_copy: Path) -> None:
    study = load_study(trained_copy / "params.yaml")
    folder = trained_copy / ".kgaps" / "resume" / "gans-baseline"
    first, second = (
        folder / f"{task.instance}-{task.compute_identity()[:16]}"
        for task in make_tasks(trained_copy, study, Kind.GANS, "baseline")
    )
    write_tensors(first / "state.safetensors", {}, {"counters": json.dumps({"step": 9})})
    write_json(second / "result" / "meta.json", {})
    changes = {"gans@baseline": ["changed command"]}
    found = standing.find_standings(trained_copy, study, list_cohorts(study), changes)
    assert found["gans/baseline"].steps_left == (24 - 9,)
    assert found["gans/baseline"].note == "changed: changed command; baseline/0 at step 9"
    assert found["gans/fool_all_1"].steps_left == (24, 24)


def count_samples_left(root: Path, changes: dict[str, list[Any]] | None) -> float:
    """Count the generators whose images the plan says are to be drawn: a second an image."""
    study = load_study(root / "params.yaml")
    cohorts = list_cohorts(study)
    known = Knowledge(
        root=root,
        study=study,
        cohorts=cohorts,
        reals=find_reals(root, study),
        changes=changes,
        standings=standing.find_standings(root, study, cohorts, changes),
        counts={},
        measurements={work.path: Measurement(16, 1.0, 1.0, 1, 2, None) for work in cohorts},
    )
    row = estimate._make_samples_row(known)
    assert row.seconds is not None
    assert row.seconds_left is not None
    num_generators = sum(cohort.instances for cohort in study.gans.values())
    return row.seconds_left / row.seconds * num_generators


SAMPLES = {"samples": [{"changed deps": {"models/gans": "modified"}}]}


@pytest.mark.parametrize("changes", [None, {}, SAMPLES])
def test_samples_that_hold_cost_nothing(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, list[Any]] | None
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    assert count_samples_left(trained_copy, changes) == 0


def test_samples_are_left_where_they_are_missing_or_would_be_others(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    (trained_copy / "data" / "samples" / "baseline" / "1.npy").unlink()
    assert count_samples_left(trained_copy, SAMPLES) == 1
    meta = trained_copy / "models" / "gans" / "fool_all_1" / "0" / "meta.json"
    meta.write_text(meta.read_text() + "\n")
    assert count_samples_left(trained_copy, SAMPLES) == count_samples_left(trained_copy, None) == 2
    assert count_samples_left(trained_copy, {}) == 0  # DVC has looked at them
    training = {**SAMPLES, "gans@baseline": ["changed command"]}  # and all that stands on it
    assert count_samples_left(trained_copy, training) == 4
    change_params(trained_copy, {"evaluation.num_images": 32})
    assert count_samples_left(trained_copy, SAMPLES) == 4
    (meta.parent / "generator.safetensors").unlink()  # in DVC's cache, perhaps
    assert count_samples_left(trained_copy, SAMPLES) == 4


def test_samples_are_drawn_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    for workers, side_by_side in (("1", 1), ("3", 3), ("9", 4)):
        monkeypatch.setenv("KGAPS_WORKERS", workers)
        assert estimate._count_side_by_side(4) == side_by_side
    assert estimate._count_side_by_side(0) == 1


def test_unknown_images_are_refused(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    change_params(smoke_root, {"data.name": "own", "data.source": "idx"})
    outcome = run_kgaps(smoke_root, "plan")
    assert outcome.code == 2
    assert outcome.err.startswith("kgaps: data.name: ")
    assert "dvc repro prepare" in outcome.err


def test_images_that_do_not_fit_the_architecture_are_refused(
    smoke_root: Path, run_kgaps: RunKgaps
) -> None:
    change_params(smoke_root, {"gan_recipes.dcgan.model.channels": [8, 4, 2]})
    outcome = run_kgaps(smoke_root, "plan", "--no-probe")
    assert outcome.code == 2
    assert "28x28" in outcome.err


def _count_workers() -> int:
    from knowledge_gaps.core.devices import count_workers

    return count_workers(2)
