"""A sweep is the product of its lists, and every point of it a valid study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.signals import StopFlag
from knowledge_gaps.planning import sweep
from knowledge_gaps.planning.sweep import Experiment, make_grid, parse_axis
from knowledge_gaps.study import Study, read_yaml
from study_tools import SMOKE_FILE, change_params

PHI = "gans.fool_all_1.phi"


def accept(_: Study) -> None:
    """Check nothing more."""


def make(*axes: str, file: Path = SMOKE_FILE) -> list[Experiment]:
    return make_grid(read_yaml(file), axes, accept)


def test_grid_is_the_product_of_the_lists() -> None:
    grid = make(f"{PHI}=0.1,1e2", "study.seed=0,1")
    values = [tuple(point.values.values()) for point in grid]
    assert values == [(0.1, 0), (0.1, 1), (100.0, 0), (100.0, 1)]
    assert len({point.name for point in grid}) == 4
    assert all(point.name.startswith("smoke-phi-") for point in grid)


def test_overrides_name_every_value_and_the_study() -> None:
    [point, _] = make(f"{PHI}=0.1,1", "gans.fool_all_1.fooling=weighted")
    assert point.overrides == [
        f"{PHI}=0.1",
        '+gans.fool_all_1.fooling="weighted"',  # smoke leaves it to its default
        f'study.name="{point.name}"',
    ]


def test_name_tells_the_study_and_not_the_way_it_is_written(smoke_root: Path) -> None:
    file = smoke_root / "params.yaml"
    [first] = make(f"{PHI}=0.5", file=file)
    assert make(f"{PHI}=0.50", file=file) == [first]
    change_params(smoke_root, {"gans.fool_all_1.fooling": "sum"})  # its default
    assert make(f"{PHI}=0.5", file=file)[0].name == first.name
    change_params(smoke_root, {"gan_recipes.dcgan.steps": 25})
    assert make(f"{PHI}=0.5", file=file)[0].name != first.name
    [point] = make(f"{PHI}=0.123456789012345678", "report.phi_sweep=[baseline]")
    assert len(point.name) <= 64


def test_values_are_read_as_yaml() -> None:
    values = [1, 0.5, "x", None, [1, 2], True]
    assert parse_axis("a.b=1,0.5,x,null,[1, 2],true") == ("a.b", values)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["gans.fool_al_1.phi=1"], "gans.fool_al_1.recipe: missing"),
        (["gans.fool_all_1.fi=1"], "fi: unknown key (allowed: recipe, instances"),
        (["study.seed.x=1"], "study.seed.x: 'seed' is no section, it is 0"),
        (["gans.fool_all_1=1"], "gans.fool_all_1: Input should be a valid dictionary"),
        ([f"{PHI}=0.1,-1"], f"{PHI}=-1: params.yaml: {PHI}: Input should be greater than or equal"),
        (["gans.fool_all_1.fools=nobody"], "'nobody' is not in pools"),
        (["gan_recipes.dcgan.model.latent_dim=4,0"], "latent_dim=0: params.yaml: gan_recipes"),
        (["study.name=a,b"], "study.name: cannot be swept"),
        ([f"{PHI}=1", f"{PHI}=2"], "given twice in the sweep"),
        ([f"{PHI}=10,10.0"], "given twice in the sweep"),
        ([PHI], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}="], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}=[1,"], "not valid YAML"),
    ],
)
def test_what_the_study_cannot_take_is_refused(
    smoke_root: Path, run_kgaps: RunKgaps, axes: list[str], said: str
) -> None:
    outcome = run_kgaps(smoke_root, "sweep", *axes)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_dry_run_prints_the_grid_and_does_nothing(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=0.25,4", "--dry-run")
    assert outcome.code == 0
    assert outcome.out.count("not queued") == 2
    assert not (smoke_root / ".kgaps").exists()


def make_entry(name: str, state: str | None) -> dict[str, Any]:
    return {"name": name, "executor": None if state is None else {"state": state}}


def test_states_are_read_from_what_dvc_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC fails now and then over an experiment that begins or ends."""
    grid = make(f"{PHI}=1,2,3,4,5")
    states = ["success", None, "queued", "running"]
    entries = [make_entry(p.name, s) for p, s in zip(grid, states, strict=False)]
    shown = [{"experiments": None}, {"experiments": [*entries, make_entry("other", "failed")]}]
    answers = [None, shown]

    def answer(root: Path, *arguments: str, timeout_sec: float) -> str:
        if (found := answers.pop(0)) is None:
            raise UserError("dvc exp show: unexpected error")
        return json.dumps(found)

    monkeypatch.setattr(sweep, "call_dvc", answer)
    monkeypatch.setattr(sweep, "_POLL_SEC", 0.0)
    expected = [sweep.DONE, sweep.DONE, "queued", "running", sweep.MISSING]
    assert list(sweep.read_states(tmp_path, grid).values()) == expected
    answers.extend([None] * sweep._TRIES)
    with pytest.raises(UserError, match="unexpected error"):
        sweep.read_states(tmp_path, grid)


def test_what_is_done_or_begun_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(sweep, "call_dvc", lambda _, *arguments: calls.append(arguments))
    grid = make(f"{PHI}=1,2,3,4")
    found = [sweep.DONE, "failed", "running", sweep.MISSING]
    states = {point.name: state for point, state in zip(grid, found, strict=True)}
    sweep._queue_missing(tmp_path, "data", grid, states, StopFlag())
    assert calls[0] == ("queue", "remove", grid[1].name)
    assert [call[:5] for call in calls[1:]] == [
        ("exp", "run", "--queue", "--name", grid[index].name) for index in (1, 3)
    ]
    with pytest.raises(UserError, match=r"^3 of 4 experiments not done: .*`dvc queue logs NAME`"):
        sweep._conclude(tmp_path, states)


class Queue:
    """Stands in for DVC: records its commands and gives the states that a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: list[str]) -> None:
        self.states, self.calls, self.stop = list(states), list[tuple[Any, ...]](), StopFlag()
        monkeypatch.setattr(
            sweep, "read_states", lambda *_: dict(zip("ab", self.states.pop(0), strict=True))
        )
        monkeypatch.setattr(sweep, "call_dvc", lambda _, *arguments: self.calls.append(arguments))
        monkeypatch.setattr(sweep, "_start_workers", lambda _, jobs: self.calls.append((jobs,)))
        monkeypatch.setattr(sweep, "_POLL_SEC", 0.0)

    def run(self, num_jobs: int) -> sweep.States:
        return sweep._run_queue(Path(), [], num_jobs, self.stop)


def test_the_queue_is_kept_going_until_nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may end before its turn, so workers are started where too few experiments run."""
    ended = [sweep.DONE, "failed"]
    states = ["queued", "queued"], ["running", "queued"], [sweep.DONE, "queued"], ended
    dvc = Queue(monkeypatch, *states)
    assert list(dvc.run(1).values()) == ended
    assert dvc.calls == [(1,), (1,)]


def test_stop_interrupts_what_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dvc = Queue(monkeypatch, ["running", "queued"], ["running", "queued"], ["failed", "queued"])
    dvc.stop.set()
    with pytest.raises(StoppedError, match="not all experiments are done; the same command goes"):
        dvc.run(2)
    assert dvc.calls == [("queue", "stop"), ("queue", "kill", "a")]


def test_second_sweep_waits_for_no_queue_of_another(tmp_path: Path) -> None:
    again = pytest.raises(UserError, match="another kgaps sweep is running")
    with sweep._hold_queue(tmp_path), again, sweep._hold_queue(tmp_path):
        pass
