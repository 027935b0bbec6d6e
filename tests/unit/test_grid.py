"""A sweep is the product of its lists, and every point of it a valid study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.signals import StopFlag
from knowledge_gaps.study import Study
from knowledge_gaps.sweeps import queue, sweep
from knowledge_gaps.sweeps.grid import Experiment, make_grid, parse_axis
from knowledge_gaps.sweeps.queue import Standing, State, parse_standings
from knowledge_gaps.sweeps.sweep import share_machine
from knowledge_gaps.sweeps.table import SHOWN_METRICS, draw_sweep, find_differing
from study_tools import SMOKE_FILE, change_params

PHI = "gans.fool_all_1.phi"


def accept(_: Study) -> None:
    """Check nothing more."""


def test_grid_is_the_product_of_the_lists() -> None:
    grid = make_grid(SMOKE_FILE, [f"{PHI}=0.1,1,1e2", "study.seed=0,1"], accept)
    assert [tuple(point.values.values()) for point in grid] == [
        (0.1, 0),
        (0.1, 1),
        (1, 0),
        (1, 1),
        (100.0, 0),
        (100.0, 1),
    ]
    assert len({point.name for point in grid}) == 6
    assert all(point.name.startswith("smoke-phi-") for point in grid)


def test_recipes_are_checked_at_every_point(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    axis = "gan_recipes.dcgan.model.latent_dim=4,0"
    outcome = run_kgaps(smoke_root, "sweep", axis, "--dry-run")
    assert outcome.code == 2
    assert "kgaps: gan_recipes.dcgan.model.latent_dim=0: params.yaml: gan_recipes" in outcome.err
    assert outcome.err.count("\n") == 1


def test_overrides_name_every_value_and_the_study() -> None:
    [point, _] = make_grid(SMOKE_FILE, [f"{PHI}=0.1,1", "gans.fool_all_1.fooling=weighted"], accept)
    assert point.describe() == [
        f"{PHI}=0.1",
        '+gans.fool_all_1.fooling="weighted"',  # smoke leaves it to its default
        f'study.name="{point.name}"',
    ]


def test_name_tells_the_study_and_not_the_way_it_is_written(smoke_root: Path) -> None:
    file = smoke_root / "params.yaml"
    [first] = make_grid(file, [f"{PHI}=0.5"], accept)
    assert make_grid(file, [f"{PHI}=0.50"], accept) == [first]
    change_params(smoke_root, {"gans.fool_all_1.fooling": "sum"})  # its default
    assert make_grid(file, [f"{PHI}=0.5"], accept)[0].name == first.name
    change_params(smoke_root, {"gan_recipes.dcgan.steps": 25})
    assert make_grid(file, [f"{PHI}=0.5"], accept)[0].name != first.name


def test_long_names_are_names_of_studies() -> None:
    [point] = make_grid(
        SMOKE_FILE, [f"{PHI}=0.123456789012345678", "report.phi_sweep=[baseline]"], accept
    )
    assert len(point.name) <= 64


def test_values_are_read_as_yaml() -> None:
    assert parse_axis("a.b=1,0.5,x,null,[1, 2],true") == (
        "a.b",
        [1, 0.5, "x", None, [1, 2], True],
    )


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["gans.fool_al_1.phi=1"], "gans.fool_al_1: unknown key (allowed: baseline, fool_all_1)"),
        (["gans.fool_all_1.fi=1"], "gans.fool_all_1.fi: unknown key (allowed: recipe, instances"),
        (["study.seed.x=1"], "study.seed.x: unknown key (allowed: none)"),
        (["gans.fool_all_1=1"], "gans.fool_all_1: a section"),
        ([f"{PHI}=much"], "gans.fool_all_1.phi"),
        ([f"{PHI}=0.1,-1"], "greater than or equal to 0"),
        (["gans.fool_all_1.instances=1.5"], "instances"),
        (["gans.fool_all_1.fools=nobody"], "'nobody' is not in pools"),
        (["study.name=a,b"], "study.name: cannot be swept"),
        ([f"{PHI}=1,1"], "1 stands twice"),
        ([f"{PHI}=1,1.0"], f"{PHI}=1.0: the same study as {PHI}=1,"),
        (["study.seed=0,1", f"{PHI}=1,1e0"], f"study.seed=0, {PHI}=1.0: the same study"),
        ([f"{PHI}=1", f"{PHI}=2"], "stands twice in the sweep"),
        ([PHI], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}="], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}=[1,"], "no list of values"),
    ],
)
def test_what_the_study_cannot_take_is_refused(
    smoke_root: Path, run_kgaps: RunKgaps, axes: list[str], said: str
) -> None:
    outcome = run_kgaps(smoke_root, "sweep", *axes)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (smoke_root / ".kgaps").exists()  # nothing was begun


def test_dry_run_prints_the_grid_and_does_nothing(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=0.25,4", "--dry-run")
    assert outcome.code == 0
    assert outcome.out.count("not queued") == 2
    assert not (smoke_root / ".kgaps").exists()


def make_entry(name: str, state: str | None, pid: int | None = None) -> dict[str, Any]:
    local = {"log": "/tmp/x.out", "pid": pid}
    metrics = {"reports/metrics.json": {"data": {"fid": {"a": 2}, "passed": 1.0, "word": "x"}}}
    data = {"metrics": metrics}
    return {
        "name": name,
        "executor": None if state is None else {"state": state, "local": local},
        "revs": [{"rev": "1", "name": name, "data": data}],
    }


def test_standings_are_read_from_what_dvc_shows() -> None:
    gone = 2**22 + 1  # beyond the largest process id
    entries = [
        make_entry("done", "success"),
        make_entry("fetched", None),
        make_entry("queued", "queued"),
        make_entry("killed", "running", gone),
        make_entry("failed", "failed"),
        make_entry("other", "success"),
    ]
    shown = [{"experiments": None}, {"experiments": entries}]
    names = ["done", "fetched", "queued", "killed", "failed", "new"]
    found = parse_standings(shown, names)
    assert {name: found[name].state for name in names} == {
        "done": State.DONE,
        "fetched": State.DONE,
        "queued": State.QUEUED,
        "killed": State.FAILED,
        "failed": State.FAILED,
        "new": State.MISSING,
    }
    assert [name for name in names if found[name].is_gone] == ["killed"]
    assert found["done"].metrics == {"fid.a": 2.0, "passed": 1.0}
    assert "other" not in found


def test_an_experiment_that_ended_a_moment_ago_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC still says "running" when the process is gone already, and stumbles now and then."""
    answers = [None, make_entry("a", "running", 2**22 + 1), make_entry("a", "success")]

    def answer(root: Path, *arguments: str, timeout_sec: float) -> str:
        entry = answers.pop(0)
        if entry is None:
            raise UserError("dvc exp show: unexpected error")
        return json.dumps([{"experiments": [entry]}])

    stop = StopFlag()
    monkeypatch.setattr(queue, "ask_dvc", answer)
    monkeypatch.setattr(queue, "_SETTLE_SEC", 0.0)
    assert queue.read_standings(tmp_path, ["a"], stop)["a"].state is State.DONE
    answers.extend([make_entry("a", "running", 2**22 + 1)] * queue._TRIES)
    assert queue.read_standings(tmp_path, ["a"], stop)["a"].state is State.FAILED
    answers.extend([None] * queue._TRIES)
    with pytest.raises(UserError):
        queue.read_standings(tmp_path, ["a"], stop)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.delenv("KGAPS_WORKERS", raising=False)
    monkeypatch.setattr(sweep, "count_gpus", lambda: 8)
    return 8


