"""The plan: what the settings say, how steps become hours, how it is printed, and all of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import RunKgaps
from knowledge_gaps.core.checkpoint import write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.planning import timing
from knowledge_gaps.planning.plan import (
    _find_prepared_shape,
    draw_plan,
    make_plan,
)
from knowledge_gaps.study import DataSettings, Study, load_study
from study_tools import REPOSITORY, SMOKE_FILE, change_params, hash_tree

SHAPE = (1, 28, 28)


def with_data(**data: Any) -> Study:
    settings = DataSettings.model_validate({"directory": "x", **data})
    return load_study(SMOKE_FILE).model_copy(update={"data": settings})


FACES = {"name": "ffhq", "source": "images", "resolution_px": 64, "channels": 3, "num_test": 10}


def test_settings_or_prepared_reals_tell_their_size(tmp_path: Path) -> None:
    assert _find_prepared_shape(tmp_path, with_data(name="mnist", source="reduced")) == SHAPE
    assert _find_prepared_shape(tmp_path, with_data(**FACES)) == (3, 64, 64)
    described = {"name": "own", "image_shape": [3, 32, 32], "num_train": 5, "num_test": 2}
    write_json(tmp_path / "data" / "prepared" / "dataset.json", described)
    assert _find_prepared_shape(tmp_path, with_data(name="own", source="idx")) == (3, 32, 32)
    # prepared at 32 px, the settings ask for 64
    assert _find_prepared_shape(tmp_path, with_data(**{**FACES, "name": "own"})) == (3, 64, 64)
    with pytest.raises(UserError, match=r"data\.name: 'other' found.*dvc repro prepare"):
        _find_prepared_shape(tmp_path, with_data(name="other", source="idx"))


class Trainer:
    """Stands in for a trainer whose R1 takes 32 s and whose path length takes 8 s."""

    class accelerator:  # noqa: N801
        device = torch.device("cpu")

    def run_step(self, step: int) -> float:
        return 1.0 + 32 * (step % 16 == 0) + 8 * (step % 4 == 0)


def test_lazy_phases_count_by_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def time_call(run: Any, device: torch.device) -> float:
        calls.append(run())
        return calls[-1]

    monkeypatch.setattr(timing, "time_call", time_call)
    kinds = timing.list_step_kinds([1, 16, 4])
    assert timing.time_steps(Trainer(), kinds) == 1 + 32 / 16 + 8 / 4  # type: ignore[arg-type]
    assert len(calls) == 3  # a round of 51 s is not repeated


def test_a_step_that_cannot_run_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_study(SMOKE_FILE).gan_recipes["dcgan"]
    monkeypatch.setenv("KGAPS_DEVICE", "tpu")
    assert "'tpu'" in str(timing.time_training(recipe, [], SHAPE))


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_terminal_cuts_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    study = load_study(REPOSITORY / "settings" / "mnist_reduced.yaml")
    plan = make_plan(tmp_path, study, with_timing=False)
    for row in plan["cohorts"]:
        row |= {"seconds_per_step": 0.0123, "seconds_left": 3600 * 1234.0}
    expected = set(draw_plan(plan).split())
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "25")  # without both, a dumb terminal has 80 columns
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    drawn = draw_plan(plan)
    print(drawn)  # UnicodeEncodeError if there were a sign that this terminal does not have
    assert expected <= set(drawn.split())
    if width >= 80:
        assert max(map(len, drawn.splitlines())) <= width


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
    # 3x3 kernels 1 -> 8 -> 8 without bias, two normalisations, a head over 8 x 7 x 7
    classifiers, trained = rows["classifiers/iteration_0"], 9 * 8 + 9 * 64 + 4 * 8 + 8 * 49 + 1
    assert classifiers["parameters"] == {"C": trained}
    # of each instance, and running mean, variance and a counter of each normalisation
    assert classifiers["disk_bytes"] == 2 * (4 * (trained + 4 * 8) + 2 * 8)
    assert plan["hours_left"] is None
    assert plan["disk_bytes"] == {
        "checkpoints": sum(row["disk_bytes"] for row in rows.values()),
        "samples": 4 * 64 * 28 * 28,
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
    change_params(trained_copy, {"study.chains": 2})
    rows = read_cohorts(run_kgaps(trained_copy, "plan", "--no-probe", "--json").out)
    assert [(row["finished"], row["instances"]) for row in rows.values()] == [(2, 4)] * 3
    change_params(trained_copy, {"study.chains": 1, "classifier_recipes.cnn.steps": 25})
    rows = read_cohorts(run_kgaps(trained_copy, "plan", "--no-probe", "--json").out)
    finished = [rows[name]["finished"] for name in rows]
    assert finished == [2, 0, 0]  # what fools the classifiers trains anew with them
    assert hash_tree(trained_copy / "models") == before


def test_half_trained_instances_count_what_is_left(trained_copy: Path, run_kgaps: RunKgaps) -> None:
    cohort = trained_copy / "models" / "gans" / "baseline"
    meta = read_json(cohort / "0" / "1" / "meta.json")
    (cohort / "cohort.json").unlink()
    states = trained_copy / ".kgaps" / "trainings" / "gans-baseline"
    write_tensors(states / "0-0-a" / "state.safetensors", {}, {"counters": json.dumps({"step": 9})})
    write_json(states / "0-1-b" / "result" / "meta.json", meta)
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