@pytest.mark.usefixtures("gpus")
def test_on_gpus_one_experiment_at_a_time_has_all_of_the_machine(
    smoke_root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=1,2", "-j", "2")
    assert outcome.code == 2
    assert outcome.err.startswith("kgaps: --jobs: 2 found, 1 is needed on a machine with GPUs")
    assert len(outcome.err.splitlines()) == 1
    assert run_kgaps(smoke_root, "sweep", f"{PHI}=1,2", "-j", "1", "--dry-run").code == 0
    calls: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def note(root: Path, *arguments: str, changes: dict[str, str]) -> int:
        calls.append((arguments, changes))
        return 0

    monkeypatch.setattr(queue, "run_dvc", note)
    queue.start_queue(tmp_path, *share_machine(6, None))
    queue.start_queue(tmp_path, 2, 3)
    assert calls == [
        (("queue", "start", "--jobs", "1"), {}),
        (("queue", "start", "--jobs", "2"), {"KGAPS_WORKERS": "3"}),
    ]


def test_cores_are_shared_out_among_experiments_that_are_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_DEVICE", "cpu")
    monkeypatch.setenv("KGAPS_WORKERS", "8")
    assert share_machine(0, None) == (1, 8)
    assert share_machine(2, None) == (2, 4)
    assert share_machine(20, None) == (8, 1)
    assert share_machine(20, 3) == (3, 2)
    grid = make_grid(SMOKE_FILE, [f"{PHI}=1,2,3,4"], accept)
    states = [State.DONE, State.FAILED, State.RUNNING, State.MISSING]
    standings = {point.name: Standing(state) for point, state in zip(grid, states, strict=True)}
    queued: list[str] = []
    monkeypatch.setattr(sweep, "read_standings", lambda *_: standings)
    monkeypatch.setattr(sweep, "forget_failed", lambda *_: None)
    monkeypatch.setattr(sweep, "queue_experiment", lambda _, point, __: queued.append(point.name))
    assert sweep._queue_missing(tmp_path, grid, [], StopFlag()) == 3
    assert queued == [grid[1].name, grid[3].name]


def test_after_the_stop_nothing_more_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopFlag()
    grid = make_grid(SMOKE_FILE, [f"{PHI}=1,2,3"], accept)
    queued: list[str] = []

    def queue_and_stop(root: Path, point: Experiment, copied: list[str]) -> None:
        queued.append(point.name)
        stop.set()

    standings = {point.name: Standing() for point in grid}
    monkeypatch.setattr(sweep, "read_standings", lambda *_: standings)
    monkeypatch.setattr(sweep, "queue_experiment", queue_and_stop)
    with pytest.raises(StoppedError, match=r"^not all experiments are queued; "):
        sweep._queue_missing(tmp_path, grid, [], stop)
    assert queued == [grid[0].name]


def draw(axes: list[str], *found: dict[str, float]) -> list[str]:
    grid = make_grid(SMOKE_FILE, axes, accept)
    standings = {
        point.name: Standing(State.DONE if metrics else State.FAILED, metrics=metrics)
        for point, metrics in zip(grid, found, strict=True)
    }
    return draw_sweep(grid, standings).splitlines()


def test_table_shows_metrics_that_differ() -> None:
    lines = draw([f"{PHI}=1,2"], {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0})
    assert lines[0].split() == ["experiment", PHI, "state", "b"]
    assert len(lines) == 3


def test_metric_that_one_experiment_lacks_differs() -> None:
    """A collapsed GAN has no distance; an experiment without any metric is not compared."""
    assert find_differing([{"a": 1.0, "b": 2.0}, {"b": 2.0}, {}], []) == ["a"]
    assert find_differing([{"a": 1.0}, {}], []) == []


def test_table_says_that_no_metric_differs() -> None:
    lines = draw([f"{PHI}=1,2"], {"a": 1.0}, {"a": 1.0})
    assert lines[0].split() == ["experiment", PHI, "state"]
    assert lines[-2:] == [
        "",
        "no metric of reports/metrics.json differs; cohorts that no section of `report` names have "
        "none there",
    ]
    assert "one experiment alone has metrics" in draw([f"{PHI}=1,2"], {"a": 1.0}, {})[-1]
    assert len(draw([f"{PHI}=1,2"], {}, {})) == 3


@pytest.mark.parametrize(
    ("num_metrics", "said"),
    [
        (SHOWN_METRICS, None),
        (SHOWN_METRICS + 1, "1 more metric differs: "),
        (SHOWN_METRICS + 9, "9 more metrics differ: "),
    ],
)
def test_table_counts_the_metrics_that_it_leaves_out(num_metrics: int, said: str | None) -> None:
    found = [{f"m{k}": float(value) for k in range(num_metrics)} for value in (0, 1)]
    lines = draw([f"{PHI}=1,2"], *found)
    assert lines[0].split()[3:] == [f"m{k}" for k in range(SHOWN_METRICS)]
    if said is None:
        assert len(lines) == 3
    else:
        assert lines[-1] == f"{said}`dvc exp show --only-changed` shows all of them"


def test_swept_value_is_not_shown_a_second_time() -> None:
    """metrics.json tells phi beside the rates; the table has a column of it already."""
    found = [{"phi_sweep.fool_all_1.phi": phi, "phi_sweep.other.phi": phi} for phi in (1.0, 2.0)]
    assert find_differing(found, [PHI]) == ["phi_sweep.other.phi"]
